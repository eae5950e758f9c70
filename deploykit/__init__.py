"""deploykit: from a trained image CNN to a verified, honestly measured engine.

The public names are resolved on first use, so that ``import deploykit`` imports neither torch nor onnx nor pydantic. Each
command is a function that takes its configuration's fields as keywords: ``quantize("model.onnx", data="digits")``.
"""

from __future__ import annotations

import importlib
from typing import Any

from deploykit._version import __version__

PUBLIC = {
    "deploykit.pipeline": ("run", "RunResult"),
    "deploykit.commands.init": ("init", "InitResult"),
    "deploykit.commands.train": ("train", "TrainResult"),
    "deploykit.commands.prune": ("prune", "PruneResult"),
    "deploykit.commands.distill": ("distill", "DistillResult"),
    "deploykit.commands.export": ("export", "ExportResult"),
    "deploykit.commands.quantize": ("quantize", "QuantizeResult", "QatResult"),
    "deploykit.commands.build": ("build", "BuildResult"),
    "deploykit.commands.verify": ("verify", "VerifyResult"),
    "deploykit.commands.evaluate": ("evaluate", "EvaluateResult"),
    "deploykit.commands.benchmark": ("benchmark", "BenchmarkResult"),
    "deploykit.commands.report": ("report", "ReportResult"),
    "deploykit.benchmarking.layer_profiles": ("LayersResult",),
    "deploykit.commands.gate": ("gate", "GateResult"),
    "deploykit.commands.predict": ("predict", "PredictResult"),
    "deploykit.commands.inspect": ("inspect", "InspectResult"),
    "deploykit.commands.doctor": ("doctor", "DoctorResult"),
    "deploykit.commands.cache": ("cache", "CacheResult"),
    "deploykit.quantization.analyze": ("analyze", "AnalyzeResult"),
    "deploykit.quantization.lint.lint": ("lint", "LintResult"),
    "deploykit.config.run": ("RunConfig",),
    "deploykit.config.init": ("InitConfig",),
    "deploykit.config.train": ("TrainConfig", "ModelConfig", "AugmentConfig"),
    "deploykit.config.prune": ("PruneConfig",),
    "deploykit.config.distill": ("DistillConfig",),
    "deploykit.config.export": ("ExportConfig",),
    "deploykit.config.quantize": ("QuantizeConfig", "AnalyzeConfig"),
    "deploykit.config.build": ("BuildConfig",),
    "deploykit.config.verify": ("VerifyConfig",),
    "deploykit.config.evaluate": ("EvaluateConfig",),
    "deploykit.config.benchmark": ("BenchmarkConfig",),
    "deploykit.config.report": ("ReportConfig",),
    "deploykit.config.gate": ("GateConfig", "GatePolicy"),
    "deploykit.config.predict": ("PredictConfig",),
    "deploykit.config.inspect": ("InspectConfig",),
    "deploykit.config.doctor": ("DoctorConfig",),
    "deploykit.config.cache": ("CacheConfig",),
    "deploykit.base.errors": (
        "DeploykitError",
        "AnswerNo",
        "BadInput",
        "CannotTell",
        "Unavailable",
        "SystemTrouble",
    ),
    "deploykit.engines": ("open_runner",),
    "deploykit.models": ("load_model",),
    "deploykit.data": ("open_data",),
}
"""Where each public name stands."""
_MODULES = {name: module for module, names in PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'deploykit' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
