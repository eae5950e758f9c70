"""Every operator against ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.quantization.qat.ops import OPERATORS, check_operators

R = np.random.default_rng(0)
X = R.normal(size=(2, 4, 6, 7)).astype(np.float32)


def ints(*values):
    return np.asarray(values, np.int64)


def f32(*shape):
    return R.normal(size=shape).astype(np.float32)


POSITIVE = np.abs(X) + 0.1
CASES = {
    "Conv": [
        ([X, f32(5, 4, 3, 3), f32(5)], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ([X, f32(4, 1, 3, 3)], {"group": 4, "pads": [0, 1, 2, 1], "dilations": [2, 2]}),
    ],
    "Gemm": [([f32(3, 4), f32(5, 4), f32(5)], {"transB": 1}), ([f32(4, 3), f32(4, 5), f32(5)], {"transA": 1, "alpha": 0.5, "beta": 2.0})],
    "MatMul": [([f32(3, 4), f32(4, 5)], {})],
    "MaxPool": [([X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}), ([X], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]})],
    "AveragePool": [([X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}), ([X], {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [0, 0, 1, 1]})],
    "GlobalAveragePool": [([X], {})],
    "GlobalMaxPool": [([X], {})],
    "Relu": [([X], {})],
    "LeakyRelu": [([X], {"alpha": 0.2})],
    "PRelu": [([X, f32(4, 1, 1)], {})],
    "Elu": [([X], {"alpha": 1.5})],
    "Sigmoid": [([X], {})],
    "Tanh": [([X], {})],
    "HardSigmoid": [([X], {"alpha": 0.16666667, "beta": 0.5})],
    "HardSwish": [([4 * X], {})],
    "Softplus": [([X], {})],
    "Gelu": [([X], {}), ([X], {"approximate": "tanh"})],
    "Erf": [([X], {})],
    "Exp": [([X], {})],
    "Sqrt": [([POSITIVE], {})],
    "Reciprocal": [([POSITIVE], {})],
    "Abs": [([X], {})],
    "Neg": [([X], {})],
    "Pow": [([POSITIVE, np.asarray(2.0, np.float32)], {})],
    "Add": [([X, f32(4, 1, 1)], {})],
    "Sub": [([X, f32(4, 1, 1)], {})],
    "Mul": [([X, f32(2, 4, 1, 1)], {})],
    "Div": [([X, POSITIVE], {}), ([ints(6, 8), ints(2, 3)], {})],
    "Min": [([X, f32(4, 1, 1), f32(1)], {})],
    "Max": [([X, f32(4, 1, 1)], {})],
    "Clip": [([X, np.float32(-0.5), np.float32(0.7)], {}), ([X, np.float32(-0.5)], {}), ([X, None, np.float32(0.5)], {})],
    "Softmax": [([X], {"axis": 1})],
    "BatchNormalization": [([X, f32(4), f32(4), f32(4), np.abs(f32(4)) + 0.5], {"epsilon": 1e-3})],
    "LayerNormalization": [([X, f32(7), f32(7)], {"axis": -1})],
    "ReduceMean": [([X, ints(2, 3)], {"keepdims": 0}), ([X], {}), ([X], {"noop_with_empty_axes": 1})],
    "ReduceSum": [([X, ints(1)], {})],
    "ReduceMax": [([X, ints(2, 3)], {"keepdims": 1})],
    "Reshape": [([X, ints(0, -1)], {})],
    "Flatten": [([X], {"axis": 2})],
    "Transpose": [([X], {"perm": [0, 2, 3, 1]}), ([X], {})],
    "Squeeze": [([X[:, :1], ints(1)], {}), ([X[:1, :, :1]], {})],
    "Unsqueeze": [([X, ints(0, 3)], {})],
    "Concat": [([X, X + 1], {"axis": 1})],
    "Split": [([X, ints(1, 3)], {"axis": 1}), ([X], {"axis": 1, "num_outputs": 2})],
    "Slice": [([X, ints(1, 0), ints(99, -1), ints(1, 3), ints(2, 1)], {}), ([X, ints(3), ints(-99), ints(1), ints(-1)], {})],
    "Gather": [([X, ints(2, 0)], {"axis": 1}), ([X, np.asarray(1, np.int64)], {"axis": 2})],
    "Pad": [([X, ints(0, 1, 2, 0, 0, 0, 1, 3), np.float32(0.5)], {})],
    "Resize": [
        ([X, None, np.asarray([1, 1, 2, 2], np.float32)], {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ([X, None, None, ints(2, 4, 9, 11)], {"mode": "linear"}),
        ([X, None, None, ints(2, 4, 9, 11)], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ],
    "Cast": [([X], {"to": 7})],
    "Shape": [([X], {}), ([X], {"start": 1, "end": 3})],
    "Expand": [([f32(4, 1), ints(2, 4, 3)], {})],
}  # fmt: skip


def test_every_operator_has_a_case():
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("op_type", sorted(CASES))
def test_operator_is_onnx_runtimes(op_type):
    import onnxruntime as ort

    for arrays, attributes in CASES[op_type]:
        names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
        outputs = [f"y{i}" for i in range(2 if op_type == "Split" else 1)]
        given = {name: np.asarray(a) for name, a in zip(names, arrays, strict=True) if name}
        kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in given.items()}
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(op_type, names, outputs, **attributes)],
            "one",
            [onnx.helper.make_tensor_value_info(name, kinds[name], a.shape) for name, a in given.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        expected = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, given)
        tensors = [None if array is None else torch.from_numpy(np.array(array)) for array in arrays]
        found = OPERATORS[op_type](attributes, tensors)
        for one, other in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            assert list(one.shape) == list(other.shape)
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_trained_through_is_named():
    with pytest.raises(
        BadInput, match=r"got Loop, NonZero; expected operators of picture networks\. .*leave --method qat out"
    ):
        check_operators(["Conv", "NonZero", "Loop", "NonZero"])


@pytest.mark.parametrize(
    ("op_type", "attributes", "inputs"),
    [
        ("Pad", {"mode": "reflect"}, [X, ints(0, 0, 1, 1, 0, 0, 1, 1)]),
        ("Resize", {"mode": "cubic"}, [X, None, np.asarray([1, 1, 2, 2], np.float32)]),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}, [X]),
        ("Cast", {"to": 10}, [X]),
    ],
)
def test_unknown_forms_are_refused(op_type, attributes, inputs):
    tensors = [None if one is None else torch.from_numpy(one) for one in inputs]
    with pytest.raises(BadInput, match="cannot be trained through"):
        OPERATORS[op_type](attributes, tensors)
