"""``deploykit quantize --max-drop``: layers go back to float until the paired accuracy drop on ``select`` is within a bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.calibration_images import Calibration

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from deploykit.quantization.reverting import Reverted
    from deploykit.quantization.search import Choice, Quantizer

SWEPT = 128


@dataclass(frozen=True)
class Held:
    """What the bound is held with.

    Attributes:
        config: of the quantization; ``max_drop`` is set.
        images: pictures of ``select`` and their labels.
        classes: of the model.
        x: prepared pictures of ``select``, float32 [N, C, H, W].
        logits: of the float network, float32 [N, classes].
        opened: runs graphs.
        progress: where it tells what it does.
    """

    config: QuantizeConfig
    images: Calibration
    classes: tuple[str, ...] | None
    x: np.ndarray
    logits: np.ndarray
    opened: Opened
    progress: Progress

    def choice(self, quantizer: Quantizer, base: Choice) -> tuple[Choice, dict[str, Any]]:
        """``base``, or it with layers taken back to float, and the facts for the manifest.

        The drop itself is held within the bound; its interval is said, and a warning where it reaches beyond.

        Raises:
            BadInput: the pictures have no labels.
            AnswerNo: no set of layers holds the bound and leaves something to gain.
        """
        from deploykit.quantization.reverting import costed, moves, revert, worth_costing
        from deploykit.quantization.sensitivity import sweep

        bound = self.config.max_drop
        assert bound is not None
        if self.images.labels is None:
            raise BadInput("--max-drop needs labels", got="synthetic pictures", fix="Name data with --data.")

        def drop_of(choice: Choice) -> Mapping[str, Any]:
            return self._drop(quantizer.make(choice))

        first = drop_of(base)
        self.progress.say(f"all int8: drop {_shown(first)} on {len(self.logits)} pictures")
        if first["drop_pt"] <= bound:
            return base, self._facts(first, (), ())
        x = self.x[:SWEPT]
        alone = sweep(quantizer, base, x, self.opened.graph, ("alone",), self.progress)
        few = worth_costing(alone)
        names = [one.layer for one in few]
        weights = sweep(quantizer, base, x, self.opened.graph, ("weights",), self.progress, only=names)
        ranked = moves(quantizer, base, few, weights)
        timed = quantizer.dialect.timed and not self.config.force_int8
        if timed:
            ranked = costed(quantizer, base, ranked, self._times)
        ranked += moves(quantizer, base, alone[len(few) :], ())
        found = revert(base, first, ranked, drop_of, bound, self.progress)
        self._check(quantizer, found, bound, ranked, timed)
        return found.choice, self._facts(found.drop, [move.said() for move in found.moves], found.tried)

    def _check(self, quantizer: Quantizer, found: Reverted, bound: float, ranked: Any, timed: bool) -> None:
        from deploykit.quantization.reverting import blockers, is_float

        made = quantizer.make(found.choice)
        if not found.held or is_float(made):
            raise AnswerNo(
                f"no int8 network within {bound:g} points of float: the best of {len(found.tried)} drops "
                f"{_shown(found.drop)} with {len(found.moves)} layers float; in the way stand {blockers(ranked)}",
                fix="Allow a larger --max-drop, calibrate on more pictures, or keep the float engine.",
            )
        if timed:
            times = self._times({"float": quantizer.proto, "int8": made})
            if times["int8"] >= times["float"]:
                raise AnswerNo(
                    f"within {bound:g} points of float nothing is faster: {len(found.moves)} layers back in float "
                    f"({blockers(found.moves)}) take {1e3 * times['int8']:.3g} ms, all in float "
                    f"{1e3 * times['float']:.3g} ms",
                    fix="Allow a larger --max-drop, keep the float engine, or pass --force-int8.",
                )

    def _times(self, protos: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
        return self.opened.times(protos, self.x, self.config.seed)

    def _drop(self, made: onnx.ModelProto) -> Mapping[str, Any]:
        from deploykit.evaluation.agreement import agreement
        from deploykit.evaluation.run_classifier import in_data_order

        assert self.images.labels is not None
        logits = self.opened.logits(made, self.x)
        n = min(len(logits), len(self.logits))
        ours, base = (
            in_data_order(one[:n], self.classes, self.images.classes, name)
            for one, name in ((logits, "int8"), (self.logits, "float"))
        )
        return agreement(ours, base, self.images.labels[:n], seed=self.config.seed)

    def _facts(self, drop: Mapping[str, Any], reverted: Any, tried: Any) -> dict[str, Any]:
        bound = self.config.max_drop
        assert bound is not None
        if drop["drop_pt_high"] > bound:
            self.progress.warn(
                f"the drop {_shown(drop)} on {len(self.logits)} pictures of select may also lie beyond {bound:g} pt: "
                "more pictures would tell"
            )
        return {
            "bound_pt": bound,
            **{key: round(float(drop[key]), 3) for key in ("drop_pt", "drop_pt_low", "drop_pt_high")},
            "pictures": len(self.logits),
            "reverted": list(reverted),
            "tried": [list(one) for one in tried],
        }


def _shown(drop: Mapping[str, Any]) -> str:
    return f"{drop['drop_pt']:.2f} pt ({drop['drop_pt_low']:.2f} … {drop['drop_pt_high']:.2f})"
