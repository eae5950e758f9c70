"""A target that another package brings: its row. What needs libraries lies in the module that the row names."""

from deploykit.base.targets import Target

TARGET = Target(
    name="madeup",
    runner="madeup_target.runner",
    suffixes=(".onnx", ".made"),
    natural=(".made",),
    on_cpu=True,
    precisions=("fp32", "fp16"),
    dialect="unsigned-inputs",
    libraries=("onnx",),
    install="pip install madeup",
)
WRONG = "no target"
