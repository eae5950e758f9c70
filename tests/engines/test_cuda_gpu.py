"""What TensorRT's runner needs of CUDA, on a real driver and without TensorRT: ``make test-gpu`` on any GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from deploykit.base.errors import Unavailable
from deploykit.engines.dlpack import is_on_device, view
from deploykit.engines.tensorrt.buffers import Buffer
from deploykit.engines.tensorrt.cuda import Cuda
from deploykit.engines.tensorrt.hardware import gpu, make_current

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    made = Cuda(0)
    yield made
    made.use()
    made.close()
    made.close()  # harmless


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
def test_a_buffer_holds_the_same_on_both_sides(cuda: Cuda, dtype: str) -> None:
    buffer = Buffer(cuda, dtype)
    for shape in ((2, 3), (4, 5), (1, 1), (0, 3)):
        buffer.fit(shape)
        given = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        np.copyto(buffer.array, given)
        buffer.upload()
        cuda.wait()
        buffer.array[...] = 0
        buffer.download()
        cuda.wait()
        np.testing.assert_array_equal(buffer.read(), given)
    buffer.release()


def test_a_buffer_moves_only_to_grow(cuda: Cuda) -> None:
    buffer = Buffer(cuda, "float32")
    assert buffer.fit((8, 8))
    place = buffer.device
    assert not buffer.fit((2, 2))
    assert not buffer.fit((8, 8))
    assert buffer.device == place
    assert buffer.fit((9, 8))
    buffer.release()


def test_a_recorded_graph_runs_again_on_what_lies_there(cuda: Cuda) -> None:
    first, second = Buffer(cuda, "float32"), Buffer(cuda, "float32")
    for one in (first, second):
        one.fit((4, 4))

    def work() -> bool:
        cuda.on_device(second.device, first.device, first.size)
        return True

    graph = cuda.capture(work)
    assert graph is not None
    for value in (1.0, 2.0):
        first.array[...] = value
        first.upload()
        cuda.launch(graph)
        second.download()
        cuda.wait()
        assert (second.read() == value).all()
    cuda.drop_graph(graph)
    assert cuda.capture(lambda: False) is None
    cuda.wait()  # the stream is as usable as before
    first.release()
    second.release()


def test_events_measure_what_lies_between_them(cuda: Cuda) -> None:
    buffer = Buffer(cuda, "uint8")
    buffer.fit((1 << 24,))
    first, second = cuda.event(), cuda.event()
    cuda.record(first)
    for _ in range(5):
        buffer.upload()
    cuda.record(second)
    cuda.wait()
    assert 0 < cuda.elapsed_ms(first, second) < 1e4
    for event in (first, second):
        cuda.drop_event(event)
    buffer.release()


def test_too_much_memory_is_unavailable_and_nothing_is_lost(cuda: Cuda) -> None:
    before = cuda.free_bytes()
    buffer = Buffer(cuda, "float32")
    buffer.fit((16,))
    with pytest.raises(Unavailable, match=r"not enough free memory.*smaller batch"):
        buffer.fit((1 << 50,))
    assert buffer.fit((16,))
    buffer.array[...] = 3
    buffer.upload()
    buffer.download()
    cuda.wait()
    assert (buffer.read() == 3).all()
    buffer.release()
    assert before - cuda.free_bytes() < 1 << 22


def test_many_contexts_leak_nothing() -> None:
    make_current(0)
    keeper = Cuda(0)
    before = keeper.free_bytes()
    for _ in range(50):
        one = Cuda(0)
        one.free(one.allocate(1 << 20))
        one.close()
    keeper.use()
    assert before - keeper.free_bytes() < 1 << 22
    keeper.close()


def test_arrays_of_pytorch_are_read_where_they_lie(cuda: Cuda) -> None:
    import torch

    x = torch.arange(24, dtype=torch.float32, device="cuda").reshape(2, 3, 4) * 2
    assert is_on_device(x)
    seen = view(x, cuda.stream)
    assert (seen.shape, seen.dtype, seen.place, seen.device[1]) == ((2, 3, 4), "float32", x.data_ptr(), 0)
    buffer = Buffer(cuda, "float32")
    buffer.fit(seen.shape)
    cuda.on_device(buffer.device, seen.place, seen.size)
    buffer.download()
    cuda.wait()
    np.testing.assert_array_equal(buffer.read(), x.cpu().numpy())
    buffer.release()


def test_a_gpu_that_is_not_there_is_told() -> None:
    assert gpu(0).memory_bytes > 1 << 28
    with pytest.raises(Unavailable, match="there is no GPU 99"):
        gpu(99)
