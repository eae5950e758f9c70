"""Pruning of every torchvision classification network and of timm's split and shuffle networks, as a table.

``python -m tests.pruning.networks_table`` fills in the rows that are missing and can be stopped at any time;
``tests/pruning/test_networks.py`` makes each row anew and holds it to what it must show.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "recipes" / "results"
SIZES = {"torchvision:inception_v3": 299}
SPLIT = ("timm:cspresnet50", "timm:res2net50_26w_4s", "timm:cspdarknet53", "timm:ghostnet_100", "timm:dla34")
TRANSFORMERS = ("vit_", "swin_", "maxvit")
PAGE = FOLDER.parents[1] / "docs" / "pruning.md"
MARK, END = "<!-- networks that prune -->", "<!-- end of networks that prune -->"
MACS = 0.5
ROUNDS = 15


def names() -> list[str]:
    """All classification networks of torchvision, the smallest first, then some of timm that split their channels."""
    import torchvision

    def parameters(name: str) -> int:
        return max(w.meta["num_params"] for w in torchvision.models.get_model_weights(name))

    known = torchvision.models.list_models(module=torchvision.models)
    return [*(f"torchvision:{name}" for name in sorted(known, key=parameters)), *SPLIT]


def row_of(name: str) -> dict[str, Any]:
    """Prune one network with random weights to half its MACs: exact? reloads? how much faster on ONNX Runtime's CPU?"""
    import torch

    from deploykit.base.errors import DeploykitError
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.commands.prune import prune
    from deploykit.config.prune import PruneConfig
    from deploykit.models import build, load_model, parse_arch, save_model
    from deploykit.pruning.check_graph import prunable_graph, some_atoms
    from deploykit.pruning.surgery import mask, remove

    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = (SIZES.get(name, 224),) * 2
    arch = parse_arch(name)
    module = _lively(build(arch, 1000).eval())
    row: dict[str, Any] = {"model": name, "size": size[0], "transformer": name.split(":")[1].startswith(TRANSFORMERS)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_model(path, module, arch, Preprocessing(size), [str(i) for i in range(1000)])
        start = time.perf_counter()
        try:
            graph = prunable_graph(module, size)
            row |= {
                "groups": len(graph.groups),
                "kept": len(graph.kept),
                "graph_s": round(time.perf_counter() - start, 1),
            }
            removed = some_atoms(graph, graph.groups, seed=1)
            pruned, zeroed = copy.deepcopy(module), copy.deepcopy(module)
            remove(pruned, graph, removed)
            mask(zeroed, graph, removed)
            x = torch.randn(1, 3, *size)
            with torch.inference_mode():
                expected, got, whole = zeroed(x), pruned(x), module(x)
            row["error"] = float((got - expected).abs().max() / expected.abs().max())
            row["moved"] = float((whole - expected).abs().max() / expected.abs().max())
            del pruned, zeroed
            result = prune(path, config=PruneConfig(macs=MACS, threads=1))  # loads the file again and compares
            row |= {
                "pruned": True,
                "macs": round(result.facts["macs"]["kept"], 4),
                "params": round(result.facts["params"]["kept"], 4),
                "reloads": True,
                "seconds": round(time.perf_counter() - start, 1),
            }
            loaded = load_model(result.output).module
            row["speedup"] = _speedup(module, loaded, size, Path(folder))
            row["trains"] = _trains(loaded, size)
        except DeploykitError as error:
            row |= {"pruned": False, "reason": error.line()}
    return row


def _trains(module: Any, size: tuple[int, int]) -> bool:
    """Whether a step of training on two pictures reaches its parameters, with finite gradients."""
    import torch

    module.train()
    given = module(torch.randn(2, 3, *size))
    outputs = [given] if isinstance(given, torch.Tensor) else [one for one in given if one is not None]
    torch.stack([one.square().mean() for one in outputs]).sum().backward()
    gradients = [one.grad for one in module.parameters() if one.grad is not None]
    return len(gradients) > 0 and all(bool(torch.isfinite(one).all()) for one in gradients)


def _lively(module: Any) -> Any:
    """Statistics and heads that are not those of a new network, or any output would agree with any other."""
    import torch
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    for weight in module.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
        elif weight.any() and float(weight.detach().abs().max()) < 1e-4:  # the layer scale of ConvNeXt
            torch.nn.init.uniform_(weight, 0.1, 0.5)
    return module


def _speedup(whole: Any, pruned: Any, size: tuple[int, int], folder: Path) -> float | None:
    """The paired ratio of interleaved calls, one thread, batch 1; None where the quick exporter cannot take the network."""
    import warnings

    import numpy as np
    import onnxruntime as ort
    import torch

    sessions = []
    x = torch.randn(1, 3, *size)
    for index, module in enumerate((whole, pruned)):
        path = folder / f"{index}.onnx"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17)
        except Exception:  # the older exporter ends in many ways; the speed is then not told
            return None
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        sessions.append(ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    feed = {sessions[0].get_inputs()[0].name: x.numpy()}
    ratios = []
    for _ in range(ROUNDS + 1):
        times = []
        for session in sessions:
            start = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return round(float(np.median(ratios[1:])), 2)


def read_rows() -> dict[str, dict[str, Any]]:
    """The rows so far, by model."""
    place = FOLDER / "prune_networks.json"
    return {row["model"]: row for row in json.loads(place.read_text())["rows"]} if place.exists() else {}


def write_row(row: dict[str, Any]) -> None:
    """Add or replace one row in the JSON and Markdown tables."""
    from deploykit.base.atomic import write_json, write_text
    from deploykit.base.environment import cpu, library_versions

    known = cpu()
    row["libraries"] = library_versions(("torch", "torchvision", "timm", "onnxruntime", "onnxruntime-gpu"))
    rows = sorted((read_rows() | {row["model"]: row}).values(), key=lambda one: one["model"])
    machine = {"cpu": known["model"], "cores": os.cpu_count()}
    write_json(FOLDER / "prune_networks.json", {"machine": machine, "rows": rows})
    write_text(FOLDER / "prune_networks.md", markdown(rows, machine))


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The table for people."""
    done = [row for row in rows if row["pruned"]]
    names = dict.fromkeys(name for row in rows for name in row["libraries"])
    versions = ", ".join(
        f"{name} {' or '.join(sorted({row['libraries'][name] for row in rows if name in row['libraries']}))}"
        for name in names
    )
    lines = [
        "# Pruning of networks",
        "",
        f"{len(done)} of {len(rows)} networks are pruned to at most {MACS:.0%} of their MACs (random weights, L2, local). **Error**: "
        "largest difference of the outputs between the network without a random half of every group's channels and the whole one whose "
        "readers of these channels are zero, over the largest output; **moved**: how far that is from the unpruned network. "
        "Reloads: the file, built from the stock architecture, answers bit by bit alike. **Speed-up**: ONNX Runtime CPU, fp32, batch 1, "
        "one thread, median of interleaved ratios on a busy machine: a hint, not a benchmark. Kept: layers whose width stays, head "
        "included. Transformers are no CNNs and are listed for what their linear layers give.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; {versions}",
        "",
        "| Network | Groups | Kept | Error | Moved | MACs | Parameters | Reloads | Speed-up | Graph, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if not row["pruned"]:
            lines.append(f"| {row['model']} | | | | | not pruned: {row['reason'].replace('|', ' ')} | | | | |")
            continue
        speed = "" if row["speedup"] is None else f"{row['speedup']:.2f}×"
        lines.append(
            f"| {row['model']} | {row['groups']} | {row['kept']} | {row['error']:.1e} | {row['moved']:.1e} "
            f"| {row['macs']:.1%} | {row['params']:.1%} | yes | {speed} | {row['graph_s']} |"
        )
    return "\n".join(lines) + "\n"


def in_words(rows: list[dict[str, Any]]) -> str:
    """The rows as the page on pruning tells them."""
    done = [row for row in rows if row["pruned"]]
    by_source: dict[str, list[str]] = {}
    for row in done:
        source, _, name = row["model"].partition(":")
        by_source.setdefault(source, []).append(name)
    worst = max(row["error"] for row in done)
    text = f"Tried and pruned to half the MACs, exact (largest relative error {worst:.0e}), reloaded bit by bit ({len(done)} so far): "
    text += "; ".join(f"{source}: {', '.join(names)}" for source, names in by_source.items()) + "."
    failed = [f"{row['model']} ({row['reason']})" for row in rows if not row["pruned"]]
    return text + (f" Not pruned: {'; '.join(failed)}." if failed else "")


def write_page(rows: list[dict[str, Any]]) -> None:
    """Replace what stands between the marks."""
    from deploykit.base.atomic import write_text

    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(MARK)
    _, _, tail = rest.partition(END)
    write_text(PAGE, f"{head}{MARK}\n{in_words(rows)}\n{END}{tail}")


def main() -> None:
    """All rows that are missing, the smallest network first; names: these anew; ``--page``: tell them there."""
    if sys.argv[1:] == ["--page"]:
        write_page(list(read_rows().values()))
        return
    for name in sys.argv[1:] or [one for one in names() if one not in read_rows()]:
        row = row_of(name)
        write_row(row)
        print(name, row, flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
