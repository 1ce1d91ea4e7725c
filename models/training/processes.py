"""The processes that train together: accelerate's, one per GPU, and how they are started."""

import os
import subprocess
import sys
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, GradientAccumulationPlugin


def accelerator_of(device: torch.device | str, pieces: int = 1) -> Accelerator:
    """The Accelerator of this process.   pieces: backward passes per step.

    Said here are only the processes: precision, pieces and compiling are the TrainingConfig's, whatever `accelerate
    config` has noted; and where the networks lie, because alone accelerate would take the first GPU, not the one asked
    for.
    """
    # Published networks have weights that nothing uses: the means over all processes must not wait for them.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        cpu=torch.device(device).type == "cpu",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=pieces, sync_with_dataloader=False),
        mixed_precision="no",
        dynamo_backend="no",
        device_placement=False,
        kwargs_handlers=[unused],
    )
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM):
        raise ValueError(
            f"accelerate is set up for {kind.value}; these networks fit on every GPU: choose "
            "plain multi-GPU (accelerate config), or use torchrun"
        )
    return accelerator


def device_of(accelerator: Accelerator, asked: torch.device | str) -> torch.device:
    """Where this process computes: alone as asked, among many on the accelerator's."""
    return torch.device(asked) if accelerator.num_processes == 1 else accelerator.device


def share_of(batch_size: int, processes: int, pieces: int) -> int:
    """Items of one process and piece."""
    if batch_size % (processes * pieces):
        raise ValueError(
            f"batchSize={batch_size} cannot be shared by {processes} processes in {pieces} pieces each; "
            f"use a multiple of {processes * pieces}"
        )
    return batch_size // processes // pieces


def own_gpu(gpu_ids: str) -> str:
    """The part of --gpu_ids that is this process's: with torchrun the GPU of its own number."""
    return gpu_ids if str(gpu_ids).startswith("-") else os.environ.get("LOCAL_RANK", gpu_ids)


def spread(gpu_ids: str, command: Sequence[str]) -> int | None:
    """Run a script once per GPU of "0,1,2,3" and return its exit code; None if this process is to train by itself.

    command: the script's name and its flags.   With one GPU or none, or started by torchrun, there is nothing to
    spread.
    """
    asked = [gpu.strip() for gpu in str(gpu_ids).split(",") if gpu.strip()]
    if "LOCAL_RANK" in os.environ or len(asked) < 2:
        return None
    usable = [gpu for gpu in asked if gpu.isdigit() and int(gpu) < torch.cuda.device_count()]
    if len(usable) < len(asked):
        print(
            f"--gpu_ids {gpu_ids}: of these this machine has {', '.join(usable) or 'none'}; training on "
            f"{'GPU ' + ', '.join(usable) if usable else 'the CPU'}",
            flush=True,
        )
    if len(usable) < 2:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [visible.split(",")[int(gpu)] for gpu in usable] if visible else usable
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={len(usable)}", *command]
    return subprocess.run(run, env={**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(names)}).returncode
