"""The training itself: the fake-quantized network, its teacher, its loss and the one loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from deploykit.base.errors import BadInput
from deploykit.config.quantize import QuantizeConfig
from deploykit.config.train import AugmentConfig, LoopConfig
from deploykit.data import DataSource, map_classes
from deploykit.distillation.distillation_step import view_of
from deploykit.distillation.losses.kd import kd
from deploykit.models import LoadedModel, load_model
from deploykit.quantization.job import Job, Seen
from deploykit.quantization.qat.module import FakeQuantized
from deploykit.quantization.qat.points import Ranges
from deploykit.quantization.qat.qat_network import Wanted, fake_quantized
from deploykit.quantization.ranges import choose_range
from deploykit.quantization.search import Choice
from deploykit.training.batches import Batches, Rounds
from deploykit.training.distributed import open_fabric
from deploykit.training.learner import Training
from deploykit.training.loop import fit
from deploykit.training.model_file import course_facts
from deploykit.training.resume import Course, Diverged, ResumeFile
from deploykit.training.signals import Stop
from deploykit.training.step import Judge, Score, Step, judge_on, score_before

Answer = Callable[[Tensor], Tensor]
CLIP_NORM = 1.0
TEMPERATURE = 4.0


@dataclass(frozen=True)
class Fitted:
    """What training left.

    Attributes:
        network: with the best round's tensors and steps, on the CPU.
        start: state dict of the float network before training.
        ranges: that training started from.
        order: the network's output for each class of the data, or None.
        course: how it went, or None where it diverged before the first look at ``select``.
        course_facts: of the course, for the manifest.
        diverged: the error's text, or None.
    """

    network: FakeQuantized
    start: dict[str, Tensor]
    ranges: Ranges
    order: np.ndarray | None
    course: Course | None
    course_facts: Mapping[str, object]
    diverged: str | None


def fitted(
    loaded: LoadedModel, seen: Seen, choice: Choice, data: DataSource, resume: ResumeFile, stop: Stop, job: Job
) -> Fitted:
    """Train ``loaded`` for ``choice``; where the loss becomes NaN, the best round before it is what is left.

    Raises:
        BadInput: classes that do not fit, a teacher that does not, an operator that cannot be trained through.
        KeyboardInterrupt: ``stop`` was asked for; the state is kept.
    """
    assert loaded.preprocessing is not None
    config, dialect, progress = job.config, job.dialect, job.progress
    start = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
    order, said = map_classes(loaded.classes, data.classes)
    if said:
        progress.say(said)
    scheme = dialect.activations
    quantizer = seen.quantizer
    ranges = {name: choose_range(one, choice.method, scheme, config.percentile) for name, one in quantizer.seen.items()}
    batches, loop = _batches(data, loaded, config)
    fabric = open_fabric(loop)
    teacher = _teacher(loaded, config, data, fabric)  # a copy of the network as it is, before it changes
    freeze_after = round(config.qat_freeze * loop.epochs * batches.per_epoch)
    wanted = Wanted(choice, dialect, ranges, {}, config.qat_scales == "learned", freeze_after)
    network = fake_quantized(loaded, seen.proto, wanted)
    left = [name for name in network.points.layers if name not in network.bound]
    if left:
        progress.warn(f"{len(left)} layers keep their weights, which are no module's own: {', '.join(left[:3])}")
    select = data.split("select")
    judge = _ordered(judge_on(select, loaded.preprocessing, config.qat_batch, fabric), order, fabric)
    training = Training(
        network,
        batches,
        loop,
        step_towards(teacher, config.qat_labels, order),
        fabric,
        num_classes=len(data.classes),
        judge=judge,
        before=score_before(network, judge, loop, fabric),
        guarded=True,
        resume=resume,
        stop=stop,
        progress=progress,
        masks={f"net.{name}": mask for name, mask in (loaded.masks or {}).items()},
    )
    diverged, outcome = None, None
    try:
        outcome = fit(training)
    except Diverged as error:
        diverged, outcome = error.what, error.kept
        progress.warn(f"{error.what}: the best round before is judged")
    network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if outcome is None:
        network.net.load_state_dict(start)
    else:
        network.load_state_dict(outcome.tensors)
    told = [] if outcome is None else course_facts(outcome.course, len(select), fabric).items()
    facts = {key: value for key, value in told if not key.startswith("top1")}
    return Fitted(network.eval(), start, ranges, order, outcome.course if outcome else None, facts, diverged)


def _ordered(judge: Judge, order: np.ndarray | None, fabric: Fabric) -> Judge:
    """``judge`` for a network whose outputs stand in another order than the data's classes."""

    def judged(module: nn.Module, most: int | None = None) -> Score | None:
        return judge(Ordered(module, order).to(fabric.device), most)

    return judged


def _batches(data: DataSource, loaded: LoadedModel, config: QuantizeConfig) -> tuple[Batches, LoopConfig]:
    assert loaded.preprocessing is not None
    batches = Batches(data.split("train"), loaded.preprocessing, config.qat_batch, seed=config.seed)
    epochs = config.qat_epochs
    if config.qat_every is not None:
        total = config.qat_epochs * batches.per_epoch
        epochs = max(1, -(-total // config.qat_every))
        batches = Rounds(batches, min(config.qat_every, total))
    loop = LoopConfig(
        epochs=epochs,
        batch=config.qat_batch,
        optimizer="adamw",
        lr=config.qat_lr,
        weight_decay=0.0,
        clip_norm=CLIP_NORM,
        augment=AugmentConfig(shift_px=config.qat_shift_px, flip=config.qat_flip),
        seed=config.seed,
        device=config.qat_device,
    )
    return batches, loop


def _teacher(loaded: LoadedModel, config: QuantizeConfig, data: DataSource, fabric: Fabric) -> Answer | None:
    """The float model itself, or another one, in the order of the data's classes."""
    if config.qat_labels == 1:
        if config.qat_teacher is not None:
            raise BadInput("a teacher that is not asked", got="qat_labels 1", fix="Leave one of the two out.")
        return None
    assert loaded.preprocessing is not None
    named = loaded
    if config.qat_teacher is not None:
        named = load_model(Path(config.qat_teacher), stated=config.stated, allow_code=config.allow_code)
    if named.preprocessing is None:
        raise BadInput(f"the teacher {config.qat_teacher} does not carry its preprocessing")
    order, _ = map_classes(named.classes, data.classes)
    view = view_of(loaded.preprocessing, named.preprocessing, f"the teacher {config.qat_teacher}")
    module = Ordered(copy.deepcopy(named.module), order).eval().requires_grad_(False)
    module = module.to(device=fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda x: module(view(x))


class Ordered(nn.Module):
    """A network whose outputs are put in the order of the data's classes.

    ``module``: float [N, 3, H, W] → logits [N, C]. ``order``: int64 [C], the output for each class; None: as they are.
    """

    def __init__(self, module: nn.Module, order: np.ndarray | None) -> None:
        super().__init__()
        self.module = module
        self.order = None if order is None else torch.from_numpy(order)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C] in that order."""
        logits: Tensor = self.module(x)
        return logits if self.order is None else logits[:, self.order.to(logits.device)]


def step_towards(teacher: Answer | None, labels: float, order: np.ndarray | None) -> Step:
    """``step(module, x, y) -> loss``: ``(1 − labels) · KD + labels · cross-entropy``.

    ``teacher``: the logits to learn, in the order of the data's classes; None with ``labels`` 1. ``labels``: share of the
    labels' cross-entropy, 0…1. ``order``: int64 [C], the network's output for each class of the data; None: as they are.
    """
    columns = None if order is None else torch.from_numpy(order)

    def step(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = module(x)
        if columns is not None:
            logits = logits[:, columns.to(logits.device)]
        loss = logits.new_zeros(())
        if teacher is not None and labels < 1:
            with torch.no_grad():
                wanted = teacher(x)
            loss = loss + (1 - labels) * kd(logits, wanted, TEMPERATURE)
        if labels > 0:
            loss = loss + labels * functional.cross_entropy(logits, y)
        return loss

    return step
