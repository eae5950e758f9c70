"""The predicted cost of kernels beside their measured times: ten networks in float, int8 and between.

``measure`` takes one network (``make bench BENCH="kernel_cost and measure and resnet18"``), ``table`` writes what was found.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.int8_files import NETWORKS, float_file, folder, pictures
from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SEEN = 8
WITHIN, TOLD_RIGHT, LOST = 0.25, 0.85, 1.06


@pytest.mark.parametrize("network", NETWORKS)
def test_measure(network: str) -> None:
    """Every candidate's predicted cost and its times in turns with the others; every kernel's of float and int8."""
    import onnx

    from deploykit.base.environment import isa
    from deploykit.evaluation.graph_runner import Opened
    from deploykit.quantization.kernel_cost import cost_us, kernel_us
    from deploykit.quantization.kernels import kernels
    from deploykit.quantization.search import Choice, cuts

    where = where_measured("onnxruntime-gpu", "onnxruntime", "onnx", "numpy")
    proto, x = onnx.load(str(float_file(network, "dynamo"))), pictures("test")[:SEEN]
    with TemporaryDirectory() as scratch:
        opened = Opened(Path(scratch), threads=1)
        quantizer = _quantizer(proto, x, opened)
        choices = {"int8": Choice(method="minmax")}
        choices |= {
            f"{len(names)} nodes float": Choice(method="minmax", prefix=names)
            for names in cuts(quantizer.prepared.graph)
        }
        choices["float sums and classifier"] = Choice(method="minmax", float_adds=True, float_head=True)
        graphs = {"float": proto} | {name: quantizer.make(choice) for name, choice in choices.items()}
        optimized = {name: opened.optimized(graph) for name, graph in graphs.items()}
        layers = {
            name: [[kernel_us(k, isa()), times[k.name]] for k in kernels(optimized[name]) if k.name in times]
            for name in ("float", "int8")
            if (times := {node: us for (node, _), us in opened.profile(graphs[name], x[:1]).items()})
        }
        found = {
            "where": where,
            "isa": isa(),
            "predicted_us": {name: cost_us(one, isa()) for name, one in optimized.items()},
            "times_s": {name: np.round(one, 8).tolist() for name, one in opened.blocks_s(graphs, x).items()},
            "layers_us": layers,
        }
    (folder(network) / "kernel_cost.json").write_text(json.dumps(found))
    assert len(found["times_s"]) >= 3


def _quantizer(proto: Any, x: np.ndarray, opened: Any) -> Any:
    import onnx_ir as ir

    from deploykit.quantization.calibrate import observe, observed_values
    from deploykit.quantization.qdq.dialects import dialect_of
    from deploykit.quantization.qdq.prepare import prepare
    from deploykit.quantization.search import Quantizer

    wide = prepare(proto)
    seen = observe(ir.to_proto(wide), observed_values(wide), [x], opened.graph)
    return Quantizer(proto, seen, dialect=dialect_of("ort-cpu"))


def test_table() -> None:
    """How far the prediction is off, which candidates it orders rightly, and what its choice loses against the fastest."""
    read = {n: folder(n) / "kernel_cost.json" for n in NETWORKS}
    found = {n: json.loads(path.read_text()) for n, path in read.items() if path.exists()}
    assert found, "run the measure step first"
    rows = [_row(network, one) for network, one in found.items()]
    first = next(iter(found.values()))
    pairs, right = (sum(row[key] for row in rows) for key in ("pairs", "right"))
    result = {
        "where": first["where"],
        "isa": first["isa"],
        "median_error": float(np.median([row["error"] for row in rows])),
        "told_apart": pairs,
        "ordered_rightly": right / max(pairs, 1),
        "rows": rows,
    }
    publish("kernel_cost", result, _text(result))
    assert result["median_error"] < WITHIN
    assert result["ordered_rightly"] > TOLD_RIGHT
    assert np.exp(np.mean([np.log(row["lost"]) for row in rows])) < LOST


def _row(network: str, found: dict[str, Any]) -> dict[str, Any]:
    from scipy.stats import spearmanr

    from deploykit.quantization.search import SLACK
    from deploykit.stats.ratio import speed_up, speed_up_interval

    times = {name: np.asarray(one) for name, one in found["times_s"].items()}
    predicted = found["predicted_us"]
    gain = speed_up(times["float"], times["int8"])
    apart = [
        (one, other)
        for one, other in combinations(times, 2)
        if not speed_up_interval(times[one], times[other])[0] <= 1 <= speed_up_interval(times[one], times[other])[1]
    ]
    right = sum((speed_up(times[a], times[b]) > 1) == (predicted[a] > predicted[b]) for a, b in apart)
    ways = [name for name in times if name != "float"]
    limit = SLACK * min(predicted[name] for name in ways)
    chosen = "int8" if predicted["int8"] <= limit else min(ways, key=lambda name: predicted[name])
    fastest = max(ways, key=lambda name: speed_up(times["float"], times[name]))
    layers = np.asarray([pair for pairs in found["layers_us"].values() for pair in pairs])
    return {
        "network": network,
        "speedup": gain,
        "predicted_speedup": predicted["float"] / predicted["int8"],
        "error": abs(float(np.log(predicted["float"] / predicted["int8"] / gain))),
        "candidates": len(ways),
        "pairs": len(apart),
        "right": right,
        "chosen": chosen,
        "fastest": fastest,
        "lost": speed_up(times[chosen], times[fastest]),
        "layers": len(layers),
        "layer_correlation": float(spearmanr(layers[:, 0], layers[:, 1]).statistic),
    }


def _text(result: dict[str, Any]) -> str:
    shown = [
        [
            row["network"],
            f"{row['speedup']:.2f} / {row['predicted_speedup']:.2f}",
            f"{row['right']} of {row['pairs']}",
            f"{row['chosen']} / {row['fastest']}",
            f"{row['lost']:.3f}",
            f"{row['layer_correlation']:.2f} ({row['layers']})",
        ]
        for row in result["rows"]
    ]
    heads = ["network", "int8 over float, measured / predicted", "pairs ordered rightly", "chosen / fastest",
             "chosen's time over the fastest's", "layers, rank correlation"]  # fmt: skip
    return "\n".join(
        [
            f"# Predicted cost of kernels, beside measured times ({result['isa']})",
            "",
            told(result["where"]),
            "One thread, batch 1, 224 px. Candidates: all int8, float prefixes, float sums and classifier; timed in turns. Pairs: those",
            "that the measurement tells apart (95 % interval). Of what is predicted within 3 % the plainest is chosen. Layers: kernels of",
            "ONNX Runtime's profiles of the float and the int8 network. Rates of other instruction sets than this one are not measured here.",
            "",
            table(heads, shown),
            "",
            f"Pairs ordered rightly: {result['ordered_rightly']:.0%} of {result['told_apart']}.",
        ]
    )  # fmt: skip
