"""The machine that a run trains on: what is recorded, and how its arithmetic is set up."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from baselines.training import settings


def set_up(device: str, precision: str = "float32", threads: int = 1) -> None:
    """Prepare a worker process for a run: threads, arithmetic, and peak memory counted from here.

    All else that PyTorch keeps for a whole process is as in a fresh one, whatever models did before.

    Raises:
        ValueError: TF32 on a CPU, which has none.
    """
    settings.start_afresh()
    gc.collect()  # a trainer and its CUDA graph refer to each other
    gc.freeze()  # what is there now will stay
    set_arithmetic(device, precision, threads)
    if device == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.set_device(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    global _as_set_up
    _as_set_up = settings.read()


def set_arithmetic(device: str, precision: str = "float32", threads: int = 1) -> None:
    """Set what rounding depends on.

    So many threads on a CPU. With ``precision`` ``tf32`` a GPU rounds the operands of products and
    convolutions to TF32, else of neither; PyTorch by itself would of convolutions.

    Raises:
        ValueError: TF32 on a CPU, which has none.
    """
    rounds = precision == "tf32"
    if device == "cpu":
        if rounds:
            raise ValueError("precision tf32 is a GPU's, and this runs on a CPU")
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matmul_precision())
    else:
        torch.set_float32_matmul_precision("high" if rounds else "highest")
        torch.backends.cudnn.allow_tf32 = rounds
        torch.backends.cudnn.deterministic = True  # a run that is repeated or resumed gives the same numbers


_as_set_up: settings.Values = settings.FRESH


def put_back() -> list[str]:
    """What a model changed since :func:`set_up` is as set up again; returns it in words."""
    return settings.put(_as_set_up)


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, where it can be told to (glibc).

    It would return every large tensor to the kernel and get fresh pages for the next: 14,000 page
    faults, a tenth of the time, in an iteration of a small convolutional network.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        libc.mallopt(trim_threshold, 2**30)
        libc.mallopt(mmap_threshold, 2**30)


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
    """What goes into a record: when, versions, device, instruction set, setting for float32 products, commit.

    The instruction set is the one that PyTorch's kernels use; the variables that narrow it, for them and
    for oneDNN, are recorded as they are set, ``None`` where they are not.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{
            name.replace("-", "_"): _version(name)
            for name in ("torch", "torchvision", "torch-fidelity", "numpy")
        },
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "aten_cpu_capability": os.environ.get("ATEN_CPU_CAPABILITY"),
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA")),
        "device": device if device == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})",
        "matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def compute_s(device: str) -> float:
    """A clock of compute, in seconds; differences of it are what something cost.

    On a CPU: processor time of this process, of all its threads. It does not run while other processes have
    the processor. A GPU has no such counter for one process: there it is the time on the wall, in which this
    process held the device.
    """
    return time.process_time() if device == "cpu" else time.perf_counter()


def energy_j(device: str) -> float | None:
    """Joules that a GPU has used since its driver was loaded; ``None`` where NVML does not tell."""
    if device == "cpu":
        return None
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except ImportError:
        return None
    except nvml.NVMLError:
        return None


def peak_memory_mb(device: str) -> float:
    """Peak memory in MB: of the GPU since :func:`set_up`, or of this process since it started."""
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
