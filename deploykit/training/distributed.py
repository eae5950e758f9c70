"""Lightning Fabric set up for one process, or for those that torchrun or ``fabric run`` started."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from deploykit.base.environment import chosen_device
from deploykit.base.errors import BadInput
from deploykit.config.train import LoopConfig
from deploykit.models.batch_norm import BatchNorm

_PRECISION: dict[str, Literal["32-true", "16-mixed", "bf16-mixed"]] = {
    "fp32": "32-true",
    "fp16": "16-mixed",
    "bf16": "bf16-mixed",
}


def rank_from_environment() -> int:
    """The global rank that torchrun gave this process; 0 for a single one."""
    return int(os.environ.get("RANK", "0"))


def open_fabric(config: LoopConfig) -> Fabric:
    """Fabric on the device and in the processes that config and environment say, ready to set up modules.

    Raises:
        Unavailable: ``cuda`` is asked for and there is none.
        BadInput: fp16 on a CPU, or more processes than GPUs.
    """
    device = chosen_device(config.device)
    if device == "cpu" and config.precision == "fp16":
        raise BadInput("mixed fp16 trains on a GPU only", fix="Use --precision fp32, or bf16 on a CPU that has it.")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells what was asked for, and tips
    from_cli = os.environ.get("LT_CLI_USED") == "1"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    if device == "cuda" and local > torch.cuda.device_count():
        raise BadInput(
            "more processes than GPUs",
            got=f"{local} and {torch.cuda.device_count()}",
            fix="Use --device cpu, or fewer.",
        )
    if from_cli:
        return Fabric(accelerator=device, precision=_PRECISION[config.precision])
    fabric = Fabric(accelerator=device, precision=_PRECISION[config.precision], devices=local, num_nodes=world // local)
    fabric.launch()
    return fabric


def local_world() -> int:
    """How many processes of this run share the machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))


def summed(values: Tensor, fabric: Fabric) -> Tensor:
    """The sum of ``values`` over all processes."""
    if fabric.world_size == 1:
        return values
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return total


def share_statistics(module: nn.Module, fabric: Fabric) -> tuple[nn.Module, str | None]:
    """Make BatchNorm agree over processes where it can.

    Returns the module, and what to tell the user (None for a single process or a network without BatchNorm).
    """
    norms = any(isinstance(layer, BatchNorm) for layer in module.modules())
    if fabric.world_size == 1 or not norms:
        return module, None
    if fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module), "BatchNorm uses the statistics of the global batch"
    return module, "BatchNorm normalises by each process's share of the batch; the running statistics are process 0's"


@torch.no_grad()
def broadcast_buffers(module: nn.Module, fabric: Fabric) -> None:
    """Give every process the buffers of process 0, so that all judge the same network."""
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def leave(fabric: Fabric) -> None:
    """Wait for all processes, and have their group ended when the program ends, while Python still runs.

    Left to itself, the group's own threads (gloo's) may still want Python when it is going down, which kills the
    process that ends first with SIGABRT. Not for the way out of an error: a process that failed has operations open
    that the others will never answer, and to end the group would wait for them. Not at once either: a later training
    in the same program goes on with the group.
    """
    if fabric.world_size > 1:
        fabric.barrier()
        atexit.unregister(_end_group)
        atexit.register(_end_group)


def agreed(made: bool, fabric: Fabric) -> bool:
    """Whether process 0 found the artifact made already; then all leave."""
    known = bool(fabric.broadcast(made))
    if known:
        leave(fabric)
    return known


def _end_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
