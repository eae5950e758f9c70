"""The CUDA side of TensorRT's runner on a real GPU and driver, without TensorRT: memory, stream, graphs, events, DLPack.

What an engine does is done by :class:`Copying`, whose run is a real copy on the GPU on the runner's own stream, so that
buffers, recording, replay and growing are those of the runner; what TensorRT adds is in ``test_tensorrt_gpu.py``.
"""

import ctypes
import threading
import time

import numpy as np
import pytest

from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.dlpack import CUDA, is_on_device, view
from deploykit.engines.tensorrt.cuda import Cuda
from deploykit.engines.tensorrt.execution import Buffer, Execution
from deploykit.engines.tensorrt.hardware import gpu, make_current
from deploykit.engines.tensorrt.profiles import Profile
from deploykit.engines.tensorrt.version import FLAVOURS, Api
from tests.engines.gpu_memory import free_bytes
from tests.engines.onnx_for_tests import pictures

pytestmark = pytest.mark.gpu


class Copying:
    """An engine and its context: the output is the input."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.addresses, self.shape, self.switched, self.runs = cuda, {}, (), [], 0

    def create_execution_context(self):
        return self

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        return len(shape) == 4

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, place):
        self.addresses[name] = place
        return True

    def set_optimization_profile_async(self, number, stream):
        self.switched.append(number)
        return True

    def execute_async_v3(self, stream):
        assert stream == self.cuda.stream
        self.runs += 1
        self.cuda.on_device(self.addresses["output"], self.addresses["input"], 4 * int(np.prod(self.shape)))
        return True


@pytest.fixture
def cuda():
    made = Cuda(0)
    yield made
    made.close()
    made.close()


def execution(cuda, engine, profiles=(), graphs=True):
    specs = [TensorSpec(name, "float32", ("batch", 3, 8, 8), "NCHW") for name in ("input", "output")]
    return Execution(Api(FLAVOURS["tensorrt"], object()), engine, cuda, specs[:1], specs[1:], profiles, graphs)


def test_the_gpu_is_told():
    found = gpu()
    assert found.name.startswith("NVIDIA")
    assert float(found.compute_capability) >= 7.0
    assert found.memory_bytes > 1 << 30
    assert float(found.cuda) >= 12
    with pytest.raises(Unavailable, match="there is no GPU 99"):
        gpu(99)
    make_current(0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int64"])
def test_a_buffer_keeps_what_it_is_given_and_grows(cuda, dtype):
    buffer = Buffer(cuda, dtype)
    for shape, moves in (((2, 3), True), ((4, 5), True), ((1, 3), False), ((4, 5), False)):
        assert buffer.fit(shape) is moves
        values = np.arange(np.prod(shape)).reshape(shape).astype(buffer.array.dtype)
        np.copyto(buffer.array, values)
        buffer.upload()
        cuda.wait()
        buffer.array[...] = 0
        buffer.download()
        cuda.wait()
        np.testing.assert_array_equal(buffer.array, values)
    buffer.release()
    buffer.release()


def test_memory_comes_back(cuda):
    before = free_bytes(cuda)
    places = [cuda.allocate(64 << 20) for _ in range(4)]
    assert before - free_bytes(cuda) >= 200 << 20
    for place in places:
        cuda.free(place)
    assert before - free_bytes(cuda) < 8 << 20


def test_too_much_memory_is_refused_in_words_and_harms_nothing(cuda):
    with pytest.raises(Unavailable, match=r"the GPU has not enough free memory\. Use a smaller batch, or free the GPU"):
        cuda.allocate(1 << 50)
    cuda.free(cuda.allocate(1024))


def test_a_wrong_call_names_the_drivers_reason(cuda):
    with pytest.raises(AnswerNo, match="the CUDA driver failed in cuMemcpyHtoDAsync_v2: CUDA_ERROR_INVALID_VALUE"):
        cuda.to_device(0, 0, 16)


def test_answers_at_every_batch_and_of_recorded_graphs(cuda):
    engine = Copying(cuda)
    run = execution(cuda, engine)
    for number, batch in enumerate((4, 1, 8, 8, 1), 1):
        x = pictures(batch)
        run.fill(x)
        run.launch()
        np.testing.assert_array_equal(run.read(["output"])["output"], x)
        assert run.recorded == {1: 1, 2: 2, 3: 3, 4: 3, 5: 4}[number]
    before = engine.runs
    again = run.launcher()
    for _ in range(100):
        again()
    assert engine.runs == before  # the recorded graph is replayed: the context is not asked
    run.fill(pictures(2))
    with pytest.raises(BadInput, match="the bound call is of an input shape that is no longer set"):
        again()
    run.close()
    run.close()


def test_without_graphs_the_context_runs_each_time(cuda):
    engine = Copying(cuda)
    run = execution(cuda, engine, graphs=False)
    x = pictures(2)
    run.fill(x)
    before = engine.runs
    again = run.launcher()
    for _ in range(10):
        again()
    assert (engine.runs - before, run.recorded) == (10, 0)
    np.testing.assert_array_equal(run.read(["output"])["output"], x)
    run.close()


def test_a_run_that_cannot_be_recorded_runs_plainly(cuda):
    class Waiting(Copying):
        def execute_async_v3(self, stream):
            done = super().execute_async_v3(stream)
            if self.runs == 2:  # the recording: waiting for a stream that records is what breaks it
                with pytest.raises(AnswerNo, match="CAPTURE"):
                    self.cuda.wait()
            return done

    run = execution(cuda, Waiting(cuda))
    for batch in (3, 5):
        x = pictures(batch)
        run.fill(x)
        run.launch()
        np.testing.assert_array_equal(run.read(["output"])["output"], x)
    assert (run.graphs, run.recorded) == (False, 0)
    run.close()


def test_profiles_are_switched_and_what_none_takes_is_refused(cuda):
    def profile(*batches):
        return Profile({"input": tuple((batch, 3, 8, 8) for batch in batches)})

    engine = Copying(cuda)
    run = execution(cuda, engine, [profile(1, 1, 2), profile(4, 8, 16)])
    for batch in (1, 8, 16, 2):
        x = pictures(batch)
        run.fill(x)
        run.launch()
        np.testing.assert_array_equal(run.read(["output"])["output"], x)
    assert engine.switched == [0, 1, 0]
    with pytest.raises(BadInput, match="no profile of the engine takes the input"):
        run.fill(pictures(3))
    x = pictures(2)
    run.fill(x)  # a refused shape leaves it usable
    run.launch()
    np.testing.assert_array_equal(run.read(["output"])["output"], x)
    run.close()


def test_arrays_of_torch_are_read_where_they_lie(cuda):
    import torch

    x = pictures(4)
    there = torch.from_numpy(x).cuda() + 0
    assert is_on_device(there)
    seen = view(there, cuda.stream)
    assert (seen.place, seen.shape, seen.dtype, seen.device) == (there.data_ptr(), x.shape, "float32", (CUDA, 0))
    run = execution(cuda, Copying(cuda))
    for _ in range(3):
        there.mul_(2)
        run.fill_from_device(view(there, cuda.stream))
        run.launch()
        np.testing.assert_array_equal(run.read(["output"])["output"], there.cpu().numpy())
    run.close()


def test_events_time_what_lies_between_them(cuda):
    size = 512 << 20
    source, target, first, second = cuda.allocate(size), cuda.allocate(size), cuda.event(), cuda.event()
    cuda.on_device(target, source, size)
    cuda.wait()
    start = time.perf_counter()
    cuda.record(first)
    for _ in range(10):
        cuda.on_device(target, source, size)
    cuda.record(second)
    cuda.wait()
    host = 1e3 * (time.perf_counter() - start)
    device = cuda.elapsed_ms(first, second)
    assert 0.2 * host < device <= host
    for event in (first, second):
        cuda.drop_event(event)
    for place in (source, target):
        cuda.free(place)


def test_nothing_leaks_over_ten_thousand_runs(cuda):
    run = execution(cuda, Copying(cuda))
    x = pictures(2)
    run.fill(x)
    before = free_bytes(cuda)
    for _ in range(10_000):
        run.fill(x)
        run.launch()
        run.read(["output"])
    assert before - free_bytes(cuda) < 1 << 20
    for batch in range(1, 200):  # a graph a shape
        run.fill(pictures(1 + batch % 7))
    assert before - free_bytes(cuda) < 16 << 20
    run.close()


def test_another_thread_must_make_the_context_its_own(cuda):
    found = []

    def work():
        cuda.use()
        place = cuda.allocate(64)
        data = (ctypes.c_byte * 64)(*range(64))
        cuda.to_device(place, ctypes.addressof(data), 64)
        back = (ctypes.c_byte * 64)()
        cuda.to_host(ctypes.addressof(back), place, 64)
        cuda.wait()
        cuda.free(place)
        found.append(bytes(back))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [bytes(range(64))]


def test_torch_works_beside_it(cuda):
    import torch

    x = torch.ones(1 << 20, device="cuda")
    place = cuda.allocate(4 << 20)
    cuda.on_device(place, x.data_ptr(), 4 << 20)
    cuda.wait()
    cuda.free(place)
    assert float((x * 2).sum()) == 2 << 20


def test_many_contexts_leak_nothing() -> None:
    make_current(0)
    keeper = Cuda(0)
    before = free_bytes(keeper)
    for _ in range(50):
        one = Cuda(0)
        one.free(one.allocate(1 << 20))
        one.close()
    keeper.use()
    assert before - free_bytes(keeper) < 1 << 22
    keeper.close()
