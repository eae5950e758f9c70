"""``deploykit.*`` metadata: what a lone ``.onnx`` still knows of itself."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from deploykit._version import __version__
from deploykit.base.preprocessing import Preprocessing


def write_metadata(
    props: MutableMapping[str, str],
    *,
    preprocessing: Preprocessing,
    classes: tuple[str, ...] | None,
    precision: str,
    lineage: list[dict[str, Any]],
) -> None:
    """Set the metadata of a model, in place.

    Args:
        props: ``metadata_props`` of an onnx_ir model.
        preprocessing: of the file's input.
        classes: names in the order of the outputs, or None.
        precision: of the float part.
        lineage: what was done to the model, oldest first.
    """
    props["deploykit.version"] = __version__
    props["deploykit.precision"] = precision
    props["deploykit.preprocessing"] = _json(preprocessing.to_dict())
    if classes is not None:
        props["deploykit.classes"] = _json(list(classes))
    props["deploykit.lineage"] = _json(lineage)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
