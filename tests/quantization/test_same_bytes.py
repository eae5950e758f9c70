"""The same command gives the same bytes: beside a busy core, with another number of threads, after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig

QUICK = QuantizeConfig(data="digits", images=32, select_images=32)


@contextmanager
def busy_cores():
    """As many processes as cores that compute all the time."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("target", ["ort-cpu", "tensorrt"])
def test_a_busy_machine_and_more_threads_make_the_same_file(trained_onnx, tmp_path, target):
    config = QUICK.but(target=target)
    alone = quantize(trained_onnx, tmp_path / "alone.onnx", config)
    with busy_cores():
        busy = quantize(trained_onnx, tmp_path / "busy.onnx", config.but(threads=2))
    assert sha256(busy.output) == sha256(alone.output)
    same = ("choice", "snr_db", "recovery", "audit")
    assert {name: busy.facts[name] for name in same} == {name: alone.facts[name] for name in same}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_quantization_made_again_makes_the_same_file(trained_onnx, tmp_path):
    whole = quantize(trained_onnx, tmp_path / "whole.onnx", QUICK)
    given = ["quantize", str(trained_onnx), "-o", str(tmp_path / "killed.onnx"), "--data", "digits", "--images", "32"]
    process = subprocess.Popen([sys.executable, "-m", "deploykit.cli.main", *given], stderr=subprocess.DEVNULL)
    time.sleep(2.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = quantize(trained_onnx, tmp_path / "killed.onnx", QUICK)
    assert sha256(again.output) == sha256(whole.output)


@pytest.mark.parametrize("isa", ["avx2", "avx512", "vnni", "arm64"])
def test_any_isa_is_quantized_for_on_any_machine(trained_onnx, tmp_path, isa):
    made = quantize(trained_onnx, tmp_path / f"{isa}.onnx", QUICK.but(isa=isa, effort="fast"))
    assert made.facts["audit"]["int8_convs"] > 0
    assert ("weight_widths" in made.facts) is (isa in ("avx2", "avx512"))
    assert made.facts["parity"]["snr_db"] > 10
