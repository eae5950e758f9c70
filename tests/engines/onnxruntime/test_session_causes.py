"""What ONNX Runtime refuses to load is told with its true cause."""

import onnx
import pytest

from deploykit.base.errors import BadInput
from deploykit.engines import open_runner
from tests.engines.onnx_for_tests import one_node, small_net


def external(path, **entries):
    model = onnx.load(small_net(path))
    onnx.save(model, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    for one in model.graph.initializer[0].external_data:
        one.value = entries.get(one.key, one.value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "/etc/passwd"}, r"external data of \S+ cannot be used: .*Absolute path not allowed"),
        (
            {"length": "999999"},
            r"external data of \S+ cannot be used: .*data size mismatch\. Computed size: \d+, .*999999",
        ),
        ({"location": "gone.data"}, r"lacks its external data.*Keep the \.data file beside"),
    ],
)
def test_external_data_that_cannot_be_used(tmp_path, entries, message):
    with pytest.raises(BadInput, match=message):
        open_runner(f"{external(tmp_path / 'n.onnx', **entries)}@ort-cpu")


def test_an_operator_unknown_to_onnx_is_named_with_its_node(tmp_path):
    message = r"has operators that ONNX Runtime does not know: Frobnicate \(node bad0\)"
    with pytest.raises(BadInput, match=message):
        open_runner(f"{one_node(tmp_path / 'n.onnx', 'Frobnicate')}@ort-cpu")


def test_a_newer_ir_is_told_with_the_numbers(tmp_path):
    model = onnx.load(small_net(tmp_path / "n.onnx"))
    model.ir_version = 99
    (tmp_path / "n.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match=r"Unsupported model IR version: 99, max supported IR version: \d+\. Export"):
        open_runner(f"{tmp_path / 'n.onnx'}@ort-cpu")
