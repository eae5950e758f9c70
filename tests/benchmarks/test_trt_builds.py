"""TensorRT-RTX plans of ten networks in four precisions, built on a machine without GPU: which build, how fast, how large.

One process per network (``python -m tests.benchmarks.test_trt_builds NAME``). Weights are random with BatchNorm statistics
estimated on procedural pictures: what is looked at is parsing, precision and the plan, not accuracy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.results import RESULTS, publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

NETS = {
    "resnet18": 224,
    "resnet50": 224,
    "mobilenet_v2": 224,
    "mobilenet_v3_large": 224,
    "efficientnet_b0": 224,
    "convnext_tiny": 224,
    "densenet121": 224,
    "lraspp_mobilenet_v3_large": 224,
    "ssdlite320_mobilenet_v3_large": 320,
    "retinanet_resnet50_fpn": 224,
}
PRECISIONS = {"fp32": ("float", None), "fp16": ("float", "fp16"), "int8": ("int8", None), "int8+fp16": ("int8", "fp16")}
PLANS = {"portable": (), "8.6": ("8.6",)}
LIMIT_S = 10.0
PICTURES = 8


def build_all(name: str, size: int, wanted: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The plans of one network for square pictures of ``size`` pixels, in this process; one row each.

    Args:
        name: of ``NETS``.
        size: of the pictures.
        wanted: pairs of a name of ``PRECISIONS`` and one of ``PLANS``.
    """
    from deploykit.base.errors import DeploykitError
    from deploykit.commands.build import build
    from deploykit.config.build import BuildConfig
    from deploykit.engines.tensorrt.log import logger
    from deploykit.engines.tensorrt.plan_file import diagnostics, read_header
    from deploykit.engines.tensorrt.version import load

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = graphs(name, Path(folder), size)
        for precision, which in wanted:
            source, asked = PRECISIONS[precision]
            row: dict[str, Any] = {"net": name, "precision": precision, "plan": which}
            config = BuildConfig(
                target="tensorrt-rtx", precision=asked, compute_capabilities=PLANS[which], beside="none",
                profiles=("1:8:32",), size=size,
            )  # fmt: skip
            place = Path(folder) / f"{precision}.{which}.engine"
            try:
                result = build(files[source], place, config)
                facts = result.facts
            except DeploykitError as error:
                rows.append({**row, "ok": False, "reason": error.line()})
                continue
            api = load("tensorrt-rtx")
            broken = diagnostics(api, api.trt.Runtime(logger(api)), place.read_bytes())
            rows.append(
                {
                    **row,
                    "ok": "MALFORMED_ENGINE" not in broken,
                    "build_s": result.measured["build_s"],
                    "bytes": facts["bytes"],
                    "precisions": facts["network"]["precisions"],
                    "convs": facts["network"]["convs"],
                    "int8_convs": facts["network"]["int8_convs"],
                    "fp16_convs": facts["network"]["fp16_convs"],
                    "compute_capabilities": list(read_header(place).capabilities),
                }
            )
            place.unlink()
    return rows


def graphs(name: str, folder: Path, size: int) -> dict[str, Path]:
    """The network as a float file and in TensorRT's int8 dialect, calibrated on a few procedural pictures."""
    import numpy as np
    import onnx
    import onnx_ir as ir
    import onnxruntime as ort

    from deploykit.data import synthetic_images
    from deploykit.quantization.calibrate import observe, observed_values
    from deploykit.quantization.lint.lint import lint_graph
    from deploykit.quantization.qdq.dialects import dialect_for
    from deploykit.quantization.qdq.prepare import prepare
    from deploykit.quantization.search import Choice, Quantizer

    x = synthetic_images(PICTURES, (size, size), 0).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    path = folder / f"{name}.onnx"
    _export(name, x, path)
    proto = onnx.load(str(path))

    def run_of(graph: onnx.ModelProto) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_outputs()]
        return lambda batch: dict(zip(names, session.run(None, {"input": batch}), strict=True))

    prepared = prepare(proto)
    seen = observe(ir.to_proto(prepared), observed_values(prepared), np.split(x, PICTURES // 2), run_of)
    made = Quantizer(proto, seen, dialect=dialect_for("tensorrt-rtx")).make(Choice(method="minmax"))
    broken = [one for one in lint_graph(made, "tensorrt-rtx") if one.breaks]
    assert not broken, broken[0]
    int8 = folder / f"{name}.int8.onnx"
    onnx.save(made, str(int8))
    return {"float": path, "int8": int8}


def _export(name: str, x: Any, path: Path) -> None:
    import torch

    from deploykit.models import Arch, build
    from deploykit.models.detection import RawHeads, is_single_stage

    torch.manual_seed(0)
    module = build(Arch("torchvision", name))
    module = RawHeads(module) if is_single_stage(module) else module
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    pictures = torch.from_numpy(x)
    with torch.no_grad():
        for batch in pictures.split(4):
            module.train()(batch)
    module.eval()
    program = torch.onnx.export(
        module, (pictures[:2],), dynamo=True, input_names=["input"], dynamic_shapes=({0: "batch"},),
        opset_version=20, verbose=False,
    )  # fmt: skip
    program.save(str(path), external_data=False)


def in_process_of_its_own(name: str) -> list[dict[str, Any]]:
    """All plans of one network by :func:`build_all`, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.test_trt_builds", name],
        cwd=RESULTS.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1][:300]
        return [{"net": name, "precision": "all", "plan": "all", "ok": False, "reason": why}]
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


def test_every_network_builds_in_every_precision(tmp_path: Path) -> None:
    where = where_measured("tensorrt_rtx", "torch", "onnx")
    rows = [row for name in NETS for row in in_process_of_its_own(name)]
    failed = [f"{row['net']} {row['precision']}: {row['reason']}" for row in rows if not row["ok"]]
    slowest = max((row["build_s"] for row in rows if row["ok"]), default=0.0)
    publish("trt_builds", {**where, "rows": rows, "slowest_s": slowest}, text_of(where, rows))
    assert not failed, "\n".join(failed)
    for row in rows:
        assert bool(row["int8_convs"]) == row["precision"].startswith("int8"), row
    assert slowest < LIMIT_S * (1 if where["busy_before"] < 0.3 else 4)


def text_of(where: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = []
    for row in rows:
        if not row["ok"]:
            lines.append([row["net"], row["precision"], row["plan"], f"no: {row['reason']}", "", ""])
            continue
        shares = ", ".join(f"{count} {name}" for name, count in row["precisions"].items())
        lines.append(
            [row["net"], row["precision"], row["plan"], shares, f"{row['build_s']:.1f}", f"{row['bytes'] / 1e6:.1f}"]
        )
    head = (
        "# TensorRT-RTX plans built without a GPU\n\n"
        f"{told(where)} Random weights; profile 1:8:32; layers that multiply, by the precision that the builder was given. "
        "The plans are well-formed by the library's own check; they were not run: that needs a GPU.\n\n"
    )
    return head + table(["network", "asked", "plan for", "layers that multiply", "build s", "MB"], lines)


if __name__ == "__main__":
    rows = build_all(sys.argv[1], NETS[sys.argv[1]], list(product(PRECISIONS, PLANS)))
    print("\n" + json.dumps(rows))
