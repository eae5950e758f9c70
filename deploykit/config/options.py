"""Options that mean the same in every command."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploykit.config.flag import Flag
from deploykit.config.registries import DATA_FORMS
from deploykit.config.texts import shapes


def data_help(use: str) -> str:
    """The help of ``--data``: what its images are for, and the forms of its name."""
    return f"{use}: {', '.join(form.shown for form in DATA_FORMS.values())}."


Split = Annotated[Literal["train", "select", "test"], Field(description="Of the data.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="Where PyTorch runs.")]
Threads = Annotated[int | None, Field(ge=1, description="CPU threads.")]
Batch = Annotated[int, Field(ge=1, description="Batch size.")]
Seed = Annotated[int, Field(ge=0, description="Seed of everything random.")]
Size = Annotated[int | None, Field(ge=1, description="Input size in pixels, where the file does not carry it.")]
Arch = Annotated[
    str | None,
    Field(description="What the tensors are, where that cannot be recognised (torchvision:resnet18)."),
]
Shapes = Annotated[
    dict[str, tuple[Annotated[int, Field(ge=1)], ...]],
    Field(description="Shape of an input whose sizes are free, for random input: images:1x3x640x640."),
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
