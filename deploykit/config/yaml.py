"""YAML that keeps the line of every value, so that an error can point into the user's own file."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from deploykit.base.errors import BadInput

Path = tuple[str | int, ...]
MOST_VALUES = 20_000
_PLAIN_TAGS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, reading ``1e-3`` as a number like YAML 1.2 (PyYAML alone makes it text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass
class Source:
    """A YAML file read as plain data, with where everything stands.

    Attributes:
        name: of the file, for messages.
        data: plain values.
        lines: path of keys and indices → line, from 1.
        errors: line and text of what is wrong already: duplicate keys, keys that are not text.
        given: path → the ``--set`` that wrote it over.
    """

    name: str
    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    errors: list[tuple[int, str]] = field(default_factory=list)
    given: dict[Path, str] = field(default_factory=dict)

    def at(self, path: Path) -> str:
        """``recipe.yaml:12`` for the value at ``path`` or the nearest thing around it, or the ``--set`` that gave it."""
        for i in range(len(path), 0, -1):
            if path[:i] in self.given:
                return self.given[path[:i]]
        return f"{self.name}:{self.line(path)}"

    def line(self, path: Path) -> int:
        """The line of the value at ``path``, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def wrong(self, line: int, what: str) -> None:
        """Note an error of the file itself."""
        self.errors.append((line, f"{self.name}:{line}: {what}"))


def read_yaml(text: str, name: str) -> Source:
    """Read one YAML document.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        BadInput: it is no YAML, or holds tabs, tags, several documents or an alias of itself.
    """
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{name} is no text file: {_one_line(error)}") from error
    try:
        node = loader.get_single_node()
        source = Source(name, None)
        source.data = None if node is None else _plain(loader, node, (), source, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = " ".join(str(error.problem or error.context).split())
        if "'\\t'" in problem:
            raise BadInput(f"{place}: a tab", expected="spaces", fix="YAML is indented with spaces only.") from error
        raise BadInput(f"{place}: this is no YAML: {problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{name} is no YAML: {_one_line(error)}") from error
    finally:
        loader.dispose()
    return source


def read_value(text: str, name: str) -> Any:
    """One YAML value of the command line (``--set key=value``).

    Raises:
        BadInput: it is no YAML.
    """
    source = read_yaml(text, name)
    if source.errors:
        raise BadInput(" · ".join(text for _, text in source.errors))
    return source.data


def _plain(loader: _Loader, node: yaml.Node, path: Path, source: Source, above: tuple[int, ...]) -> Any:
    if id(node) in above:
        raise BadInput(f"{source.name}:{node.start_mark.line + 1}: an alias that holds itself")
    if len(source.lines) > MOST_VALUES:
        raise BadInput(f"{source.name} is too large", expected=f"at most {MOST_VALUES} values, aliases counted")
    source.lines.setdefault(path, node.start_mark.line + 1)
    above = (*above, id(node))
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise BadInput(f"{source.name}:{node.start_mark.line + 1}: the tag {node.tag}", expected="plain values")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, child, (*path, i), source, above) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, source, above)
    return loader.construct_object(node)


def _mapping(
    loader: _Loader, node: yaml.MappingNode, path: Path, source: Source, above: tuple[int, ...]
) -> dict[str, object]:
    found: dict[str, object] = {}
    merged: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag == "tag:yaml.org,2002:merge":
            value = _plain(loader, value_node, path, source, above)
            for part in value if isinstance(value, list) else [value]:
                if not isinstance(part, dict):
                    source.wrong(line, "'<<' takes a mapping")
                    continue
                merged = {**part, **merged}
            continue
        key: Hashable = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str) or key_node.tag != "tag:yaml.org,2002:str":
            source.wrong(line, f"the key {key_node.value!r} is no text, put it in quotes")
            continue
        if key in found:
            first = source.lines[(*path, key)]
            places = "twice here" if first == line else f"here and in line {first}"
            source.wrong(line, f"{key!r} stands {places}, keep one")
            continue
        source.lines[(*path, key)] = line
        found[key] = _plain(loader, value_node, (*path, key), source, above)
    return {**merged, **found}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
