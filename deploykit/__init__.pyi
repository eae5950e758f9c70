"""The public names with their types. Generated from the configurations: run ``make generate`` instead of editing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from torch.nn import Module

PUBLIC: dict[str, tuple[str, ...]]

from deploykit._version import __version__ as __version__
from deploykit.base.errors import AnswerNo as AnswerNo
from deploykit.base.errors import BadInput as BadInput
from deploykit.base.errors import CannotTell as CannotTell
from deploykit.base.errors import DeploykitError as DeploykitError
from deploykit.base.errors import SystemTrouble as SystemTrouble
from deploykit.base.errors import Unavailable as Unavailable
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.benchmarking.layer_profiles import LayersResult as LayersResult
from deploykit.commands.benchmark import BenchmarkResult as BenchmarkResult
from deploykit.commands.build import BuildResult as BuildResult
from deploykit.commands.cache import CacheResult as CacheResult
from deploykit.commands.distill import DistillResult as DistillResult
from deploykit.commands.doctor import DoctorResult as DoctorResult
from deploykit.commands.evaluate import EvaluateResult as EvaluateResult
from deploykit.commands.export import ExportResult as ExportResult
from deploykit.commands.gate import GateResult as GateResult
from deploykit.commands.init import InitResult as InitResult
from deploykit.commands.inspect import InspectResult as InspectResult
from deploykit.commands.predict import PredictResult as PredictResult
from deploykit.commands.prune import PruneResult as PruneResult
from deploykit.commands.quantize import QatResult as QatResult
from deploykit.commands.quantize import QuantizeResult as QuantizeResult
from deploykit.commands.report import ReportResult as ReportResult
from deploykit.commands.train import TrainResult as TrainResult
from deploykit.commands.verify import VerifyResult as VerifyResult
from deploykit.config.benchmark import BenchmarkConfig as BenchmarkConfig
from deploykit.config.build import BuildConfig as BuildConfig
from deploykit.config.cache import CacheConfig as CacheConfig
from deploykit.config.distill import DistillConfig as DistillConfig
from deploykit.config.doctor import DoctorConfig as DoctorConfig
from deploykit.config.evaluate import EvaluateConfig as EvaluateConfig
from deploykit.config.export import ExportConfig as ExportConfig
from deploykit.config.gate import GateConfig as GateConfig
from deploykit.config.gate import GatePolicy as GatePolicy
from deploykit.config.init import InitConfig as InitConfig
from deploykit.config.inspect import InspectConfig as InspectConfig
from deploykit.config.predict import PredictConfig as PredictConfig
from deploykit.config.prune import PruneConfig as PruneConfig
from deploykit.config.quantize import AnalyzeConfig as AnalyzeConfig
from deploykit.config.quantize import QuantizeConfig as QuantizeConfig
from deploykit.config.report import ReportConfig as ReportConfig
from deploykit.config.run import RunConfig as RunConfig
from deploykit.config.train import AugmentConfig as AugmentConfig
from deploykit.config.train import ModelConfig as ModelConfig
from deploykit.config.train import TrainConfig as TrainConfig
from deploykit.config.verify import VerifyConfig as VerifyConfig
from deploykit.data import open_data as open_data
from deploykit.engines import open_runner as open_runner
from deploykit.models import load_model as load_model
from deploykit.pipeline import RunResult as RunResult
from deploykit.quantization.analyze import AnalyzeResult as AnalyzeResult
from deploykit.quantization.lint.lint import LintResult as LintResult
from deploykit.quantization.lint.lint import lint as lint

def run(
    recipe: str | Path,
    output: Path | str | None = None,
    config: RunConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    changes: Sequence[str] = (),
    dry_run: bool = False,
    remeasure: bool = False,
    wait: bool = True,
    allow_code: bool = False,
) -> RunResult: ...

@overload
def init(
    model: str | Path,
    output: Path | str | None,
    config: InitConfig,
    *,
    force: bool = False,
    progress: Progress = ...,
    data: str = ...,
    name: str | None = ...,
    target: str = ...,
    goal: Literal["fast", "small", "accurate"] | None = ...,
    arch: str | None = ...,
    size: int | None = ...,
    allow_code: bool = ...,
) -> InitResult: ...

@overload
def init(
    model: str | Path,
    output: Path | str | None = None,
    *,
    config: InitConfig,
    force: bool = False,
    progress: Progress = ...,
    data: str = ...,
    name: str | None = ...,
    target: str = ...,
    goal: Literal["fast", "small", "accurate"] | None = ...,
    arch: str | None = ...,
    size: int | None = ...,
    allow_code: bool = ...,
) -> InitResult: ...

@overload
def init(
    model: str | Path,
    output: Path | str | None = None,
    *,
    data: str,
    force: bool = False,
    progress: Progress = ...,
    name: str | None = None,
    target: str = "ort-cpu",
    goal: Literal["fast", "small", "accurate"] | None = None,
    arch: str | None = None,
    size: int | None = None,
    allow_code: bool = False,
) -> InitResult: ...

@overload
def train(
    output: Path | str | None,
    config: TrainConfig,
    *,
    force: bool = False,
    progress: Progress = ...,
    augment: AugmentConfig | Mapping[str, Any] = ...,
    epochs: int = ...,
    batch: int = ...,
    optimizer: Literal["sgd", "adamw"] = ...,
    lr: float = ...,
    momentum: float = ...,
    weight_decay: float = ...,
    schedule: Literal["cosine", "step", "onecycle", "constant"] = ...,
    warmup_epochs: float = ...,
    step_epochs: int = ...,
    step_gamma: float = ...,
    clip_norm: float | None = ...,
    ema: float | None = ...,
    early_stop: int | None = ...,
    precision: Literal["fp32", "fp16", "bf16"] = ...,
    channels_last: bool = ...,
    seed: int = ...,
    threads: int | None = ...,
    device: Literal["auto", "cpu", "cuda"] = ...,
    data: str = ...,
    size: int | None = ...,
    skip_broken: bool = ...,
    allow_code: bool = ...,
    label_smoothing: float = ...,
    model: ModelConfig | Mapping[str, Any] = ...,
    mean: Sequence[float] | None = ...,
    std: Sequence[float] | None = ...,
    sparsify: Literal["bn-scale", "group-norm"] | None = ...,
    sparsify_strength: float = ...,
) -> TrainResult: ...

@overload
def train(
    output: Path | str | None = None,
    *,
    config: TrainConfig,
    force: bool = False,
    progress: Progress = ...,
    augment: AugmentConfig | Mapping[str, Any] = ...,
    epochs: int = ...,
    batch: int = ...,
    optimizer: Literal["sgd", "adamw"] = ...,
    lr: float = ...,
    momentum: float = ...,
    weight_decay: float = ...,
    schedule: Literal["cosine", "step", "onecycle", "constant"] = ...,
    warmup_epochs: float = ...,
    step_epochs: int = ...,
    step_gamma: float = ...,
    clip_norm: float | None = ...,
    ema: float | None = ...,
    early_stop: int | None = ...,
    precision: Literal["fp32", "fp16", "bf16"] = ...,
    channels_last: bool = ...,
    seed: int = ...,
    threads: int | None = ...,
    device: Literal["auto", "cpu", "cuda"] = ...,
    data: str = ...,
    size: int | None = ...,
    skip_broken: bool = ...,
    allow_code: bool = ...,
    label_smoothing: float = ...,
    model: ModelConfig | Mapping[str, Any] = ...,
    mean: Sequence[float] | None = ...,
    std: Sequence[float] | None = ...,
    sparsify: Literal["bn-scale", "group-norm"] | None = ...,
    sparsify_strength: float = ...,
) -> TrainResult: ...

@overload
def train(
    output: Path | str | None = None,
    *,
    data: str,
    force: bool = False,
    progress: Progress = ...,
    augment: AugmentConfig | Mapping[str, Any] = ...,
    epochs: int = 10,
    batch: int = 64,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0005,
    schedule: Literal["cosine", "step", "onecycle", "constant"] = "cosine",
    warmup_epochs: float = 0.0,
    step_epochs: int = 30,
    step_gamma: float = 0.1,
    clip_norm: float | None = None,
    ema: float | None = None,
    early_stop: int | None = None,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    channels_last: bool = True,
    seed: int = 0,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    size: int | None = None,
    skip_broken: bool = False,
    allow_code: bool = False,
    label_smoothing: float = 0.0,
    model: ModelConfig | Mapping[str, Any] = ...,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sparsify: Literal["bn-scale", "group-norm"] | None = None,
    sparsify_strength: float = 0.0001,
) -> TrainResult: ...

def prune(
    model: Path | str | Module,
    output: Path | str | None = None,
    config: PruneConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    macs: float | None = None,
    params: float | None = None,
    latency: float | None = None,
    target: Literal["ort-cpu", "ort-cuda", "tensorrt", "tensorrt-rtx", "openvino"] = "ort-cpu",
    ratios: Mapping[str, float] = ...,
    pattern: Literal["2:4"] | None = None,
    unstructured: float | None = None,
    importance: Literal["l2", "l1", "bn-scale", "fpgm", "lamp", "taylor", "hessian", "activation", "random"] = "l2",
    scope: Literal["local", "global", "isomorphic", "allocated"] = "local",
    round_to: Literal["auto"] | int = "auto",
    keep: Sequence[str] = (),
    steps: int = 1,
    layer_times: bool = False,
    data: str | None = None,
    images: int = 512,
    select_images: int = 1000,
    recalibrate: bool = True,
    skip_broken: bool = False,
    size: int | None = None,
    arch: str | None = None,
    batch: int = 64,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    allow_code: bool = False,
) -> PruneResult: ...

@overload
def distill(
    model: Path | str | None | Module,
    output: Path | str | None,
    config: DistillConfig,
    *,
    force: bool = False,
    progress: Progress = ...,
    augment: AugmentConfig | Mapping[str, Any] = ...,
    epochs: int = ...,
    batch: int = ...,
    optimizer: Literal["sgd", "adamw"] = ...,
    lr: float = ...,
    momentum: float = ...,
    weight_decay: float = ...,
    schedule: Literal["cosine", "step", "onecycle", "constant"] = ...,
    warmup_epochs: float = ...,
    step_epochs: int = ...,
    step_gamma: float = ...,
    clip_norm: float | None = ...,
    ema: float | None = ...,
    early_stop: int | None = ...,
    precision: Literal["fp32", "fp16", "bf16"] = ...,
    channels_last: bool = ...,
    seed: int = ...,
    threads: int | None = ...,
    device: Literal["auto", "cpu", "cuda"] = ...,
    data: str = ...,
    size: int | None = ...,
    skip_broken: bool = ...,
    allow_code: bool = ...,
    label_smoothing: float = ...,
    teachers: Sequence[str] = ...,
    combine: Literal["average", "weighted", "vote"] = ...,
    view: Literal["same", "clean"] = ...,
    cache: bool = ...,
    loss: Literal["kd", "dkd", "dist"] = ...,
    temperature: float | None = ...,
    alpha: float | None = ...,
    beta: float | None = ...,
    features: Literal["attention", "hint"] | None = ...,
    layers: Sequence[str] = ...,
    feature_weight: float | None = ...,
    arch: str | None = ...,
    auto_macs: float = ...,
) -> DistillResult: ...

@overload
def distill(
    model: Path | str | None | Module = None,
    output: Path | str | None = None,
    *,
    config: DistillConfig,
    force: bool = False,
    progress: Progress = ...,
    augment: AugmentConfig | Mapping[str, Any] = ...,
    epochs: int = ...,
    batch: int = ...,
    optimizer: Literal["sgd", "adamw"] = ...,
    lr: float = ...,
    momentum: float = ...,
    weight_decay: float = ...,
    schedule: Literal["cosine", "step", "onecycle", "constant"] = ...,
    warmup_epochs: float = ...,
    step_epochs: int = ...,
    step_gamma: float = ...,
    clip_norm: float | None = ...,
    ema: float | None = ...,
    early_stop: int | None = ...,
    precision: Literal["fp32", "fp16", "bf16"] = ...,
    channels_last: bool = ...,
    seed: int = ...,
    threads: int | None = ...,
    device: Literal["auto", "cpu", "cuda"] = ...,
    data: str = ...,
    size: int | None = ...,
    skip_broken: bool = ...,
    allow_code: bool = ...,
    label_smoothing: float = ...,
    teachers: Sequence[str] = ...,
    combine: Literal["average", "weighted", "vote"] = ...,
    view: Literal["same", "clean"] = ...,
    cache: bool = ...,
    loss: Literal["kd", "dkd", "dist"] = ...,
    temperature: float | None = ...,
    alpha: float | None = ...,
    beta: float | None = ...,
    features: Literal["attention", "hint"] | None = ...,
    layers: Sequence[str] = ...,
    feature_weight: float | None = ...,
    arch: str | None = ...,
    auto_macs: float = ...,
) -> DistillResult: ...

@overload
def distill(
    model: Path | str | None | Module = None,
    output: Path | str | None = None,
    *,
    data: str,
    teachers: Sequence[str],
    force: bool = False,
    progress: Progress = ...,
    augment: AugmentConfig | Mapping[str, Any] = ...,
    epochs: int = 10,
    batch: int = 64,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 0.0005,
    schedule: Literal["cosine", "step", "onecycle", "constant"] = "cosine",
    warmup_epochs: float = 0.0,
    step_epochs: int = 30,
    step_gamma: float = 0.1,
    clip_norm: float | None = None,
    ema: float | None = None,
    early_stop: int | None = None,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    channels_last: bool = True,
    seed: int = 0,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    size: int | None = None,
    skip_broken: bool = False,
    allow_code: bool = False,
    label_smoothing: float = 0.0,
    combine: Literal["average", "weighted", "vote"] = "average",
    view: Literal["same", "clean"] = "same",
    cache: bool = True,
    loss: Literal["kd", "dkd", "dist"] = "kd",
    temperature: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    features: Literal["attention", "hint"] | None = None,
    layers: Sequence[str] = (),
    feature_weight: float | None = None,
    arch: str | None = None,
    auto_macs: float = 0.5,
) -> DistillResult: ...

def export(
    model: Path | str | Module,
    output: Path | str | None = None,
    config: ExportConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    opset: int = 20,
    batch: Literal["dynamic"] | int = "dynamic",
    embed_preprocessing: bool = False,
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto",
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    keep_io: bool = False,
    keep_float: Sequence[str] = (),
    images: int = 64,
    data: str | None = None,
    require_real: bool = False,
    threads: int | None = None,
    seed: int = 0,
    size: int | None = None,
    arch: str | None = None,
    allow_code: bool = False,
) -> ExportResult: ...

def quantize(
    model: Path | str | Module,
    output: Path | str | None = None,
    config: QuantizeConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    target: str = "ort-cpu",
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    weight_bits: int | None = None,
    tune: bool = False,
    choices: str | None = None,
    effort: Literal["fast", "normal", "max"] = "normal",
    isa: Literal["native", "avx2", "avx512", "vnni", "arm64"] = "native",
    keep_float: Sequence[str] = (),
    force_int8: bool = False,
    data: str | None = None,
    synthetic: bool = False,
    images: int = 256,
    select_images: int = 128,
    batch: int = 8,
    method: Literal["auto", "minmax", "moving", "percentile", "mse", "entropy", "qat"] = "auto",
    percentile: float = 99.99,
    ranges: str | None = None,
    skip_broken: bool = False,
    equalize: Literal["auto", "on", "off"] = "auto",
    bias_correction: Literal["auto", "on", "off"] = "auto",
    rounding: Literal["nearest", "adaround"] = "nearest",
    batch_norm: Literal["keep", "auto", "reestimate"] = "keep",
    max_drop: float | None = None,
    sensitivity: bool = False,
    qat_epochs: int = 4,
    qat_lr: float = 0.0001,
    qat_batch: int = 64,
    qat_scales: Literal["learned", "fixed"] = "learned",
    qat_freeze: float = 0.3,
    qat_every: int | None = None,
    qat_teacher: str | None = None,
    qat_labels: float = 0.0,
    qat_shift_px: int = 0,
    qat_flip: float = 0.0,
    qat_device: Literal["auto", "cpu", "cuda"] = "auto",
    size: int | None = None,
    arch: str | None = None,
    threads: int = 1,
    seed: int = 0,
    allow_code: bool = False,
) -> QuantizeResult | QatResult: ...

def build(
    model: Path | str,
    output: Path | str | None = None,
    config: BuildConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    target: str = "tensorrt",
    precision: Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"] | None = None,
    allow_fallback: bool = False,
    beside: Literal["fp16", "none"] = "fp16",
    cuda_graph: bool = False,
    optimize: Literal["none", "basic"] = "none",
    profiles: Sequence[str] = (),
    batch: int = 8,
    compute_capabilities: Sequence[str] = (),
    level: int | None = None,
    workspace_mib: int | None = None,
    sparse: bool = False,
    version_compatible: bool = False,
    hardware_compatible: Literal["none", "ampere-plus", "same-compute-capability"] = "none",
    refit: bool = False,
    strip: bool = False,
    builds: int = 1,
    timing_cache: bool = True,
    device: int = 0,
    data: str | None = None,
    images: int = 64,
    size: int | None = None,
    seed: int = 0,
    allow_code: bool = False,
    skip_broken: bool = False,
) -> BuildResult: ...

def verify(
    reference: Spec | Path | str | Module,
    candidate: Spec | Path | str | Module,
    config: VerifyConfig | None = None,
    *,
    progress: Progress = ...,
    batches: Sequence[int] = (1, 2, 8),
    precision: Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"] | None = None,
    min_agreement: float | None = None,
    min_snr_db: float | None = None,
    accept: bool = False,
    bisect: bool = False,
    data: str | None = None,
    split: Literal["train", "select", "test"] | None = None,
    images: int = 1024,
    require_real: bool = False,
    seed: int = 0,
    size: int | None = None,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_code: bool = False,
) -> VerifyResult: ...

def evaluate(
    artifacts: Sequence[str | Spec | Module],
    output: Path | str | None = None,
    config: EvaluateConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    data: str | None = None,
    split: Literal["train", "select", "test"] = "test",
    images: int | None = None,
    skip_broken: bool = False,
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    ci_level: float = 0.95,
    corruptions: bool = False,
    corruption_images: int = 500,
    seed: int = 0,
    batch: int = 64,
    size: int | None = None,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_code: bool = False,
) -> EvaluateResult: ...

def benchmark(
    artifacts: Sequence[str | Spec | Module],
    output: Path | str | None = None,
    config: BenchmarkConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    data: str | None = None,
    shapes: Mapping[str, Sequence[int]] = ...,
    split: Literal["train", "select", "test"] = "test",
    skip_broken: bool = False,
    baseline: str | None = None,
    against: str | None = None,
    max_drop_pt: float = 1.0,
    batch: int = 1,
    threads: int = 1,
    until: float = 0.02,
    max_time_s: float = 60.0,
    min_blocks: int = 20,
    block_ms: float = 50.0,
    end_to_end: bool = True,
    builds: int = 1,
    scenarios: Sequence[Literal["single_stream", "multi_stream", "offline", "server"]] = (),
    multi_stream_images: int = 8,
    server_bound_ms: float = 15.0,
    sweeps: Sequence[Literal["batch", "threads"]] = (),
    images: int | None = None,
    eval_batch: int = 64,
    metrics: Sequence[str] = (),
    ci_level: float = 0.95,
    corruptions: bool = False,
    corruption_images: int = 500,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    size: int | None = None,
    seed: int = 0,
    allow_code: bool = False,
) -> BenchmarkResult: ...

def report(
    source: Path | str | Sequence[Path | str],
    output: Path | str | None = None,
    config: ReportConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    layers: bool = False,
) -> ReportResult | LayersResult: ...

def gate(
    report: Path | str,
    output: Path | str | None = None,
    config: GateConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    policy: str | GatePolicy | Mapping[str, Any] = "default",
    baseline: str | None = None,
    retry: int = 0,
    retry_time_s: float = 30.0,
    data: str | None = None,
    annotations: Literal["auto", "github", "none"] = "auto",
) -> GateResult: ...

def predict(
    artifact: Spec | str | Path | Module,
    images: Sequence[str | Path],
    annotate: Path | str | None = None,
    config: PredictConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    top: int = 5,
    batch: int = 16,
    size: int | None = None,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    skip_broken: bool = False,
    allow_code: bool = False,
) -> PredictResult: ...

def inspect(
    file: Path | str | Module,
    config: InspectConfig | None = None,
    *,
    progress: Progress = ...,
    layers: bool = False,
    times: bool = False,
    target: str | None = None,
    threads: int | None = None,
    arch: str | None = None,
    size: int | None = None,
    shapes: Mapping[str, Sequence[int]] = ...,
    allow_code: bool = False,
) -> InspectResult: ...

def doctor(
    config: DoctorConfig | None = None,
    *,
    progress: Progress = ...,
    require: Sequence[str] = (),
) -> DoctorResult: ...

def cache(
    folder: Path | str = ".",
    config: CacheConfig | None = None,
    *,
    progress: Progress = ...,
    action: Literal["list", "clean"] = "list",
    everything: bool = False,
    older_than_s: float | None = None,
    yes: bool = False,
) -> CacheResult: ...

def analyze(
    model: Path | str | Module,
    output: Path | str | None = None,
    config: AnalyzeConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = ...,
    target: str = "ort-cpu",
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    weight_bits: int | None = None,
    tune: bool = False,
    choices: str | None = None,
    effort: Literal["fast", "normal", "max"] = "normal",
    isa: Literal["native", "avx2", "avx512", "vnni", "arm64"] = "native",
    keep_float: Sequence[str] = (),
    force_int8: bool = False,
    data: str | None = None,
    synthetic: bool = False,
    images: int = 256,
    select_images: int = 256,
    batch: int = 8,
    method: Literal["auto", "minmax", "moving", "percentile", "mse", "entropy"] = "auto",
    percentile: float = 99.99,
    ranges: str | None = None,
    skip_broken: bool = False,
    equalize: Literal["auto", "on", "off"] = "auto",
    bias_correction: Literal["auto", "on", "off"] = "auto",
    rounding: Literal["nearest", "adaround"] = "nearest",
    batch_norm: Literal["keep", "auto", "reestimate"] = "keep",
    max_drop: float | None = None,
    sensitivity: bool = False,
    qat_epochs: int = 4,
    qat_lr: float = 0.0001,
    qat_batch: int = 64,
    qat_scales: Literal["learned", "fixed"] = "learned",
    qat_freeze: float = 0.3,
    qat_every: int | None = None,
    qat_teacher: str | None = None,
    qat_labels: float = 0.0,
    qat_shift_px: int = 0,
    qat_flip: float = 0.0,
    qat_device: Literal["auto", "cpu", "cuda"] = "auto",
    size: int | None = None,
    arch: str | None = None,
    threads: int = 1,
    seed: int = 0,
    allow_code: bool = False,
    modes: Sequence[Literal["alone", "weights", "activations", "left-out"]] = ("alone",),
) -> AnalyzeResult: ...
