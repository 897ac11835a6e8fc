"""The flags that say where runs are computed: ``bench.run`` and ``bench.tune`` share them."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from baselines.registry import OURS
from bench.cli import Parser, chosen, number, path
from bench.data.datasets import SIDES, with_size
from bench.errors import UsageError, nearest, printable
from bench.execution.devices import devices
from bench.execution.launch import Engine, keep_jobs
from bench.execution.signals import Interrupt
from bench.execution.supervisor import supervise
from bench.execution.worker import Source, work
from bench.plan import RunContext, Trial
from bench.scoring.extractors import weights
from bench.store.leases import holder

EXECUTORS = ("local", "slurm", "ray")

WORDS = (
    *("out", "data_root", "device", "workers"),
    *("run_timeout", "checkpoint_every", "inception_weights", "weights", "offline"),
)
"""Flags that another command of this harness is given, too: with those of the engines."""

ENGINES = ("executor", "slurm", "ray_address", "ray_gpus")


def option(text: str) -> tuple[str, str | bool]:
    """``KEY=VALUE``, or ``KEY`` alone for an option without a value."""
    key, equals, value = text.removeprefix("--").partition("=")
    if not key or (equals and not value) or not key.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; write an option of sbatch as KEY=VALUE")
    return key, value if equals and value != "True" else True


def add_flags(parser: Parser, *, stack: str, retries: tuple[int, str]) -> None:
    """Add the flags; ``stack`` and ``retries`` are what the command says of its own."""
    where = parser.add_argument_group("where it runs")
    where.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:0,1")
    where.add_argument(
        "--workers", type=number(int, 0, 1024), metavar="N", help="processes; 0: in this process"
    )
    where.add_argument("--stack", type=number(int, 1), metavar="N", help=stack)
    where.add_argument(
        "--threads", type=number(int, 1, 256), default=1, metavar="N",
        help="of each worker on CPUs, in training; where there are more cores than runs (default 1)",
    )  # fmt: skip
    where.add_argument("--out", type=path, default=Path("results"), metavar="DIR", help="default results")
    where.add_argument(
        "--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets (default data)"
    )
    where.add_argument("--offline", action="store_true", help="never touch the network")
    where.add_argument("--inception-weights", type=path, metavar="FILE", help="instead of a download")
    where.add_argument(
        "--weights", type=weights, nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="of extractors, instead of a download",
    )  # fmt: skip
    where.add_argument(
        "--checkpoint-every", type=number(float, 0), default=60.0, metavar="SECONDS", help="default 60"
    )
    where.add_argument("--retries", type=number(int, 0), default=retries[0], metavar="N", help=retries[1])
    where.add_argument("--run-timeout", type=number(float, 1), metavar="SECONDS", help="for one attempt")
    where.add_argument("--config", type=path, metavar="FILE.toml", help="the same keys as the flags")
    where.add_argument("--dry-run", action="store_true", help="print the plan and stop; no model is built")
    beyond = parser.add_argument_group("beyond this machine")
    beyond.add_argument(
        "--executor", type=chosen(EXECUTORS), default="local", metavar="NAME", help=", ".join(EXECUTORS)
    )
    beyond.add_argument(
        "--slurm", type=option, nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="any option of sbatch: partition=gpu gres=gpu:1 time=4:00:00",
    )  # fmt: skip
    beyond.add_argument(
        "--detach", action="store_true", help="leave the jobs in the queue; the same command collects"
    )
    beyond.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster; default: one on this machine")
    beyond.add_argument(
        "--ray-gpus", type=number(float, 0), metavar="X", help="GPUs per job, or a fraction of one: 0.5"
    )


def words(args: Namespace) -> list[str]:
    """The same place as flags of another command."""
    found: list[str] = []
    for name in (*WORDS, *ENGINES):
        value = getattr(args, name)
        if value is None or value is False or value == []:
            continue
        found.append(f"--{name.replace('_', '-')}")
        if name == "slurm":
            found += [key if given is True else f"{key}={given}" for key, given in value]
        elif name == "weights":
            found += [f"{extractor}={file}" for extractor, file in value]
        elif value is not True:
            found.append(str(value))
    return found


def check(args: Namespace) -> None:
    """Refuse flags that exclude each other.

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
            known = nearest(args.device.casefold().replace("gpu", "cuda"), ["auto", "cpu", "cuda"])
            raise UsageError(
                f"--device: {args.device!r} is not allowed with --executor {args.executor}; "
                f"auto, cpu or cuda{known}"
            )
        if args.workers == 0:
            raise UsageError(f"--workers: 0 runs in this process, not with --executor {args.executor}")
    if args.workers == 0 and args.run_timeout is not None:
        raise UsageError("--run-timeout: with --workers 0 there is no process to end; take 1 or more")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out: {args.out} is not a folder")


def context_of(args: Namespace, **more: Any) -> tuple[RunContext, list[str]]:
    """Where to compute, and a device for each worker on this machine."""
    check(args)
    here = devices(args.device) if args.executor == "local" else [args.device]
    if args.precision == "tf32" and here == ["cpu"]:
        raise UsageError("--precision: 'tf32' is a GPU's, and this runs on a CPU; float32 or bf16")
    if args.threads > 1 and here != ["cpu"] and args.executor == "local":
        raise UsageError(f"--threads: {args.threads} threads are for training on a CPU, not on {here[0]}")
    usual = max(1, _cores() // args.threads) if here == ["cpu"] else len(here)
    n = args.workers if args.workers is not None else usual
    context = RunContext(
        out=args.out.absolute(),
        data_root=args.data_root.absolute(),
        offline=args.offline,
        device=here[0],
        checkpoint_every=args.checkpoint_every,
        inception_weights=args.inception_weights,
        weights=tuple((name, file.absolute()) for name, file in args.weights),
        **more,
    )
    return context, [here[k % len(here)] for k in range(max(1, n))]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_cores(args: Namespace, context: RunContext, n_runs: int) -> list[str]:
    """A line, where so few runs leave most of many cores idle."""
    n = _cores() // max(1, n_runs)
    if args.executor != "local" or context.device != "cpu" or args.threads > 1 or not n_runs or n < MANY:
        return []
    why = "several threads round differently, so such runs have tables of their own"
    return [f"{_cores()} cores for {n_runs} runs: --threads {n} would use them; {why}"]


MANY = 3
"""Cores for each run, from which on more threads are advised."""


def add_image_size(group: argparse._ArgumentGroup) -> None:
    """``--image-size``."""
    group.add_argument(
        "--image-size", type=number(int, *SIDES), metavar="N",
        help="resize the images of folder: and array: to NxN pixels",
    )  # fmt: skip


def sized(names: Sequence[str], side: int | None) -> list[str]:
    """Names of data sets, with the size that ``--image-size`` gives them."""
    return list(names) if side is None else [with_size(name, side) for name in names]


def say_planning(models: Sequence[str], datasets: Sequence[str]) -> None:
    """On a terminal, a line before PyTorch is imported, which takes seconds."""
    if sys.stdout.isatty():
        print(printable(f"planning: {' '.join(models)} on {' '.join(datasets)}"), flush=True)


def names(args: Namespace, slots: Sequence[str]) -> str:
    """Where, for people: ``2 × cpu``, or the engine."""
    if args.executor != "local":
        return str(args.executor)
    return ", ".join(f"{n} × {device}" if n > 1 else device for device, n in Counter(slots).items())


def on_gpus(args: Namespace, context: RunContext) -> bool:
    """Whether workers have GPUs; of an engine's jobs, whether some were asked for."""
    if args.executor == "local":
        return context.device != "cpu"
    asked = args.ray_gpus or any("gpu" in f"{k}={v}" or "shard" in f"{v}" for k, v in args.slurm)
    return args.device == "cuda" or (args.device == "auto" and bool(asked))


def workers_try(args: Namespace) -> bool:
    """Whether models are tried by the workers: this process then needs no PyTorch, and starts sooner.

    Not where a job waits in a queue first, or results are put away, or PyTorch is here anyhow.
    """
    ours = all(model in OURS for model in args.models) and "torch" not in sys.modules
    return args.executor == "local" and args.workers != 0 and not args.fresh and ours


def execute(
    args: Namespace,
    source: Source,
    context: RunContext,
    slots: Sequence[str],
    interrupt: Interrupt,
    *,
    most: int,
    tick: Callable[[], None],
    trials: Sequence[Trial] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Have the work of a source done, by at most so many workers.

    ``trials``, which workers of this machine make first, and ``ready`` are as for :func:`supervise`.

    Raises:
        UsageError: the engine refuses, or no work of this source can be done.
        UnwritableError: the results folder cannot be written.
    """
    if args.executor != "local":
        n = min(args.workers or most, most)
        keep_jobs(
            _engine(args, args.out.absolute()), source, context, n, interrupt,
            timeout=args.run_timeout, spare=n * args.retries, detach=args.detach, tick=tick,
        )  # fmt: skip
    elif args.workers == 0:

        def stop() -> bool:
            tick()
            return interrupt.is_set()

        work(source, context, stop, notify=Waiting())
    else:
        supervise(
            source, context, slots[:most], interrupt,
            timeout=args.run_timeout, tick=tick, trials=trials, ready=ready,
        )  # fmt: skip


class Waiting:
    """Says once whom this process waits for."""

    def __init__(self) -> None:
        self.said = False

    def __call__(self, what: str, about: Any) -> None:
        """As the supervisor does for its workers."""
        if what == "waiting" and about is not None and not self.said:
            self.said = True
            print(f"waiting for runs that {holder(about)} computes", file=sys.stderr, flush=True)


def _engine(args: Namespace, out: Path) -> Engine:
    """What ``--executor`` names.

    Raises:
        UsageError: it cannot be used here.
    """
    if args.executor == "slurm":
        from bench.execution.slurm import Slurm

        return Slurm(out / "slurm", dict(args.slurm))
    from bench.execution.ray import Ray

    return Ray(args.ray_address, args.ray_gpus or 0.0)
