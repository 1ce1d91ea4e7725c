"""Where and how exactly the numbers are computed: decided here, once, in main()."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.options.devices import best_device, check_dtype, half_or_full, start_line

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}  # our names and torch's
DEVICES = r"auto|cpu|mps|cuda(:\d{1,3})?"
THREADS_PER_CORE = 8  # more gain nothing, and thousands end the process inside OpenMP


@dataclass(frozen=True)
class Runtime:
    """device and dtype of the networks; seed for everything random.

    slicing: attention in slices, slower and smaller.
    """

    device: torch.device
    dtype: torch.dtype
    seed: int = field(default=0, compare=False)  # runtimes of two seeds are equal: a loaded model serves both
    slicing: bool = False


def dtype_of(name: str) -> torch.dtype:
    """torch's type of one of DTYPES."""
    import torch

    if name not in DTYPES:
        raise ValueError(f"runtime.dtype={name} is unknown; use auto, {', '.join(DTYPES)}")
    return getattr(torch, DTYPES[name])


def make_runtime(
    device: str = "auto", dtype: str = "auto", seed: int = 0, threads: int = 0, *, slicing: bool = False
) -> Runtime:
    """Runtime from option strings.

    device: auto (a GPU if there is one: cuda, else mps) | cpu | cuda | cuda:1 | mps.
    dtype: auto (fp16 on a GPU that has it, else fp32) | fp32 | fp16 | bf16.
    threads: CPU threads of torch, 0 = torch's choice; at most THREADS_PER_CORE per core are started.
    slicing: see Runtime.
    Raises ValueError for a device that this machine does not have.
    """
    if not re.fullmatch(DEVICES, str(device)):
        raise ValueError(f"runtime.device={device} is not known here; use auto, cpu, cuda, cuda:N or mps")
    if threads < 0:
        raise ValueError(f"runtime.threads={threads}: expected a number of CPU threads, or 0")
    import torch

    place = torch.device(best_device() if device == "auto" else device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"runtime.device={place} asked for, but torch sees no GPU; use runtime.device=cpu")
    if place.type == "cuda" and place.index is not None and place.index >= torch.cuda.device_count():
        raise ValueError(f"runtime.device={place}: torch sees {torch.cuda.device_count()} GPU(s), numbered from 0")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("runtime.device=mps asked for, but this machine has no such device; use runtime.device=cpu")
    if dtype == "auto":
        dtype = half_or_full(place, "fp16")
    runtime = Runtime(place, dtype_of(dtype), seed, slicing)
    check_dtype(place, dtype, "runtime.dtype")
    if threads:
        most = THREADS_PER_CORE * (os.cpu_count() or 1)
        if threads > most:
            print(f"threads={threads}: {most} are started, {THREADS_PER_CORE} for each core", flush=True)
        torch.set_num_threads(min(threads, most))
    return runtime


def first_process() -> bool:
    """This process says and writes what one should; of many that train together, the others do not."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line, from the first process."""
    if first_process():
        print(text, flush=True)


def runtime_of(gpu_ids: str, seed: int = 0, threads: int = 0) -> Runtime:
    """Runtime of training and test scripts, in float32; the first process says what it is (start_line).

    gpu_ids: "0,1": the first of them if this machine has a GPU, else the CPU; "-1": the CPU.
    """
    import torch

    first = str(gpu_ids).split(",")[0].strip()
    device = "cpu" if first.startswith("-") or not torch.cuda.is_available() else f"cuda:{first}"
    runtime = make_runtime(device, "fp32", seed, threads)
    say(start_line(runtime))
    return runtime


def hardware(device: str | torch.device = "cpu") -> str:
    """What a training ran on, for its card: "AMD EPYC 9R14, 2 cores, 1 thread, no GPU" or "NVIDIA H200, ..."."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    threads = torch.get_num_threads()
    cpu = f"{model}, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)}"
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if torch.device(device).type == "cuda" else f"{cpu}, no GPU"


def free_memory(device: torch.device) -> int | None:
    """Bytes that may still be taken on a GPU, or of main memory (the least of the machine's and the container's).

    None where the system does not tell.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return free_main_memory()


def free_main_memory() -> int | None:
    """Bytes that may still be taken of main memory: the least of the machine's and the container's; None = unknown."""
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = [line.split() for line in meminfo.read_text().splitlines()]
        found += [int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"]
    limit, used, parts = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current", "stat"))
    if limit.is_file() and used.is_file() and parts.is_file() and limit.read_text().strip().isdigit():
        sizes = dict(line.split() for line in parts.read_text().splitlines())
        files = sum(int(sizes.get(name, 0)) for name in ("active_file", "inactive_file"))  # given back when asked for
        found.append(int(limit.read_text()) - int(used.read_text()) + files)
    return min(found, default=None)
