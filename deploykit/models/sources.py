"""Builders of other people's networks: torchvision, timm, user code."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from deploykit.base.checkpoint import Kwargs
from deploykit.base.errors import BadInput, Unavailable, unknown
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.task import Task, read_task
from deploykit.models.heads import output_size, replace_head

AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def torchvision_names() -> list[str]:
    """The names of torchvision's classification networks."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def dense_names() -> list[str]:
    """The names of torchvision's segmentation and detection networks: they build and export, but do not classify."""
    from torchvision import models

    return [*models.list_models(module=models.segmentation), *models.list_models(module=models.detection)]


def timm_names() -> list[str]:
    """The names of timm's networks; none where timm is not installed."""
    try:
        import timm
    except ImportError:
        return []
    return timm.list_models()


def from_torchvision(name: str, kwargs: Kwargs, download: bool) -> nn.Module:
    """A torchvision network; the auxiliary heads of googlenet and inception_v3 are left out unless asked for.

    Raises:
        BadInput: an unknown name.
        Unavailable: the download failed.
    """
    import torchvision

    if name not in (known := torchvision_names()):
        if name not in dense_names():
            raise unknown("torchvision network", name, known)
        return torchvision.models.get_model(name, weights=None, weights_backbone=None, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not download:
            extra = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
            return torchvision.models.get_model(name, weights=None, **{**extra, **kwargs})
        outputs = kwargs.pop("num_classes", None)
        keep_auxiliary = kwargs.pop("aux_logits", False)
        with _downloading(f"torchvision:{name}"):
            module = torchvision.models.get_model(name, weights="DEFAULT", **kwargs)
    if name in AUXILIARY and not keep_auxiliary:
        module.aux_logits = False
        for head in AUXILIARY[name]:
            setattr(module, head, None)
    if outputs is not None and outputs != output_size(module):
        replace_head(module, outputs)
    return module


def from_timm(name: str, kwargs: Kwargs, download: bool) -> nn.Module:
    """A timm network.

    Raises:
        Unavailable: timm is not installed, or the download failed.
        BadInput: an unknown name.
    """
    try:
        import timm
    except ImportError as error:
        raise Unavailable(f"timm:{name} needs timm", fix="pip install 'deploykit[timm]'") from error
    if not timm.is_model(name.partition(".")[0]):
        raise _unknown_among_many("timm network", name, timm.list_models())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not download:
            return timm.create_model(name, pretrained=False, **kwargs)
        with _downloading(f"timm:{name}"):
            return timm.create_model(name, pretrained=True, **kwargs)


def from_module(name: str, kwargs: Kwargs, allow_code: bool) -> nn.Module:
    """What ``package.module:factory`` returns; ``num_classes`` is passed on where the factory takes it.

    The factory may return the network with a dictionary beside it, whose entries (:data:`STATED`) become the network's
    attributes, or set these itself; see :func:`stated_by`.

    Raises:
        BadInput: user code may not run, cannot be imported, fails, or returns something else than a module.
    """
    if not allow_code:
        raise BadInput(
            f"the network {name} is user code, which may not run here", fix="Pass --allow-code if you trust it."
        )
    place, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        factory = getattr(importlib.import_module(place), attribute)
    except ImportError as error:
        raise BadInput(f"cannot import {name}: {error}", fix="Is it on PYTHONPATH or in this folder?") from error
    except AttributeError as error:
        raise BadInput(f"cannot import {name}: {error}", fix=f"Check the name after {place}:.") from error
    arguments = dict(kwargs)
    outputs = arguments.get("num_classes")
    takes = inspect.signature(factory).parameters
    if "num_classes" not in takes and not any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        arguments.pop("num_classes", None)
    try:
        module = factory(**arguments)
    except Exception as error:  # user code may raise anything; its name and text are the message
        raise BadInput(f"{name} failed: {type(error).__name__}: {error}") from error
    said: object = {}
    if isinstance(module, tuple) and len(module) == 2:
        module, said = module
    if not isinstance(module, nn.Module) or not isinstance(said, dict):
        raise BadInput(
            f"{name} returned no network",
            got=type(module).__name__,
            expected="torch.nn.Module, or that with a dictionary of preprocessing, classes and task",
        )
    if unknown_keys := sorted(set(said) - set(STATED)):
        raise unknown(f"fact of {name}", str(unknown_keys[0]), STATED)
    for key, value in said.items():
        setattr(module, key, value)
    if outputs is not None and outputs != output_size(module):
        replace_head(module, outputs)
    return module


STATED = ("preprocessing", "classes", "task")
"""What user code may state of its network, as attributes of it."""


def stated_by(module: nn.Module, name: str) -> tuple[Preprocessing | None, tuple[str, ...] | None, Task | None]:
    """The preprocessing, class names and task that user code states of its network; None where it does not.

    ``preprocessing``: a dictionary with ``size`` (a number, or height and width) and what else
    :class:`deploykit.base.preprocessing.Preprocessing` holds.

    Raises:
        BadInput: it states something else; ``name`` is the factory's.
    """
    given, classes, task = (getattr(module, key, None) for key in STATED)
    preprocessing = None
    if isinstance(given, Preprocessing):
        preprocessing = given
    elif isinstance(given, Mapping):
        size = given.get("size")
        both = [size, size] if isinstance(size, int) else size
        preprocessing = Preprocessing.from_dict({**given, "size": both})
    elif given is not None and not callable(given):
        raise BadInput(
            f"the preprocessing of {name}", got=type(given).__name__, expected="a dictionary with size, mean, std"
        )
    names = (
        tuple(classes) if isinstance(classes, list | tuple) and all(isinstance(one, str) for one in classes) else None
    )
    stated = None if task is None or isinstance(task, nn.Module) else read_task(task, name)
    return preprocessing, names, stated


@contextmanager
def _downloading(what: str) -> Iterator[None]:
    """Turn the network errors of a download into :class:`Unavailable`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"cannot download the weights of {what}: {error}", fix="Is this machine offline?") from error


def _unknown_among_many(kind: str, name: str, known: list[str]) -> BadInput:
    close = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.5)
    return BadInput(
        f"unknown {kind} {name!r}",
        expected=f"one of {len(known)} names" + (f", nearest: {', '.join(close)}" if close else ""),
        fix=f"Did you mean {close[0]!r}?" if close else None,
    )
