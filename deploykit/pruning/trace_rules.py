"""How each ATen operator passes the labels of its inputs on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from deploykit.pruning.records import Tracing, compressed, constant_along, expanded

Rule = Callable[[Tracing, Any, Any, Any, Any], None]

# Element by element, but not tagged so in every supported version of torch.
POINTWISE = frozenset([
    "relu", "relu_", "relu6", "hardtanh", "hardtanh_", "hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_",
    "sigmoid", "sigmoid_", "silu", "silu_", "gelu", "elu", "elu_", "leaky_relu", "leaky_relu_", "mish", "mish_",
    "softplus", "tanh", "tanh_", "_prelu_kernel", "clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh",
    "dropout", "native_dropout", "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "clamp", "clamp_", "clamp_min",
    "clamp_max", "pow",
])  # fmt: skip
MOVING = frozenset([
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand",
    "slice", "select", "split", "split_with_sizes", "unbind", "flip", "roll", "narrow",
])  # fmt: skip
ALONG_CHANNELS = frozenset([
    "view", "_unsafe_view", "reshape", "_reshape_alias", "slice", "select", "split", "split_with_sizes", "unbind",
    "flip", "roll",
])  # fmt: skip
# Each channel's plane to another plane; the digit in the name says of how many last dimensions.
SPATIAL = re.compile(
    r"_?(max_pool|avg_pool|adaptive_avg_pool|adaptive_max_pool|reflection_pad|replication_pad|"
    r"upsample_(nearest|nearest_exact|linear|bilinear|bicubic|trilinear))(?P<dims>[123])d(_with_indices|_aa)?"
)
LIKE = frozenset(["zeros_like", "ones_like", "full_like", "empty_like"])
REDUCING = frozenset([
    "mean", "sum", "prod", "amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "median", "std", "std_mean", "var",
    "var_mean", "logsumexp", "linalg_vector_norm", "norm",
])  # fmt: skip
ALONG = frozenset([
    "_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "sort",
    "argsort", "topk",
])  # fmt: skip
VIEWS = frozenset(["view", "_unsafe_view", "reshape", "_reshape_alias"])


def rule_for(func: Any) -> Rule:
    """The rule of an operator overload; an unknown one fixes all that it touches."""
    name = func.overloadpacket.__name__
    if SPATIAL.fullmatch(name):
        return _spatial
    if _takes_dim(func) and name in REDUCING:
        return _reducing
    if _takes_dim(func) and name in ALONG:
        return _along
    if name == "glu":
        return _glu
    if name in LIKE:
        return _like
    if name in MOVING:
        return _moving
    if name == "cat":
        return _cat
    if name == "stack":
        return _stack
    if name == "constant_pad_nd":
        return _padding
    if name in POINTWISE or torch.Tag.pointwise in func.tags:
        return _pointwise
    return _unknown


def _takes_dim(func: Any) -> bool:
    return any(argument.name == "dim" for argument in func._schema.arguments)


def _dims(func: Any, args: Any, kwargs: Any) -> list[int]:
    """The dimensions that an operator works along, ascending; all of them where it names none."""
    at = next(i for i, argument in enumerate(func._schema.arguments) if argument.name == "dim")
    given = args[at] if at < len(args) else kwargs.get("dim", func._schema.arguments[at].default_value)
    rank = args[0].ndim
    dims = [given] if isinstance(given, int) else given or range(rank)
    return sorted({dim % rank for dim in dims}) if rank else []


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _give(t: Tracing, result: Any, labels: Tensor) -> None:
    for tensor in _tensors(result):
        t.put(tensor, labels)


def _free(t: Tracing, result: Any) -> None:
    for tensor in _tensors(result):
        t.put(tensor, torch.zeros([1] * tensor.ndim, dtype=torch.int64))


def _unknown(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    t.fix((args, kwargs), f"{t.place} uses {func.overloadpacket.__name__}, which mixes channels or is not known")
    _free(t, result)


def _pointwise(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    """Operands are aligned from the right. Channels tie where both are wide; what is the same for all ties nothing."""
    out = _tensors(result)[0]
    operands = []
    for tensor in _tensors((args, kwargs)):
        labels = t.get(tensor)
        if tensor.numel() > 1 or bool(labels.any()):
            missing = [1] * (out.ndim - tensor.ndim)
            operands.append((labels.reshape(missing + list(labels.shape)), missing + list(tensor.shape)))
    varying = [dim for dim in range(out.ndim) if any(labels.shape[dim] > 1 for labels, _ in operands)]
    wide = []
    for labels, extents in operands:
        narrow = [dim for dim in varying if extents[dim] == 1]
        if not narrow:
            wide.append(labels)
        elif narrow == varying:  # one value for every channel, as a spatial attention has
            t.records.fix(labels.numpy().ravel(), f"{t.place} applies it to all channels")
        else:
            _unknown(t, func, result, args, kwargs)
            return
    if not wide:
        _free(t, result)
        return
    found, *others = torch.broadcast_tensors(*wide)
    for other in others:
        t.records.tie(found.numpy().ravel(), other.numpy().ravel())
    _give(t, result, compressed(found))


def _moving(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    source = args[0]
    name = func.overloadpacket.__name__
    labels = expanded(t.get(source), source.shape)
    if name in VIEWS:
        moved: Any = compressed(labels.reshape(result.shape))
        if t.name(source) is None and moved.shape[1:2] != t.get(source).shape[1:2]:
            t.records.suspect(t.get(source).numpy().ravel())
        _give(t, result, moved)
        return
    moved = func(labels, *args[1:], **kwargs)
    if name in ALONG_CHANNELS and t.get(source).numel() > 1:
        before = t.get(source).numel()
        pieces = [compressed(piece) for piece in tree_leaves(moved)]
        if any(piece.numel() != before for piece in pieces):
            t.records.suspect(t.get(source).numpy().ravel())
    for tensor, piece in zip(tree_leaves(result), tree_leaves(moved), strict=True):
        t.put(tensor, compressed(piece))


def _cat(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    tensors = [tensor for tensor in args[0] if tensor.numel()]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.ndim
    parts = [t.get(tensor) for tensor in tensors]
    common = [max(part.shape[at] for part in parts) for at in range(result.ndim)]
    pieces = []
    for tensor, part in zip(tensors, parts, strict=True):
        shape = [*common]
        shape[dim] = tensor.shape[dim]
        pieces.append(expanded(part, shape))
    _give(t, result, compressed(torch.cat(pieces, dim)))


def _stack(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    whole = [expanded(t.get(tensor), tensor.shape) for tensor in args[0]]
    _give(t, result, compressed(func(whole, *args[1:], **kwargs)))


def _spatial(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    labels = t.get(args[0])
    found = SPATIAL.fullmatch(func.overloadpacket.__name__)
    assert found is not None  # which is why this rule was chosen
    if any(extent > 1 for extent in labels.shape[-int(found["dims"]) :]):
        _unknown(t, func, result, args, kwargs)
    else:
        _give(t, result, labels)


def _padding(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    """New places are unit 0; where channels are padded with constants these stay."""
    labels = t.get(args[0])
    pads = args[1]
    narrow = all(labels.shape[labels.ndim - 1 - i // 2] == 1 for i, pad in enumerate(pads) if pad)
    if narrow:
        _give(t, result, labels)
        return
    padded = torch.nn.functional.pad(expanded(labels, args[0].shape), tuple(pads), value=0)
    _give(t, result, compressed(padded))


def _reducing(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    """Sums, extremes and spreads over what is no channel."""
    source = args[0]
    labels = t.get(source)
    dims = _dims(func, args, kwargs)
    if not constant_along(labels, dims):
        _unknown(t, func, result, args, kwargs)
        return
    if _tensors(result)[0].ndim < source.ndim:
        for dim in reversed(dims):
            labels = labels.squeeze(dim)
    _give(t, result, labels)


def _along(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    """Each line along a dimension becomes another line: a softmax over the pixels, a sorted one."""
    labels = t.get(args[0])
    if constant_along(labels, _dims(func, args, kwargs)):
        _give(t, result, labels)
    else:
        _unknown(t, func, result, args, kwargs)


def _like(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    """A constant that is as wide as what it is made like."""
    _give(t, result, t.get(args[0]))


def _glu(t: Tracing, func: Any, result: Any, args: Any, kwargs: Any) -> None:
    """A · sigmoid(b) of the two halves of a dimension: a channel goes with its gate."""
    value, gate = expanded(t.get(args[0]), args[0].shape).chunk(2, _dims(func, args, kwargs)[0])
    t.records.tie(value.numpy().ravel(), gate.numpy().ravel())
    _give(t, result, compressed(value))
