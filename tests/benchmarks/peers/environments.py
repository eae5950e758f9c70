"""Peers of the benchmarks, each in an environment of its own under deploykit's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploykit.base.user_cache import cache_folder

PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnx", "sympy"),
    "nncf": ("nncf", "openvino", "onnx", "onnxruntime"),
    "modelopt": ("nvidia-modelopt[onnx]", "requests"),
}
SCRIPTS = Path(__file__).parent
KEPT = cache_folder()  # before the tests put caches into a folder of their own


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made where it is missing."""
    folder = KEPT / "peers" / peer
    python, done = folder / "bin" / "python", folder / "ok"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES[peer]], check=True)
        done.touch()
    return python


def versions_of(peer: str, *names: str) -> dict[str, str]:
    """Versions of packages in a peer's environment."""
    code = "import sys, importlib.metadata as m; print(*[m.version(n) for n in sys.argv[1:]])"
    found = subprocess.run([str(python_of(peer)), "-c", code, *names], check=True, capture_output=True, text=True)
    return dict(zip(names, found.stdout.split(), strict=True))


def run_script(peer: str, *words: str) -> None:
    """Run ``peers/PEER.py`` in the peer's environment.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    command = [str(python_of(peer)), str(SCRIPTS / f"{peer}_peer.py"), *words]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if ran.returncode:
        raise RuntimeError(f"{peer} failed: {(ran.stderr or ran.stdout)[-2000:]}")
