import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.data import synthetic_images
from deploykit.quantization.calibrate import observe
from deploykit.quantization.lint.lint import lint_graph
from deploykit.quantization.qdq.dialects import dialect_for
from deploykit.quantization.qdq.graph import activation_inputs
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer
from tests.quantization.graphs_for_tests import opener, run, snr_db
from tests.quantization.tensorrt_for_tests import engine_bytes

SIZE = 96


def pictures(n, seed):
    return synthetic_images(n, (SIZE, SIZE), seed).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """torchvision's network with BatchNorm statistics estimated on pictures, as an opset-20 file of the new exporter."""
    import torch
    import torchvision

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = torchvision.models.resnet18(weights=None)
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        for start in range(0, 32, 8):
            module.train()(torch.from_numpy(pictures(32, 1)[start : start + 8]))
        path = tmp_path_factory.mktemp("resnet18") / "resnet18.onnx"
        program = torch.onnx.export(
            module.eval(), (torch.zeros(2, 3, SIZE, SIZE),), dynamo=True, input_names=["input"],
            dynamic_shapes=({0: "batch"},), opset_version=20, verbose=False,
        )  # fmt: skip
        program.save(str(path), external_data=False)
    return onnx.load(path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_resnet18_builds_in_tensorrt_rtx_at_less_than_half_the_size_and_stays_near_float(resnet18):
    prepared = prepare(resnet18)
    values = {value: None for node in prepared.graph for _, value in activation_inputs(node)}
    values = [v for v in values if any(use.node.op_type not in ("Flatten", "Reshape") for use in v.uses())]
    seen = observe(ir.to_proto(prepared), values, np.split(pictures(32, 2), 8), opener)
    x = pictures(16, 3)
    made = Quantizer(resnet18, seen, dialect=dialect_for("tensorrt-rtx")).make(Choice(method="mse"))
    assert snr_db(run(resnet18, x), run(made, x, integer_kernels=False)) > 20
    assert lint_graph(made, "tensorrt-rtx") == []
    sources = {out: node for node in made.graph.node for out in node.output}
    adds = [node for node in made.graph.node if node.op_type == "Add"]
    assert len(adds) == 8
    for node in adds:
        assert sorted(sources[name].op_type for name in node.input) == ["Conv", "DequantizeLinear"]
    assert engine_bytes(made) < 0.45 * engine_bytes(ir.to_proto(prepared))
