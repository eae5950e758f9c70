"""Networks, pictures and int8 files of ours and of every peer, made once and kept under deploykit's cache folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deploykit.base.progress import SILENT
from tests.benchmarks.peers.environments import KEPT, run_script

NETWORKS = (
    "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
    "densenet121", "regnet_y_400mf", "convnext_tiny", "googlenet",
)  # fmt: skip
SIZE = 224
CALIBRATION, SELECT, TEST = 64, 64, 64
LAYER_SCALE = 0.1

Way = tuple[str, str]
OURS: tuple[Way, ...] = (("ours", "dynamo"), ("ours", "torchscript"))
PEERS: tuple[Way, ...] = (
    ("ORT MinMax", "dynamo"), ("ORT MinMax", "torchscript"), ("ORT Percentile", "dynamo"), ("NNCF", "dynamo"),
    ("ModelOpt", "dynamo"),
)  # fmt: skip
OPENVINO: Way = ("OpenVINO", "dynamo")
FLOAT: Way = ("float", "dynamo")


def folder(network: str) -> Path:
    """Where a network's files lie."""
    made = KEPT / "int8_peers" / network
    made.mkdir(parents=True, exist_ok=True)
    return made


def file_of(network: str, way: Way) -> Path:
    """The file of one way to quantize a network."""
    tool, exporter = way
    return folder(network) / f"{tool.replace(' ', '-')}.{exporter}.{'xml' if tool == 'OpenVINO' else 'onnx'}"


def float_file(network: str, exporter: str) -> Path:
    """The float network as one of torch's exporters writes it, with BatchNorm statistics estimated on pictures."""
    path = folder(network) / f"float.{exporter}.onnx"
    if not path.exists():
        from deploykit.commands.export import export
        from deploykit.config.export import ExportConfig

        with TemporaryDirectory() as scratch:
            model = _model(network, Path(scratch) / f"{network}.pt")
            # The TorchScript exporter writes opset 17 at most well, and quant_pre_process knows it.
            opset = 20 if exporter == "dynamo" else 17
            export(model, path, ExportConfig(exporter=exporter, opset=opset, threads=1), force=True)
    return path


def _model(network: str, path: Path) -> Path:
    import torch
    import torchvision

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import prepare, synthetic_images
    from deploykit.models import build, parse_arch, save_model
    from deploykit.models.batch_norm import reestimate_batch_norm

    torch.manual_seed(0)
    torch.set_num_threads(1)
    arch = parse_arch(f"torchvision:{network}")
    module = build(arch).eval()
    preprocessing = Preprocessing((SIZE, SIZE))
    for layer in module.modules():
        if isinstance(layer, torchvision.models.convnext.CNBlock):
            torch.nn.init.constant_(layer.layer_scale, LAYER_SCALE)
    if any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules()):
        x = prepare(synthetic_images(64, (SIZE, SIZE), 7), preprocessing)
        reestimate_batch_norm(module, np.split(x, 4))
    save_model(path, module, arch, preprocessing, [f"class {i}" for i in range(1000)])
    return path


def data_file() -> Path:
    """The pictures as a data set: ``train`` to calibrate on, ``select``, ``test``."""
    path = KEPT / "int8_peers" / "pictures.npz"
    if not path.exists():
        from deploykit.data import synthetic_images

        path.parent.mkdir(parents=True, exist_ok=True)
        count = CALIBRATION + SELECT + TEST
        split = ["train"] * CALIBRATION + ["select"] * SELECT + ["test"] * TEST
        classes = np.asarray([f"class {i}" for i in range(1000)])
        labels = np.arange(count) % 1000
        images = synthetic_images(count, (SIZE, SIZE), 0)
        np.savez(path, images=images, labels=labels, classes=classes, split=np.asarray(split))
    return path


def pictures(split: str) -> np.ndarray:
    """Prepared pictures of ``train``, ``select`` or ``test``, float32 [n, 3, 224, 224]."""
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import prepare

    with np.load(data_file()) as found:
        return prepare(found["images"][found["split"] == split], Preprocessing((SIZE, SIZE)))


def make(network: str, way: Way) -> None:
    """Write the file of ``way``, or what went wrong beside it; files that are there are left alone."""
    path, (tool, exporter) = file_of(network, way), way
    source = float_file(network, exporter)
    if tool == "ours":
        _ours(source, path)
        return
    failed = path.with_suffix(".failed")
    if path.exists() or failed.exists():
        return
    with TemporaryDirectory() as scratch:
        calibration, part = Path(scratch) / "calibration.npy", Path(scratch) / path.name
        np.save(calibration, pictures("train"))
        words = (str(source), str(calibration), str(part))
        try:
            if tool.startswith("ORT "):
                run_script("onnxruntime", *words, tool.removeprefix("ORT "))
            else:
                run_script("modelopt" if tool == "ModelOpt" else "nncf", *words)
        except RuntimeError as error:
            failed.write_text(str(error))
            return
        for made in Path(scratch).glob(f"{path.stem}.*"):
            shutil.copy(made, path.with_name(made.name))


def _ours(source: Path, path: Path) -> None:
    """What ``deploykit quantize`` makes, kept whatever its top-1 agreement: of random weights a classifier has near ties.

    A file of an older STAGE_VERSION is made again.
    """
    import onnx

    from deploykit.commands.quantize import STAGE
    from deploykit.config.quantize import QuantizeConfig
    from deploykit.evaluation.graph_runner import Opened
    from deploykit.quantization.calibration_images import calibration_pictures
    from deploykit.quantization.job import Job
    from deploykit.quantization.ptq import choose, see
    from deploykit.quantization.qdq.dialects import dialect_of
    from deploykit.quantization.recovery import equalize_network, recover_weights

    said = path.with_suffix(".json")
    if path.exists() and said.exists() and json.loads(said.read_text())["stage_version"] == STAGE.version:
        return
    config = QuantizeConfig(
        data=str(data_file()), images=CALIBRATION, select_images=SELECT, threads=1, bias_correction="off"
    )
    with TemporaryDirectory() as scratch:
        opened = Opened(Path(scratch), threads=1)
        job = Job(config, dialect_of(config.target), calibration_pictures(config, SILENT), opened, SILENT)
        with opened.runner(source) as reference:
            seen = see(source, reference, job)
        seen, equalization = equalize_network(seen, job)
        choice, snr = choose(seen, job)
        quantizer, recovery = recover_weights(seen, choice, job)
        made = quantizer.make(choice)
    onnx.save(made, path)
    facts = {"choice": choice.said(), "snr_db": snr, "recovery": equalization | recovery}
    said.write_text(json.dumps({"stage_version": STAGE.version, **facts}, indent=1))
