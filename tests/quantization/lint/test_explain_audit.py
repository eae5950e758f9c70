"""The Q and DQ left in an engine, with the linter's reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.base.overrides import Stated
from deploykit.engines import open_runner
from deploykit.quantization.lint.explain_audit import audited
from tests.engines.onnx_for_tests import quantized_net, small_net


def test_what_keeps_a_q_or_dq_is_told_by_the_linter_of_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploykit.base.environment.isa", lambda: "vnni")  # elsewhere 8-bit weights are the reason
    with open_runner(f"{quantized_net(tmp_path / 'q.onnx')}@ort-cpu", threads=1, stated=Stated((8, 8))) as runner:
        left = audited(runner)["qdq_left"]
    assert sorted(left, reverse=True) == [
        "1 × quantizelinear: the picture comes in float (needed), first q",
        "1 × dequantizelinear: stored integers, which FusedConv reads in float "
        "(Conv stays float: no Q follows its Relu), first wdq",
        "1 × dequantizelinear: FusedConv reads in float (Conv stays float: no Q follows its Relu), first dq",
    ]


def test_a_float_network_leaves_none_and_pytorch_has_none(tmp_path: Path, tiny_model: Path) -> None:
    with open_runner(f"{small_net(tmp_path / 'n.onnx')}@ort-cpu", threads=1, stated=Stated((8, 8))) as runner:
        assert audited(runner)["qdq_left"] == []
    with open_runner(tiny_model, threads=1) as runner:
        assert audited(runner) == runner.audit()
