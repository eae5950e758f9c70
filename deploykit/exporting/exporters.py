"""PyTorch's two exporters behind one signature: a module in, an ``onnx_ir`` model out, weights not copied where possible.

They print to stdout and stderr, log and warn; what matters of it is in their exceptions. They also swallow Ctrl-C: an
import it breaks off turns it into an error of another kind.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from deploykit.base.errors import AnswerNo, BadInput

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor, nn


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Let a SIGINT inside the block end it with ``KeyboardInterrupt``, whatever the code inside makes of it.

    The handler that was there runs as before; where it raises nothing, it has its own way to end. In a thread other than
    the main one, which gets no signals, and where a handler is not Python's, nothing changes.

    Raises:
        KeyboardInterrupt: SIGINT raised it, and the block failed otherwise or went on as if nothing had happened.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        try:
            before(number, frame)
        except KeyboardInterrupt:
            came = True
            raise

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def quiet() -> Iterator[dict[str, str]]:
    """Silence output, warnings and logging below CRITICAL inside the block.

    Gives what TorchScript's tracer warns of: line of the network's own code → its words. Its exporter dumps graphs through
    a log of its own, from C++: that is replaced.
    """
    import torch

    from deploykit.exporting.user_line import line_here

    before, log, traced = logging.root.manager.disable, torch._C._jit_onnx_log, dict[str, str]()

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, torch.jit.TracerWarning) and (place := line_here()) is not None:
            traced.setdefault(place, str(message).partition(" might cause")[0].partition(". ")[0])

    logging.disable(logging.ERROR)
    torch._C._jit_onnx_log = lambda *_: None
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("always")
            warnings.showwarning = note
            yield traced
    finally:
        torch._C._jit_onnx_log = log
        logging.disable(before)


EXPORTERS = ("dynamo", "torchscript")


def export_with(
    exporter: str, module: nn.Module, example: Tensor, names: list[str], opset: int, *, dynamic: bool, folder: Path
) -> tuple[ir.Model, list[str]]:
    """Export ``module``.

    Returns the model, and a line for each of the network's own lines that the tracer warned of.

    Args:
        exporter: ``dynamo`` or ``torchscript``.
        module: in eval mode, on the CPU; an ExportedProgram is taken by dynamo.
        example: ``[N, 3, H, W]``.
        names: of the outputs.
        opset: asked for; what was written is read back by the caller.
        dynamic: dimension 0 of input and outputs becomes ``batch``.
        folder: scratch, which the returned model may still refer to.

    Raises:
        AnswerNo: the exporter failed; the line names its reason (operator, module).
    """
    import torch

    try:
        from deploykit.exporting.stand_ins import StandIns

        whole = isinstance(module, torch.export.ExportedProgram)
        with interrupts_kept(), quiet() as traced, StandIns(None if whole else module, example):
            model = (_dynamo if exporter == "dynamo" else _torchscript)(module, example, names, opset, dynamic, folder)
    except (KeyboardInterrupt, MemoryError, OSError, BadInput):
        raise
    except Exception as error:  # whatever it is, it is this exporter's reason to leave the work to the other one
        raise AnswerNo(f"the {exporter} exporter failed: {reason_of(error)}") from error
    return model, [f"{line} the trace keeps what it found for its example: {told}" for line, told in traced.items()]


def _dynamo(module: nn.Module, example: Tensor, names: list[str], opset: int, dynamic: bool, folder: Path) -> ir.Model:
    import torch

    free = dynamic and not isinstance(module, torch.export.ExportedProgram)
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["input"],
        output_names=names,
        opset_version=opset,
        dynamic_shapes=({0: "batch"},) if free else None,
    )
    assert program is not None
    return program.model


def _torchscript(
    module: nn.Module, example: Tensor, names: list[str], opset: int, dynamic: bool, folder: Path
) -> ir.Model:
    import onnx_ir as ir
    import torch

    latest = getattr(torch.onnx._constants, "ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET", 20)
    if opset > latest:
        raise ValueError(f"it writes opsets up to {latest}, opset {opset} was asked for")
    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    path = folder / "torchscript.onnx"
    axes = {name: {0: "batch"} for name in ["input", *names]} if dynamic else None
    torch.onnx.export(
        module,
        (example,),
        str(path),
        dynamo=False,
        input_names=["input"],
        output_names=names,
        opset_version=opset,
        dynamic_axes=axes,
        do_constant_folding=True,
        verbose=False,
    )
    return ir.load(path)


def reason_of(error: BaseException) -> str:
    """The one line of an exporter's exception that says why: the innermost cause, no colours, no paths."""
    seen = [error]
    while (cause := seen[-1].__cause__ or seen[-1].__context__) is not None and cause not in seen:
        seen.append(cause)
    for one in reversed(seen):
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(one)).strip()
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            line = re.sub(r"(?:/[\w.+-]+){2,}/", "", re.split(r"\s*(?:\[Caused by|Please feel free)", lines[0])[0])
            return f"{type(one).__name__}: {line[:300]}"
    return type(error).__name__
