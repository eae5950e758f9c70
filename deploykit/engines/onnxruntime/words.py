"""What ONNX Runtime says of a failure, without the places in its source that stand before the cause."""

from __future__ import annotations

import re

from deploykit.base.errors import shortened

MOST = 300
_ARGUMENTS = r"\((?:[^()]|\([^()]*\))*\)"
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"(?:/\S*/)?\w+\.(?:cc|h|cpp):\d+ (?:[A-Z]\w+ (?=[A-Z]))?",
    rf"(?:(?:void|bool|[\w:]+::[\w:<>]+)[ *&]+)?(?:\w+::)+~?\w+{_ARGUMENTS}(?: const)?:? ?",
)


def plain_words(error: object, most: int = MOST) -> str:
    """The message of an error of ONNX Runtime on one line, with neither C++ signatures nor source lines.

    Args:
        error: the exception, or its text.
        most: characters; what is longer ends at a word, with an ellipsis.
    """
    text = " ".join(str(error).split())
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    text = re.sub(r"failed:(?=\S)", "failed: ", text).strip()
    return shortened(text, most)
