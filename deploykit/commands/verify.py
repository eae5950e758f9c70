"""``deploykit verify``: whether two artifacts compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Runner
from deploykit.config.keywords import by_keywords
from deploykit.config.verify import VerifyConfig
from deploykit.evaluation.compare_runners import BATCHES, parity_of, prepared, preprocessings

if TYPE_CHECKING:
    from deploykit.base.spec import Spec
    from deploykit.evaluation.parity import Parity
    from deploykit.evaluation.split_images import Pictures
    from deploykit.exporting.bisect import Parting

__all__ = ["BATCHES", "VerifyResult", "parity_of", "verify"]


@dataclass(frozen=True)
class VerifyResult(Result):
    """Whether two artifacts compute the same.

    Attributes:
        reference: as named.
        candidate: as named.
        parity: of the outputs.
        verified_on: ``data``, ``samples`` or ``synthetic``.
        parting: the first layer where they part, where that was asked for and they do.
        bisected: whether it was looked for.
        worst: the pictures that differ most, with file names where they have any.
    """

    reference: str
    candidate: str
    parity: Parity
    verified_on: str
    parting: Parting | None
    bisected: bool
    worst: tuple[dict[str, Any], ...]

    @property
    def ok(self) -> bool:
        """Whether parity holds."""
        return self.parity.ok

    def to_dict(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "verified_on": self.verified_on,
            "parity": self.parity.to_dict(),
            **self.parity.details(),
            "worst": list(self.worst),
            "bisect": self.parting.to_dict() if self.parting else None,
        }

    def summary(self) -> str:
        """For people."""
        one = self.parity
        lines = [
            f"{self.candidate} against {self.reference}: {'parity holds' if one.ok else 'PARITY FAILS'} "
            f"({one.precision}, {one.n} pictures, {self.verified_on})"
        ]
        if one.identical:
            lines.append("  identical in every number")
        elif one.max_abs is not None and one.mean_abs is not None:
            shown = [f"max abs {one.max_abs:.3g}", f"mean abs {one.mean_abs:.3g}"]
            shown += [] if one.cosine is None else [f"cosine {one.cosine:.9f}"]
            shown += [] if one.snr_db is None else [f"SNR {one.snr_db:.1f} dB"]
            lines.append("  " + ", ".join(shown))
        if one.top1_agreement is not None and one.top1_low is not None and one.top1_high is not None:
            ties = f", {one.ties} ties" if one.ties else ""
            lines.append(
                f"  top-1 agreement {one.top1_agreement:.4f} ({one.top1_low:.4f} to {one.top1_high:.4f}{ties})"
            )
        for output in one.outputs:
            quality = "identical" if output["identical"] else f"SNR {_shown_db(output['snr_db'])}"
            lines.append(f"  output {output['name']}: {quality}")
        for part in one.by_batch:
            quality = "identical" if part.identical else f"SNR {_shown_db(part.snr_db)}"
            lines.append(f"  batch {part.batch}: {quality}, {part.n} pictures, {'ok' if part.ok else 'FAILS'}")
        lines += [f"  why: {reason}" for reason in one.reasons]
        lines += [f"  worst: {_picture(entry)}" for entry in self.worst] if not one.ok else []
        if self.parting is not None:
            lines.append(f"  {self.parting.line()}")
        elif self.bisected:
            lines.append("  no compared layer parts: the difference arises after the last one, or only in the engine")
        return "\n".join(lines)


@by_keywords(VerifyConfig)
def verify(
    reference: Spec | Path | str,
    candidate: Spec | Path | str,
    config: VerifyConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Compare two artifacts on the same pictures, each with its own preprocessing.

    Args:
        reference: ``[NAME=]PATH[@TARGET[:key=value,…]]`` of what is right.
        candidate: of what is judged.
        config: how.
        progress: where it shows.

    Returns:
        The answer; ``ok`` says whether parity holds.

    Raises:
        BadInput: a file cannot be read, the outputs do not fit one another, there are no pictures.
        Unavailable: this machine lacks what a target needs.
    """
    from deploykit.engines import open_runner, resolve

    config = config or VerifyConfig()
    specs = (resolve(_spec(reference), config.device), resolve(_spec(candidate), config.device))
    options: dict[str, Any] = {"threads": config.threads, "device": config.device, "size": config.size}
    with (
        open_runner(specs[0], **options, allow_code=config.allow_code) as one,
        open_runner(specs[1], **options, allow_code=config.allow_code) as other,
    ):
        columns = _class_order(one, other, progress)
        _say_preprocessing(one, other, progress)
        pictures = _pictures(specs, (one, other), config, progress)
        parity = parity_of(
            one,
            other,
            pictures.images,
            config.batches,
            config.precision or other.precision,
            progress,
            name=specs[0].name,
            columns=columns,
        )
        parting = None
        if config.bisect and not parity.ok:
            parting = _bisect(specs, (one, other), pictures, parity, config, progress)
    worst = tuple({**entry, "file": pictures.file(entry["index"])} for entry in parity.worst)
    return VerifyResult(
        str(specs[0]), str(specs[1]), parity, pictures.source, parting, config.bisect and not parity.ok, worst
    )


def _spec(text: Spec | Path | str) -> Spec:
    from deploykit.base.spec import Spec, parse_spec

    return text if isinstance(text, Spec) else parse_spec(str(text))


def _class_order(one: Runner, other: Runner, progress: Progress) -> list[int] | None:
    """The order of the candidate's classes that gives the reference's; None where it is the same or not known.

    Raises:
        BadInput: both name their classes, and not the same ones.
    """
    if one.classes is None or other.classes is None or one.classes == other.classes:
        return None
    if sorted(one.classes) != sorted(other.classes):
        foreign = [name for name in other.classes if name not in one.classes] or list(other.classes)
        raise BadInput(
            "the two have different classes",
            got=f"{len(other.classes)} classes, with {', '.join(foreign[:3])}",
            expected=f"the reference's {len(one.classes)}: {', '.join(one.classes[:3])} …",
        )
    progress.say("the classes stand in another order: they are compared by name")
    return [other.classes.index(name) for name in one.classes]


def _say_preprocessing(one: Runner, other: Runner, progress: Progress) -> None:
    mine, theirs = one.preprocessing, other.preprocessing
    if mine is None or theirs is None:
        return
    a, b = ({key: value for key, value in p.to_dict().items() if key != "embedded"} for p in (mine, theirs))
    if different := [f"{key} {a[key]} and {b[key]}" for key in a if a[key] != b[key]]:
        progress.warn("the two preprocess pictures differently, each its own way: " + ", ".join(different))


def _pictures(
    specs: tuple[Spec, Spec], runners: tuple[Runner, Runner], config: VerifyConfig, progress: Progress
) -> Pictures:
    from deploykit.evaluation.split_images import pictures_for, samples_of

    known = [runner.preprocessing for runner in runners if runner.preprocessing is not None]
    if not known:
        raise BadInput("neither artifact says its input size", fix="Name it with --size.")
    samples = None
    if config.data is None:
        samples = next((found for spec in specs if (found := samples_of(spec.path)) is not None), None)
    return pictures_for(
        data=config.data,
        samples=samples,
        size=known[0].size,
        limit=config.limit,
        seed=config.seed,
        require_real=config.require_real,
        split=config.split,
        allow_code=config.allow_code,
        progress=progress,
    )


def _bisect(
    specs: tuple[Spec, Spec],
    runners: tuple[Runner, Runner],
    pictures: Pictures,
    parity: Parity,
    config: VerifyConfig,
    progress: Progress,
) -> Parting | None:
    """Bisect on the worst pictures, four at most, or as many as a fixed batch takes."""
    from deploykit.evaluation.snr import budget_of
    from deploykit.exporting.bisect import find_parting

    fixed = next((r.inputs[0].fixed_batch for r in runners if r.inputs[0].fixed_batch is not None), None)
    ranked = [entry["index"] for entry in parity.worst] + list(range(len(pictures.images)))
    chosen = list(dict.fromkeys(ranked))[: fixed or 4]
    chosen = (chosen * (fixed or 1))[: fixed or len(chosen)]
    images = [pictures.images[index] for index in chosen]
    ways = preprocessings(*runners)
    inputs = (prepared(images, ways[0]), prepared(images, ways[1]))
    return find_parting(specs, runners, inputs, config, budget_of(parity.precision).snr_db, progress)


def _shown_db(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1f} dB"


def _picture(entry: dict[str, Any]) -> str:
    name = f"picture {entry['index']}" + (f" ({entry['file']})" if entry.get("file") else "")
    if entry["max_abs"] is None:
        return f"{name} at batch {entry['batch']}: NaN or infinite numbers"
    change = ""
    if entry.get("reference_class") != entry.get("candidate_class"):
        change = f", class {entry['reference_class']} became {entry['candidate_class']}"
    return f"{name} at batch {entry['batch']}: max abs {entry['max_abs']:.3g}, SNR {_shown_db(entry['snr_db'])}{change}"
