"""``quantize --precision fp16|bf16``: the float rest of a Q/DQ graph in 16 bits, its integers as they were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.targets import Target, target_names, target_of
from deploykit.config.quantize import QuantizeConfig
from deploykit.exporting.cast.cast import CastFacts, cast_graph
from deploykit.quantization.calibration_images import Calibration

if TYPE_CHECKING:
    import onnx

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


def cast_rest(
    made: onnx.ModelProto,
    config: QuantizeConfig,
    images: Calibration,
    preprocessing: Preprocessing,
    scratch: Path,
    progress: Progress,
) -> Rest:
    """Cast the float rest of ``made`` where the configuration asks for it; inputs and outputs stay float32.

    Raises:
        AnswerNo: the cast graph is too far from the Q/DQ graph in float32.
    """
    if config.precision == "fp32":
        return Rest(made, made)
    import onnx

    from deploykit.exporting.cast.formats import emulated

    path = scratch / "qdq.onnx"
    onnx.save(made, str(path))
    cast = cast_graph(
        path,
        config.precision,
        [images.observed[i] for i in range(min(SEEN, len(images.observed)))],
        held=images.chosen,
        preprocessing=preprocessing,
        threads=config.threads,
        progress=progress,
    )
    return Rest(cast.proto, emulated(cast.proto), cast.facts)
