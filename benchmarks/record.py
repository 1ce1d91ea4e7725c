"""How a benchmark's result is kept: the machine, the versions and the numbers as JSON in docs/results, and as its last
printed line.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.data.files import atomic

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results"


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "allocator": {
            key: value for key, value in os.environ.items() if key.startswith("MALLOC_") or key == "LD_PRELOAD"
        }
        or "default",
    }


def _lines(path):
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def keep(name: str, result: dict[str, Any], folder: Path | None = FOLDER) -> None:
    """Write docs/results/<name>.json (folder None: nowhere) and print the result as one line of JSON, the last."""
    if folder is not None:
        with atomic(Path(folder) / f"{name}.json") as path:
            path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    print(json.dumps(result))
