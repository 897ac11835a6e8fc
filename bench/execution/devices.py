"""The devices of the machine that this runs on."""

from __future__ import annotations

from bench.errors import UsageError, nearest


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
