"""Whether a network definition holds the precision that was asked for."""

from __future__ import annotations

from typing import Any

from deploykit.base.errors import AnswerNo, BadInput

QUANTIZED = ("int8", "fp8")


def stated(network: dict[str, Any]) -> tuple[str, str]:
    """Precision of a network by its layers that multiply, and that of its float part.

    Args:
        network: as :func:`~deploykit.engines.tensorrt.network.describe_network` tells it.
    """
    counts = network["precisions"]
    all_layers = [row["precision"] for row in network["layers"] if row["type"] not in ("CONSTANT", "SHUFFLE", "SHAPE")]
    floats = {one: all_layers.count(one) for one in ("fp32", "fp16", "bf16")}
    products = {one: counts.get(one, 0) for one in ("fp32", "fp16", "bf16")}
    rest = max(products, key=lambda one: (products[one], floats[one]))
    quantized = next((one for one in QUANTIZED if counts.get(one)), None)
    return quantized or rest, rest


def check_precision(
    wanted: str | None, network: dict[str, Any], allow_fallback: bool, path: Any, target: str
) -> str | None:
    """Refuse a network that does not hold the precision asked for.

    Args:
        wanted: as asked, or None.
        network: its description.
        allow_fallback: accept it anyway.
        path: of the file, for the message.
        target: that is built for, for the mend.

    Returns:
        What to say where it is accepted nevertheless.

    Raises:
        AnswerNo: nothing in the network computes in that precision.
    """
    if wanted is None:
        return None
    own, rest = stated(network)
    found = own if wanted in QUANTIZED else rest
    if found == ("fp32" if wanted == "tf32" else wanted):
        return None
    counts = ", ".join(f"{count} in {name}" for name, count in network["precisions"].items()) or "no layer multiplies"
    text = f"{wanted} was asked for, and the network of {path} does not compute in it ({counts})"
    if allow_fallback:
        return f"{text}; accepted by --allow-fallback"
    mend = {
        "int8": f"Quantize it first: deploykit quantize --target {target}.",
        "fp8": f"Quantize it first: deploykit quantize --target {target}; --precision fp8 then turns int8 into fp8.",
    }.get(wanted, "Build from the float32 file, which is cast; or pass --allow-fallback.")
    raise AnswerNo(text, fix=mend)


def refuse_up_cast(wanted: str | None, found: str, path: Any) -> None:
    """Refuse fp32 of a file whose float part is rounded already: casting it back would only hide that.

    Raises:
        BadInput: with the precision of the file.
    """
    if wanted in ("fp32", "tf32") and found in ("fp16", "bf16"):
        raise BadInput(
            f"{path} is in {found} already; {wanted} would not bring back what was rounded",
            fix="Build from the float32 file.",
        )
