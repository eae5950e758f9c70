"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from deploykit.base.overrides import Stated
from deploykit.config.common import Config
from deploykit.config.flag import Flag, Panel
from deploykit.config.registries import DATA_FORMS
from deploykit.config.texts import height_width, lines_of, numbers, shapes


def data_help(use: str) -> str:
    """The help of ``--data``: what its images are for, and the forms of its name."""
    return f"{use}: {', '.join(form.shown for form in DATA_FORMS.values())}."


Split = Annotated[Literal["train", "select", "test"], Field(description="Of the data.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="Where PyTorch runs.")]
Threads = Annotated[int | None, Field(ge=1, description="CPU threads.")]
Batch = Annotated[int, Field(ge=1, description="Batch size.")]
Seed = Annotated[int, Field(ge=0, description="Seed of everything random.")]
Size = Annotated[
    int | tuple[int, int] | None,
    BeforeValidator(height_width),
    Field(description="Input size in pixels, S or height x width, where the file does not carry it."),
    Flag(metavar="S|HxW"),
]
Mean = Annotated[
    Annotated[tuple[float, ...], Field(min_length=1)] | None,
    Field(description="To subtract from values in 0…1: one number, or one for each channel."),
    Flag(metavar="M,M,M", parse=numbers),
]


def _divisors(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    wrong = [one for one in values or () if one <= 0]
    if wrong:
        raise ValueError(f"got {wrong[0]:g}, expected above 0")
    return values


Std = Annotated[
    Annotated[tuple[float, ...], Field(min_length=1)] | None,
    AfterValidator(_divisors),
    Field(description="To divide by, after --mean."),
    Flag(metavar="S,S,S", parse=numbers),
]
Arch = Annotated[
    str | None,
    Field(description="What the tensors are, where that cannot be recognised (torchvision:resnet18)."),
]
Shapes = Annotated[
    dict[str, tuple[Annotated[int, Field(ge=1)], ...]],
    Field(description="Shape of an input whose sizes are free: images:1x3x640x640."),
    Flag("--shape", metavar="NAME:SIZES", many=True, parse=shapes),
]
AllowCode = Annotated[bool, Field(description="Let module:… names in a recipe or file run.")]
SkipBroken = Annotated[bool, Field(description="Leave out pictures that cannot be read, naming them.")]
MinAgreement = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        description="Share of the answers that the original is sure of which must be kept; default: 0.9 of int8 and fp8.",
    ),
]
MinSnrDb = Annotated[float | None, Field(description="SNR that must be reached in dB; default: by the precision.")]
Accept = Annotated[bool, Field(description="Take what is unsure or failed too: exit 0; the status stays.")]
Level = Annotated[float, Field(gt=0.5, lt=1, description="Level of all intervals.")]
Metrics = Annotated[
    tuple[str, ...],
    Field(description="Your function(logits, labels) -> float."),
    Flag("--metric", metavar="MODULE:FUNCTION"),
]
Corruptions = Annotated[bool, Field(description="Evaluate noisy, blurred, bright, dark and JPEG-ed pictures too.")]
CorruptionImages = Annotated[
    int, Field(ge=1, description="Number of pictures for --corruptions, each at every strength of every corruption.")
]


def _names(value: Any) -> Any:
    """Class names as they are, or those of a file."""
    return lines_of(Path(value), "--classes") if isinstance(value, str | Path) else value


Classes = Annotated[
    Annotated[tuple[str, ...], Field(min_length=1)] | None,
    BeforeValidator(_names),
    Field(description="File of the class names, one a line, in the order of the outputs."),
    Flag(metavar="FILE"),
]
Layout = Annotated[Literal["NCHW", "NHWC"] | None, Field(description="Of the input.")]
Task = Annotated[
    Literal["classify", "none"] | None,
    Field(description="What the outputs mean; none: numbers, which are verified and timed only."),
]


class FileFlags(Config):
    """What can be stated of a file that does not say it itself; see :mod:`deploykit.base.overrides`."""

    size: Annotated[Size, Panel("What the file does not state")] = None
    mean: Mean = None
    std: Std = None
    classes: Classes = None
    layout: Layout = None
    task: Task = None

    @property
    def stated(self) -> Stated:
        """All of it."""
        return Stated(both(self.size), self.mean, self.std, self.classes, self.layout, self.task)


def both(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width of a ``size``, of which one number means a square."""
    return (size, size) if isinstance(size, int) else size
