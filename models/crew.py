"""Crew: the processes that train together, and how they are started, one per GPU."""

import os
import subprocess
import sys

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType

BUCKET = 2**25  # numbers that are sent to the other processes at once


class Crew:
    """The processes that train together; accelerate finds out who they are."""

    def __init__(self, device="cpu"):
        accelerator = Accelerator(cpu=torch.device(device).type == "cpu")
        if accelerator.distributed_type in (
            DistributedType.DEEPSPEED,
            DistributedType.FSDP,
            DistributedType.MEGATRON_LM,
        ):
            raise ValueError(
                f"accelerate is set up for {accelerator.distributed_type.value}; these networks fit on every GPU: choose "
                "plain multi-GPU (accelerate config), or use torchrun"
            )
        self.world, self.rank = accelerator.num_processes, accelerator.process_index
        self.first = accelerator.is_main_process
        self.device = accelerator.device if self.world > 1 else torch.device(device)

    def share_of(self, batch_size, pieces):
        """Items of one process and piece."""
        if batch_size % (self.world * pieces):
            raise ValueError(
                f"batchSize={batch_size} cannot be shared by {self.world} processes in {pieces} pieces each; "
                f"use a multiple of {self.world * pieces}"
            )
        return batch_size // self.world // pieces

    def average(self, numbers):
        """The mean over all processes of a list of numbers."""
        if self.world == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64, device="cpu" if self.device.type == "cpu" else self.device)
        dist.all_reduce(total)
        return (total / self.world).tolist()

    def average_gradients(self, parameters):
        """Replace gradients by their mean over all processes.

        Two losses that come from one forward pass do not fit torch's DistributedDataParallel, which expects one backward pass each.
        """
        bucket, size = [], 0
        for parameter in parameters if self.world > 1 else ():
            if parameter.grad is not None:
                bucket, size = [*bucket, parameter.grad], size + parameter.numel()
            if size > BUCKET:
                self._average(bucket)
                bucket, size = [], 0
        if bucket:
            self._average(bucket)

    def _average(self, gradients):
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, (flat / self.world).split([gradient.numel() for gradient in gradients])):
            gradient.copy_(mean.view(gradient.shape))

    def same_weights(self, model):
        """All begin with the first one's."""
        for tensor in (*model.parameters(), *model.buffers()) if self.world > 1 else ():
            own = tensor.data.contiguous()
            dist.broadcast(own, 0)
            tensor.data.copy_(own)

    def wait(self):
        """Go on together."""
        if self.world > 1:
            dist.barrier()


def own_gpu(gpu_ids):
    """The part of --gpu_ids that is this process's: with torchrun the GPU of its own number."""
    return gpu_ids if str(gpu_ids).startswith("-") else os.environ.get("LOCAL_RANK", gpu_ids)


def spread(gpu_ids, command):
    """Run a script once per GPU of "0,1,2,3" and return its exit code; None if this process is to train by itself.

    command: list of words, the script's name and its flags.   With one GPU or none, or started by torchrun, there is nothing to spread.
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
