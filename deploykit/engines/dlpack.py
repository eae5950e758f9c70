"""Arrays of other libraries, on the host or a GPU, read through the DLPack protocol (dmlc/dlpack, ``dlpack.h``)."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

from deploykit.base.errors import BadInput

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Viewed:
    """An array as DLPack tells it.

    ``place``: address of its first element. ``dtype``: numpy name (``bfloat16`` for what numpy lacks). ``size``: in
    bytes. ``device``: kind and index. ``owner``: what must live as long as the memory is read.
    """

    place: int
    shape: tuple[int, ...]
    dtype: str
    size: int
    device: tuple[int, int]
    owner: Any


def is_on_device(x: Any) -> bool:
    """Whether ``x`` speaks DLPack and lies on a CUDA device."""
    return hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) in (CUDA, CUDA_MANAGED)


def view(x: Any, stream: int | None = None) -> Viewed:
    """Look at an array's memory without copying it.

    ``x``: with ``__dlpack__``. ``stream``: on which it will be read; its owner makes that safe. None: for memory of the
    host.

    Raises:
        BadInput: it is not contiguous, its type is none that networks take, or its owner does not give it.
    """
    try:
        capsule = x.__dlpack__() if stream is None else x.__dlpack__(stream=stream)
    except (BufferError, RuntimeError) as error:  # what needs a gradient, is conjugated or of a foreign device
        raise BadInput(f"the device array cannot be read: {error}", fix="Pass x.detach().contiguous().") from error
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = ctypes.cast(pointer(capsule, b"dltensor"), ctypes.POINTER(_Tensor)).contents
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    if strides is not None and strides != _contiguous(shape) and math.prod(shape) > 1:
        raise BadInput("the device array is not contiguous", got=f"strides {list(strides)}", fix="Pass x.contiguous().")
    bits, code = tensor.dtype.bits, _CODES.get(tensor.dtype.code)
    if code is None or tensor.dtype.lanes != 1:
        raise BadInput("the device array's type", got=f"DLPack code {tensor.dtype.code}", expected="int, uint or float")
    dtype = "bool" if code == "bool" else f"{code}{bits}"
    size = math.prod(shape) * bits // 8
    device = (int(tensor.device.kind), int(tensor.device.index))
    return Viewed((tensor.data or 0) + tensor.byte_offset, shape, dtype, size, device, capsule)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for dim in reversed(shape):
        strides.append(step)
        step *= dim
    return tuple(reversed(strides))
