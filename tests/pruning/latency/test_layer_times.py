"""Layers are really timed on ONNX Runtime: wide ones take longer, and the times are kept for this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.base.targets import WITH_LAYER_TIMES
from deploykit.pruning.latency.layer_times import keep_times, known_times, measure_on, table_file
from deploykit.pruning.latency.table import LayerShape
from tests.listening import Listening


def conv(c_in: int, c_out: int, groups: int = 1) -> LayerShape:
    return LayerShape(c_in, c_out, (3, 3), (1, 1), (1, 1), (1, 1), groups, (28, 28))


def test_every_layer_gets_its_own_time() -> None:
    shapes = [conv(128, 128), conv(16, 16), conv(128, 128, 128), conv(20, 30, 2), conv(128, 128)]
    wide, narrow, depthwise, odd, same = measure_on("ort-cpu", 1)(shapes)
    assert wide > 8 * narrow
    assert wide > 4 * depthwise
    assert odd > 0
    assert 0.25 < wide / same < 4


def test_openvino_times_its_own_layers() -> None:
    wide, narrow, depthwise, odd = measure_on("openvino", 1)(
        [conv(128, 128), conv(16, 16), conv(128, 128, 128), conv(20, 30, 2)]
    )
    assert wide > 8 * narrow
    assert wide > 4 * depthwise
    assert odd > 0


def test_times_are_kept_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path))
    place = table_file("ort-cpu", 1)
    assert place.parent == tmp_path / "latency"
    assert (
        len({table_file(target, 1) for target in WITH_LAYER_TIMES} | {table_file("ort-cpu", 2)})
        == len(WITH_LAYER_TIMES) + 1
    )
    assert known_times(place) == {}
    keep_times(place, {conv(8, 8).key(): 0.5}, "ort-cpu", 1)
    assert known_times(place) == {conv(8, 8).key(): 0.5}
    place.write_text('{"times_ms": {"a": "x", "b": 1}}')
    assert known_times(place) == {"b": 1.0}
    place.write_text("[")
    assert known_times(place) == {}


def test_a_target_that_cannot_time_layers_is_refused() -> None:
    with pytest.raises(BadInput, match="layers cannot be timed on torch-eager"):
        measure_on("torch-eager", 1)


def test_a_cache_that_takes_no_files_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: Listening
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "file"))
    keep_times(table_file("ort-cpu", 1), {conv(8, 8).key(): 0.5}, "ort-cpu", 1, listening)
    (only,) = listening.warned
    assert f"nothing is kept in the cache folder {tmp_path / 'file'} (Not a directory): later runs" in only
    assert "DEPLOYKIT_CACHE_DIR names another folder" in only
