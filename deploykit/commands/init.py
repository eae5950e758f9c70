"""Write a commented recipe for a given model and data, after a look at both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deploykit.base.atomic import JsonObject, write_text
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.config.init import InitConfig
from deploykit.config.keywords import by_keywords
from deploykit.config.recipe_read import parse_recipe
from deploykit.config.recipe_text import SeenModel, recipe_text


@dataclass(frozen=True)
class InitResult(Result):
    """The recipe that was written.

    Attributes:
        path: of the recipe.
        name: of the recipe.
        trains: whether it trains, or starts from a trained file.
        notes: what was found out about model and data.
    """

    path: Path
    name: str
    trains: bool
    notes: tuple[str, ...]

    def to_dict(self) -> JsonObject:
        """JSON-able, for ``--json``."""
        return {
            "path": self.path.as_posix(),
            "name": self.name,
            "trains": self.trains,
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """For people: what was found, and what to do next."""
        return "\n".join([*self.notes, f"wrote {self.path}", f"next: deploykit run {self.path} --dry-run"])


@by_keywords(InitConfig)
def init(
    model: str | Path,
    output: Path | str | None = None,
    config: InitConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> InitResult:
    """Write a recipe that fits ``model`` and the configured data.

    A model file whose number of classes fits the data's is taken as trained; one that does not is fine-tuned; the name
    of an architecture is trained from scratch.

    Args:
        model: a model file, an ``.onnx``, or ``SOURCE:NAME`` of an architecture.
        output: the recipe; None: ``recipe.yaml``.
        config: the data, and what the files do not carry.
        force: write over an existing file.
        progress: where opening the data tells where it is.

    Raises:
        BadInput: no such model or data, or the output exists.
    """
    if config is None:
        raise BadInput("init needs data", expected="config=InitConfig(data=…)")
    output = Path(output or "recipe.yaml")
    if output.exists() and not force:
        raise BadInput(f"{output} exists", fix="Choose another -o, or pass --force.")
    seen = _look_at(model, config)
    from deploykit.data import open_data

    data = open_data(config.data, allow_code=config.allow_code, progress=progress)
    size = config.stated.size or seen.size or data.natural_size
    if size is None:
        raise BadInput(f"neither {model} nor {config.data} carries an input size", fix="Name it with --size PIXELS.")
    name = (
        config.name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(model).replace(":", "-")).stem).strip("-._") or "run"
    )
    text = recipe_text(seen, output.name, name, data.classes, size, config, fits=seen.classes == len(data.classes))
    parse_recipe(text, output.name)
    write_text(output, text)
    notes = (
        f"model: {seen.arch}" + (f", {seen.classes} classes" if seen.classes else ""),
        f"data: {config.data}, {len(data.classes)} classes, input {size[0]}×{size[1]} px",
    )
    return InitResult(output, name, "\ntrain:" in text, notes)


def _look_at(model: str | Path, config: InitConfig) -> SeenModel:
    path = Path(model)
    if path.suffix.lower() == ".onnx":
        from deploykit.engines import open_runner

        with open_runner(path, stated=config.stated) as runner:
            shape = runner.outputs[0].shape
            classes = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
            size = runner.preprocessing.size if runner.preprocessing else None
        return SeenModel("ONNX", path, classes, size, True)
    from deploykit import models

    if ":" in str(model) and not path.exists():
        arch = models.parse_arch(str(model))
        models.build(arch, None, allow_code=config.allow_code)
        return SeenModel(models.arch_text(arch), None, None, None, False)
    loaded = models.load_model(path, arch=config.arch, stated=config.stated, allow_code=config.allow_code)
    size = loaded.preprocessing.size if loaded.preprocessing else None
    head = loaded.module.get_submodule(models.head_of(loaded.module))
    outputs = getattr(head, "out_features", None) or getattr(head, "out_channels", None)
    return SeenModel(models.arch_text(loaded.arch), path, outputs, size, True)
