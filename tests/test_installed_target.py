"""A target that an installed package brings by an entry point is one like any other; its mistakes are told as its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deploykit.base import targets
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.runner import Audited, DeviceTimed, Prebound, Profiled, Ranged, Runner
from deploykit.base.spec import parse_spec
from deploykit.base.targets import TARGETS, WITH_BUILDER, WITH_INT8, natural_target, target_names, target_of
from deploykit.cli.main import app
from deploykit.engines import lacking, open_runner

SITE = Path(__file__).parent / "installed"
MODULES = ("madeup_target", "madeup_target.runner")


def forget() -> None:
    targets._claims.cache_clear()
    targets._loaded.cache_clear()
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SITE))
    forget()
    yield
    forget()


@pytest.fixture
def claim(tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install one more package with an entry point."""

    def install(package: str, line: str) -> None:
        info = tmp_path / "site" / f"{package}-2.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[deploykit.targets]\n{line}\n")
        monkeypatch.syspath_prepend(str(info.parent))
        forget()

    return install


def test_its_package_is_imported_when_it_is_asked_for(installed: None) -> None:
    assert target_names() == (*TARGETS, "madeup")
    assert target_of("ort-cpu").runner.startswith("deploykit.")
    assert parse_spec("net.onnx@openvino").target == "openvino"
    assert natural_target(Path("net.pt")) == "torch-eager"
    assert "ort-cpu" in WITH_INT8
    assert "madeup_target" not in sys.modules
    assert parse_spec("net.onnx@madeup").target == "madeup"
    assert natural_target(Path("net.made")) == "madeup"
    assert "madeup_target.runner" not in sys.modules
    assert ("madeup" in WITH_INT8, "madeup" in WITH_BUILDER) == (True, False)
    assert list(WITH_INT8) == ["ort-cpu", "ort-trt", "tensorrt", "tensorrt-rtx", "openvino", "madeup"]


def test_it_runs_like_any_other(installed: None, tiny_onnx: Path, tiny_model: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
    with open_runner(f"{tiny_onnx}@madeup") as theirs, open_runner(tiny_onnx) as ours:
        np.testing.assert_allclose(theirs(x), ours(x), atol=1e-4)
        assert isinstance(theirs, Runner)
        assert not isinstance(theirs, Prebound | Audited | Profiled | DeviceTimed | Ranged)
    assert lacking("madeup") is None
    with pytest.raises(BadInput, match="madeup has no option 'fast'; expected no options"):
        open_runner(f"{tiny_onnx}@madeup:fast=1")
    with pytest.raises(BadInput, match=r"madeup cannot run .*; expected \.onnx or \.made\. Export it first"):
        open_runner(f"{tiny_model}@madeup")


def test_it_is_measured_beside_others(installed: None, tiny_onnx: Path, digits_npz: Path, tmp_path: Path) -> None:
    from deploykit.commands.benchmark import benchmark
    from deploykit.config.benchmark import BenchmarkConfig
    from deploykit.reporting import read_report

    quick = {"max_time_s": 1.5, "min_blocks": 5, "block_ms": 3.0, "until": 0.3}
    specs = [f"fp32={tiny_onnx}", f"other={tiny_onnx}@madeup"]
    benchmark(specs, tmp_path / "run", BenchmarkConfig(data=str(digits_npz), images=16, **quick))
    _, other = read_report(tmp_path / "run").variants
    assert (other.target, other.status, other.audit) == ("madeup", "ok", None)
    assert other.parity.ok
    assert "every node is computed by numpy" in other.notes
    assert 0 < other.speedup.estimate < 1
    assert other.accuracy.agreement == 1


def test_every_target_option_takes_it(installed: None, tiny_onnx: Path, digits_npz: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.int8.madeup.onnx"
    words = ["quantize", str(tiny_onnx), "-o", str(output), "--data", str(digits_npz), "--target", "madeup"]
    done = CliRunner().invoke(app, [*words, "--images", "8", "--json"])
    assert done.exit_code == 0, done.output
    assert output.is_file()
    built = CliRunner().invoke(app, ["build", str(tiny_onnx), "--target", "madeup"])
    assert built.exit_code == 2
    assert f"madeup runs model files as they are; expected one of {', '.join(WITH_BUILDER)}" in built.stderr
    pruned = CliRunner().invoke(app, ["prune", "net.pt", "--latency", "0.5", "--target", "madeup"])
    assert pruned.exit_code == 2
    assert "target: got 'madeup', expected 'ort-cpu', " in pruned.stderr


def test_a_misspelt_one_is_told_with_the_nearest(installed: None) -> None:
    with pytest.raises(
        BadInput, match=r"unknown target 'madup'; expected one of torch-eager, .*, madeup\. Did you mean"
    ):
        parse_spec("net.onnx@madup")


def test_a_recipe_and_the_doctor_know_it(installed: None) -> None:
    from deploykit.commands.doctor import names
    from deploykit.commands.doctor_probes import run_probe
    from deploykit.config.recipe_check import problems

    assert names()[-1] == "madeup"
    assert run_probe("madeup")["ok"]
    recipe = {
        "version": 1,
        "name": "r",
        "data": {"name": "digits"},
        "variants": {"m": {"target": "madeup", "precision": "bf16"}},
    }
    assert [what for _, what in problems(recipe)] == ["precision bf16 of madeup: expected fp32, fp16"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "bad = not_there:TARGET",
            r"not_there:TARGET does not load \(ModuleNotFoundError: No module named 'not_there'\)",
        ),
        ("bad = madeup_target:OTHER", r"madeup_target:OTHER does not load \(AttributeError: .*'OTHER'\)"),
        ("bad = madeup_target:WRONG", "got madeup_target:WRONG, a str; expected a Target"),
        ("bad = madeup_target:TARGET", "got the name 'madeup'; expected bad, of small letters"),
    ],
)
def test_a_broken_package_is_named_and_harms_no_other_target(
    claim: Callable[[str, str], None], line: str, why: str
) -> None:
    claim("broken", line)
    with pytest.raises(
        Unavailable, match=rf"the target bad of the package broken 2\.0 cannot be used.*{why}"
    ) as caught:
        target_of("bad")
    assert caught.value.fix == "Mend or uninstall the package: pip uninstall broken."
    assert target_of("madeup").name == "madeup"
    assert "bad" not in list(WITH_INT8)
    assert target_names()[-2:] == ("bad", "madeup")


def test_a_runner_that_does_not_load_says_what_brings_it(
    claim: Callable[[str, str], None], tmp_path: Path, tiny_onnx: Path
) -> None:
    claim("halfway", "half = halfway:TARGET")
    (tmp_path / "site" / "halfway.py").write_text(
        "from dataclasses import replace\nfrom madeup_target import TARGET as IT\n"
        "TARGET = replace(IT, name='half', runner='no_such_library.runner')\n"
    )
    with pytest.raises(
        Unavailable, match=r"half cannot run here: No module named 'no_such_library'. pip install madeup"
    ):
        open_runner(f"{tiny_onnx}@half")


@pytest.mark.parametrize(
    ("name", "others"), [("madeup", "madeup 1.0, second 2.0"), ("ort-cpu", "deploykit, second 2.0")]
)
def test_a_name_that_two_packages_give_is_an_error(claim: Callable[[str, str], None], name: str, others: str) -> None:
    claim("second", f"{name} = madeup_target:TARGET")
    with pytest.raises(BadInput, match=f"several packages have a target named {name}; got ") as caught:
        target_of(name)
    assert sorted(caught.value.got.split(", ")) == others.split(", ")
    assert target_of("openvino").name == "openvino"


def test_help_and_import_look_at_no_entry_point() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SITE)!r})\nimport deploykit\n"
        "from typer.testing import CliRunner\nfrom deploykit.cli.main import app\n"
        "assert CliRunner().invoke(app, ['quantize', '--help']).exit_code == 0\n"
        "assert 'madeup_target' not in sys.modules\nassert 'deploykit.base.targets' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
