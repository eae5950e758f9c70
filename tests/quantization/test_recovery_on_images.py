"""The constructed collapse: a network whose channels are scaled apart is recovered by ``quantize`` alone."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.export import export
from deploykit.commands.quantize import quantize
from deploykit.config.export import ExportConfig
from deploykit.config.quantize import QuantizeConfig
from deploykit.engines import open_runner
from tests.quantization.test_equalize import spoil

QUICK = QuantizeConfig(data="digits", images=64, select_images=64, method="mse", force_int8=True)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A narrow MobileNetV2 trained for some steps on real digits, as model file and ONNX."""
    import torch

    from deploykit.base.checkpoint import Arch
    from deploykit.data import open_data
    from deploykit.models import build, save_model

    split = open_data("digits").split("train")
    preprocessing = open_data("digits").preprocessing()
    x, y = (np.concatenate(parts) for parts in zip(*split.batches(256, preprocessing), strict=True))
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    arch = Arch("deploykit", "mobilenetv2", {"num_classes": 10, "width": 0.25, "stem_stride": 2})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        for step in range(60):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 60)
            picked = torch.randint(0, len(images), (48,))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(images[picked]), labels[picked]).backward()
            optimizer.step()
    path = tmp_path_factory.mktemp("mobile") / "net.pt"
    save_model(path, module.eval(), arch, preprocessing, [str(d) for d in range(10)], lineage=[], samples=None)
    return path, export(path, path.with_suffix(".onnx"), ExportConfig(data="digits")).output


@pytest.fixture(scope="module")
def collapsed(net):
    proto = onnx.load(net[1])
    path = net[1].with_name("collapsed.onnx")
    spoiled = ir.to_proto(spoil(proto, 3))
    spoiled.metadata_props.extend(entry for entry in proto.metadata_props if not spoiled.metadata_props)
    onnx.save(spoiled, path)
    return path


def top1_pt(path):
    from deploykit.data import open_data
    from deploykit.evaluation.run_classifier import collect_logits

    split = open_data("digits").split("test")
    with open_runner(path, threads=1) as runner:
        logits = collect_logits(runner, split, 64)
    return 100 * float((logits.argmax(1) == split.labels).mean()), logits


def test_the_collapse_is_recovered_automatically(net, collapsed, tmp_path, listening):
    (float_pt, float_logits), (_, same_logits) = top1_pt(net[1]), top1_pt(collapsed)
    assert float_pt > 60
    np.testing.assert_allclose(same_logits, float_logits, atol=1e-3 * np.abs(float_logits).max())
    off = QUICK.model_copy(update={"equalize": "off", "bias_correction": "off"})
    healthy = quantize(net[1], tmp_path / "healthy.onnx", off)
    made = quantize(collapsed, tmp_path / "auto.onnx", QUICK, progress=listening)
    recovery = made.facts["recovery"]
    assert recovery["equalization"] == "channels equalized"
    snr = recovery["equalization_snr_db"]
    assert snr["channels equalized"] > snr["as it is"] + 8
    assert any(line.startswith("network channels equalized: as it is") for line in listening.said)
    assert made.facts["parity"]["snr_db"] > healthy.facts["parity"]["snr_db"] - 1.5
    assert top1_pt(made.output)[0] >= top1_pt(healthy.output)[0] - 0.5
    assert "Min" not in [node.op_type for node in onnx.load(made.output).graph.node]


def test_a_healthy_network_is_left_as_it_is(net, tmp_path, listening):
    made = quantize(net[1], tmp_path / "plain.onnx", QUICK, progress=listening)
    assert made.facts["recovery"]["equalization"] is None
    assert made.facts["recovery"]["rounding"] == "nearest"
    assert any(line.startswith("no equalization: int8 is near enough to float") for line in listening.said)


def test_four_bit_weights_and_batch_norm_by_request(net, tmp_path):
    wanted = QUICK.model_copy(
        update={"weight_bits": 4, "equalize": "off", "bias_correction": "on", "batch_norm": "reestimate"}
    )
    made = quantize(net[0], tmp_path / "four.onnx", wanted)
    recovery = made.facts["recovery"]
    assert recovery["bias_correction"] is True
    assert recovery["biases_snr_db"]["corrected"] > recovery["biases_snr_db"]["as they are"]
    assert recovery["batch_norm"]["kept"] is True
    assert recovery["batch_norm"]["layers"] > 10
    weights = [t for t in onnx.load(made.output).graph.initializer if t.name.endswith("weight.q")]
    assert max(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max() for t in weights) == 7


def test_rounding_is_learned_by_itself_where_weights_are_narrow_and_time_is_given(net, tmp_path):
    facts = {
        effort: quantize(
            net[1],
            tmp_path / f"{effort}.onnx",
            QUICK.but(weight_bits=4, effort=effort, bias_correction="off", accept=True),
        ).facts["recovery"]
        for effort in ("normal", "max")
    }
    assert "rounding_snr_db" not in facts["normal"]
    assert facts["max"]["rounding"] == "adaround"
    assert facts["max"]["rounding_snr_db"]["adaround"] > facts["max"]["rounding_snr_db"]["nearest"]


def test_stale_batch_norm_is_put_right_automatically(net, tmp_path):
    import torch

    from deploykit.models import load_model, save_model

    loaded = load_model(net[0])
    for layer in loaded.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var *= 6
            layer.running_mean += 0.3
    stale = tmp_path / "stale.pt"
    save_model(stale, loaded.module, loaded.arch, loaded.preprocessing, loaded.classes, lineage=[], samples=None)
    options = {"batch_norm": "auto", "equalize": "off", "bias_correction": "off"}
    facts = quantize(stale, tmp_path / "fresh.onnx", QUICK.model_copy(update=options)).facts["recovery"]["batch_norm"]
    assert facts["kept"] is True
    assert facts["top1_after"] > facts["top1_before"] + 0.1


def test_batch_norm_of_a_folded_graph_is_refused(net, tmp_path):
    with pytest.raises(BadInput, match=r"its graph holds it folded or frozen; expected a model file"):
        quantize(net[1], tmp_path / "out.onnx", QUICK.model_copy(update={"batch_norm": "auto"}))
