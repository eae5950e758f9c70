"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Name of the output; default: beside the input.", show_default=False),
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Folder, digits, synthetic:SEED, cifar10:ROOT, FILE.csv, FILE.npz, module:function."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Run exactly one stored stage (RUN/stages/*.yaml); no other option counts."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads.")]
Batch = Annotated[int, typer.Option("--batch", help="Batch size.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Size = Annotated[int | None, typer.Option("--size", help="Input size in pixels, where the file does not carry it.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let module:… names in a recipe or file run.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out pictures that cannot be read, naming them.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that deploykit did not make.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only results and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
