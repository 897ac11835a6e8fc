"""How fast does this machine train and score, compared with a textbook loop and with its own arithmetic?

    python -m bench.speed --models vanilla dcgan --json speed.json

The images have MNIST's shape and random pixels. A seed-step is one training iteration of one seed. Each
figure is a median over rounds. In a round all kinds of work take turns, so that other programs slow all of
them down alike.
"""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli import Parser, number, run_main
from bench.errors import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bench.execution.processes import Process
    from bench.execution.signals import Interrupt

ROUNDS = 5
LARGEST_STACK = 256
SEEDS, STEPS = 5, 30_000
"""The example in the advice: the usual number of seeds, and of iterations on MNIST."""
PATIENCE = 1.0
"""Seconds in which workers must end. They have nothing to save."""


# ------------------------------------------------------------------ workers


@dataclass(frozen=True)
class Group:
    """Worker processes that do the same work at the same time."""

    processes: Sequence[Process]
    interrupt: Interrupt

    def run(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What the work returns in each process.

        Raises:
            SystemExit: it failed in one of them, or the command was interrupted.
        """
        for process in self.processes:
            process.send((work, arguments))
        return [self._result(process) for process in self.processes]

    def member(self, k: int) -> Group:
        """One of the processes, alone."""
        return Group([self.processes[k]], self.interrupt)

    def _result(self, process: Process) -> Any:
        while True:
            if self.interrupt.signal is not None:
                raise SystemExit(128 + self.interrupt.signal)
            alive = process.is_alive()
            for how, what in process.messages():
                if how == "failed":
                    raise SystemExit(f"error: in a worker: {what.strip()}")
                return what
            if not alive:
                raise SystemExit(f"error: a worker {process.how_it_ended()}")
            time.sleep(0.005)


def serve(pipe: Connection) -> None:
    """In a worker process: do what the parent sends, call by call, until it sends ``None``."""
    while (call := pipe.recv()) is not None:
        function, arguments = call
        try:
            pipe.send(("done", function(*arguments)))
        except Exception:
            pipe.send(("failed", traceback.format_exc()))


@contextmanager
def workers(n: int, threads: int | None, interrupt: Interrupt) -> Iterator[Group]:
    """``n`` idle workers. ``threads``: 1, as for the runner's workers; ``None`` for PyTorch's default."""
    from bench.execution.processes import Process

    started: list[Process] = []
    try:
        for _ in range(n):
            started.append(Process(serve, threads))  # noqa: PERF401
        yield Group(started, interrupt)
    finally:
        deadline = time.monotonic() + PATIENCE
        for process in started:
            process.send()
            process.wake()
        for process in started:
            process.end(deadline)


# ------------------------------------------------------------------ the measurement


def measure(model: str, slots: Sequence[str], seconds: float, interrupt: Interrupt) -> dict[str, Any]:
    """All figures of one model. ``slots`` names the device of each worker that the runner would start."""
    from bench.measuring import workloads as w

    device = slots[0]
    with workers(len(slots), 1, interrupt) as harness, workers(1, None, interrupt) as plain:
        first = harness.member(0)
        figures: dict[str, Any] = {"workers": len(slots), "stack": 1}
        [figures["environment"]] = first.run(w.describe, device)
        [figures["textbook_threads"]] = plain.run(w.prepare_textbook, model, device)
        figures |= first.run(w.count, model)[0]
        if device != "cpu":
            figures["stacks"] = sweep(first, model, device, seconds / 20)
            figures["stack"] = max(figures["stacks"], key=fastest)["stack"]
        first.run(w.prepare_training, "one", model, device, 1)
        for k, slot in enumerate(slots):
            harness.member(k).run(w.prepare_training, "placed", model, slot, figures["stack"])
            harness.member(k).run(w.prepare_products, model, slot, figures["stack"])
        turns = {
            "textbook": (plain, "textbook"),
            "one": (first, "one"),
            "placed": (harness, "placed"),
            "square": (harness, "square"),
        }
        if figures["products"]:
            turns |= {"one_products": (first, "products"), "products": (harness, "products")}
        slice_s = seconds / ROUNDS / len(turns)
        rounds = [
            {name: sum(group.run(w.time_it, work, slice_s)) for name, (group, work) in turns.items()}
            for _ in range(ROUNDS)
        ]
        [scores] = first.run(w.time_scores, model, device)
        return {**figures, **summary(rounds, figures["flops"]), **scores}


def sweep(worker: Group, model: str, device: str, seconds: float) -> list[dict[str, Any]]:
    """Stacks of 1, 2, 4, … seeds, until one is less than 10 % faster than its half, or does not fit."""
    from bench.measuring import workloads

    rows: list[dict[str, Any]] = []
    size = 1
    while size <= LARGEST_STACK:
        [row] = worker.run(workloads.try_stack, model, device, size, seconds)
        if row is None:
            break
        rows.append(row)
        if len(rows) > 1 and fastest(row) < 1.1 * fastest(rows[-2]):
            break
        size *= 2
    return rows


def fastest(row: Mapping[str, Any]) -> float:
    """Seed-steps/s of a stack, eager or as a CUDA graph, whichever is faster."""
    return float(max(row["eager"], row["captured"] or 0.0))


def summary(rounds: Sequence[Mapping[str, float]], flops: int) -> dict[str, Any]:
    """Medians over rounds: of rates, and of ratios of two rates of one round.

    ``ceiling`` is the rate of an iteration that consists of its products alone. It is left out where they
    could not be counted.
    """

    def median(name: str, over: str | None = None) -> float:
        return statistics.median(row[name] / (row[over] if over else 1) for row in rounds)

    found = {
        "seed_steps_per_s": {name: median(name) for name in ("textbook", "one", "placed")},
        "times_textbook": {name: median(name, "textbook") for name in ("one", "placed")},
        "of_ceiling": {},
        "flops_per_s": {"square": median("square")},
    }
    if flops:
        found["seed_steps_per_s"]["ceiling"] = median("products")
        found["of_ceiling"] = {"one": median("one", "one_products"), "placed": median("placed", "products")}
        found["flops_per_s"]["products"] = flops * median("products")
    return found


# ------------------------------------------------------------------ the text


def table(model: str, figures: Mapping[str, Any]) -> str:
    """The figures of one model as text."""
    environment, rates = figures["environment"], figures["seed_steps_per_s"]
    placed = f"{figures['workers']} workers × {figures['stack']}"
    rows = [
        ("textbook", f"textbook loop, {figures['textbook_threads']} threads"),
        ("one", "harness, one seed"),
        ("placed", f"harness, {placed}"),
        ("ceiling", f"products alone, {placed}"),
    ]
    lines = [
        f"{model} on {environment['cpu']}, {environment['device']}, float32 {environment['matmul']}",
        f"{'':32}{'seed-steps/s':>14}{'× textbook':>12}{'of ceiling':>12}",
    ]
    for key, name in rows:
        if key not in rates:
            continue
        times, fraction = figures["times_textbook"].get(key), figures["of_ceiling"].get(key)
        lines.append(
            f"  {name:30}{rates[key]:14.1f}"
            + (f"{times:12.2f}" if times else f"{'':12}")
            + (f"{fraction:12.0%}" if fraction else "")
        )
    per_s = figures["flops_per_s"]
    square = f"a large square product runs at {per_s['square'] / 1e9:.0f} GFLOP/s"
    if figures["products"]:
        lines.append(
            f"  an iteration has {figures['products']} products, {figures['flops'] / 1e9:.2f} GFLOP, "
            f"which run at {per_s['products'] / 1e9:.0f} GFLOP/s in all; {square}"
        )
    else:
        lines.append(f"  this version of PyTorch cannot count the products of an iteration; {square}")
    for row in figures.get("stacks", ()):
        captured = f"{row['captured']:.0f}" if row["captured"] else "not possible"
        lines.append(
            f"  stack of {row['stack']:3}: {row['eager']:9.0f} seed-steps/s eager, "
            f"as a CUDA graph {captured}, {row['peak_memory_mb']:.0f} MB"
        )
    lines.append(
        f"  scoring 10,000 samples takes {figures['score_s']:.1f} s on a worker, "
        f"{figures['metrics_s']:.1f} s of it for the metrics"
    )
    return "\n".join([*lines, f"  {advice(figures)}", ""])


def advice(figures: Mapping[str, Any]) -> str:
    """How to place runs on this machine, and how long the usual comparison then takes."""
    rates, n = figures["seed_steps_per_s"], figures["workers"]
    gain = rates["placed"] / rates["one"]
    minutes = SEEDS * STEPS / rates["placed"] / 60
    how = f"--workers {n} --stack {figures['stack']}"
    if n > 1 and figures["stack"] == 1 and gain < 1 + (n - 1) / 4:
        how = f"--workers {max(1, round(gain))}"
        return f"advice: {how}: {n} workers together do only {gain:.1f} times what one does"
    return f"advice: {how}; {SEEDS} seeds of {STEPS:,} steps then train in about {minutes:.0f} min"


# ------------------------------------------------------------------ the command


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.speed", description=(__doc__ or "").partition("\n\n")[0])
    p.add_argument("--models", nargs="+", default=["vanilla"], metavar="MODEL", help="default: vanilla")
    p.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:0,1")
    p.add_argument("--seconds", type=number(float, 1), default=30.0, metavar="S", help="a model (default 30)")
    p.add_argument("--json", metavar="FILE", help="also write the figures to a file; - prints only them")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    from bench.execution.signals import Interrupt

    args = parser().parse(argv)
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise UsageError(f"--json {args.json}: there is no folder {Path(args.json).parent}")
    slots = placement(args.models, args.device)
    measured = {}
    with Interrupt().installed() as interrupt:
        for model in args.models:
            measured[model] = measure(model, slots, args.seconds, interrupt)
            if args.json != "-":
                print(table(model, measured[model]), flush=True)
    text = json.dumps(measured, indent=2)
    if args.json == "-":
        print(text)
    elif args.json:
        Path(args.json).write_text(f"{text}\n", encoding="utf-8")
    return 0


def placement(models: Sequence[str], device: str) -> list[str]:
    """The device of each worker that the runner would start.

    Raises:
        UsageError: no such model, or no such device.
    """
    from bench import run, where
    from bench.plan import resolve

    for model in models:
        resolve(model, {})
    return where.context_of(run.parser().parse(["--models", *models, "--device", device]))[1]


if __name__ == "__main__":
    run_main(main)
