"""A recipe is checked whole: every error at once, with its line and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.config.distill import DistillConfig
from deploykit.config.export import ExportConfig
from deploykit.config.prune import PruneConfig
from deploykit.config.recipe_read import load_recipe, parse_recipe
from deploykit.pipeline.find_recipe import shipped_recipes

GOOD = """\
version: 1
name: small
data: digits
train: {epochs: 2}
variants:
  eager: {target: torch-eager}
  fp32: {target: ort-cpu, steps: [{export: {opset: 18}}]}
"""


def wrong(text: str, *changes: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse_recipe(text, "r.yaml", changes)
    return [line.strip() for line in caught.value.line().splitlines()]


def test_a_good_recipe_gives_the_configurations_of_its_stages() -> None:
    recipe = parse_recipe(GOOD, "r.yaml")
    assert recipe.train_config().epochs == 2
    assert recipe.train_config().data == "digits"
    variant = recipe.variants["fp32"]
    [(kind, fields)] = variant.chain
    export = recipe.step_config(kind, fields, variant, of_file=True)
    assert isinstance(export, ExportConfig)
    assert export.opset == 18
    assert recipe.benchmark_config().baseline == recipe.baseline == "fp32"
    assert recipe.benchmark_config().max_drop_pt == 1.0
    assert recipe.train_config(allow_code=True).allow_code is True


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name: str) -> None:
    assert load_recipe(shipped_recipes()[name]).name == name


def test_all_errors_at_once_in_the_order_of_their_lines() -> None:
    lines = wrong(
        "version: 1\nname: x\ndata: digits\ntrain:\n  epoch: 3\n  lr: fast\n  batch: 0\nvariants:\n  a: {target: ort-gpu}\nbudjet: {}\n"
    )
    assert lines[0] == "r.yaml has 5 errors:"
    assert lines[1] == "r.yaml:5: unknown key 'epoch', did you mean 'epochs'?"
    assert lines[2].startswith("r.yaml:6: train.lr: got 'fast', expected 'auto', or a valid number")
    assert lines[3] == "r.yaml:7: train.batch: got 0, expected greater than or equal to 1"
    assert lines[4].startswith("r.yaml:9: unknown target 'ort-gpu'")
    assert lines[4].endswith("Did you mean 'ort-cpu'?")
    assert lines[5] == "r.yaml:10: unknown key 'budjet', did you mean 'budget'?"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n\tb: 3", "r.yaml:2: a tab; expected spaces. YAML is indented with spaces only."),
        ("a: [", "r.yaml:1: this is no YAML"),
        ("- 1", "r.yaml is no recipe; got list"),
        ("", "r.yaml is no recipe; got NoneType"),
        ("a: 1\n---\nb: 2", "r.yaml:2: this is no YAML: but found another document"),
        ("&a [*a]", "r.yaml:1: an alias that holds itself"),
        ("a: !!python/object/apply:os.system [ls]", "r.yaml:1: the tag tag:yaml.org,2002:python/object/apply:os.system; expected plain values"),
        ("\x00", "r.yaml is no text file"),
        (GOOD + "name: again\n", "r.yaml:8: 'name' stands here and in line 2, keep one"),
        (GOOD + "benchmark: {images: 3, images: 4}\n", "r.yaml:8: 'images' stands twice here, keep one"),
        (GOOD + "3: x\n", "r.yaml:8: the key '3' is no text, put it in quotes"),
        (GOOD + "gate: {limits: {'*': {max_drop: 1}}}\n", "r.yaml:8: gate.limits.*: unknown key 'max_drop', did you mean 'max_drop_pt'?"),
        (GOOD + "gate: {limits: {fp23: {max_drop_pt: 1}}}\n", "r.yaml:8: variant 'fp23' is not there, did you mean 'fp32'?"),
        (GOOD + "benchmark: {against: main}\n", "r.yaml:8: against does not belong here, use deploykit benchmark RUN_FOLDER --against REF"),
        (GOOD.replace("version: 1", "version: 2"), "r.yaml:1: version: got 2, expected 1"),
        (GOOD.replace("version: 1\n", ""), "r.yaml:1: missing key 'version'"),
        (GOOD.replace("name: small", "name: ../up"), "r.yaml:2: name '../up' cannot be a folder name"),
        (GOOD.replace("  eager:", "  a/b:"), "r.yaml:6: variant name 'a/b'"),
        (GOOD.replace("  eager:", "  model:"), "r.yaml:6: variant name 'model'"),
        (GOOD.replace("torch-eager}", "torch-eager, from: fp23}"), "r.yaml:6: variant 'fp23' is not there, did you mean 'fp32'?"),
        (GOOD.replace("torch-eager}", "torch-eager, from: fp32}"), "r.yaml:6: torch-eager runs model files, but eager starts from the ONNX of fp32"),
        (GOOD.replace("torch-eager}", "torch-eager, steps: [{export: }]}"), "r.yaml:6: torch-eager runs model files, but eager exports"),
        (GOOD.replace("{export: {opset: 18}}", "{shrink: {}}"), "r.yaml:7: unknown step 'shrink', known: prune, distill, export, quantize, build"),
        (GOOD.replace("{export: {opset: 18}}", "{quantize: {image: 9}}"), "r.yaml:7: unknown key 'image', did you mean 'images'?"),
        (GOOD.replace("{export: {opset: 18}}", "{quantize: {target: ort-cpu}}"), "r.yaml:7: target does not belong here, the variant's target is meant"),
        (GOOD.replace("{export: {opset: 18}}", "{quantize: {}}, {quantize: {}}"), "r.yaml:7: quantize stands twice in one variant, keep one"),
        (GOOD.replace("{export: {opset: 18}}", "{quantize: {}}, {export: {}}"), "r.yaml:7: export comes before quantize"),
        (GOOD.replace("{export: {opset: 18}}", "{quantize: {}}").replace("ort-cpu", "ort-cuda"), "r.yaml:7: int8 for ort-cuda is not built"),
        (GOOD.replace("{export: {opset: 18}}", "{exprot: {}}"), "r.yaml:7: unknown step 'exprot', did you mean 'export'?"),
        (GOOD.replace("{export: {opset: 18}}", "export"), "r.yaml:7: variants.fp32.steps.0: got 'export'"),
        (GOOD.replace("opset: 18", "opset: 3"), "r.yaml:7: variants.fp32.steps.0.export.opset: got 3"),
        (GOOD.replace("torch-eager}", "torch-eager, precision: fp16}"), "r.yaml:6: precision fp16 of torch-eager: expected fp32"),
        (GOOD.replace("ort-cpu,", "ort-cuda, precision: tf32,"), "r.yaml:7: precision tf32 of ort-cuda: expected fp32, fp16, bf16, tf32 is an option"),
        (GOOD.replace("data: digits", "data: {nam: digits}"), "r.yaml:3: missing key 'data.name'"),
        (GOOD.replace("epochs: 2", "data: digits"), "r.yaml:4: data does not belong here, set data at the top"),
        (GOOD.replace("epochs: 2", "allow_code: true"), "r.yaml:4: allow_code does not belong here, pass --allow-code"),
        (GOOD + "model: {file: x.pt}\n", "r.yaml:4: model.file names a trained model, remove train or the file"),
        (GOOD + "benchmark: {baseline: eagr}\n", "r.yaml:8: baseline 'eagr' is not there, did you mean 'eager'?"),
        (GOOD + "benchmark: {max_drop_pt: 2}\n", "r.yaml:8: max_drop_pt does not belong here, set budget"),
    ],
)  # fmt: skip
def test_each_error_has_its_line(text: str, line: str) -> None:
    lines = wrong(text)
    assert any(found.startswith(line) for found in lines), lines


def test_cycles_are_named_once() -> None:
    text = GOOD + "  a: {from: b, target: ort-cpu}\n  b: {from: c, target: ort-cpu}\n  c: {from: a, target: ort-cpu}\n"
    assert wrong(text) == ["r.yaml:8: a cycle: a from b from c from a"]


def test_a_variant_hanging_on_a_cycle_does_not_hide_it() -> None:
    text = GOOD + "  x: {from: y, target: ort-cpu}\n  y: {from: y, target: ort-cpu}\n"
    assert wrong(text) == ["r.yaml:9: a cycle: y from y"]


def test_anchors_and_merge_keys_are_fine() -> None:
    text = GOOD + "  again: &a {target: ort-cpu}\n  more: {<<: *a, from: fp32}\n"
    assert parse_recipe(text, "r.yaml").variants["more"].source == "fp32"


def test_many_aliases_do_not_eat_the_memory() -> None:
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    rows += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert wrong("\n".join(rows))[0].startswith("r.yaml is too large")


def test_numbers_with_exponents_are_numbers() -> None:
    recipe = parse_recipe(GOOD, "r.yaml", ("train.lr=1e-3", "model.kwargs.alpha=5e-2"))
    assert recipe.train_config().lr == 1e-3
    assert recipe.train_config().model.kwargs == {"alpha": 0.05}


def test_set_replaces_and_adds() -> None:
    recipe = parse_recipe(
        GOOD, "r.yaml", ("train.epochs=7", "benchmark.until=0.1", "variants.fp32.steps.0.export.opset=17")
    )
    assert recipe.train_config().epochs == 7
    assert recipe.benchmark_config().until == 0.1
    assert recipe.variants["fp32"].chain[0][1]["opset"] == 17


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("train.epochs=none at all", "--set train.epochs=none at all: train.epochs: got 'none at all'"),
        ("train.epoch=3", "--set train.epoch=3: unknown key 'epoch', did you mean 'epochs'?"),
        ("train.epochs", "cannot read '--set train.epochs'"),
        ("=3", "cannot read '--set =3'"),
        ("train.epochs=[", "--set train.epochs=[:1: this is no YAML"),
        ("name.x=3", "--set name.x=3: name is no mapping; got small"),
        ("variants.fp32.steps.7.export=3", "--set variants.fp32.steps.7.export=3: '7' is no index; expected 0 to 0"),
    ],
)
def test_wrong_changes_say_which(change: str, line: str) -> None:
    assert wrong(GOOD, change)[0].startswith(line)


def test_a_single_error_stands_alone_on_one_line() -> None:
    assert wrong(GOOD + "bla: 3\n") == [
        "r.yaml:8: unknown key 'bla', known: version, name, model, data, train, variants, benchmark, budget, gate"
    ]


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    picture = tmp_path / "r.yaml"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(BadInput, match="is no text file; expected a recipe in YAML"):
        load_recipe(picture)
    with pytest.raises(BadInput, match=r"the recipe .* is a folder"):
        load_recipe(tmp_path)


CHAIN = GOOD + "  small: {target: ort-cpu, steps: [{prune: {macs: 0.5}}, {distill: {epochs: 2}}]}\n"


def test_steps_that_train_know_the_data_and_their_teacher() -> None:
    recipe = parse_recipe(CHAIN, "r.yaml")
    variant = recipe.variants["small"]
    prune, distill = (recipe.step_config(kind, fields, variant, of_file=True) for kind, fields in variant.chain)
    assert isinstance(prune, PruneConfig)
    assert isinstance(distill, DistillConfig)
    assert (prune.data, distill.data, distill.teachers) == ("digits", "digits", ("model",))


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ("{from: fp32, target: ort-cpu, steps: [{prune: {macs: 2}}]}", "r.yaml:9: variants.x.steps.0.prune.macs: got 2"),
        ("{target: ort-cpu, steps: [{quantize: {}}, {prune: {macs: 0.5}}]}", "r.yaml:9: prune does not take an int8 ONNX file, which the step before is"),
        ("{from: y, target: ort-cpu, precision: fp16}\n  y: {target: ort-cpu, steps: [{quantize: {}}]}", "r.yaml:9: the float part of y has its precision already"),
        ("{target: ort-cpu, steps: [{distill: {data: digits}}]}", "r.yaml:9: data does not belong here"),
        ("{target: ort-cpu, steps: [{distill: {teachers: [x]}}]}", "r.yaml:9: a cycle: x from x"),
        ("{target: ort-cpu, steps: [{distill: {teachers: [nope.pt]}}]}", "r.yaml:9: teacher 'nope.pt' is no file and no variant, expected a file that exists, or one of model, eager, fp32"),
        ("{target: ort-cpu, steps: [{distill: {teachers: [eagre]}}]}", "r.yaml:9: teacher 'eagre' is no file and no variant, did you mean 'eager'?"),
        ("{target: ort-cpu, steps: [{distill: {teachers: [/tmp]}}]}", "r.yaml:9: teacher '/tmp' is a folder"),
        ("{target: ort-cpu, steps: [{distill: {teachers: [nope.onnx@ort-cpux]}}]}", "r.yaml:9: teacher 'nope.onnx@ort-cpux': unknown target 'ort-cpux'"),
        ("{target: ort-cpu, steps: [{quantize: {method: qat, qat_teacher: nope.pt}}]}", "r.yaml:9: teacher 'nope.pt' is no file and no variant"),
        ("{target: ort-cpu, steps: [{prune: {macs: 0.5}}, {distill: {arch: auto}}]}", "r.yaml:9: arch auto makes a student, but the model that the step takes is one"),
        ("{target: ort-cpu, steps: [{prune: {latency: 0.5, target: foo}}]}", "r.yaml:9: variants.x.steps.0.prune.target: got 'foo', expected 'ort-cpu'"),
        ("{target: ort-cpu, steps: [{prune: {macs: 0.5, keep: layer1}}]}", "r.yaml:9: variants.x.steps.0.prune.keep: got 'layer1', expected a list"),
    ],
)  # fmt: skip
def test_each_error_of_a_chain_has_its_line(extra: str, line: str) -> None:
    lines = wrong(CHAIN + f"  x: {extra}\n")
    assert any(found.startswith(line) for found in lines), lines
