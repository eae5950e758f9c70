"""``deploykit verify``: whether two artifacts compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deploykit.base.atomic import JsonObject
from deploykit.base.command_result import Result
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec, parse_spec
from deploykit.config.keywords import by_keywords
from deploykit.config.verify import VerifyConfig
from deploykit.evaluation.compare_runners import BATCHES, class_order, parity_of, say_preprocessing
from deploykit.evaluation.judge import Bars, Verdict, judge, settles
from deploykit.evaluation.judging_images import on_random_input, pictures_of_pair
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.random_parity import judged_on_random, parity_on_random
from deploykit.exporting.bisect import Parting, worst_parting

__all__ = ["BATCHES", "VerifyResult", "parity_of", "verify"]


@dataclass(frozen=True)
class VerifyResult(Result):
    """Whether two artifacts compute the same.

    Attributes:
        reference: as named.
        candidate: as named.
        parity: of the outputs.
        verified_on: ``data``, ``samples``, ``synthetic`` (images), or ``random`` (input).
        parting: the first layer where they part, where that was asked for and they do.
        bisected: whether it was looked for.
        worst: the images that differ most, with file names where they have any.
        verdict: of the one judge.
    """

    reference: str
    candidate: str
    parity: Parity
    verified_on: str
    parting: Parting | None
    bisected: bool
    worst: tuple[Mapping[str, Any], ...]
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether the candidate may be used in place of the reference."""
        return self.verdict.ok

    @property
    def status(self) -> str:
        """``ok``, ``unsure`` or ``failed``."""
        return self.verdict.status

    def to_dict(self) -> JsonObject:
        """The object of ``--json``."""
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "verified_on": self.verified_on,
            "verdict": self.verdict.to_dict(),
            "parity": self.parity.to_dict(),
            **self.parity.details(),
            "worst": list(self.worst),
            "bisect": self.parting.to_dict() if self.parting else None,
        }

    def summary(self) -> str:
        """For people."""
        one = self.parity
        lines = [
            f"{self.candidate} against {self.reference}: {self.verdict.headline()} "
            f"({one.precision}, {one.n} {'rows' if self.verified_on == 'random' else 'images'} of {self.verdict.split})"
        ]
        if one.identical:
            lines.append("  identical in every number")
        elif one.max_abs is not None and one.mean_abs is not None:
            shown = [f"max abs {one.max_abs:.3g}", f"mean abs {one.mean_abs:.3g}"]
            shown += [] if one.cosine is None else [f"cosine {one.cosine:.9f}"]
            shown += [] if one.snr_db is None else [f"SNR {one.snr_db:.1f} dB"]
            shown += [] if one.centred_db is None else [f"{one.centred_db:.1f} dB of what depends on the image"]
            lines.append("  " + ", ".join(shown))
        if one.top1_agreement is not None and one.top1_low is not None and one.top1_high is not None:
            ties = f", {one.ties} ties" if one.ties else ""
            lines.append(
                f"  top-1 agreement {one.top1_agreement:.4f} ({one.top1_low:.4f} to {one.top1_high:.4f}{ties})"
            )
        if one.decisions is not None:
            lines.append(f"  {one.decisions[0]} of {one.decisions[1]} decisions at 0.5 are the same")
        for group in one.groups if len(one.groups) > 1 else ():
            quality = "identical" if group["identical"] else f"SNR {_shown_db(group['snr_db'])}"
            name = f"output {group['output']}" + (f" channels {group['channels']}" if group["channels"] else "")
            lines.append(f"  {name}: {quality}{'' if group['judged'] else ' (too faint to be judged)'}")
        for part in one.by_batch:
            quality = "identical" if part.identical else "" if part.snr_db is None else f"SNR {_shown_db(part.snr_db)}"
            lines.append(
                f"  batch {part.batch}: {quality}{', ' if quality else ''}{part.n} pictures, {'ok' if part.ok else 'FAILS'}"
            )
        if (sure := self.verdict.confident) is not None:
            lines.append(f"  answers: {sure.kept} of {sure.n} that the reference is sure of are kept{sure.interval()}")
        lines += [f"  why: {reason}" for reason in self.verdict.reasons]
        lines += [f"  worst: {_picture(entry)}" for entry in self.worst] if self.status != "ok" else []
        if self.parting is not None:
            lines.append(f"  {self.parting.line()}")
        elif self.bisected:
            lines.append("  no compared layer parts: the difference arises after the last one, or only in the engine")
        return "\n".join(lines)


@by_keywords(VerifyConfig, modules=("reference", "candidate"))
def verify(
    reference: Spec | Path | str,
    candidate: Spec | Path | str,
    config: VerifyConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Compare two artifacts on the same images, each with its own preprocessing; any other graphs on random input.

    Args:
        reference: ``[NAME=]PATH[@TARGET[:key=value,…]]`` of what is right.
        candidate: of what is judged.
        config: how.
        progress: where it shows.

    Returns:
        The answer; ``status`` says whether they compute the same.

    Raises:
        BadInput: a file cannot be read, inputs or outputs do not fit one another, there are no images, a free size that
            nothing names.
        Unavailable: this machine lacks what a target needs.
    """
    from deploykit.engines import open_runner, resolve

    config = config or VerifyConfig()
    specs = (resolve(_spec(reference), config.device), resolve(_spec(candidate), config.device))
    opened = partial(
        open_runner, threads=config.threads, device=config.device, stated=config.stated, allow_code=config.allow_code
    )
    with opened(specs[0]) as one, opened(specs[1]) as other:
        precision, bars = (
            config.precision or other.precision,
            Bars(config.min_agreement, config.min_snr_db, accept=config.accept),
        )
        if on_random_input(specs, (one, other), config):
            parity = parity_on_random(
                one,
                other,
                config.shapes,
                config.batches,
                precision,
                progress,
                seed=config.seed,
                name=specs[0].name,
            )
            verdict = judged_on_random(parity, precision, bars)
            worst = tuple({**entry, "file": None} for entry in parity.worst)
            return VerifyResult(str(specs[0]), str(specs[1]), parity, "random", None, False, worst, verdict)
        columns = class_order(one, other, progress)
        say_preprocessing(one, other, progress)
        pictures = pictures_of_pair(specs, (one, other), config, progress)
        parity = parity_of(
            one,
            other,
            pictures.images,
            config.batches,
            precision,
            progress,
            name=specs[0].name,
            columns=columns,
            until=settles(precision, bars) if config.split is None else None,
        )
        verdict = judge(parity, parity.answers, precision, bars, split=pictures.shown)
        parting = None
        if config.bisect and not parity.ok:
            parting = worst_parting(specs, (one, other), pictures, parity, config, progress)
    worst = tuple({**entry, "file": pictures.file(entry["index"])} for entry in parity.worst)
    bisected = config.bisect and not parity.ok
    return VerifyResult(str(specs[0]), str(specs[1]), parity, pictures.source, parting, bisected, worst, verdict)


def _spec(text: Spec | Path | str) -> Spec:
    return text if isinstance(text, Spec) else parse_spec(str(text))


def _shown_db(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1f} dB"


def _picture(entry: Mapping[str, Any]) -> str:
    name = f"picture {entry['index']}" + (f" ({entry['file']})" if entry.get("file") else "")
    if entry["max_abs"] is None:
        return f"{name} at batch {entry['batch']}: NaN or infinite numbers"
    change = ""
    if entry.get("reference_class") != entry.get("candidate_class"):
        change = f", class {entry['reference_class']} became {entry['candidate_class']}"
    return f"{name} at batch {entry['batch']}: max abs {entry['max_abs']:.3g}, SNR {_shown_db(entry['snr_db'])}{change}"
