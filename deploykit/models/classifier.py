"""Refusing by name what cannot be judged as a classifier."""

from __future__ import annotations

from deploykit.base.errors import BadInput


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
