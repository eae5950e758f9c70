"""int8 of ten networks on ONNX Runtime's CPU kernels: ours beside its peers', speed-up over float, SNR, share on integers.

In three steps, each of which can be run alone and network by network (``make bench BENCH="int8_peers and files"``):
``files`` makes the float networks and every int8 file, which are kept under deploykit's cache folder; ``timing`` times
all files of a network in turns; ``table`` writes what was found, as ``int8_peers_ISA``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.int8_files import FLOAT, NETWORKS, OPENVINO, OURS, PEERS, Way, file_of, float_file, folder, make
from tests.benchmarks.results import RESULTS, publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

TIMING_S = 55.0
FASTER, SNR_WITHIN_DB = 1.10, 1.0
SNRS = ("snr_db", "picture_snr_db")
MARKS = {
    "resnet18": 3.5, "mobilenet_v2": 2.1, "mobilenet_v3_small": 1.3, "mobilenet_v3_large": 1.65, "efficientnet_b0": 1.45,
}  # fmt: skip
ORT_PEERS = [way for way in PEERS if way != OPENVINO]


def _title(way: Way) -> str:
    return f"{way[0]}, {way[1]}"


@pytest.mark.parametrize("network", NETWORKS)
def test_files(network: str) -> None:
    """Every file, its SNR on the test pictures against float, and its share of int8 convolutions."""
    from tests.benchmarks.int8_files import pictures
    from tests.benchmarks.int8_timing import OpenVinoProcess, answers, share

    x = pictures("test")
    reference = answers(float_file(network, "dynamo"), x)
    found: dict[str, Any] = {}
    for way in (*OURS, *PEERS, OPENVINO):
        make(network, way)
        path = file_of(network, way)
        if not path.exists():
            found[_title(way)] = {"failed": path.with_suffix(".failed").read_text().strip().splitlines()[-1][:200]}
        elif way == OPENVINO:
            with OpenVinoProcess(path, x) as process:
                found[_title(way)] = _near(reference, process.answers) | {
                    "bytes": path.with_suffix(".bin").stat().st_size
                }
        else:
            int8, convs = share(path)
            found[_title(way)] = _near(reference, answers(path, x)) | {
                "int8_convs": int8, "convs": convs, "bytes": path.stat().st_size,
            }  # fmt: skip
    (folder(network) / "files.json").write_text(json.dumps(found, indent=1))
    assert all(_title(way) in found for way in OURS)


def _near(reference: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """How near logits are: of all pictures together, the mean of each one's, and how many have the same answer."""
    from deploykit.quantization.search import picture_snr_db, snr_db

    return {
        "snr_db": snr_db(reference, found),
        "picture_snr_db": picture_snr_db(reference, found),
        "top1_agreement": float((reference.argmax(1) == found.argmax(1)).mean()),
    }


@pytest.mark.parametrize("network", NETWORKS)
def test_timing(network: str) -> None:
    """Times of every file of a network, in turns."""
    from tests.benchmarks.int8_timing import timed

    where = where_measured("onnxruntime-gpu", "onnxruntime", "onnx", "numpy")
    ways = [way for way in (FLOAT, *OURS, *PEERS, OPENVINO) if file_of(network, way).exists()]
    assert OURS[0] in ways, "run the files step first"
    found = timed(network, ways, TIMING_S)
    times = {_title(way): np.round(one, 7).tolist() for way, one in found.items()}
    (folder(network) / "timing.json").write_text(json.dumps({"where": where, "times_s": times}))


def test_table() -> None:
    """The table, and what the marks say of it; networks that were not timed here keep the rows of the last table."""
    from deploykit.base.environment import isa

    name = f"int8_peers_{isa()}"
    last = RESULTS / f"{name}.json"
    kept = {row["network"]: row for row in json.loads(last.read_text())["rows"]} if last.exists() else {}
    read = {n: [folder(n) / name for name in ("files.json", "timing.json")] for n in NETWORKS}
    done = [n for n, paths in read.items() if all(path.exists() for path in paths)]
    assert done, "run the files and timing steps first"
    timed = {n: _judged(n, *(json.loads(path.read_text()) for path in read[n])) for n in done}
    rows = [(kept | timed)[n] for n in NETWORKS if n in kept or n in timed]
    where = json.loads(read[done[0]][1].read_text())["where"]
    ratios = np.asarray([1 / row["ours_over_best_peer"]["estimate"] for row in rows])
    geomean = float(np.exp(np.log(ratios).mean()))
    result = {"where": where, "faster_than_best_peer_geomean": geomean, "marks": MARKS, "rows": rows}
    publish(name, result, _text(where, rows, geomean, done))
    _hold(rows, geomean)


def _judged(network: str, files: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
    from deploykit.stats.ratio import speed_up, speed_up_interval

    times = {name: np.asarray(one) for name, one in timing["times_s"].items()}
    base = times[_title(FLOAT)]
    ways = {}
    for name, one in times.items():
        estimate, (low, high) = speed_up(base, one), speed_up_interval(base, one)
        ways[name] = {"p50_ms": 1e3 * float(np.median(one)), "speedup": estimate, "low": low, "high": high}
        ways[name] |= files.get(name, {})
    ways |= {name: one for name, one in files.items() if "failed" in one}
    ours = _title(OURS[0])
    peers = [_title(way) for way in ORT_PEERS if "speedup" in ways.get(_title(way), {})]
    best = max(peers, key=lambda name: ways[name]["speedup"])
    low, high = speed_up_interval(times[ours], times[best])
    ratio = {"peer": best, "estimate": speed_up(times[ours], times[best]), "low": low, "high": high}
    openvino = times.get(_title(OPENVINO))
    return {
        "network": network,
        "rounds": len(base),
        "ours_over_best_peer": ratio,
        "openvino_over_ours": None if openvino is None else speed_up(openvino, times[ours]),
        **{f"best_peer_{key}": max(ways[name][key] for name in peers) for key in SNRS},
        "ways": ways,
    }


def _text(where: dict[str, Any], rows: list[dict[str, Any]], geomean: float, timed: list[str]) -> str:
    from deploykit.base.environment import isa

    names = [_title(way) for way in (*OURS, *PEERS, OPENVINO)]
    ours = _title(OURS[0])

    def cell(row: dict[str, Any], name: str) -> str:
        found = row["ways"].get(name)
        if found is None or "speedup" not in found:
            return "" if found is None else "failed"
        share = f", {found['int8_convs']}/{found['convs']}" if "convs" in found else ""
        near = f"{found['snr_db']:.1f} dB"
        if "picture_snr_db" in found:
            near = f"{found['snr_db']:.1f} / {found['picture_snr_db']:.1f} dB, {found['top1_agreement']:.0%}"
        return f"{found['speedup']:.2f}×, {near}{share}"

    def short(row: dict[str, Any]) -> list[str]:
        mine, peer = row["ways"][ours], row["ours_over_best_peer"]
        mark = f"{MARKS[row['network']]:g}" if row["network"] in MARKS else ""
        return [
            row["network"],
            f"{row['ways'][_title(FLOAT)]['p50_ms']:.2f}",
            f"{mine['speedup']:.2f} ({mine['low']:.2f} … {mine['high']:.2f})",
            mark,
            peer["peer"],
            f"{peer['estimate']:.3f} ({peer['low']:.3f} … {peer['high']:.3f})",
            *(f"{mine[key]:.1f} / {row[f'best_peer_{key}']:.1f}" if key in mine else "" for key in SNRS),
            "" if row["openvino_over_ours"] is None else f"{row['openvino_over_ours']:.2f}",
        ]

    older = [row["network"] for row in rows if row["network"] not in timed]
    ages = ["", f"Of an earlier run, quantized as it was then: {', '.join(older)}."] if older else []
    heads = ["network", "float ms", "speed-up over float", "mark", "fastest peer", "ours / its time"]
    return "\n".join(
        [
            f"# int8 on ONNX Runtime's CPU kernels, beside the peers ({isa()})",
            "",
            told(where),
            "One thread, batch 1, 224 px, torchvision's networks with random weights and BatchNorm statistics estimated on",
            "pictures (ConvNeXt's layer scale 0.1). Every file is timed in turns in one run, in this ONNX Runtime, but",
            "OpenVINO's, which runs in OpenVINO; each peer wrote its file in an environment of its own, from the same 64",
            "pictures (ORT's percentile: 16, since it keeps all activations in memory). SNR of the logits on 64 other pictures",
            "against the float network's, of all together and the mean of each picture's own (a few loud pictures rule the first):",
            "of random weights they compare ways, they say nothing of accuracy. Ours is made as",
            "`deploykit quantize` makes it, without bias correction, which costs minutes and changes no time. An empty cell: that",
            "file was not made. One file of results for each instruction set: those of the others are made on machines that have them.",
            "",
            table(
                [*heads, "SNR dB, ours / best peer", "of a picture", "OpenVINO / our time"],
                [short(row) for row in rows],
            ),
            "",
            f"Geometric mean: {geomean:.3f} times as fast as the fastest peer of each network.",
            *ages,
            "",
            "Speed-up over float, SNR together / of a picture, pictures answered alike, convolutions on integers of all:",
            "",
            table(["network", *names], [[row["network"], *(cell(row, name) for name in names)] for row in rows]),
        ]
    )


def _hold(rows: list[dict[str, Any]], geomean: float) -> None:
    """Every mark that is not met, together."""
    ours, missed = _title(OURS[0]), []
    for row in rows:
        name, mine = row["network"], row["ways"][ours]
        if row["ours_over_best_peer"]["low"] > 1.0:
            missed.append(f"{name}: slower than {row['ours_over_best_peer']['peer']}")
        if mine["high"] < MARKS.get(name, 0):
            missed.append(f"{name}: {mine['speedup']:.2f} times float, mark {MARKS[name]}")
        if mine["snr_db"] < row["best_peer_snr_db"] - SNR_WITHIN_DB:
            missed.append(f"{name}: {mine['snr_db']:.1f} dB, best peer {row['best_peer_snr_db']:.1f}")
    if len(rows) == len(NETWORKS) and geomean < FASTER:
        missed.append(f"geometric mean {geomean:.3f}, mark {FASTER}")
    assert not missed, "; ".join(missed)
