"""The machine that a run trains on: what is recorded, and how its arithmetic is set up."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def set_up(device: str) -> None:
    """Threads and matmul path of a worker process: one thread on a CPU."""
    if device == "cpu":
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision(matmul_precision())


@cache
def matmul_precision() -> str:
    """``medium`` where it is as accurate as ``highest`` on this CPU, else ``highest``.

    On some CPUs ``medium`` only selects another, faster kernel; on those with bfloat16 units it
    rounds. One product against float64 tells the two apart.
    """
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(256, 256, generator=generator) - 0.5 for _ in range(2))
    exact = a.double() @ b.double()
    error = {}
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        error[precision] = float((a @ b - exact).abs().max())
    torch.set_float32_matmul_precision(before)
    return "medium" if error["medium"] <= 2 * error["highest"] else "highest"


def describe(device: str) -> dict[str, Any]:
    """What goes into a record: versions, device, arithmetic, commit."""
    return {
        "python": platform.python_version(),
        **{
            name.replace("-", "_"): _version(name)
            for name in ("torch", "torchvision", "torch-fidelity", "numpy")
        },
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu(),
        "device": device if device == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})",
        "matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def peak_memory_mb(device: str) -> float:
    """Peak memory of this process so far, in MB: the GPU's where it trains on one."""
    if device == "cpu":
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())} × {os.cpu_count()}"


@cache
def _commit() -> str | None:
    """The commit of the code, ``-dirty`` where it was changed; ``None`` outside a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
