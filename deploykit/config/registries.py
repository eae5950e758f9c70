"""Where one of many is added: a line here, and the file that its place names.

Options, their help and their errors derive from these lines, which import nothing but themselves; the code is imported when it
is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deploykit.base.registry import Entry, Registry


@dataclass(frozen=True)
class Criterion(Entry):
    """What says which channels go: ``place`` is a :data:`deploykit.pruning.importance.Criterion`.

    Attributes:
        from_data: it looks at images.
        from_labels: at their labels too.
        comparable: its scores are in one unit for all layers.
    """

    from_data: bool = False
    from_labels: bool = False
    comparable: bool = False


_CRITERIA = "deploykit.pruning.criteria."
CRITERIA = Registry(
    "importance criterion",
    Criterion("l2", _CRITERIA + "magnitude:l2", "the sum of a channel's squared weights"),
    Criterion("l1", _CRITERIA + "magnitude:l1", "the sum of their absolute values"),
    Criterion("bn-scale", _CRITERIA + "bn_scale:bn_scale", "the scale of the BatchNorm behind it"),
    Criterion("fpgm", _CRITERIA + "fpgm:fpgm", "its distance to the other filters of its layer"),
    Criterion("lamp", _CRITERIA + "lamp:lamp", "its share of the weights that are not smaller", comparable=True),
    Criterion(
        "taylor",
        _CRITERIA + "taylor:taylor",
        "the first-order change of the loss",
        from_data=True,
        from_labels=True,
        comparable=True,
    ),
    Criterion(
        "hessian",
        _CRITERIA + "hessian:hessian",
        "the second-order change of the loss",
        from_data=True,
        from_labels=True,
        comparable=True,
    ),
    Criterion(
        "activation", _CRITERIA + "activation:activation", "the mean of what its readers receive", from_data=True
    ),
    Criterion("random", _CRITERIA + "uniform_random:uniform_random", "chance, the baseline of all others"),
)


_RANGES = "deploykit.quantization.range_methods."
RANGE_METHODS = Registry(
    "calibration method",
    Entry("minmax", _RANGES + "minmax:minmax", "the extremes"),
    Entry("moving", _RANGES + "moving:moving", "a moving average of the batches' extremes"),
    Entry("percentile", _RANGES + "percentile:percentile", "all but a small share of the values"),
    Entry("mse", _RANGES + "mse:mse", "the least squared error"),
    Entry("entropy", _RANGES + "entropy:entropy", "the least divergence"),
)
"""How the range of an activation is chosen; places are :data:`deploykit.quantization.ranges.RangeMethod`. ``auto`` tries them in
this order, and of equal ones the first wins."""


@dataclass(frozen=True)
class DataForm(Entry):
    """A form of ``--data``: ``place`` is a :data:`deploykit.data.forms.Opener`.

    Attributes:
        shown: how it is written.
        after: what follows the name and a colon: nothing, text that the form reads itself, or an existing folder; None: the form
            has no name of its own.
        suffix: of a file that is of this form.
    """

    shown: str = ""
    after: Literal["nothing", "text", "folder"] | None = None
    suffix: str = ""


_FORMATS = "deploykit.data.formats."
DATA_FORMS = Registry(
    "data",
    DataForm(
        "folder", _FORMATS + "folders:open_folder", "class folders, or images", "a folder of class folders or images"
    ),
    DataForm("digits", _FORMATS + "digits:open_digits", "scikit-learn's digits", "digits", "nothing"),
    DataForm("synthetic", _FORMATS + "synthetic:open_synthetic", "procedural shapes", "synthetic:SEED", "text"),
    DataForm("cifar10", _FORMATS + "cifar:open_cifar10", "CIFAR-10", "cifar10:ROOT", "folder"),
    DataForm("cifar100", _FORMATS + "cifar:open_cifar100", "CIFAR-100", "cifar100:ROOT", "folder"),
    DataForm("imagenet", _FORMATS + "imagenet:open_imagenet", "ImageNet", "imagenet:ROOT", "folder"),
    DataForm("csv", _FORMATS + "csv:open_csv", "a table of paths and labels", "FILE.csv", suffix=".csv"),
    DataForm("npz", _FORMATS + "npz:open_npz", "arrays of images and labels", "FILE.npz", suffix=".npz"),
    DataForm("list", _FORMATS + "image_list:open_list", "paths of images", "IMAGES.txt", suffix=".txt"),
    DataForm("function", _FORMATS + "user_function:open_function", "your own function", "module:function"),
)


@dataclass(frozen=True)
class LogitLoss(Entry):
    """A loss between logits: ``place`` is a :data:`deploykit.distillation.distillation_step.LogitTerm`.

    Attributes:
        temperature: that logits are divided by, unless stated.
        weight: of the term, unless stated.
        weighed_by: ``alpha``, which leaves 1 − alpha to the labels, or ``beta``, beside which labels count whole.
        weighs: what that is the weight of.
        plain_labels: why it cannot learn from mixed labels; empty: it can.
    """

    temperature: float = 1.0
    weight: float = 1.0
    weighed_by: Literal["alpha", "beta"] = "beta"
    weighs: str = "the teacher"
    plain_labels: str = ""


_LOSSES = "deploykit.distillation.losses."
LOSSES = Registry(
    "distillation loss",
    LogitLoss("kd", _LOSSES + "kd:term", "Hinton 2015", 4.0, 0.9, "alpha"),
    LogitLoss(
        "dkd",
        _LOSSES + "dkd:term",
        "Zhao 2022",
        1.0,
        0.5,
        "beta",
        "the other classes",
        plain_labels="dkd tells the label's class apart",
    ),
    LogitLoss("dist", _LOSSES + "dist:term", "Huang 2022", 1.0, 1.0, "beta", "both relations"),
)


@dataclass(frozen=True)
class FeatureLoss(Entry):
    """A loss between layers: ``place`` is a :data:`deploykit.distillation.distillation_step.FeatureTerm`.

    Attributes:
        weight: of the term, unless stated.
        maps: it compares maps ``[N, C, H, W]`` of any channels; else the student's layers are projected to the teacher's channels.
    """

    weight: float = 1.0
    maps: bool = False


FEATURE_LOSSES = Registry(
    "feature loss",
    FeatureLoss("attention", _LOSSES + "attention:attention", "Zagoruyko 2017", maps=True),
    FeatureLoss("hint", _LOSSES + "hint:hint", "Romero 2015"),
)


_NETS = "deploykit.models.nets."
NETS = Registry(
    "deploykit network",
    Entry("cnn4", _NETS + "cnn4:cnn4", "four convolutions"),
    Entry("mobilenetv2", _NETS + "mobilenetv2:mobilenetv2", "MobileNetV2 for small images"),
    Entry("resnet", _NETS + "resnet:resnet", "the ResNets of CIFAR"),
)
"""Networks of our own; places are functions ``f(num_classes=…, **kwargs) -> Module``."""


@dataclass(frozen=True)
class Limit(Entry):
    """A limit of a gate policy: ``place`` is a :data:`deploykit.gating.question.Ask`.

    Attributes:
        values: what it may be: a share 0…1, percentage points, a positive number, whole bytes, any number, or true.
        against_old: it compares with the ``--baseline`` report; without one with ``NAME@base``, which ``benchmark --against``
            measured beside it.
        of_machine: it is in units of time and holds for the machine that the policy names.
    """

    values: Literal["share", "points", "positive", "bytes", "number", "true"] = "positive"
    against_old: bool = False
    of_machine: bool = False


_LIMITS = "deploykit.gating.limits."
LIMITS = Registry(
    "limit",
    Limit(
        "max_drop_pt",
        _LIMITS + "accuracy_drop:max_drop_pt",
        "of top-1 against the report's own baseline variant, in percentage points",
        "points",
    ),
    Limit(
        "max_drop_pt_vs_baseline",
        _LIMITS + "accuracy_drop:max_drop_pt_vs_baseline",
        "of top-1 against the same variant in the --baseline report, in percentage points",
        "points",
        against_old=True,
    ),
    Limit("min_top1", _LIMITS + "answer_shares:min_top1", "share of the images that are answered right, 0…1", "share"),
    Limit(
        "min_agreement",
        _LIMITS + "answer_shares:min_agreement",
        "share of the images that the variant and the baseline variant answer alike, 0…1",
        "share",
    ),
    Limit(
        "max_negative_flips",
        _LIMITS + "answer_shares:max_negative_flips",
        "share of the images that the baseline variant gets right and this one wrong, 0…1",
        "share",
    ),
    Limit("min_speedup", _LIMITS + "time_ratio:min_speedup", "paired speed-up over the report's baseline variant"),
    Limit(
        "max_latency_ratio",
        _LIMITS + "time_ratio:max_latency_ratio",
        "this variant's time over the baseline variant's, 1.02 being 2 % slower",
    ),
    Limit(
        "max_latency_ratio_vs_baseline",
        _LIMITS + "time_ratio:max_latency_ratio_vs_baseline",
        "how that ratio may have grown since the --baseline report; without one, the time over that of NAME@base",
        against_old=True,
    ),
    Limit(
        "max_latency_ms",
        _LIMITS + "absolute_time:max_latency_ms",
        "median time of a call on the policy's machine, in ms",
        of_machine=True,
    ),
    Limit(
        "max_p99_ms",
        _LIMITS + "absolute_time:max_p99_ms",
        "99th percentile of the time of a call on the policy's machine, in ms",
        of_machine=True,
    ),
    Limit(
        "min_images_per_s",
        _LIMITS + "absolute_time:min_images_per_s",
        "images a second on the policy's machine",
        of_machine=True,
    ),
    Limit("max_memory_ratio", _LIMITS + "peak_memory:max_memory_ratio", "peak memory over the baseline variant's"),
    Limit("max_memory_bytes", _LIMITS + "peak_memory:max_memory_bytes", "peak memory", "bytes"),
    Limit("max_size_ratio", _LIMITS + "file_size:max_size_ratio", "size of the artifact over the baseline variant's"),
    Limit("max_size_bytes", _LIMITS + "file_size:max_size_bytes", "size of the artifact", "bytes"),
    Limit(
        "max_cold_start_ratio",
        _LIMITS + "cold_start:max_cold_start_ratio",
        "load and first answer, over the baseline variant's",
    ),
    Limit(
        "min_snr_db",
        _LIMITS + "output_snr:min_snr_db",
        "of the outputs against the reference of its parity, in dB",
        "number",
    ),
    Limit(
        "min_int8_conv_share",
        _LIMITS + "int8_convs:min_int8_conv_share",
        "share of the convolutions that really run on int8, 0…1",
        "share",
    ),
    Limit(
        "require_parity",
        _LIMITS + "held_parity:require_parity",
        "the outputs must have been compared with their reference, and hold",
        "true",
    ),
)
"""What a variant can be held to; of those that a policy does not name, or calls null, none is asked."""


_SHOWN = "deploykit.reporting.attachments."
ATTACHMENTS = Registry(
    "kind of attachment",
    Entry("table", _SHOWN + "cell_table:Table", "rows of cells"),
    Entry("series", _SHOWN + "line_series:Series", "lines over a common axis"),
    Entry("bars", _SHOWN + "grouped_bars:Bars", "grouped bars from zero"),
    Entry("sensitivity", _SHOWN + "sensitivity_analysis:Sensitivity", "what int8 costs each layer"),
)
"""What the report shows of a stage; places are subclasses of :class:`deploykit.reporting.attachments.kinds.Content`."""
