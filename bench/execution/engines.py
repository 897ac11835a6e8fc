"""The flags of the engines beyond this machine, and the engine that they ask for."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from bench.cli import chosen, number
from bench.errors import UsageError
from bench.execution.remote import Engine

EXECUTORS = ("local", "slurm", "ray")


def option(text: str) -> tuple[str, str | bool]:
    """``KEY=VALUE``, or ``KEY`` alone for an option without a value."""
    key, equals, value = text.removeprefix("--").partition("=")
    if not key or (equals and not value) or not key.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; write an option of sbatch as KEY=VALUE")
    return key, value if equals and value != "True" else True


def add_flags(parser: argparse.ArgumentParser) -> None:
    """``--executor`` and what goes with it."""
    group = parser.add_argument_group("beyond this machine")
    group.add_argument(
        "--executor", type=chosen(EXECUTORS), default="local", metavar="NAME", help=", ".join(EXECUTORS)
    )
    group.add_argument(
        "--slurm", type=option, nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="any option of sbatch: partition=gpu gres=gpu:1 time=4:00:00",
    )  # fmt: skip
    group.add_argument(
        "--detach", action="store_true", help="leave the jobs in the queue; the same command collects"
    )
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster; default: one on this machine")
    group.add_argument(
        "--ray-gpus", type=number(float, 0), metavar="X", help="GPUs per job, or a share of one: 0.5"
    )


def check(args: Namespace) -> None:
    """Refuse flags that the executor has no use for.

    Raises:
        UsageError: naming the flag.
    """
    for flag, given, executor in (
        ("--slurm", args.slurm, "slurm"),
        ("--detach", args.detach, "slurm"),
        ("--ray-address", args.ray_address, "ray"),
        ("--ray-gpus", args.ray_gpus, "ray"),
    ):
        if given and args.executor != executor:
            raise UsageError(f"{flag}: is for --executor {executor}, not {args.executor}")
    if args.executor != "local":
        if args.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"--device: {args.device!r} is not allowed with --executor {args.executor}; auto, cpu or cuda"
            )
        if args.workers == 0:
            raise UsageError(f"--workers: 0 runs in this process, not with --executor {args.executor}")


def engine(args: Namespace, out: Path) -> Engine:
    """What ``--executor`` names.

    Raises:
        UsageError: it is not to be had here.
    """
    if args.executor == "slurm":
        from bench.execution.slurm import Slurm

        return Slurm(out / "slurm", dict(args.slurm), args.workers)
    from bench.execution.ray import Ray

    return Ray(args.ray_address, args.ray_gpus or 0.0, args.workers)


def on_gpus(args: Namespace) -> bool:
    """Whether jobs of an engine get GPUs."""
    asked = args.ray_gpus or any("gpu" in f"{k}={v}" or "shard" in f"{v}" for k, v in args.slurm)
    return args.device == "cuda" or (args.device == "auto" and bool(asked))


def words(args: Namespace) -> list[str]:
    """The same executor as flags of another command."""
    found = ["--executor", args.executor]
    if args.slurm:
        found += ["--slurm", *(key if value is True else f"{key}={value}" for key, value in args.slurm)]
    for flag, given in (("--ray-address", args.ray_address), ("--ray-gpus", args.ray_gpus)):
        found += [flag, str(given)] if given is not None else []
    return found
