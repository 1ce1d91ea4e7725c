"""Where and how exactly the numbers are computed: decided here, once, in main()."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch
from text2cinemagraph.options.devices import best_device, check_dtype, half_or_full, start_line

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Runtime:
    """device and dtype of the networks; seed for everything random.

    slicing: attention in slices, slower and smaller.
    """

    device: torch.device
    dtype: torch.dtype
    seed: int = field(default=0, compare=False)  # runtimes of two seeds are equal: a loaded model serves both
    slicing: bool = False


def make_runtime(device="auto", dtype="auto", seed=0, threads=0, slicing=False):
    """Runtime from option strings.

    device: auto (a GPU if there is one: cuda, else mps) | cpu | cuda | cuda:1 | mps.
    dtype: auto (fp16 on a GPU that has it, else fp32) | fp32 | fp16 | bf16.
    threads: CPU threads of torch, 0 = torch's choice.   slicing: see Runtime.
    Raises ValueError for a device that this machine does not have.
    """
    if device == "auto":
        device = best_device()
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"runtime.device={device} is not a torch device; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"runtime.device={device} asked for, but torch sees no GPU; use runtime.device=cpu")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise ValueError(f"runtime.device={device}: torch sees {torch.cuda.device_count()} GPU(s), numbered from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("runtime.device=mps asked for, but this machine has no such device; use runtime.device=cpu")
    if threads < 0:
        raise ValueError(f"runtime.threads={threads}: expected a number of CPU threads, or 0")
    if dtype == "auto":
        dtype = half_or_full(device, "fp16")
    if dtype not in DTYPES:
        raise ValueError(f"runtime.dtype={dtype} is unknown; use auto, {', '.join(DTYPES)}")
    check_dtype(device, dtype, "runtime.dtype")
    if threads:
        torch.set_num_threads(threads)
    return Runtime(device, DTYPES[dtype], seed, slicing)


def runtime_of(gpu_ids, seed=0, threads=0):
    """Runtime of training and test scripts, in float32; the first process says what it is (start_line).

    gpu_ids: "0,1": the first of them if this machine has a GPU, else the CPU; "-1": the CPU.
    """
    first = str(gpu_ids).split(",")[0].strip()
    device = "cpu" if first.startswith("-") or not torch.cuda.is_available() else f"cuda:{first}"
    runtime = make_runtime(device, "fp32", seed, threads)
    if os.environ.get("RANK", "0") == "0":
        print(start_line(runtime), flush=True)
    return runtime


def hardware(device="cpu"):
    """What a training ran on, for its card: "AMD EPYC 9R14, 2 cores, 1 thread, no GPU" or "NVIDIA H200, ..."."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    threads = torch.get_num_threads()
    cpu = f"{model}, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)}"
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if torch.device(device).type == "cuda" else f"{cpu}, no GPU"
