"""Runs a graph in onnx's reference implementation: slow, and without anything that a runner may have besides."""

from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.inputs import check_input, refuse_options
from deploykit.engines.metadata import of_file
from deploykit.engines.onnx_graph import Declared


class MadeupRunner:
    device, threads = "cpu", None

    def __init__(self, spec, stated):
        import onnx
        from onnx.reference import ReferenceEvaluator

        proto = onnx.load(spec.path)
        self.spec, self.target = spec, spec.target
        self.inputs, self.outputs = ([_tensor(one) for one in some] for some in (proto.graph.input, proto.graph.output))
        declared = Declared(self.inputs, self.outputs, {one.key: one.value for one in proto.metadata_props})
        known = of_file(spec.path, declared, stated)
        self.preprocessing, self.classes, self.precision = known.preprocessing, known.classes, known.precision
        self.task = known.task
        self.notes = [*known.notes, "every node is computed by numpy"]
        self._network = ReferenceEvaluator(proto)

    def __call__(self, x):
        return next(iter(self.run_all(x).values()))

    def run_all(self, x):
        check_input(x, self.inputs[0], self.target)
        found = self._network.run(None, {self.inputs[0].name: x})
        return {one.name: values for one, values in zip(self.outputs, found, strict=True)}

    def close(self):
        self._network = None

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.close()


def open_target(spec, *, threads, device, stated, allow_code):
    refuse_options(spec.options, {}, spec.target)
    return MadeupRunner(spec, stated)


def lacking(target):
    return None


def _tensor(value):
    dims = [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
    return TensorSpec(value.name, "float32", tuple(dims), {2: "NC", 4: "NCHW"}.get(len(dims)))
