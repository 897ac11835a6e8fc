"""The devices of the machine that this runs on."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.errors import UsageError, nearest

DRIVERS = ("nvidia*", "nvhost*", "nvmap*", "dxg", "kfd")
"""Files in /dev of drivers that PyTorch's CUDA devices need: NVIDIA's, WSL's, AMD's."""


def devices(text: str) -> list[str]:
    """``cuda:0,2`` -> ``["cuda:0", "cuda:2"]``; ``auto``: all GPUs, or else the CPU.

    Raises:
        UsageError: no such device on this machine.
    """
    kind, _, numbers = text.partition(":")
    if text == "cpu":
        return ["cpu"]
    if text != "auto" and kind != "cuda":
        known = nearest(text.casefold().replace("gpu", "cuda"), ["auto", "cpu", "cuda"])
        raise UsageError(f"--device: {text!r} is not allowed; auto, cpu, cuda or cuda:0,1{known}")
    if text == "auto" and "torch" not in sys.modules and not _has_driver():
        return ["cpu"]
    import torch

    found = torch.cuda.device_count()
    if text == "auto":
        return [f"cuda:{k}" for k in range(found)] or ["cpu"]
    wanted = numbers.split(",") if numbers else [str(k) for k in range(found)]
    if not found or not {*wanted} <= {str(k) for k in range(found)}:
        raise UsageError(f"--device: {text!r} is not on this machine, which has {found} CUDA devices")
    if len({*wanted}) < len(wanted):
        raise UsageError(f"--device: {text!r} names a device twice; --workers is for several on one")
    return [f"cuda:{k}" for k in wanted]


def _has_driver() -> bool:
    """Whether there may be GPUs. Otherwise PyTorch, which takes seconds to import, need not be asked."""
    return any(next(Path("/dev").glob(name), None) for name in DRIVERS)
