"""What this machine's devices can do: which one to take, in which precision, and what their errors mean in words."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.options.runtime import Runtime

NATIVE_BF16 = (8, 0)  # compute capability of Ampere, the first that multiplies bf16; older ones only emulate it, slowly
NATIVE_FP16 = (5, 3)  # and of the first that has fp16 arithmetic
DTYPE_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
GPU_TORCH = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu130"


def best_device() -> str:
    """ "cuda", where torch sees such a GPU, else "mps" (Apple's), else "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def half_or_full(device: torch.device, wanted: str) -> str:
    """The precision to compute in, by what the device has in hardware.

    wanted: "fp16" or "bf16", what suits the network best on a new GPU.  Returns it where the GPU computes it; "fp16"
    for bf16 on a GPU before Ampere; "fp32" on a CPU, on Apple's GPUs, and on GPUs without fp16 arithmetic.
    """
    import torch

    if torch.device(device).type != "cuda":
        return "fp32"
    capability = torch.cuda.get_device_capability(device)
    if wanted == "bf16" and capability >= NATIVE_BF16:
        return "bf16"
    return "fp16" if capability >= NATIVE_FP16 else "fp32"


def full_if_it_fits(device: torch.device, needed: float) -> str:
    """ "fp32" on a CPU, and on a GPU that has `needed` bytes of memory; "fp16" on a smaller one that computes it."""
    import torch

    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < needed:
        return half_or_full(device, "fp16")
    return "fp32"


def check_dtype(device: torch.device, dtype: str, option: str) -> None:
    """ValueError where a precision that was asked for is none of the device's.  option: its name, for the message."""
    import torch

    if dtype == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < NATIVE_BF16:
        major, minor = torch.cuda.get_device_capability(device)
        raise ValueError(
            f"{option}=bf16: {torch.cuda.get_device_name(device)} (compute capability {major}.{minor}) only emulates "
            "it; use fp16 or fp32"
        )
    if dtype != "fp32" and device.type == "mps":
        raise ValueError(f"{option}={dtype}: on mps only fp32 is tested; use fp32 or auto")


def start_line(runtime: Runtime) -> str:
    """What a script computes on: "device: NVIDIA H100 (cuda:0), fp16, 8 threads"; a GPU that lies idle is told."""
    import torch

    device = runtime.device
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)} ({device})"
    else:
        name = {"cpu": "CPU", "mps": "Apple GPU (mps)"}.get(device.type, str(device))
    threads = torch.get_num_threads()
    dtype = DTYPE_NAMES[str(runtime.dtype).removeprefix("torch.")]
    line = f"device: {name}, {dtype}, {threads} thread{'s' * (threads != 1)}"
    if device.type == "cpu" and torch.version.cuda is None and torch.version.hip is None and has_nvidia_gpu():
        line += f"; there is an NVIDIA GPU, but this torch is built for CPUs: {GPU_TORCH}"
    elif device.type == "cpu" and torch.version.cuda and not torch.cuda.is_available() and has_nvidia_gpu():
        line += f"; there is an NVIDIA GPU, but torch {torch.__version__} cannot use it: update its driver"
    return line


def has_nvidia_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU with its driver, whatever torch can do."""
    return os.path.exists("/proc/driver/nvidia/gpus") or shutil.which("nvidia-smi") is not None


# What the allocators and the CUDA runtime say -> what it means and what to do. The first that is found counts.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Insufficient memory",
    "OutOfMemory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Unable to allocate",
)
LESS_MEMORY = (
    "set runtime.slicing=true, run stage by stage (--stage s1), or take a smaller size, fewer frames, a smaller batch"
)
MACHINE_ERRORS = (
    (
        ("no kernel image is available", "not compiled with CUDA enabled for", "invalid device function"),
        "this torch has no kernels for this GPU (too old or too new for it); install one that has "
        "(pytorch.org/get-started) or use runtime.device=cpu",
    ),
    (
        (
            "driver version is insufficient",
            "driver on your system is too old",
            "Unexpected error from cudaGetDeviceCount",
        ),
        "the NVIDIA driver is too old for this torch; update it, or install the torch of an older CUDA, "
        "or use runtime.device=cpu",
    ),
    (
        ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "MPS backend", "HIP error"),
        "the GPU reports an error; run it again, and if it comes back use runtime.device=cpu",
    ),
)


def machine_error(error: BaseException) -> str | None:
    """What an error of the machine (memory, GPU, driver) means and what to do, in one line; None for any other."""
    text = " ".join(str(error).split())
    from_machine = isinstance(error, MemoryError | RuntimeError) or type(error).__module__ == "cv2"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        from_machine, text = True, f"out of memory: {text}"
    if not from_machine:
        return None
    if isinstance(error, MemoryError) or any(sign in text or sign in type(error).__name__ for sign in OUT_OF_MEMORY):
        said = text.split(". ")[0] or "out of memory"
        return f"not enough memory ({said if len(said) <= 40 else said[:37] + '...'}); {LESS_MEMORY}"
    return next((line for signs, line in MACHINE_ERRORS if any(sign in text for sign in signs)), None)


def reset_peak(device: torch.device) -> None:
    """Begin to watch how much memory is taken from here on."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the process's own high-water mark begins anew
    except OSError:
        pass


def peak_memory(device: torch.device) -> int:
    """The most bytes taken since reset_peak: of the GPU's memory by torch, or of main memory by this process
    (of its whole life where the system keeps no other mark).
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
