"""Files that are invalid, or no picture network: one line with the cause, from every command that computes with them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import BadInput
from deploykit.benchmarking.layer_profiles import timed
from deploykit.building.engine_graph import prepared_graph
from deploykit.commands.export import export
from deploykit.commands.quantize import quantize
from deploykit.config.build import BuildConfig
from deploykit.config.export import ExportConfig
from deploykit.config.quantize import QuantizeConfig
from deploykit.exporting.check_onnx import described, refuse_unsound
from deploykit.quantization.lint.lint import lint

QUICK = QuantizeConfig(data="digits", images=8, select_images=8, method="minmax", force_int8=True, size=32)


def base(middle=(), stored=(), shape=("N", 3, 32, 32), classes=10):
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(8, np.float32),
        "fw": random.normal(size=(10, 8)).astype(np.float32),
        **dict(stored),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["c"], name="conv", pads=[1] * 4, kernel_shape=[3, 3]),
        *middle,
        helper.make_node("Relu", ["m" if middle else "c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="gap"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "fw"], ["output"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("N", classes))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def branch(op):
    out = helper.make_tensor_value_info(op, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, ["c"], [op], name=op)], op, [], [out])


def control_flow():
    node = helper.make_node("If", ["yes"], ["m"], name="if1", then_branch=branch("Relu"), else_branch=branch("Neg"))
    return base([node], {"yes": np.array(True)})


def outside_index():
    nodes = [
        helper.make_node("Gather", ["c", "gi"], ["gc"], name="gat", axis=1),
        helper.make_node("Add", ["c", "gc"], ["m"], name="add"),
    ]
    return base(nodes, {"gi": np.array([0, 1, 2, 3, 4, 5, 6, 99])})


def changed(change):
    model = base()
    change(model)
    return model


def mlp():
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ("N", 16))
    y = helper.make_tensor_value_info("output", TensorProto.FLOAT, ("N", 10))
    node = helper.make_node("MatMul", ["input", "w"], ["output"], name="mm")
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(np.ones((16, 10), np.float32), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def cyclic(model):
    model.graph.node[0].input[0] = "r"


def bad_axis():
    node = helper.make_node("Slice", ["c", "s", "e", "a"], ["m"], name="sl")
    return base([node], {"s": np.array([0]), "e": np.array([8]), "a": np.array([7])})


def nameless_type(model):
    model.graph.initializer[0].data_type = 77


INVALID = {
    "cycle": (lambda: changed(cyclic), r"no valid ONNX file: Nodes in a graph must be topologically sorted.*'r'"),
    "duplicate": (
        lambda: changed(lambda m: m.graph.node[1].output.__setitem__(0, "c")),
        r"no valid ONNX file: Graph must be in single static assignment .*'c'",
    ),
    "axis": (
        bad_axis,
        r"no valid ONNX file: Slice \(node sl\): Unexpected axis value: 7\. Expected range \[-4, 4\)\. E",
    ),
    "out_shape": (lambda: base(classes=7), r"valid ONNX file: Gemm \(node fc\): .*\(10\) vs \(7\)\. Export or copy"),
    "rank": (lambda: base(shape=("N", 3, 32)), r"valid ONNX file: Conv \(node conv\): .*incorrect size\. Export"),
    "type": (lambda: changed(nameless_type), r"no valid ONNX file: Invalid tensor data type 77"),
    "ir": (lambda: changed(lambda m: setattr(m, "ir_version", 99)), r"ir_version 99 is higher than the checker's"),
    "opset": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 99)), r"got opset 99; expected \d+ or"),
    "no_opset": (lambda: changed(lambda m: m.ClearField("opset_import")), r"does not say its opset\. Export it again"),
    "no_output": (lambda: changed(lambda m: m.graph.ClearField("output")), r"has no outputs; expected a graph with at"),
    "batch0": (lambda: base(shape=(0, 3, 32, 32)), r"input 'input' has an empty or negative dimension; got \[0, 3"),
    "negative": (lambda: base(shape=("N", 3, -5, 32)), r"empty or negative dimension; got \['N', 3, -5, 32\]"),
    "no_shape": (
        lambda: changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
        r"the input 'input' has no shape; expected one like",
    ),
}
UNSOUND = {
    **INVALID,
    "index": (outside_index, r"Gather \(node gat\) reads outside of 'c'; got index 99 on an axis of 8"),
    "nan": (
        lambda: base(stored={"b": np.full(8, np.nan, np.float32)}),
        r"net\.onnx holds weights that are not finite; got b\. One of them spoils every answer: take a checkpoint",
    ),
}
NO_PICTURES = {
    "channels": (
        lambda: base(shape=("N", 4, 32, 32), stored={"w": np.ones((8, 4, 3, 3), np.float32)}),
        "images of 3 channels do not fit a network that takes 4",
    ),
    "rank2": (mlp, r"net\.onnx takes no images alone; got 'input' float32 \['N', 16\]; expected one input like"),
}


@pytest.fixture
def saved(tmp_path):
    def save(make):
        path = tmp_path / "net.onnx"
        path.write_bytes(make().SerializeToString())
        return path

    return save


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_file_is_refused_in_one_line(name, saved, capfd):
    make, message = UNSOUND[name]
    with pytest.raises(BadInput, match=message) as caught:
        refuse_unsound(saved(make))
    assert "\n" not in caught.value.line()
    assert "InferenceError" not in caught.value.line()
    assert capfd.readouterr().err == ""


def test_what_engines_judge_better_passes(saved):
    def shapeless(model):
        model.graph.output[0].type.tensor_type.ClearField("shape")

    def operators(make):
        path = saved(make)
        refuse_unsound(path)
        return described(path)["operators"]

    plain = {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert operators(base) == operators(lambda: changed(shapeless)) == plain
    frobnicating = [helper.make_node("Frobnicate", ["c"], ["m"], name="frob")]
    assert operators(lambda: base(frobnicating)) == plain | {"Frobnicate": 1}

    def foreign():
        model = base([helper.make_node("MyOp", ["c"], ["m"], name="my", domain="acme.ai")])
        model.opset_import.append(helper.make_opsetid("acme.ai", 1))
        return model

    assert operators(foreign) == plain | {"MyOp": 1}


def test_a_file_with_external_data_is_checked_by_its_path(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(base(), str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    assert described(path)["external_data"] == ["net.data"]
    refuse_unsound(path)


@pytest.mark.parametrize("name", {**UNSOUND, **NO_PICTURES})
def test_quantize_refuses_it(name, saved, tmp_path):
    make, message = {**UNSOUND, **NO_PICTURES}[name]
    with pytest.raises(BadInput, match=message):
        quantize(saved(make), tmp_path / "made.onnx", QUICK)


def test_quantize_refuses_control_flow(saved, tmp_path):
    message = r"net\.onnx has control flow: If \(node if1\) with a graph inside; expected a graph without control flow"
    with pytest.raises(BadInput, match=message):
        quantize(saved(control_flow), tmp_path / "made.onnx", QUICK)


@pytest.mark.parametrize("name", ["axis", "batch0", "index", "channels", "rank2"])
def test_a_cast_refuses_it(name, saved, tmp_path):
    make, message = {**UNSOUND, **NO_PICTURES}[name]
    config = ExportConfig(precision="fp16", data="digits", size=32, images=8)
    with pytest.raises(BadInput, match=message):
        export(saved(make), tmp_path / "made.onnx", config)


@pytest.mark.parametrize("name", UNSOUND)
def test_a_build_refuses_it(name, saved, tmp_path):
    from deploykit.base.progress import SILENT

    make, message = UNSOUND[name]
    with pytest.raises(BadInput, match=message):
        prepared_graph(saved(make), tmp_path, BuildConfig(target="tensorrt-rtx", size=32), SILENT)


@pytest.mark.parametrize("name", ["index", "no_output", "batch0"])
def test_times_of_its_layers_are_refused(name, saved):
    make, message = UNSOUND[name]
    with pytest.raises(BadInput, match=message):
        timed(saved(make), None, 1, None, False)


@pytest.mark.parametrize("name", INVALID)
def test_lint_calls_it_invalid(name, saved):
    make, message = INVALID[name]
    with pytest.raises(BadInput, match=message):
        lint(saved(make))
