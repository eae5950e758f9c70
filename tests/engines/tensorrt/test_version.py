"""TensorRT 10 and 11 are not installed here: every name that the module uses is checked against a recorded table.

``tensorrt_api.json`` holds classes and members as the Python bindings of these releases have them: the wheels
``tensorrt_cu12_bindings`` 10.0.1 and ``tensorrt_cu13_bindings`` 10.16.0.72 and 11.4.0.106, imported over libraries that
export the nine C functions they link and do nothing, and listed with ``dir``. TensorRT-RTX is installed and asked itself.
"""

import ast
import json
from pathlib import Path

import pytest

import deploykit
from deploykit.engines.tensorrt.version import FLAVOURS, Api, load

ROOM = Path(deploykit.__file__).parent / "engines" / "tensorrt"
RECORDED = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())
USED = {
    "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
    "IBuilderConfig": "set_flag clear_flag builder_optimization_level set_memory_pool_limit profiling_verbosity"
    " hardware_compatibility_level add_optimization_profile create_timing_cache set_timing_cache get_timing_cache"
    " progress_monitor",
    "INetworkDefinition": "num_inputs num_outputs num_layers get_input get_output get_layer",
    "OnnxParser": "parse_from_file num_errors get_error",
    "ParserError": "code desc node node_name node_operator",
    "IOptimizationProfile": "set_shape",
    "Runtime": "deserialize_cuda_engine engine_host_code_allowed",
    "ICudaEngine": "create_execution_context create_engine_inspector num_io_tensors get_tensor_name get_tensor_mode"
    " get_tensor_dtype get_tensor_shape get_tensor_profile_shape num_optimization_profiles",
    "IExecutionContext": "execute_async_v3 set_input_shape set_tensor_address get_tensor_shape set_output_allocator"
    " set_optimization_profile_async profiler",
    "EngineInspector": "get_engine_information",
    "ITimingCache": "serialize",
    "ILayer": "name type metadata num_inputs num_outputs get_input get_output",
    "ITensor": "name dtype shape",
    "ILogger": "Severity log ERROR INTERNAL_ERROR WARNING",
    "IProgressMonitor": "phase_start phase_finish step_complete",
    "IProfiler": "report_layer_time",
    "IOutputAllocator": "reallocate_output reallocate_output_async notify_shape",
}
"""class → what the module takes of it, in every version. Overridden methods are not listed by ``dir`` of a base."""
OVERRIDDEN = {"IOutputAllocator"}
OPTIONAL = {
    ("Runtime", "get_engine_validity"),
    ("Runtime", "engine_header_size"),
    ("OnnxParser", "supports_model"),
    ("OnnxParser", "supports_model_v2"),
    ("IExecutionContext", "is_stream_capturable"),
    ("ICudaEngine", "create_runtime_config"),
    ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"),
    ("EngineValidity", "VALID"),
}
"""What the module asks for before it uses it: some versions lack it."""


def trees():
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOM.glob("*.py"))]


def accessed():
    """Every attribute name in the module, names of overridden methods, and names looked up as text."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
                found |= {
                    one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    return found


def looked_up_members():
    """(enumeration, member) of every ``api.member("…", "…")``, and members named in tables of the module."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "member":
                texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                if len(texts) == 2:
                    found.add(tuple(texts))
    found |= {("BuilderFlag", name) for name in ("TF32", "SPARSE_WEIGHTS", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE")}
    found |= {("HardwareCompatibilityLevel", name) for name in ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")}
    found |= {("TensorIOMode", name) for name in ("INPUT", "OUTPUT")}
    return found


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("kind", USED)
def test_every_used_name_is_in_every_version(version, kind):
    assert kind in RECORDED[version]
    missing = set(USED[kind].split()) - set(RECORDED[version][kind])
    assert not missing or kind in OVERRIDDEN


@pytest.mark.parametrize("kind", USED)
def test_every_used_name_is_in_tensorrt_rtx(kind):
    trt = pytest.importorskip("tensorrt_rtx")
    missing = {name for name in USED[kind].split() if not hasattr(getattr(trt, kind), name)}
    assert not missing or kind in OVERRIDDEN


def test_the_list_of_used_names_is_what_the_code_uses():
    trt = pytest.importorskip("tensorrt_rtx")
    names = accessed()
    listed = {name for text in USED.values() for name in text.split()}
    assert not listed - names, "listed, and not used any more"
    library = set()
    for kind in USED:
        library |= {name for name in vars(getattr(trt, kind)) if not name.startswith("_")}
    own = {"parse", "builder", "logger", "name", "log"}  # words of this module too
    optional = {name for _, name in OPTIONAL}
    assert not (names & library) - listed - optional - own, "used, and not listed"


@pytest.mark.parametrize("version", [*RECORDED, "rtx"])
def test_members_looked_up_by_name_exist_or_are_optional(version):
    if version == "rtx":
        trt = pytest.importorskip("tensorrt_rtx")
        known = lambda kind: set(getattr(trt, kind).__members__)  # noqa: E731
    else:
        known = lambda kind: set(RECORDED[version].get(kind, ()))  # noqa: E731
    members = looked_up_members()
    assert len(members) >= 12
    missing = {(kind, name) for kind, name in members if name not in known(kind)}
    assert missing <= OPTIONAL


def test_the_table_shows_what_changed_between_10_and_11():
    old, new = RECORDED["10.16.0.72"], RECORDED["11.4.0.106"]
    removed = set(old["BuilderFlag"]) - set(new["BuilderFlag"])
    assert {"FP16", "BF16", "INT8", "FP8", "OBEY_PRECISION_CONSTRAINTS"} <= removed
    assert set(old["NetworkDefinitionCreationFlag"]) - set(new["NetworkDefinitionCreationFlag"]) == {"EXPLICIT_BATCH"}
    assert "supports_model" in old["OnnxParser"]
    assert "supports_model" not in new["OnnxParser"]
    assert not {("BuilderFlag", name) for name in removed} & looked_up_members()


def test_error_recorders_are_never_used():
    assert "IErrorRecorder" in RECORDED["11.4.0.106"]  # a Python one crashes the process
    assert "error_recorder" not in accessed()
    assert "IErrorRecorder" not in accessed()


class Renumbered:
    """An enumeration as TensorRT 11 has it: the same names, other integers."""

    def __init__(self, **members):
        self.__members__ = members


@pytest.mark.parametrize(("number", "flags"), [(1, 2), (0, 1)])
def test_strong_typing_is_found_by_name_whatever_its_integer(number, flags):
    trt = type("Trt", (), {"NetworkDefinitionCreationFlag": Renumbered(STRONGLY_TYPED=number), "__version__": "0"})
    api = Api(FLAVOURS["tensorrt"], trt)
    assert api.creation_flags() == flags
    assert api.member("BuilderFlag", "FP16") is None
    assert api.compute_capabilities() == ()


def test_tensorrt_rtx_names_its_compute_capabilities():
    pytest.importorskip("tensorrt_rtx")
    assert set(load("tensorrt-rtx").compute_capabilities()) >= {"7.5", "8.0", "8.6", "8.9", "12.0"}
