"""``[NAME=]PATH[@TARGET[:key=value,…]]`` taken apart and put together again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.base.errors import BadInput
from deploykit.base.spec import Spec, parse_spec
from deploykit.base.targets import TARGETS, check_target, natural_target

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
PATHS = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,8}", fullmatch=True), min_size=1, max_size=3).map(
    lambda parts: Path(*[part.strip() or "x" for part in parts])
)
OPTIONS = st.dictionaries(
    st.from_regex(r"[a-z_][a-z0-9_.]{0,8}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9._/,=-]{0,8}", fullmatch=True),
    max_size=3,
)


@given(name=NAMES, path=PATHS, target=st.none() | st.sampled_from(TARGETS), options=OPTIONS)
def test_round_trip(name: str, path: Path, target: str | None, options: dict[str, str]) -> None:
    spec = Spec(name, path, target, options if target else {})
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("model.pt", Spec("model", Path("model.pt"))),
        ("a=b/model.onnx", Spec("a", Path("b/model.onnx"))),
        ("model.pt@torch-eager", Spec("model", Path("model.pt"), "torch-eager")),
        (
            "x=m.onnx@ort-cuda:use_tf32=0,a.b=1",
            Spec("x", Path("m.onnx"), "ort-cuda", {"use_tf32": "0", "a.b": "1"}),
        ),
        (
            'm.pth@torch-eager:arch="deploykit:resnet:depth=8,widths=[8, 16]",use_tf32=1',
            Spec(
                "m",
                Path("m.pth"),
                "torch-eager",
                {"arch": "deploykit:resnet:depth=8,widths=[8, 16]", "use_tf32": "1"},
            ),
        ),
    ],
)
def test_forms(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize("text", ["", "a=", "@ort-cpu", "a=@ort-cpu"])
def test_nothing_to_measure_is_an_error(text: str) -> None:
    with pytest.raises(BadInput, match=r"no path in .*expected \[NAME=\]PATH"):
        parse_spec(text)


def test_an_unknown_target_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"unknown target 'ort-cpux'; expected one of .*Did you mean 'ort-cpu'\?"):
        parse_spec("m.onnx@ort-cpux")
    with pytest.raises(BadInput, match="unknown target"):
        check_target("gpu")


def test_an_existing_file_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model@ort-cpu"
    path.write_bytes(b"x")
    assert parse_spec(str(path)).path == path


def test_natural_targets() -> None:
    assert natural_target(Path("a.PT")) == "torch-eager"
    assert natural_target(Path("a.onnx")) == "ort-cpu"
    with pytest.raises(BadInput, match=r"cannot tell what runs a\.bin; got suffix \.bin; expected one of \.pt"):
        natural_target(Path("a.bin"))
