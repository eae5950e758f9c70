import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from deploykit.config.quantize import AnalyzeConfig
from deploykit.quantization.analyze import analyze
from tests.listening import Listening


class Interrupting(Listening):
    """Raises when the calibration has seen so many pictures."""

    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    @contextmanager
    def task(self, title, total=None, unit=""):
        outer = self

        class Bar:
            def advance(self, n=1, **fields):
                outer.seen += n if title == "calibrate" else 0
                if outer.seen >= outer.at:
                    raise KeyboardInterrupt

        yield Bar()


def test_an_interrupted_calibration_goes_on_from_the_range_file(tiny_model, tmp_path, listening):
    plain = AnalyzeConfig(data="digits", images=40, select_images=8, batch=1, method="minmax")
    whole = plain.model_copy(update={"ranges": str(tmp_path / "whole.json")})
    analyze(tiny_model, tmp_path / "a.json", whole)
    broken = plain.model_copy(update={"ranges": str(tmp_path / "broken.json")})
    with pytest.raises(KeyboardInterrupt):
        analyze(tiny_model, tmp_path / "b.json", broken, progress=Interrupting(30))
    half = json.loads((tmp_path / "broken.json").read_text())
    assert (half["done"], half["complete"]) == (25, False)
    analyze(tiny_model, tmp_path / "b.json", broken, progress=listening)
    assert any("ranges of 25 pictures read" in line for line in listening.said)
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "broken"))
    assert second["complete"]
    assert first["tensors"] == second["tensors"]


MEASURE = """
import resource, sys
import numpy as np, onnx_ir as ir
from deploykit.quantization.calibrate import observed_values
from deploykit.quantization.calibrate import observe
from deploykit.quantization.qdq.prepare import prepare
from tests.quantization.graphs_for_tests import opener, pictures, residual_net
wide = prepare(residual_net())
batches = (pictures(10, seed) for seed in range(int(sys.argv[1]) // 10))
observe(ir.to_proto(wide), observed_values(wide), batches, opener)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_pictures():
    few, many = (
        int(subprocess.run([sys.executable, "-c", MEASURE, n], capture_output=True, check=True, text=True).stdout)
        for n in ("50", "5000")
    )
    assert many <= 1.1 * few
