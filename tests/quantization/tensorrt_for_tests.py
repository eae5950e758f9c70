"""Does TensorRT-RTX take this file? Parsing and building need no GPU, running does."""

from __future__ import annotations

import onnx
import pytest

_SINK: list[str] = []
_LOGGER = []


def _logger(trt):
    # TensorRT keeps the first logger of a process for good: one for all tests.
    class Logger(trt.ILogger):
        def log(self, severity, message):
            if severity <= trt.ILogger.Severity.WARNING:
                _SINK.append(message)

    if not _LOGGER:
        _LOGGER.append(Logger())
    return _LOGGER[0]


def parsed(proto: onnx.ModelProto) -> tuple[bool, list[str]]:
    """Whether the parser takes ``proto`` into a strongly typed network, and what it said."""
    ok, said, _ = _parse(proto)
    return ok, said


def engine_bytes(proto: onnx.ModelProto, sm: str = "SM86") -> int:
    """Size of the engine for batch sizes 1 to 4 on one kind of GPU; fails with the builder's words."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx has wheels for Linux x86_64 and Windows only")
    ok, said, (builder, network, _parser) = _parse(proto)
    assert ok, said
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, sm), 0)
    profile = builder.create_optimization_profile()
    source = network.get_input(0)
    size = tuple(source.shape)[1:]
    profile.set_shape(source.name, (1, *size), (1, *size), (4, *size))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, _SINK[-3:]
    return plan.nbytes


def _parse(proto):
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx has wheels for Linux x86_64 and Windows only")
    _SINK.clear()
    builder = trt.Builder(_logger(trt))
    typed = trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, _logger(trt))
    ok = parser.parse(proto.SerializeToString())
    errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    return ok, errors + list(_SINK), (builder, network, parser)
