"""Which network a bare state dict belongs to: by the index, by deploykit's families, or by the name the user gives.

Architectures with the same tensors are told apart by what they compute, with seeded weights on a seeded image.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput, DeploykitError
from deploykit.models.build import arch_text, build, build_meta, parse_arch
from deploykit.models.heads import head_of
from deploykit.models.index import Group, Shapes, matching, nearest_groups, relevant
from deploykit.models.module_outputs import input_channels
from deploykit.models.sources import AUXILIARY


def equal_outputs(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two logits differ by rounding only; what could not be computed equals nothing."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= 1e-4 * one.abs().max())


def seeded_output(module: nn.Module, size: tuple[int, int]) -> Tensor | None:
    """The logits ``[1, C]`` of a network, its weights overwritten by seeded ones, on one seeded picture of ``size``.

    The picture's values go far beyond those of a normalised one, so that clamps (ReLU6) act. None where the network
    does not run at this size.
    """
    seed_weights(module)
    x = 3 * torch.randn(1, input_channels(module), *size, generator=torch.Generator().manual_seed(1))
    try:
        with torch.no_grad():
            return module.eval()(x)
    except (RuntimeError, AssertionError, ValueError):
        return None


def seed_weights(module: nn.Module) -> None:
    """Overwrite every tensor by values that depend on its name's place only, large enough that activations differ."""
    generator = torch.Generator().manual_seed(0)
    state = module.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        noise = torch.empty(tensor.shape).uniform_(-1, 1, generator=generator)
        if tensor.ndim < 2:
            tensor.copy_(noise * 0.5 + (1 if name.endswith(("weight", "running_var", "gamma")) else 0))
        else:
            tensor.copy_(noise * (3 * 2 / max(1, tensor[0].numel())) ** 0.5)


WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.4, 1.5, 2.0)


def _stem(shapes: Shapes) -> tuple[str, int]:
    """The first convolution and the channels of the images that it takes; 3 where there is none."""
    return next(((name, shape[1]) for name, shape in shapes.items() if len(shape) == 4), ("", 3))


def own_candidates(shapes: Shapes) -> list[Arch]:
    """Every network of deploykit's that may have these tensors; whether they really fit is for the caller to see.

    The stride of the stem leaves no trace in the tensors, so both are candidates.
    """
    _, channels = _stem(shapes)
    found = _own_families(shapes)
    if channels != 3:
        for one in found:
            one.kwargs["in_channels"] = channels
    return found


def _own_families(shapes: Shapes) -> list[Arch]:
    if "conv1.weight" in shapes and "layer3.0.conv1.weight" in shapes and "fc.weight" in shapes:
        blocks = len({name.split(".")[1] for name in shapes if name.startswith("layer1.")})
        widths = [
            shapes[f"layer{stage}.0.conv2.weight"][0] for stage in (1, 2, 3) if f"layer{stage}.0.conv2.weight" in shapes
        ]
        if len(widths) != 3:
            return []
        kwargs = {"num_classes": shapes["fc.weight"][0], "depth": 6 * blocks + 2, "widths": widths}
        return [Arch("deploykit", "resnet", {**kwargs, "stem_stride": stride}) for stride in (1, 2)]
    if "features.0.0.weight" in shapes and "classifier.1.weight" in shapes:
        classes = shapes["classifier.1.weight"][0]
        return [
            Arch("deploykit", "mobilenetv2", {"num_classes": classes, "width": width, "stem_stride": stride})
            for width in WIDTHS
            for stride in (1, 2)
        ]
    if "classifier.4.weight" in shapes and "classifier.1.weight" in shapes and "features.9.weight" in shapes:
        size = 16 * math.isqrt(shapes["classifier.1.weight"][1] // shapes["features.9.weight"][0])
        return [Arch("deploykit", "cnn4", {"num_classes": shapes["classifier.4.weight"][0], "size": size})]
    return []


class Recognised(NamedTuple):
    """The architecture that tensors are taken as, and those that fit as well but answer differently."""

    arch: Arch
    others: list[Arch]


def recognise(tensors: dict[str, Tensor], path: Path, target: str | None = None) -> Recognised:
    """The architecture whose names and shapes these are.

    Candidates with equal outputs on a seeded input count as one. A stock network of torchvision's is taken before rarer
    ones that fit as well: files of its tensors are far more common. ``target``: as in ``load_model``.

    Raises:
        BadInput: none fits (the nearest is named, with the first differences), or several that answer differently do, none
            or more than one of them torchvision's.
    """
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    stem, channels = _stem(shapes)
    groups = matching(shapes if channels == 3 else {**shapes, stem: [shapes[stem][0], 3, *shapes[stem][2:]]})
    choices = [_completed(members[0], tensors, group) for group in groups for members in group.classes]
    choices += distinct(_own(shapes, tensors))
    if not choices:
        raise _unknown(shapes, path, target)
    stock = [arch for arch in choices if arch.source == "torchvision"]
    if len(choices) > 1 and len(stock) != 1:
        raise BadInput(
            f"{path} fits {len(choices)} networks that answer differently",
            got=" · ".join(arch_text(arch) for arch in choices),
            expected="one",
            fix=f"Say which: {how_to_name(path, arch_text(choices[0]), target)}.",
        )
    if channels != 3:
        for one in choices:
            one.kwargs["in_channels"] = channels
    arch = stock[0] if stock else choices[0]
    return Recognised(arch, [one for one in choices if one is not arch])


def _own(shapes: Shapes, tensors: dict[str, Tensor]) -> list[Arch]:
    """Deploykit's networks that fit; all candidates have the same names, so that one of them tells whether any does."""
    candidates = own_candidates(shapes)
    if not candidates or relevant(build_meta(candidates[0]).state_dict()) != relevant(shapes):
        return []
    return [arch for arch in candidates if fits(arch, tensors)]


def how_to_name(path: Path, text: str, target: str | None) -> str:
    """How a user says what the tensors of ``path`` are: to a command that takes a model, or (``target``) to one that runs it."""
    if target is None:
        return f"--arch '{text}'"
    option = f'"{text}"' if "," in text else text
    return f"'{path}@{target}:arch={option}'"


def named(text: str, tensors: dict[str, Tensor], allow_code: bool) -> Arch:
    """The architecture the user named, with the class count and pruned shapes that the tensors show.

    Raises:
        BadInput: an unknown name, or user code that may not run.
    """
    arch = parse_arch(text)
    if arch.name in AUXILIARY and any(name.startswith(AUXILIARY[arch.name]) for name in tensors):
        arch.kwargs.setdefault("aux_logits", True)
    if arch.source == "deploykit":
        for guess in own_candidates({name: list(tensor.shape) for name, tensor in tensors.items()}):
            merged = Arch("deploykit", arch.name, {**guess.kwargs, **arch.kwargs})
            if guess.name == arch.name and fits(merged, tensors):
                return merged
    stock = build_meta(arch, allow_code)
    head = f"{head_of(stock)}.weight"
    if "num_classes" not in arch.kwargs and head in tensors:
        counted = Arch(arch.source, arch.name, {**arch.kwargs, "num_classes": int(tensors[head].shape[0])})
        other = build_meta(counted, allow_code)
        if _misfits(other, tensors) <= _misfits(stock, tensors):  # a detector's last layer counts no classes
            arch, stock = counted, other
    state = stock.state_dict()
    if relevant(state) == relevant(tensors):
        arch.shapes = {
            name: list(tensor.shape)
            for name, tensor in tensors.items()
            if name in state and tensor.shape != state[name].shape and tensor.ndim == state[name].ndim
        }
    return arch


def _misfits(module: nn.Module, tensors: dict[str, Tensor]) -> int:
    """How many tensors have another shape than the network's."""
    state = module.state_dict()
    return sum(name in tensors and tensors[name].shape != tensor.shape for name, tensor in state.items())


def fits(arch: Arch, tensors: dict[str, Tensor]) -> bool:
    """Whether the network can be built and has exactly these names and shapes."""
    try:
        state = build_meta(arch).state_dict()
    except DeploykitError:
        return False
    return relevant(state) == relevant(tensors) and all(
        state[name].shape == tensor.shape for name, tensor in tensors.items() if name in state
    )


def distinct(candidates: list[Arch]) -> list[Arch]:
    """The candidates, less those whose output with seeded weights on a seeded picture equals an earlier one's."""
    kept: list[tuple[Arch, Tensor | None]] = []
    for arch in candidates if len(candidates) > 1 else []:
        size = arch.kwargs.get("size", 64)
        output = seeded_output(build(arch), (size, size))
        if not any(equal_outputs(output, known) for _, known in kept):
            kept.append((arch, output))
    return [arch for arch, _ in kept] or candidates


def _completed(text: str, tensors: dict[str, Tensor], group: Group) -> Arch:
    arch = parse_arch(text)
    arch.kwargs["num_classes"] = int(tensors[group.head[0]].shape[0])
    return arch


def _unknown(shapes: dict[str, list[int]], path: Path, target: str | None) -> BadInput:
    near = nearest_groups(shapes)
    fix = f"Name it: {how_to_name(path, 'SOURCE:NAME', target)} (module:factory with --allow-code for your own code)."
    if not near:
        return BadInput(f"{path} is of no network we know ({len(shapes)} tensors, {_first(shapes)} …)", fix=fix)
    text, missing, extra, other = min(
        (_differences(group.classes[0][0], shapes) for group in near[:12]), key=lambda found: sum(map(len, found[1:]))
    )
    said = [f"{name} is missing" for name in missing[:3]] + [f"{name} is extra" for name in extra[:3]] + other[:3]
    more = len(missing) + len(extra) + len(other) - len(said[:4])
    return BadInput(
        f"{path} is of no network we know; nearest is {text}: {', '.join(said[:4])}"
        + (f", {more} more" if more else ""),
        fix=f"If it is a pruned {text}, pass {how_to_name(path, text, target)}." if not missing and not extra else fix,
    )


def _first(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:2])


def _differences(text: str, shapes: dict[str, list[int]]) -> tuple[str, list[str], list[str], list[str]]:
    try:
        state = build_meta(parse_arch(text)).state_dict()
    except DeploykitError:  # timm is not installed here
        return text, [], [], ["cannot be compared here"]
    known = {name: list(tensor.shape) for name, tensor in state.items()}
    ours, theirs = set(relevant(shapes)), set(relevant(known))
    other = [
        f"{name} is {shapes[name]} instead of {known[name]}"
        for name in relevant(shapes)
        if name in theirs and shapes[name] != known[name]
    ]
    return text, sorted(theirs - ours), sorted(ours - theirs), other
