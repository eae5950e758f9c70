"""``--tune`` and ``--choices``: measured time decides only with confidence, and what it decided is made again byte for byte."""

import json

import numpy as np
import pytest

from deploykit.base.choices import choices_path
from deploykit.base.errors import BadInput
from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig
from deploykit.evaluation.graph_runner import Opened

QUICK = QuantizeConfig(data="digits", images=32, select_images=32, method="minmax")


def measured_as(monkeypatch, faster):
    """Have the stopwatch tell that the candidate whose name holds ``faster`` takes half the time, all others the same."""

    def blocks_s(self, graphs, x, seed=0):
        noise = np.random.default_rng(0).normal(1, 0.001, size=(len(graphs), 30))
        return {name: (0.5 if faster in name else 1.0) * one for name, one in zip(graphs, noise, strict=True)}

    monkeypatch.setattr(Opened, "blocks_s", blocks_s)


def test_a_choice_by_measured_time_is_kept_and_made_again(trained_onnx, tmp_path, monkeypatch):
    measured_as(monkeypatch, "float classifier")
    tuned = quantize(trained_onnx, tmp_path / "tuned.onnx", QUICK.but(tune=True))
    assert tuned.facts["choice"]["float_head"] is True
    kept = choices_path(tuned.output)
    fields = json.loads(kept.read_text())
    assert (fields["schema"], fields["chosen"]["float_head"]) == ("deploykit.choices/1", True)
    assert min(fields["measured"]["speed_up"]["float classifier"]) > 1.9
    measured_as(monkeypatch, "nothing")
    again = quantize(trained_onnx, tmp_path / "again.onnx", QUICK.but(choices=str(kept)))
    assert again.output.read_bytes() == tuned.output.read_bytes()
    assert not choices_path(again.output).exists()
    assert quantize(trained_onnx, again.output, QUICK.but(choices=str(kept))).made is False
    fields["chosen"]["float_head"] = False
    kept.write_text(json.dumps(fields))
    assert quantize(trained_onnx, again.output, QUICK.but(choices=str(kept))).made is True


def test_what_is_not_faster_with_confidence_changes_nothing(trained_onnx, tmp_path, monkeypatch):
    measured_as(monkeypatch, "nothing")
    plain = quantize(trained_onnx, tmp_path / "plain.onnx", QUICK)
    tuned = quantize(trained_onnx, tmp_path / "tuned.onnx", QUICK.but(tune=True))
    assert tuned.output.read_bytes() == plain.output.read_bytes()
    assert choices_path(tuned.output).exists()


@pytest.mark.parametrize("chosen", [{}, {"prefix": "conv", "float_adds": False, "float_head": False}])
def test_damaged_choices_are_refused(trained_onnx, tmp_path, monkeypatch, chosen):
    measured_as(monkeypatch, "nothing")
    tuned = quantize(trained_onnx, tmp_path / "tuned.onnx", QUICK.but(tune=True))
    kept = choices_path(tuned.output)
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"chosen": chosen}))
    with pytest.raises(BadInput, match="holds no placement"):
        quantize(trained_onnx, tmp_path / "again.onnx", QUICK.but(choices=str(kept)))
    assert not (tmp_path / "again.onnx").exists()


@pytest.mark.parametrize(
    "fields", [{"tune": True, "choices": "x"}, {"tune": True, "isa": "avx2"}, {"tune": True, "target": "tensorrt"}]
)
def test_what_cannot_be_timed_here_is_refused(fields):
    with pytest.raises(ValueError, match=r"choices|tune"):
        QuantizeConfig(data="digits", **fields)
