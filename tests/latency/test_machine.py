"""What the machine does meanwhile, read from a tree of files like the kernel's."""

from __future__ import annotations

import time
from pathlib import Path

import pynvml
import pytest

from deploykit.latency.machine import Watch, warnings_of
from deploykit.latency.power import Gpu, Meters, gpu


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    for number in range(2):
        folder = tmp_path / f"cpu{number}"
        (folder / "cpufreq").mkdir(parents=True)
        (folder / "thermal_throttle").mkdir()
        (folder / "cpufreq/scaling_governor").write_text("powersave\n")
        (folder / "cpufreq/scaling_cur_freq").write_text("3000000\n")
        (folder / "thermal_throttle/core_throttle_count").write_text("7\n")
    return tmp_path


def test_clocks_governor_and_heat_become_facts_and_warnings(cpus: Path) -> None:
    watch = Watch(cpus)
    watch.sample()
    for number in range(2):
        (cpus / f"cpu{number}/cpufreq/scaling_cur_freq").write_text("2000000\n")
        (cpus / f"cpu{number}/thermal_throttle/core_throttle_count").write_text("9\n")
    watch._last = 0.0
    watch.sample()
    facts, warnings = watch.finish(0.0)
    assert facts["cpu_mhz"] == [2000, 3000]
    assert facts["thermal_throttles"] == 4
    assert facts["governor"] == "powersave"
    text = "\n".join(warnings)
    assert "the processor's clock changed while timing: 2000 … 3000 MHz" in text
    assert "throttled by heat 4 times" in text
    assert "governor is 'powersave'" in text


def test_what_the_machine_does_not_tell_is_left_out(tmp_path: Path) -> None:
    facts, _ = Watch(tmp_path).finish(0.0)
    assert not {"cpu_mhz", "governor", "thermal_throttles"} & facts.keys()


def test_own_work_is_no_load_of_others(tmp_path: Path) -> None:
    watch, before = Watch(tmp_path), time.process_time()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    own = time.process_time() - before
    facts, _ = watch.finish(own)
    blamed, _ = watch.finish(0.0)
    assert 0 <= facts["load_of_others"] < blamed["load_of_others"] <= 1


def test_the_warnings_are_silent_about_a_quiet_machine() -> None:
    quiet = {"load_of_others": 0.02, "stolen_share": 0.0, "governor": "performance", "cpu_mhz": [3000, 3050]}
    assert warnings_of(quiet) == []
    loud = {"load_of_others": 0.4, "stolen_share": 0.05, "gpu_mhz": [900, 1980], "gpu_throttled_by": ["power cap"]}
    text = "\n".join(warnings_of(loud))
    assert "other processes used 40% of the processor during the measurement" in text
    assert "the hypervisor gave 5% of the processor's time to other machines" in text
    assert "the GPU's clock changed while timing: 900 … 1980 MHz" in text
    assert "the GPU was held down while timing: power cap" in text


def _zone(root: Path, name: str, package: str, uj: int, most: int = 1_000_000) -> Path:
    zone = root / name
    zone.mkdir(parents=True)
    (zone / "name").write_text(package + "\n")
    (zone / "energy_uj").write_text(f"{uj}\n")
    (zone / "max_energy_range_uj").write_text(f"{most}\n")
    return zone


def test_rapl_counts_packages_once_and_survives_a_counter_that_begins_anew(tmp_path: Path) -> None:
    first = _zone(tmp_path, "intel-rapl:0", "package-0", 400_000)
    second = _zone(tmp_path, "intel-rapl:1", "package-1", 900_000)
    _zone(tmp_path, "intel-rapl:0:0", "core", 1)  # a part of package 0, not to be counted twice
    meters = Meters(tmp_path)
    assert [name for name in meters.names if name != "gpu"] == ["package-0", "package-1"]
    before = meters.now()
    (first / "energy_uj").write_text("450000\n")
    (second / "energy_uj").write_text("100000\n")
    drawn = meters.since(before)
    assert drawn is not None
    assert drawn >= 50 + 200  # mJ: 50 mJ, and 200 mJ across the wrap


def test_without_a_meter_there_is_no_energy(tmp_path: Path) -> None:
    meters = Meters(tmp_path / "none")
    if "gpu" in meters.names:
        pytest.skip("the GPU here has a meter")
    assert meters.since(meters.now()) is None


def _refused(*_: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def test_what_the_driver_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in dir(pynvml):
        if name.startswith("nvmlDeviceGet"):
            monkeypatch.setattr(pynvml, name, _refused)
    card = Gpu(None)
    assert (card.used_bytes(), card.energy_mj(), card.busy_share(), card.clock_mhz()) == (None,) * 4
    assert card.throttled_by() == []
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda _: 0x4 | 0x40)  # of older drivers
    assert card.throttled_by() == ["power cap", "thermal, hardware"]


@pytest.mark.parametrize(("visible", "asked"), [(None, 0), ("1,0", 1), ("GPU-12ab", "GPU-12ab"), ("", None)])
def test_the_gpu_asked_is_the_one_that_cuda_counts_first(
    visible: str | None, asked: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    for name in ("nvmlDeviceGetHandleByUUID", "nvmlDeviceGetHandleByIndex"):
        monkeypatch.setattr(pynvml, name, lambda which: which)
    found = gpu.__wrapped__()
    assert (None if found is None else found._handle) == asked
    monkeypatch.setattr(pynvml, "nvmlInit", _refused)
    assert gpu.__wrapped__() is None
