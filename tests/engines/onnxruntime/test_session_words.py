import pytest

from deploykit.engines.onnxruntime.session import plain_words

MODEL = (
    "onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&, "
    "const onnxruntime::IOnnxRuntimeOpSchemaRegistryList*, const onnxruntime::logging::Logger&, "
    "const onnxruntime::ModelOptions&)"
)
GRAPH = (
    "onnxruntime::Graph::Graph(const onnxruntime::Model&, onnx::GraphProto*, "
    "const std::unordered_map<std::__cxx11::basic_string<char>, int>&, onnxruntime::Version, bool)"
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Load model from a.onnx failed:{MODEL} Unsupported model IR version: 99, "
            "max supported IR version: 13\n",
            "Load model from a.onnx failed: Unsupported model IR version: 99, max supported IR version: 13",
        ),
        (
            f"Load model from a.onnx failed:{GRAPH} This is an invalid model. Tensor 'w' has no valid data type.",
            "Load model from a.onnx failed: This is an invalid model. Tensor 'w' has no valid data type.",
        ),
        (
            "failed:void onnxruntime::model_load_utils::ValidateOpsetForDomain(const std::unordered_map<int, int>&, "
            "int) ONNX Runtime only *guarantees* support",
            "failed: ONNX Runtime only *guarantees* support",
        ),
        (
            "Exception during initialization: /onnxruntime_src/onnxruntime/core/framework/x.cc:266 "
            "onnxruntime::common::Status onnxruntime::utils::Save(const onnxruntime::Env&, bool) const "
            "[ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1876 GetExtDataFromTensorProto External initializer: "
            "w offset: 0 size to read: 864 given file_length: 3",
            "Exception during initialization: External initializer: w offset: 0 size to read: 864 given file_length: 3",
        ),
        (
            "Node (conv) Op (Conv) [ShapeInferenceError] wrong rank",
            "Node (conv) Op (Conv) [ShapeInferenceError] wrong rank",
        ),
        ("word " * 100, "word " * 59 + "word …"),
    ],
)
def test_the_cause_is_what_is_left(said, told):
    assert plain_words(said) == told
