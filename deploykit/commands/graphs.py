"""Graphs in memory as runners of ONNX Runtime on the CPU, for calibration and for comparing candidates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from deploykit.base.runner import Runner


class Opened:
    """Opens graphs as runners of the target, through files in a scratch folder."""

    def __init__(self, scratch: Path, *, threads: int, size: int | None) -> None:
        self.scratch, self.threads, self.size, self.count = scratch, threads, size, 0

    def runner(self, path: Path) -> Runner:
        """The runner of a file."""
        from deploykit.base.targets import Spec
        from deploykit.engines import open_runner

        return open_runner(Spec(path.stem, path, "ort-cpu"), threads=self.threads, size=self.size)

    def proto(self, proto: onnx.ModelProto) -> Runner:
        """The runner of a graph in memory."""
        import onnx

        self.count += 1
        path = self.scratch / f"graph{self.count}.onnx"
        onnx.save(proto, str(path))
        try:
            return self.runner(path)
        finally:
            path.unlink()

    def graph(self, proto: onnx.ModelProto) -> Any:
        """A function from an input to all outputs by name."""
        return self.proto(proto).run_all

    def optimized(self, path: Path) -> onnx.ModelProto:
        """The graph that ONNX Runtime really runs."""
        import onnx
        import onnxruntime as ort

        options = ort.SessionOptions()
        place = self.scratch / "optimized.onnx"
        options.optimized_model_filepath, options.log_severity_level = str(place), 4
        options.intra_op_num_threads = self.threads
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(place))
