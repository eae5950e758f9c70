"""The same commands on the same input make the same bytes, on a quiet machine and on a busy one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploykit.base.artifact import read_manifest
from deploykit.base.environment import cores
from deploykit.base.hashing import file_sha256
from deploykit.commands.distill import distill
from deploykit.commands.export import export
from deploykit.commands.prune import prune
from deploykit.commands.quantize import quantize
from deploykit.commands.train import train
from deploykit.config.distill import DistillConfig
from deploykit.config.export import ExportConfig
from deploykit.config.prune import PruneConfig
from deploykit.config.quantize import QuantizeConfig
from deploykit.config.train import ModelConfig, TrainConfig


def _busy() -> None:
    while True:
        pass


@contextmanager
def busy() -> Iterator[None]:
    """Every core has something else to do."""
    others = [multiprocessing.get_context("fork").Process(target=_busy, daemon=True) for _ in range(cores())]
    for one in others:
        one.start()
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.join()


def chain(folder: Path, data: str) -> dict[str, Any]:
    """train → prune → distill → export → quantize: the hash of every file, and what the manifests say but for ``measured``."""
    folder.mkdir()
    net = ModelConfig(arch="deploykit:resnet", kwargs={"depth": 8, "widths": [8, 16, 16], "stem_stride": 2})
    made = [train(folder / "model.pt", TrainConfig(data=data, model=net, epochs=2, batch=32, ema=0.9)).output]
    made.append(prune(made[0], folder / "pruned.pt", PruneConfig(macs=0.6, data=data)).output)
    learnt = DistillConfig(data=data, teachers=(str(made[0]),), epochs=2, batch=32)
    made.append(distill(made[1], folder / "small.pt", learnt).output)
    made.append(export(made[2], folder / "small.onnx", ExportConfig()).output)
    made.append(quantize(made[3], folder / "small.int8.onnx", QuantizeConfig(data=data, images=64)).output)
    found: dict[str, Any] = {}
    for path in made:
        manifest = read_manifest(path)
        assert manifest is not None
        told = {key: value for key, value in vars(manifest).items() if key != "measured"}
        found[path.name] = file_sha256(path), told
    return found


def test_two_runs_make_the_same_bytes_one_of_them_beside_busy_processes(tmp_path: Path, digits_npz: Path) -> None:
    quiet = chain(tmp_path / "quiet", str(digits_npz))
    with busy():
        assert chain(tmp_path / "busy", str(digits_npz)) == quiet
