"""The flags and the types of the public functions are those of the configurations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field

import deploykit
from deploykit.cli import flags, generate, stub
from deploykit.config.command import Command
from deploykit.config.common import Config
from deploykit.config.flag import OneOf

MEND = "a configuration changed and what is made from it did not: run make generate"


def test_flags_are_made_from_the_configurations() -> None:
    assert flags.FILE.read_text(encoding="utf-8") == generate.flags_text(), MEND


def test_types_are_made_from_the_configurations() -> None:
    assert stub.FILE.read_text(encoding="utf-8") == stub.stub_text(), MEND


def test_every_public_name_resolves() -> None:
    assert [name for name in deploykit.__all__ if getattr(deploykit, name, None) is None] == []


RIGHT = """
from pathlib import Path
from typing import Annotated

from pydantic import Field

import deploykit
from deploykit.config.command import Command
from deploykit.config.common import Config
from deploykit.config.flag import OneOf
from deploykit import QuantizeConfig, TrainConfig

deploykit.quantize("model.onnx", data="digits", images=64)
deploykit.quantize("model.onnx", Path("out.onnx"), QuantizeConfig(data="digits"), force=True)
deploykit.quantize("model.onnx", config=QuantizeConfig(data="digits"), method="mse")
deploykit.train(data="digits", model={"arch": "deploykit:resnet"}, augment={"flip": 0.5}, epochs=1)
deploykit.train("model.pt", TrainConfig(data="digits"))
deploykit.benchmark(["a.pt", "a.onnx"], data="digits", scenarios=["offline"])
status: str = deploykit.export("model.pt", opset=18).status
"""
WRONG = {
    'deploykit.quantize("model.onnx", imagess=64)': "imagess",
    'deploykit.quantize("model.onnx", images="many")': '"images" to "quantize" has incompatible type "str"',
    'deploykit.quantize("model.onnx", method="magic")': '"method" to "quantize" has incompatible type',
    'deploykit.train("model.pt", epochs=3)': "No overload variant",
    "deploykit.exprot": 'has no attribute "exprot"',
}


def test_a_type_checker_sees_the_options(tmp_path: Path) -> None:
    """Only the stub is read, not what it imports: the results are unknown here, the options are not."""
    program = tmp_path / "program.py"
    program.write_text(RIGHT + "\n".join(WRONG) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-incremental", "--follow-imports=skip", "--config-file=", "--strict"]
    done = subprocess.run([*command, str(program), str(stub.FILE)], capture_output=True, text=True, cwd=tmp_path)
    first = len(RIGHT.splitlines()) + 1
    lines = [line for line in done.stdout.splitlines() if "program.py" in line and ": note:" not in line]
    assert [int(line.split(":")[1]) for line in lines] == [first + i for i in range(len(WRONG))], done.stdout
    for line, told in zip(lines, WRONG.values(), strict=True):
        assert told in line


def test_names_of_a_registry_stand_in_flags_and_types() -> None:
    class Made(Config):
        one: Annotated[str, OneOf(("left", "right"))] | None = Field(None, description="A side.")
        many: tuple[Annotated[str, OneOf(("left", "right"))], ...] = Field((), description="Sides.")

    command = Command("Make.", Made)
    told = {one["name"]: one for one in generate.parameters(command)}
    assert (told["one"]["metavar"], told["many"]["metavar"], told["many"]["kind"]) == (
        "left|right",
        "left|right",
        "list",
    )
    assert [stub.typed(info.annotation) for info in Made.model_fields.values()] == [
        'Literal["left", "right"] | None',
        'Sequence[Literal["left", "right"]]',
    ]
