"""ONNX → network definition, the ONNX nodes behind each layer, and what the parser refuses, with a way around."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, shortened
from deploykit.engines.tensorrt.log import listening, logger, reason
from deploykit.engines.tensorrt.profiles import Declared
from deploykit.engines.tensorrt.version import Api

_AGAIN = "quantize the float model with deploykit quantize --target {target}"
ALTERNATIVES = {
    "MaxUnpool": "use Resize or ConvTranspose for upsampling",
    "QLinearConv": _AGAIN,
    "QLinearMatMul": _AGAIN,
    "QLinearAdd": _AGAIN,
    "ConvInteger": _AGAIN,
    "MatMulInteger": _AGAIN,
    "DynamicQuantizeLinear": _AGAIN,
    "Det": "compute the determinant outside the network",
    "Multinomial": "sample outside the network",
    "Bernoulli": "sample outside the network; is the model in training mode?",
    "Dropout": "export the model in evaluation mode",
    "StringNormalizer": "prepare text outside the network",
    "SequenceConstruct": "return tensors instead of lists",
    "SequenceAt": "return tensors instead of lists",
    "ConcatFromSequence": "concatenate tensors instead of a list",
    "DFT": "transform outside the network",
    "STFT": "transform outside the network",
    "Unique": "decode outside the network",
    "Compress": "select outside the network, or use Where",
    "Optional": "leave optional outputs away",
    "BitShift": "use multiplication by powers of two",
    "AffineGrid": "compute the grid once and store it as a constant, or use GridSample with it",
    "Col2Im": "use ConvTranspose",
    "CenterCropPad": "use Slice and Pad",
}
"""operator that the parser does not take → what to use in its place."""
MOST = 200


@dataclass(frozen=True)
class Parsed:
    """A network definition with the objects that it lives in.

    ``parser``: holds the weights that the network points to; it must live as long as the network. ``warnings``: what
    the parser said beside (64-bit floats taken as 32-bit ones, clamped constants).
    """

    builder: Any
    network: Any
    parser: Any
    warnings: tuple[str, ...] = ()

    def inputs(self) -> list[Declared]:
        """Names and shapes, -1 where dynamic."""
        tensors = [self.network.get_input(i) for i in range(self.network.num_inputs)]
        return [Declared(one.name, tuple(one.shape)) for one in tensors]


def parse(api: Api, path: Path) -> Parsed:
    """Parse an ONNX file into a strongly typed network.

    ``path``: of the file; external data are found beside it.

    Raises:
        BadInput: the parser refuses it; names each node, its operator and what to use instead.
    """
    log = logger(api)
    builder = api.trt.Builder(log)
    network = builder.create_network(api.creation_flags())
    parser = api.trt.OnnxParser(network, log)
    with listening() as said:
        taken = parser.parse_from_file(str(path))
    if not taken:
        raise _refused(api, path, parser, said)
    if network.num_outputs == 0:
        raise BadInput(f"{path} has no outputs", expected="a graph with at least one output")
    warnings = tuple(dict.fromkeys(" ".join(one.split())[:200] for one in said.warnings))
    return Parsed(builder, network, parser, warnings)


def _refused(api: Api, path: Path, parser: Any, said: list[str]) -> BadInput:
    named = _unsupported(api, path) or [_told(parser.get_error(i)) for i in range(parser.num_errors)]
    if not named:
        return BadInput(f"{api.flavour.target} cannot parse {path}: {reason(said)}", fix="Export it again.")
    shown = "; ".join(dict.fromkeys(text for text, _ in named[:6]))
    more = f" (and {len(named) - 6} more)" if len(named) > 6 else ""
    mends = list(dict.fromkeys(mend for _, mend in named if mend))
    fix = (
        f"{'; '.join(mends[:3])}.".format(target=api.flavour.target)
        if mends
        else "Run `deploykit inspect --layers` to see the node."
    )
    return BadInput(f"{api.flavour.target} cannot take {path}: {shown}{more}", fix=fix[:1].upper() + fix[1:])


def _unsupported(api: Api, path: Path) -> list[tuple[str, str | None]]:
    """Every node that has no importer, told: parsing alone stops at the first."""
    log = logger(api)
    builder = api.trt.Builder(log)
    network = builder.create_network(api.creation_flags())  # the parser points into it
    parser = api.trt.OnnxParser(network, log)
    supports = getattr(parser, "supports_model_v2", None) or getattr(parser, "supports_model", None)
    if supports is None:
        return []
    with listening():
        supports(path.read_bytes(), str(path))
    found = [parser.get_error(i) for i in range(parser.num_errors)]
    return [_told(one) for one in found if one.node_operator()]


def _told(error: Any) -> tuple[str, str | None]:
    """One parser error in words, and the mend where one is known."""
    op, node = error.node_operator(), error.node_name()
    said = " ".join(error.desc().split())
    if weight := re.search(r"Failed to import initializer: (\S+)$", said):
        return (
            f"the weight {weight.group(1)!r} has a type that it does not hold",
            "convert it to float32, float16, int64, int32 or int8 and export again",
        )
    if not op:
        text = re.sub(r"In node -1 with name:\s+and operator:\s+(?:\(\w+\): )?(?:[A-Z_]+: )?", "", said)
        return shortened(text, MOST), None
    what = f"{op} (node {node or error.node()})"
    if error.code().name.startswith("UNSUPPORTED_NODE") and said in ("false", ""):
        return f"{what} has no importer", ALTERNATIVES.get(op)
    if "Plugin not found" in said:
        return f"{what} is no ONNX operator that it knows, and no plugin of that name is loaded", (
            f"replace {op} by standard operators, or load its plugin library"
        )
    if "plugin creator" in said.lower():
        return f"{what} has no kernel in this library", ALTERNATIVES.get(op, "compute it outside the network")
    if "double" in said.lower():
        return f"{what} computes in float64: {said[:120]}", "export the model in float32"
    return f"{what}: {said[:160]}", ALTERNATIVES.get(op)


_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def nodes_of(metadata: str) -> list[str]:
    """Names of the nodes; the text itself where it has another form."""
    return _NODE.findall(metadata) or ([metadata] if metadata else [])
