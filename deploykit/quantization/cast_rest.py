"""``quantize --precision fp16|bf16``: the float rest of a Q/DQ graph in 16 bits, its integers as they were."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.targets import Target, target_names, target_of
from deploykit.config.quantize import QuantizeConfig
from deploykit.exporting.cast.cast import CastFacts, cast_graph
from deploykit.exporting.cast.formats import emulated
from deploykit.quantization.job import Job

SEEN = 32


@dataclass(frozen=True)
class Rest:
    """A Q/DQ graph in the precision asked for.

    ``judged``: what this machine can run of it: itself, or it with every 16-bit value rounded in float32. ``facts``: of
    the cast; None where the rest stays float32.
    """

    made: onnx.ModelProto
    judged: onnx.ModelProto
    facts: CastFacts | None = None


def check_precision(config: QuantizeConfig) -> None:
    """Raise :class:`BadInput` where the target's float layers would not gain by 16 bits."""
    if config.precision != "fp32" and not _gains(target_of(config.target)):
        raise BadInput(
            f"--precision {config.precision} for {config.target}",
            expected="one of " + ", ".join(target_names(_gains)),
            fix="Float layers on the CPU compute in float32: leave --precision away.",
        )


def _gains(row: Target) -> bool:
    """Whether layers that stay float are faster in 16 bits there; those on the CPU compute in float32."""
    return row.dialect is not None and not row.on_cpu


def cast_rest(made: onnx.ModelProto, preprocessing: Preprocessing, job: Job) -> Rest:
    """Cast the float rest of ``made`` where the configuration asks for it; inputs and outputs stay float32.

    Raises:
        AnswerNo: the cast graph is too far from the Q/DQ graph in float32.
    """
    if job.config.precision == "fp32":
        return Rest(made, made)

    path, images, config = job.scratch / "qdq.onnx", job.images, job.config
    onnx.save(made, str(path))
    observed = [images.observed[i] for i in range(min(SEEN, len(images.observed)))]
    cast = cast_graph(
        path,
        config.precision,
        observed,
        held=images.chosen,
        preprocessing=preprocessing,
        threads=config.threads,
        progress=job.progress,
    )
    return Rest(cast.proto, emulated(cast.proto), cast.facts)
