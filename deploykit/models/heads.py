"""The classification head: the last linear (or 1×1 convolution) layer, found, replaced, or refused by name."""

from __future__ import annotations

from torch import nn

from deploykit.base.errors import BadInput


def head_of(module: nn.Module) -> str:
    """The name of the layer that makes the logits.

    timm says it itself; elsewhere it is the last ``Linear`` or ``Conv2d`` in the order of registration, which holds
    for every torchvision classifier and for deploykit's own.

    Raises:
        BadInput: there is none, or there are two (a distilled transformer).
    """
    stated = getattr(module, "pretrained_cfg", None) or {}
    name = stated.get("classifier") if isinstance(stated, dict) else None
    if isinstance(name, tuple | list):
        raise BadInput(f"{type(module).__name__} has {len(name)} heads", got=", ".join(name), expected="one")
    layers = dict(module.named_modules())
    if name and isinstance(layers.get(name), nn.Linear | nn.Conv2d):
        return name
    found = [key for key, layer in layers.items() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not found:
        raise BadInput(f"{type(module).__name__} has no linear or convolution layer to be its head")
    return found[-1]


def output_size(module: nn.Module) -> int:
    """How many logits the head gives."""
    head = module.get_submodule(head_of(module))
    return head.out_features if isinstance(head, nn.Linear) else head.out_channels  # type: ignore[return-value]


def replace_head(module: nn.Module, num_classes: int) -> str:
    """Put a freshly initialised head with ``num_classes`` outputs in place of the old one.

    Returns the name of the head layer.

    Raises:
        BadInput: no single head, or ``num_classes`` below 1.
    """
    if num_classes < 1:
        raise BadInput("number of classes", got=num_classes, expected="at least 1")
    name = head_of(module)
    old = module.get_submodule(name)
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
        nn.init.normal_(new.weight, std=0.01)
    else:
        assert isinstance(old, nn.Conv2d)
        size, stride = (old.kernel_size[0], old.kernel_size[1]), (old.stride[0], old.stride[1])
        new = nn.Conv2d(old.in_channels, num_classes, size, stride, old.padding, bias=old.bias is not None)  # type: ignore[arg-type]
        nn.init.normal_(new.weight, std=0.01)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new.to(old.weight.device, old.weight.dtype))
    if hasattr(module, "num_classes"):
        setattr(module, "num_classes", num_classes)  # noqa: B010  (modules declare no such attribute)
    return name


def take_channels(module: nn.Module, channels: int) -> None:
    """Put a freshly initialised first convolution in place of the old one where that takes other ``channels``.

    Raises:
        BadInput: the network has no convolution.
    """
    layers = ((name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
    name, old = next(layers, ("", None))
    if old is None:
        raise BadInput(f"{type(module).__name__} has no convolution that could take {channels} channels")
    if old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new.to(old.weight.device, old.weight.dtype))


def check_classifier(num_outputs: int, classes: tuple[str, ...] | None = None) -> int:
    """Return ``num_outputs`` if the network can be judged as a single-label classifier.

    Raises:
        BadInput: one logit (binary or multi-label with a sigmoid), or another count than there are class names.
    """
    if num_outputs < 2:
        raise BadInput(
            "this is a one-logit model (binary or multi-label with a sigmoid), which is not supported",
            got=f"{num_outputs} output",
            expected="one logit per class, at least two",
            fix="Give it a two-class softmax head.",
        )
    if classes is not None and len(classes) != num_outputs:
        raise BadInput("the class names do not fit the head", got=f"{len(classes)} names", expected=num_outputs)
    return num_outputs
