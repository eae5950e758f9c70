"""The differences between TensorRT 10, TensorRT 11 and TensorRT-RTX, all of them here.

Enumeration members are looked up by name: their integers changed in TensorRT 11 (``STRONGLY_TYPED`` 1 → 0) and whole
families were removed, so that ``member`` answers None where a version does not know one.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from deploykit.base.errors import Unavailable, unknown
from deploykit.base.targets import TENSORRT, TENSORRT_RTX, target_of


@dataclass(frozen=True)
class Flavour:
    """One library of the family.

    Attributes:
        target: its name in the vocabulary of targets.
        magic: the first bytes of its plans (``trtexec`` checks ``ftrt`` too).
        ahead_of_time: builds on a machine without GPU, for named compute capabilities, which its plans tell.
        timing_cache: keeps what it measured; TensorRT-RTX deprecates its cache as one that does nothing.
        lean_runtime: can put a version-compatible runtime into the plan.
    """

    target: str
    magic: bytes
    ahead_of_time: bool
    timing_cache: bool
    lean_runtime: bool

    @property
    def package(self) -> str:
        """The Python package."""
        return target_of(self.target).libraries[0]

    @property
    def install(self) -> str:
        """What brings it."""
        return target_of(self.target).install


_BOTH = (
    Flavour(TENSORRT, b"ftrt", ahead_of_time=False, timing_cache=True, lean_runtime=True),
    Flavour(TENSORRT_RTX, b"vtrt", ahead_of_time=True, timing_cache=False, lean_runtime=False),
)
FLAVOURS = {one.target: one for one in _BOTH}


@dataclass(frozen=True)
class Api:
    """The loaded library.

    ``flavour``: which one.
    """

    flavour: Flavour
    trt: Any

    @property
    def version(self) -> str:
        """``11.4.0.12``."""
        return str(self.trt.__version__)

    def member(self, enumeration: str, name: str) -> Any | None:
        """``trt.<enumeration>.<name>``, or None where this version lacks either."""
        kind = getattr(self.trt, enumeration, None)
        return None if kind is None else kind.__members__.get(name)

    def creation_flags(self) -> int:
        """Flags of a strongly typed network: its bit on 10 (and on 11, where it is the default and bit 0)."""
        typed = self.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
        return 0 if typed is None else 1 << int(typed)

    def compute_capabilities(self) -> tuple[str, ...]:
        """Those that can be named ahead of time, as ``8.6``; empty where the library builds for the GPU at hand only."""
        kind = getattr(self.trt, "ComputeCapability", None)
        names = [] if kind is None else [name for name in kind.__members__ if name.startswith("SM")]
        return tuple(
            sorted((f"{name[2:-1]}.{name[-1]}" for name in names), key=lambda one: tuple(map(int, one.split("."))))
        )

    def dtype(self, kind: Any) -> str:
        """The numpy name of a ``DataType``; what numpy lacks by its own short name (``bfloat16``, ``fp8``)."""
        return _DTYPES.get(kind.name, kind.name.lower())


_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "FP8": "fp8",
}


def flavour_of(target: str) -> Flavour:
    """The flavour of a target of the family."""
    if target not in FLAVOURS:
        raise unknown("TensorRT target", target, FLAVOURS)
    return FLAVOURS[target]


@cache
def load(target: str) -> Api:
    """Import the library of a target.

    Raises:
        Unavailable: it is not installed, or its own libraries do not load; says which and what brings them.
    """
    flavour = flavour_of(target)
    if importlib.util.find_spec(flavour.package) is None:
        raise Unavailable(
            f"{target} cannot be used here: the Python package {flavour.package} is not installed",
            fix=f"{flavour.install}.",
        )
    try:
        return Api(flavour, importlib.import_module(flavour.package))
    except (ImportError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise Unavailable(
            f"{target} cannot be used here: {flavour.package} does not load ({text})", fix=f"{flavour.install} again."
        ) from error
