"""Graphs in memory as runners of ONNX Runtime on the CPU, or of the engine they are for: calibration, comparing candidates."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CPU
from deploykit.engines.batching import filled, in_whole_batches, one_batch
from deploykit.engines.onnxruntime.profile import kernel_times
from deploykit.engines.onnxruntime.session import ort_errors, plain_words
from deploykit.latency.interleave import interleaved_blocks_s

if TYPE_CHECKING:
    import onnx

BATCH = 8
PROFILED_CALLS = 12
ROUNDS = 30


class Opened:
    """Opens graphs as runners of ONNX Runtime's CPU provider, through files in a scratch folder.

    ``scratch``: folder. ``stated``: of the file. ``integer_kernels``: False computes Q
    and DQ in float as they stand, as another engine's file means them. ``engine``: the target whose engine answers for
    candidates in :meth:`outputs`.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        threads: int,
        stated: Stated = NOTHING_STATED,
        integer_kernels: bool = True,
        engine: str = ORT_CPU,
    ) -> None:
        self.scratch, self.threads, self.stated, self.engine, self.numbers = scratch, threads, stated, engine, count()
        self.options = {} if integer_kernels else {"integer_kernels": "0"}

    def runner(self, path: Path, engine: str = ORT_CPU) -> Runner:
        """The runner of a file."""
        from deploykit.engines import open_runner

        options = self.options if engine == ORT_CPU else {}
        return open_runner(Spec(path.stem, path, engine, options), threads=self.threads, stated=self.stated)

    def proto(self, proto: onnx.ModelProto, engine: str = ORT_CPU) -> Runner:
        """The runner of a graph in memory."""
        import onnx

        path = self.scratch / f"graph{next(self.numbers)}.onnx"
        onnx.save(proto, str(path))
        try:
            return self.runner(path, engine)
        finally:
            path.unlink()

    def graph(self, proto: onnx.ModelProto) -> Any:
        """A function from an input to all outputs by name, which are not copied; a fixed batch is fed in whole ones."""
        session = self._session(proto)
        names, source = [one.name for one in session.get_outputs()], session.get_inputs()[0]

        def run(x: np.ndarray) -> dict[str, np.ndarray]:
            try:
                return dict(zip(names, session.run(None, {source.name: x}), strict=True))
            except ort_errors() as error:
                raise AnswerNo(
                    f"ONNX Runtime does not run this network on an input of shape {list(x.shape)}: {plain_words(error)}"
                ) from error

        fixed = source.shape[0] if source.shape else None
        return in_whole_batches(run, fixed) if isinstance(fixed, int) else run

    def logits(self, proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
        """The first output of a graph for all of ``x``, as the engine computes it."""
        return self.outputs(proto, x)[0]

    def outputs(self, proto: onnx.ModelProto, x: np.ndarray, *, as_meant: bool = False) -> tuple[np.ndarray, ...]:
        """All outputs of a graph for all of ``x``, see :func:`outputs_of`, as the engine computes them.

        ``as_meant``: as ONNX Runtime does instead, which executes what is for another engine as it stands.
        """
        with self.proto(proto, ORT_CPU if as_meant else self.engine) as runner:
            return outputs_of(runner, x)

    def blocks_s(self, protos: Mapping[str, onnx.ModelProto], x: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Seconds a call of each graph in rounds, measured in turns on the first of ``x``: one image, or the fixed batch."""
        with ExitStack() as stack:
            runners = {name: stack.enter_context(self.proto(proto)) for name, proto in protos.items()}
            return interleaved_blocks_s(runners, one_batch(next(iter(runners.values())), x), rounds=ROUNDS, seed=seed)

    def profile(self, proto: onnx.ModelProto, x: np.ndarray) -> dict[tuple[str, str], float]:
        """Median microseconds of each kernel of a graph on ``x``: (node name, operator) → time."""
        session = self._session(proto, enable_profiling=True, profile_file_prefix=str(self.scratch / "profile"))
        source = session.get_inputs()[0].name
        for _ in range(PROFILED_CALLS):
            session.run(None, {source: x})
        place = Path(session.end_profiling())
        try:
            return kernel_times(place)
        finally:
            place.unlink()

    def optimized(self, graph: onnx.ModelProto | Path, *, as_on_arm: bool = False) -> onnx.ModelProto:
        """The graph that ONNX Runtime really runs; ``as_on_arm``: with integer kernels for int8 activations."""
        import onnx

        place = self.scratch / f"optimized{next(self.numbers)}.onnx"
        self._session(graph, as_on_arm=as_on_arm, optimized_model_filepath=str(place))
        try:
            return onnx.load(str(place))
        finally:
            place.unlink()

    def _session(self, graph: onnx.ModelProto | Path, *, as_on_arm: bool = False, **settings: object) -> Any:
        """A bare session with these settings, where a runner's checks and copies are not wanted."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self.threads, 4
        if as_on_arm:
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        for name, value in settings.items():
            setattr(options, name, value)
        source = str(graph) if isinstance(graph, Path) else graph.SerializeToString()
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def logits_of(runner: Runner, x: np.ndarray) -> np.ndarray:
    """The answers to ``x`` in batches, float32 [N, C]; the last one of a fixed batch is filled up."""
    return outputs_of(runner, x)[0]


def outputs_of(runner: Runner, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every output that has a row for each of ``x``, float32 [N, …]; the last batch of a fixed size is filled up.

    Raises:
        BadInput: there is none.
    """
    fixed = runner.inputs[0].fixed_batch
    step = fixed or BATCH
    parts = (np.ascontiguousarray(x[i : i + step]) for i in range(0, len(x), step))
    answers = []
    for part in parts:
        fed = filled(part, fixed or 0)
        given = runner.run_all(fed)
        answers.append({name: out[: len(part)] for name, out in given.items() if out.shape[:1] == fed.shape[:1]})
    names = [name for name in answers[0] if all(name in one for one in answers)]
    if not names:
        raise BadInput(
            f"{runner.spec.name} has no output with a row for each image",
            got=", ".join(f"{name} of shape {list(out.shape)}" for name, out in given.items()),
            fix="Cut off what gathers over the batch (NMS, means).",
        )
    return tuple(np.concatenate([one[name] for one in answers]).astype(np.float32, copy=False) for name in names)
