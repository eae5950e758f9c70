"""Fixtures that several rooms share: a tiny trained-like model, real digits, a folder of pictures; caches stay in tmp."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from deploykit.base.environment import cores, memory_bytes
from tests import forked
from tests.listening import Listening
from tests.shared import made_once

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited by a suite in the background; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, unless `--hypothesis-profile random` is given. A busy machine fails no property.
_UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_UNTIMED)
settings.register_profile("random", print_blob=True, database=None, **_UNTIMED)
settings.load_profile("same")

# A process of the whole suite holds millions of objects, which the collector would walk again and again.
gc.set_threshold(20_000, 20, 20)

PROCESS_BYTES = 3 << 30
"""What one process of the tests takes at most: torch, two engines and what they hold."""
ROOT = Path(__file__).parent.parent
LEFT_OUT = {"slow": "make test-slow", "gpu": "make test-gpu", "bench": "make bench"}
TINY = {"num_classes": 10, "depth": 8, "widths": [8, 16, 32], "stem_stride": 2}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one process a core, fewer where memory is short."""
    return max(1, min(cores(), memory_bytes() // PROCESS_BYTES))


def pytest_report_header(config: pytest.Config) -> str:
    """One line: how many processes, what is left out and which command runs it."""
    count = config.getoption("numprocesses", None) or 1
    out = [f"{name} (`{command}`)" for name, command in LEFT_OUT.items() if f"not {name}" in config.option.markexpr]
    examples = "random" if config.getoption("--hypothesis-profile") == "random" else "the same each time"
    return (
        f"deploykit: {count} {'process' if count == 1 else 'processes'} on {cores()} cores; "
        f"left out: {', '.join(out) or 'nothing'}; examples of properties: {examples}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU: torch.cuda.is_available() is False"))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _caches_in_tmp(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    cache.mkdir(exist_ok=True)
    for name in ("DEPLOYKIT_CACHE_DIR", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(cache))


@pytest.fixture
def listening() -> Listening:
    """A progress that remembers what it was told."""
    return Listening()


@pytest.fixture(scope="session")
def deploykit_program() -> Iterator[Path]:
    """An executable ``deploykit`` for shell scripts; on Linux without the seconds of loading torch."""
    with tempfile.TemporaryDirectory() as folder:
        program, place = Path(folder, "deploykit"), f"{folder}/calls"
        if sys.platform != "linux":
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deploykit.cli.main "$@"\n')
            program.chmod(0o755)
            yield program
            return
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{forked.__file__}" call "{place}" "$@"\n')
        program.chmod(0o755)
        command = [sys.executable, "-m", "tests.forked", "serve", place]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield program
            server.terminate()


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """256 real handwritten digits: uint8 ``[256, 32, 32, 3]`` and their int64 labels."""
    from deploykit.data import open_data

    test = open_data("digits").split("test")  # of which some are chosen for select; of train's none are left
    return np.stack([test.image(i) for i in range(256)]), test.labels[:256].astype(np.int64)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A safe ``.pt``: deploykit:resnet of depth 8, seeded weights, BatchNorm statistics estimated on real digits."""
    return made_once(tmp_path_factory, "tiny", lambda folder: _save_tiny(folder / "tiny.pt", *digits)) / "tiny.pt"


def _save_tiny(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    import torch

    from deploykit.base.checkpoint import Arch
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.models import build, save_model

    torch.set_num_threads(1)
    arch = Arch("deploykit", "resnet", dict(TINY))
    preprocessing = Preprocessing((32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch)
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        x = (torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        with torch.no_grad():
            for batch in x.split(64):
                module(batch)
            for layer in module.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = 0.1
            _fit_head(module, x, torch.from_numpy(labels))
    save_model(
        path,
        module,
        arch,
        preprocessing,
        [str(digit) for digit in range(10)],
        lineage=[{"stage": "train", "config": {"data": "digits"}, "parents": [], "result": {}}],
        samples={"images": images[:32], "labels": labels[:32]},
    )


def _fit_head(module, x, labels) -> None:
    """Solve the last layer in closed form, so that the model answers well and its logits have clear margins."""
    import torch

    module.eval()
    features = []
    hook = module.fc.register_forward_hook(lambda layer, inputs, output: features.append(inputs[0]))
    module(x)
    hook.remove()
    inputs = torch.cat([features[0], torch.ones(len(x), 1)], dim=1).double()
    targets = 10 * torch.nn.functional.one_hot(labels, 10).double()
    gram = inputs.T @ inputs + 1e-2 * torch.eye(inputs.shape[1], dtype=torch.double)
    solved = torch.linalg.solve(gram, inputs.T @ targets).float()
    module.fc.weight.copy_(solved[:-1].T)
    module.fc.bias.copy_(solved[-1])


@pytest.fixture(scope="session")
def digits_npz(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """256 real digits as ``.npz``: 192 for training, 64 for the test split."""
    images, labels = digits
    path = tmp_path_factory.mktemp("npz") / "digits.npz"
    split = np.array(["train"] * 192 + ["test"] * 64)
    np.savez(path, images=images, labels=labels, classes=np.array([str(n) for n in range(10)]), split=split)
    return path


@pytest.fixture
def image_folder(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """An ImageFolder of 40 PNGs of 32 × 32 pixels: the real digits 0–3 in four class folders, ten each."""
    from PIL import Image

    images, labels = digits
    root = tmp_path / "pictures"
    for digit, name in enumerate(("zero", "one", "two", "three")):
        (root / name).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(labels == digit)[:10]):
            Image.fromarray(images[index]).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A narrow network trained for 60 real steps: int8 must cost a network with real margins nothing."""
    return made_once(tmp_path_factory, "trained", lambda folder: _save_trained(folder / "tiny.pt", *digits)) / "tiny.pt"


def _save_trained(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    import torch

    from deploykit.base.checkpoint import Arch
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.models import build, save_model

    arch = Arch("deploykit", "resnet", {"num_classes": 10, "depth": 8, "widths": [16, 32, 64], "stem_stride": 2})
    x = (torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    y = torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for step in range(60):
            picked = torch.arange(step * 64, step * 64 + 64) % len(x)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[picked]), y[picked]).backward()
            optimizer.step()
    preprocessing = Preprocessing((32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    save_model(path, module.eval(), arch, preprocessing, [str(d) for d in range(10)], lineage=[], samples=None)


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model exported, beside it."""
    from deploykit.commands.export import export

    name = "tiny-exported.onnx"
    exported = made_once(tmp_path_factory, "tiny-onnx", lambda folder: export(tiny_model, folder / name))
    shutil.copytree(exported, tiny_model.parent, dirs_exist_ok=True)
    return tiny_model.with_name(name)


@pytest.fixture(scope="session")
def trained_onnx(tmp_path_factory: pytest.TempPathFactory, trained_model: Path) -> Path:
    """The trained model exported, in a folder of its own."""
    from deploykit.commands.export import export

    return (
        made_once(tmp_path_factory, "trained-onnx", lambda folder: export(trained_model, folder / "tiny.onnx"))
        / "tiny.onnx"
    )
