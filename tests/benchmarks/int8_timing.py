"""The float network and every int8 file of it timed in turns, in one run: ONNX Runtime here, OpenVINO in its own process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.benchmarks.int8_files import FLOAT, OPENVINO, Way, file_of, pictures
from tests.benchmarks.peers.environments import SCRIPTS, python_of

LEAST_ROUNDS, MOST_ROUNDS = 30, 150
CALLS_S = 0.02

Block = Callable[[int], float]


def session(path: Path, threads: int = 1, **settings: object) -> Any:
    """A bare session of our ONNX Runtime on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    for name, value in settings.items():
        setattr(options, name, value)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    """Logits of ``x``, one picture after the other."""
    opened = session(path)
    name = opened.get_inputs()[0].name
    return np.concatenate([opened.run(None, {name: one[None]})[0] for one in x])


def share(path: Path) -> tuple[int, int]:
    """Convolutions that run on integers in the graph that ONNX Runtime optimized, and all of them."""
    import onnx

    from deploykit.quantization.verify import share_of_int8

    with TemporaryDirectory() as scratch:
        place = Path(scratch) / "optimized.onnx"
        session(path, optimized_model_filepath=str(place))
        found = share_of_int8(onnx.load(str(place)))
    return found["int8_convs"], found["convs"]


class OpenVinoProcess:
    """One OpenVINO network in a process of its own, which computes only when asked."""

    def __init__(self, path: Path, x: np.ndarray) -> None:
        with TemporaryDirectory() as scratch:
            given, taken = Path(scratch) / "x.npy", Path(scratch) / "y.npy"
            np.save(given, x)
            command = [str(python_of("nncf")), str(SCRIPTS / "openvino_timer.py"), str(path), str(given), str(taken)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._line() == "ready"
            self.answers: np.ndarray = np.load(taken)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def block(self, calls: int) -> float:
        """Seconds a call."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return float(self._line())

    def __enter__(self) -> OpenVinoProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _block_of(path: Path, x: np.ndarray) -> Block:
    opened = session(path)
    given = {opened.get_inputs()[0].name: x[:1]}

    def block(calls: int) -> float:
        opened.run(None, given)
        start = time.perf_counter()
        for _ in range(calls):
            opened.run(None, given)
        return (time.perf_counter() - start) / calls

    return block


def timed(network: str, ways: list[Way], limit_s: float, seed: int = 0) -> Mapping[Way, np.ndarray]:
    """Seconds a call of each way, [rounds]; in each round every way has one block, in random order.

    Args:
        network: whose files.
        ways: those that have a file; ``FLOAT`` among them.
        limit_s: time for all rounds, unless ``LEAST_ROUNDS`` takes longer.
        seed: of the order.
    """
    x = pictures("test")[:1]
    with ExitStack() as stack:
        blocks: dict[Way, Block] = {}
        for way in ways:
            path = file_of(network, way)
            blocks[way] = stack.enter_context(OpenVinoProcess(path, x)).block if way == OPENVINO else _block_of(path, x)
        calls = {way: max(1, int(CALLS_S / max(block(1) for _ in range(3)))) for way, block in blocks.items()}
        found: dict[Way, list[float]] = {way: [] for way in ways}
        random, start = np.random.default_rng(seed), time.perf_counter()
        for number in range(MOST_ROUNDS):
            if number >= LEAST_ROUNDS and time.perf_counter() - start > limit_s:
                break
            for index in random.permutation(len(ways)):
                found[ways[index]].append(blocks[ways[index]](calls[ways[index]]))
    assert FLOAT in found
    return {way: np.asarray(times) for way, times in found.items()}
