"""The CI files for users: their shell steps are taken out and run, with the forge's own API replaced by files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CI = Path(__file__).parent.parent / "recipes" / "ci"
RECIPE = """
version: 1
name: tiny
model: {arch: "deploykit:resnet", kwargs: {depth: 8, widths: [4, 8, 16], stem_stride: 2}}
data: digits
train: {epochs: 1, threads: 1}
variants: {fp32: {target: ort-cpu}, copy: {target: ort-cpu}}
benchmark: {images: 60, max_time_s: 0.5, min_blocks: 5, block_ms: 3, end_to_end: false}
"""
POLICIES = {"pass": "max_latency_ratio: 100", "fail": "max_latency_ratio: 0.01", "tell": "min_agreement: 0.99"}
GH = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open("gh.log", "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[:2] == ["run", "list"]:
    print("17" if os.path.exists("main-report.json") else "")
elif words[:2] == ["run", "download"]:
    os.makedirs("baseline")
    os.rename("main-report.json", "baseline/report.json")
elif "--paginate" in words:  # two pages, as gh prints them
    print('[{{"id": 1, "body": "hello"}}][{{"id": 2, "body": ' + json.dumps(open("old.md").read() if os.path.exists("old.md") else "x") + "}}]")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, deploykit_program: Path) -> Path:
    """A repository with a tiny recipe that has been run once, policies, and ``deploykit``, ``gh``, ``curl`` on the path."""
    folder = tmp_path_factory.mktemp("ci")
    (folder / "tiny.yaml").write_text(RECIPE)
    for name, limit in POLICIES.items():
        (folder / f"{name}.yaml").write_text(f"version: 1\nname: {name}\nlimits:\n  copy: {{{limit}}}\n")
    (folder / "bin").mkdir()
    tools = {
        "deploykit": deploykit_program.read_text(),
        "gh": GH.format(python=sys.executable),
        "curl": '#!/bin/sh\nprintf "%s\\n" "$@" > curl.log\n',
    }
    for name, text in tools.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    done = bash(folder, steps(load("github.yml")["jobs"]["gate"]["steps"])["Run the recipe"], RECIPE="tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert (folder / "deploykit-run/report.json").is_file()
    return folder


def load(name: str) -> dict:
    return yaml.safe_load((CI / name).read_text(encoding="utf-8"))


def steps(listed: list[dict]) -> dict[str, str]:
    return {step["name"]: step["run"] for step in listed if "run" in step}


def bash(folder: Path, script: str, **more: str) -> subprocess.CompletedProcess:
    root = str(Path(__file__).parent.parent)
    env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    env |= {"PYTHONPATH": root, "GITHUB_REPOSITORY": "a/b", **more}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env=env,
    )


@pytest.fixture(autouse=True)
def _clean(place):
    yield
    for name in ("deploykit-gate", "baseline"):
        subprocess.run(["rm", "-rf", str(place / name)], check=True)
    for name in ("gh.log", "curl.log", "old.md", "output", "summary"):
        (place / name).unlink(missing_ok=True)


@pytest.mark.parametrize(("policy", "code"), [("pass", 0), ("fail", 1), ("tell", 3)])
def test_github(place, policy, code):
    named = steps(load("github.yml")["jobs"]["gate"]["steps"])
    (place / "main-report.json").write_bytes((place / "deploykit-run/report.json").read_bytes())
    assert bash(place, named["Fetch the report of the main branch"]).returncode == 0
    assert (place / "baseline/report.json").is_file()
    env = {"POLICY": f"{policy}.yaml", "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place / "summary")}
    done = bash(place, named["Gate"].replace("--retry 2", "--retry 0"), **env)
    assert done.returncode == code, done.stdout + done.stderr
    warned = bash(place, named["Gate"].replace("--retry 2", "--retry 0"), **env, CANNOT_TELL="warn")
    assert warned.returncode == (0 if code == 3 else code)
    assert ("::warning title=deploykit gate::" in warned.stdout) == (code == 3)
    assert "::" + {0: "notice", 1: "error", 3: "warning"}[code] in done.stderr
    assert (place / "summary").read_text().startswith("<!-- deploykit gate")
    (place / "old.md").write_text((place / "deploykit-gate/gate.md").read_text() if policy == "fail" else "another")
    assert bash(place, named["Comment"], NUMBER="5").returncode == 0
    posted = json.loads((place / "gh.log").read_text().splitlines()[-1])
    assert posted[1:4] == (
        ["--method", "PATCH", "repos/a/b/issues/comments/2"]
        if policy == "fail"
        else ["--method", "POST", "repos/a/b/issues/5/comments"]
    )
    assert "body=@deploykit-gate/gate.md" in posted


def test_github_without_an_older_report(place):
    named = steps(load("github.yml")["jobs"]["gate"]["steps"])
    assert bash(place, named["Fetch the report of the main branch"]).returncode != 0  # and the job goes on
    assert bash(place, named["Gate"], POLICY="pass.yaml").returncode == 0
    (place / "deploykit-gate/gate.md").unlink()
    (place / "run.log").rename(place / "kept.log")
    assert bash(place, named["Comment"], NUMBER="5").returncode == 0  # nothing to post
    assert not (place / "deploykit-gate/gate.md").exists()
    (place / "kept.log").rename(place / "run.log")


BROKEN = "{target: ort-cpu, steps: [{export: {exporter: torchscript, opset: 25}}]}"


def broken(place: Path, variant: str) -> dict[str, str]:
    """A repository of which one variant cannot be made; the settings of its jobs."""
    (place / "bad.yaml").write_text(RECIPE.replace(f"{variant}: {{target: ort-cpu}}", f"{variant}: {BROKEN}"))
    return {"RECIPE": "bad.yaml", "POLICY": "every.yaml", "CANNOT_TELL": "fail", "BASELINE": "", "RETRY": "0"}


@pytest.fixture
def fresh(place, tmp_path) -> Path:
    """The same tools in a folder in which nothing ran."""
    (tmp_path / "bin").symlink_to(place / "bin")
    (tmp_path / "every.yaml").write_text("version: 2\nlimits: {'*': {max_size_ratio: 9}}\n")
    (tmp_path / "none.yaml").write_text("version: 2\nlimits: {fp32: {max_size_ratio: 9}}\n")
    return tmp_path


@pytest.mark.parametrize(("policy", "code"), [("every", 1), ("none", 0)])
def test_a_failed_variant_ends_neither_gate_nor_comment(fresh, policy, code):
    named = steps(load("github.yml")["jobs"]["gate"]["steps"])
    env = broken(fresh, "copy") | {"POLICY": f"{policy}.yaml"}
    done = bash(fresh, named["Run the recipe"], **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "copy failed" in (fresh / "run.log").read_text()
    assert bash(fresh, named["Gate"].replace("--retry 2", "--retry 0"), **env).returncode == code
    assert bash(fresh, named["Comment"], NUMBER="5", **env).returncode == 0
    comment = (fresh / "deploykit-gate/gate.md").read_text()
    above = comment.partition("<details>")[0]
    assert "copy" in above
    assert "opset" in above or "25" in above
    assert "body=@deploykit-gate/gate.md" in (fresh / "gh.log").read_text()


def test_a_run_without_a_report_is_told_in_the_comment(fresh):
    named = steps(load("github.yml")["jobs"]["gate"]["steps"])
    env = broken(fresh, "fp32")
    assert bash(fresh, named["Run the recipe"], **env).returncode == 1
    (fresh / "old.md").write_text("<!-- deploykit run -->")  # its own older comment is replaced
    assert bash(fresh, named["Comment"], NUMBER="5", **env).returncode == 0
    comment = (fresh / "deploykit-gate/gate.md").read_text()
    assert "no verdict of bad.yaml" in comment
    assert "the baseline fp32 failed" in comment
    assert json.loads((fresh / "gh.log").read_text().splitlines()[-1])[2] == "PATCH"


def test_the_other_jobs_go_on_after_a_failed_variant(fresh):
    env = broken(fresh, "copy")
    run_step = next(one for one in load("action.yml")["runs"]["steps"] if one["name"] == "Run the recipe")
    assert bash(fresh, run_step["run"], **env).returncode == 0
    script = "\n".join(load("gitlab.yml")["deploykit"]["script"]).replace("--retry 2", "--retry 0")
    done = bash(fresh, script, **env, CI_DEFAULT_BRANCH="main", CI_COMMIT_BRANCH="main")
    assert done.returncode == 1
    assert "copy" in (fresh / "deploykit-gate/gate.md").read_text()


def test_what_is_installed_is_named_by_the_user(fresh):
    """The package is on no index: nothing is installed by a bare name."""
    (fresh / "bin").unlink()
    (fresh / "bin").mkdir()
    (fresh / "bin" / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > pip.log\n')
    (fresh / "bin" / "python").chmod(0o755)
    github = steps(load("github.yml")["jobs"]["gate"]["steps"])["Install"]
    gitlab = "\n".join(load("gitlab.yml")["deploykit"]["before_script"])
    action = next(one for one in load("action.yml")["runs"]["steps"] if one["name"] == "Install")
    for script, key in ((github, "DEPLOYKIT"), (gitlab, "DEPLOYKIT"), (action["run"], "WHAT")):
        what = "git+https://example.org/a/deploykit@v1"
        assert bash(fresh, script, **{key: what}).returncode == 0
        assert (fresh / "pip.log").read_text().splitlines()[-1] == what
    for script in (github, gitlab):
        (fresh / "pip.log").unlink(missing_ok=True)
        assert bash(fresh, script, DEPLOYKIT="").returncode == 2
        assert not (fresh / "pip.log").exists()
    assert bash(fresh, action["run"], WHAT="", GITHUB_ACTION_PATH="/x/recipes/ci").returncode == 0
    assert (fresh / "pip.log").read_text().splitlines()[-1] == "/x/recipes/ci/../.."


@pytest.mark.parametrize(
    ("policy", "code", "told"), [("pass", 0, "fail"), ("fail", 1, "fail"), ("tell", 3, "fail"), ("tell", 0, "warn")]
)
def test_the_composite_action(place, policy, code, told):
    action = load("action.yml")
    gate = next(step for step in action["runs"]["steps"] if step.get("id") == "gate")
    given = {"policy": f"{policy}.yaml", "baseline": "", "cannot-tell": told, "retry": "0"}
    env = {
        name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: given[found[1]], value)
        for name, value in gate["env"].items()
    }
    assert set(re.findall(r"inputs\.([a-z-]+)", (CI / "action.yml").read_text())) <= set(action["inputs"])
    done = bash(place, gate["run"], GITHUB_OUTPUT=str(place / "output"), **env)
    assert done.returncode == code, done.stdout + done.stderr
    verdict = {"pass": "pass", "fail": "fail", "tell": "cannot_tell"}[policy]
    assert (place / "output").read_text() == f"verdict={verdict}\n"
    env["BASELINE"] = "deploykit-run"
    assert bash(place, gate["run"], GITHUB_OUTPUT=str(place / "output"), **env).returncode == code


@pytest.mark.parametrize(
    ("policy", "code"), [("pass", 0), pytest.param("fail", 1, marks=pytest.mark.slow), ("tell", 3)]
)
def test_gitlab(place, policy, code):
    job = load("gitlab.yml")["deploykit"]
    script = "\n".join(job["script"]).replace("--retry 2", "--retry 0")
    env = {"RECIPE": "tiny.yaml", "POLICY": f"{policy}.yaml", "CI_DEFAULT_BRANCH": "main", "CI_COMMIT_BRANCH": "main"}
    env |= {
        "GITLAB_TOKEN": "t",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_API_V4_URL": "https://forge/api/v4",
        "CI_PROJECT_ID": "3",
    }
    done = bash(place, script, **env)
    assert done.returncode == code, done.stdout + done.stderr
    assert "https://forge/api/v4/projects/3/merge_requests/7/notes" in (place / "curl.log").read_text()
    for kind in ("junit", "metrics"):
        assert (place / job["artifacts"]["reports"][kind]).is_file()
    assert (place / "baseline/report.json").is_file() == (code == 0)  # what passed on main is compared with next
    assert job["allow_failure"]["exit_codes"] == [3]


def test_every_file_names_what_it_needs():
    workflow = load("github.yml")
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write", "actions": "read"}
    for step in workflow["jobs"]["gate"]["steps"]:
        assert "${{" not in step.get("run", "")  # texts of others never become shell
    for step in load("action.yml")["runs"]["steps"]:
        assert "${{" not in step["run"]
