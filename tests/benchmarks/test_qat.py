"""Training for int8 against quantization after training, on the network of the collapse, over three seeds.

Everything is written out for ONNX Runtime and judged by it on 5,000 test pictures; drops are paired with float. The
seeds are those of the training's order and of the calibration pictures; the float network is one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.results import publish, table, told, where_measured
from tests.benchmarks.test_collapse import DATA, EPOCHS, NETWORK, SEED, _logits, _trained

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

PICTURES = "synthetic:0,train=3000,test=5000"  # of the streams of the network's own pictures
BITS, SEEDS, QAT_EPOCHS, IMAGES = (4, 8), (0, 1, 2), 2, 64


def test_qat(request, tmp_path):
    from deploykit.commands.quantize import quantize
    from deploykit.config.quantize import QuantizeConfig
    from deploykit.data import open_data
    from deploykit.stats.paired import bootstrap_mean

    trained = _network(Path(request.config.cache.mkdir("collapse")))
    source = trained.with_suffix(".pt")
    split = open_data(PICTURES).split("test")
    right = _logits(trained, split).argmax(1) == split.labels
    where = where_measured("torch", "onnxruntime", "onnxruntime-gpu", "numpy")
    how = QuantizeConfig(method="qat", data=PICTURES, qat_epochs=QAT_EPOCHS)
    rows = []
    result = {
        "network": f"deploykit:mobilenetv2 width {NETWORK['width']}, stem stride {NETWORK['stem_stride']}, 32 px, {EPOCHS} epochs",
        "data": {"name": PICTURES, "split": "test", "n": len(split), "sha256": split.sha256},
        "qat": {name: getattr(how, f"qat_{name}") for name in ("epochs", "lr", "batch", "freeze")},
        "float_top1": float(right.mean()),
        **where,
        "rows": rows,
    }

    def judge(bits: int, way: str, seed: int, path: Path, seconds: float, **more) -> None:
        answers = _logits(path, split).argmax(1) == split.labels
        drop = right.astype(float) - answers
        low, high = (100 * one for one in bootstrap_mean(drop))
        row = {"bits": bits, "way": way, "seed": seed, "top1": float(answers.mean()), "seconds": round(seconds, 1)}
        row |= {"drop_pt": 100 * float(drop.mean()), "drop_pt_low": low, "drop_pt_high": high, **more}
        print(row, flush=True)
        rows.append(row)

    for bits in BITS:
        for seed in SEEDS:
            shared = {"data": PICTURES, "images": IMAGES, "weight_bits": bits, "force_int8": True, "seed": seed}
            for way, path, seconds in _calibrated(trained, tmp_path, QuantizeConfig(**shared), best=seed == SEEDS[0]):
                judge(bits, way, seed, path, seconds)
            before = time.perf_counter()
            config = QuantizeConfig(**shared, method="qat", qat_epochs=QAT_EPOCHS)
            qat = quantize(source, tmp_path / f"{bits}{seed}.qat.pt", config)
            written = quantize(qat.output, tmp_path / f"{bits}{seed}.qat.onnx", QuantizeConfig(force_int8=True))
            facts = {name: qat.facts[name] for name in ("won", "agreement")}
            judge(bits, "QAT", seed, written.output, time.perf_counter() - before, **facts)
            publish("qat", result, _text(result))
    for bits in BITS:
        by_way = {way: [r for r in rows if (r["bits"], r["way"]) == (bits, way)] for way in ("PTQ", "QAT")}
        assert all(row["agreement"] >= 0.995 for row in by_way["QAT"])
        mean = {way: sum(row["top1"] for row in some) / len(some) for way, some in by_way.items()}
        assert mean["QAT"] > mean["PTQ"] - 0.003
        if bits == 4:
            assert all(row["won"] == "qat" for row in by_way["QAT"])
            assert mean["QAT"] > mean["PTQ"] + 0.01


def _network(folder: Path) -> Path:
    """The network of the collapse as ONNX; one that was trained so by an earlier version of deploykit will do."""
    from deploykit.base.artifact import is_unmodified, read_manifest

    path = folder / "net.pt"
    manifest = read_manifest(path) if path.is_file() else None
    if manifest is None or not is_unmodified(path, manifest) or not path.with_suffix(".onnx").is_file():
        return _trained(folder)
    wanted = {"data": DATA, "epochs": EPOCHS, "lr": 0.1, "seed": SEED}
    same = all(manifest.config[name] == value for name, value in wanted.items())
    same = same and manifest.config["model"]["kwargs"] == NETWORK
    return path.with_suffix(".onnx") if same else _trained(folder)


def _calibrated(source: Path, folder: Path, config, *, best: bool):
    """What training starts from, written out, and with ``best`` also with adaptively rounded weights: way, file, seconds.

    Not through the command, which refuses to write a network that is as far from float as four bits leave it.
    """
    import onnx

    from deploykit.base.progress import SILENT
    from deploykit.evaluation.graph_runner import Opened
    from deploykit.quantization.calibration_images import calibration_pictures
    from deploykit.quantization.job import Job
    from deploykit.quantization.ptq import choose, see
    from deploykit.quantization.qdq.dialects import DEFAULT
    from deploykit.quantization.recovery import recover_weights

    before = time.perf_counter()
    opened, images = Opened(folder, threads=1), calibration_pictures(config, SILENT)
    dialect = replace(DEFAULT, weight_bits=config.weight_bits)
    job = Job(config, dialect, images, opened, SILENT)
    with opened.runner(source) as reference:
        seen = see(source, reference, job)
    choice, _ = choose(seen, job)
    ways = {"PTQ": seen.quantizer}
    if best:
        wanted = config.but(rounding="adaround", bias_correction="off")
        ways["PTQ, adaptive rounding"] = recover_weights(seen, choice, replace(job, config=wanted))[0]
    for way, quantizer in ways.items():
        path = folder / f"calibrated{config.weight_bits}{config.seed}.onnx"
        made = quantizer.make(choice)
        if not made.metadata_props:
            made.metadata_props.extend(seen.proto.metadata_props)
        onnx.save(made, path)
        yield way, path, time.perf_counter() - before


def _text(result) -> str:
    shown = [
        [
            row["way"],
            str(row["bits"]),
            str(row["seed"]),
            f"{100 * row['top1']:.2f}",
            f"{row['drop_pt']:.2f}",
            f"{row['drop_pt_low']:.2f} … {row['drop_pt_high']:.2f}",
            f"{100 * row['agreement']:.2f}" if "agreement" in row else "",
            row.get("won", ""),
            f"{row['seconds']:.0f}",
        ]
        for row in result["rows"]
    ]
    heads = ["way", "weight bits", "seed", "top-1 %", "drop, points", "interval", "agreement %", "won", "made in s"]
    how = result["qat"]
    return "\n".join(
        [
            "# Training for int8 (QAT) against quantization after training (PTQ)",
            "",
            f"{result['network']}, trained on {DATA}: float top-1 {100 * result['float_top1']:.2f} % on",
            f"{result['data']['n']:,} test pictures. QAT: epochs {how['epochs']} of {PICTURES}, AdamW {how['lr']:g}, batch",
            f"{how['batch']}, the float network as teacher, learned steps, BatchNorm frozen after {how['freeze']:.0%} of the steps.",
            "uint8 activations, a weight scale for each output channel. Everything is judged as ONNX Runtime runs the written",
            "file; the drop is paired with float, with its 95 % interval; agreement is that of the trained network in PyTorch",
            "with its written file on `select`.",
            "",
            told(result),
            "",
            table(heads, shown),
        ]
    )
