"""How fast does this machine train and score, compared with a textbook loop and with its own arithmetic?

    python -m bench.speed --models vanilla dcgan --json speed.json
    python -m bench.speed --dataset digits --job          also a whole job, from its start to its report

The images have the data set's shape (MNIST's by default) and random pixels. A seed-step is one training
iteration of one seed. Each figure is a median over rounds. In a round all kinds of work take turns. A round
beside which other programs used the processors is distorted: it is measured again, and counts in no ratio.
"""

from __future__ import annotations

import json
import statistics
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli import Parser, number, path, run_main
from bench.errors import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bench.execution.processes import Process
    from bench.execution.signals import Interrupt
    from bench.measuring.workloads import Sizes

ROUNDS = 5
FEWEST = 3
"""Undisturbed rounds, without which no ratio is given."""
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


def measure(
    model: str, slots: Sequence[str], seconds: float, interrupt: Interrupt, sizes: Sizes
) -> dict[str, Any]:
    """All figures of one model. ``slots`` names the device of each worker that the runner would start."""
    from bench.measuring import workloads as w

    device = slots[0]
    with workers(len(slots), 1, interrupt) as harness, workers(1, None, interrupt) as plain:
        first = harness.member(0)
        figures: dict[str, Any] = {"workers": len(slots), "stack": 1, "dataset": sizes.name}
        [figures["environment"]] = first.run(w.describe, device)
        [figures["textbook_threads"]] = plain.run(w.prepare_textbook, model, device, sizes)
        figures |= first.run(w.count, model, sizes)[0]
        if device != "cpu":
            figures["stacks"] = sweep(first, model, device, seconds / 20, sizes)
            figures["stack"] = max(figures["stacks"], key=fastest)["stack"]
        first.run(w.prepare_lean, model, device, sizes)
        first.run(w.prepare_training, "one", model, device, 1, sizes)
        for k, slot in enumerate(slots):
            harness.member(k).run(w.prepare_training, "placed", model, slot, figures["stack"], sizes)
            harness.member(k).run(w.prepare_products, model, slot, figures["stack"], sizes)
        turns = {
            "textbook": (plain, "textbook"),
            "lean": (first, "lean"),
            "one": (first, "one"),
            "placed": (harness, "placed"),
            "square": (harness, "square"),
        }
        if figures["products"]:
            turns |= {"one_products": (first, "products"), "products": (harness, "products")}
        rounds: list[dict[str, float]] = []
        while len(rounds) < 2 * ROUNDS and sum(map(undisturbed, rounds)) < ROUNDS:
            rounds.append(one_round(turns, seconds / ROUNDS / len(turns)))
        [scores] = first.run(w.time_scores, model, device, sizes)
        return {**figures, **summary(rounds, figures["flops"]), **scores}


OTHERS = "others"
"""In a round: the most cores that other programs used beside one kind of work."""


def one_round(turns: Mapping[str, tuple[Group, str]], seconds: float) -> dict[str, float]:
    """The rate of each kind of work, one after another, and what other programs used meanwhile."""
    from bench.measuring import others, workloads

    found = {OTHERS: 0.0}
    for name, (group, work) in turns.items():
        watch, mine = others.Watch(), time.process_time()
        pairs = group.run(workloads.time_it, work, seconds)
        own = sum(used for _, used in pairs) + time.process_time() - mine
        found[name] = sum(rate for rate, _ in pairs)
        found[OTHERS] = max(found[OTHERS], watch.others(own))
    return found


def undisturbed(measured: Mapping[str, float]) -> bool:
    """Whether other programs left the processors alone in this round, as far as the system tells."""
    from bench.measuring import others

    return not measured.get(OTHERS, 0.0) > others.MOST


def sweep(worker: Group, model: str, device: str, seconds: float, sizes: Sizes) -> list[dict[str, Any]]:
    """Stacks of 1, 2, 4, … seeds, until one is less than 10 % faster than its half, or does not fit."""
    from bench.measuring import workloads

    rows: list[dict[str, Any]] = []
    size = 1
    while size <= LARGEST_STACK:
        [row] = worker.run(workloads.try_stack, model, device, size, seconds, sizes)
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
    could not be counted. Where there are too few undisturbed rounds there are no ratios; the rates are then
    those of all rounds.
    """
    good = [row for row in rounds if undisturbed(row)]
    enough = len(good) >= min(FEWEST, len(rounds))
    used = good if enough else rounds

    def median(name: str, over: str | None = None) -> float:
        return statistics.median(row[name] / (row[over] if over else 1) for row in used)

    found: dict[str, Any] = {
        "seed_steps_per_s": {name: median(name) for name in ("textbook", "lean", "one", "placed")},
        "times_textbook": {},
        "of_ceiling": {},
        "flops_per_s": {"square": median("square")},
        "rounds": len(rounds),
        "distorted_rounds": len(rounds) - len(good),
        "others": max(row.get(OTHERS, 0.0) for row in rounds),
    }
    if enough:
        found["times_textbook"] = {name: median(name, "textbook") for name in ("lean", "one", "placed")}
    if flops:
        found["seed_steps_per_s"]["ceiling"] = median("products")
        found["flops_per_s"]["products"] = flops * median("products")
    if flops and enough:
        found["of_ceiling"] = {"one": median("one", "one_products"), "placed": median("placed", "products")}
    return found


# ------------------------------------------------------------------ the text


def table(model: str, figures: Mapping[str, Any]) -> str:
    """The figures of one model as text."""
    environment, rates = figures["environment"], figures["seed_steps_per_s"]
    placed = f"{figures['workers']} workers × {figures['stack']}"
    rows = [
        ("textbook", f"textbook loop, {figures['textbook_threads']} threads"),
        ("lean", "lean loop, one thread"),
        ("one", "harness, one seed"),
        ("placed", f"harness, {placed}"),
        ("ceiling", f"products alone, {placed}"),
    ]
    machine = f"{environment['cpu']}, {environment['device']}, float32 {environment['matmul']}"
    lines = [
        f"{model} on images as in {figures['dataset']}; {machine}",
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
        f"  scoring {figures['n_fake']:,} samples takes {figures['score_s']:.1f} s on a worker, "
        f"{figures['metrics_s']:.1f} s of it for the metrics"
    )
    if figures["distorted_rounds"]:
        lines.append(
            f"  {figures['distorted_rounds']} of {figures['rounds']} rounds are distorted: "
            f"other programs used up to {figures['others']:.1f} cores"
        )
    return "\n".join([*lines, f"  {advice(figures)}", ""])


def advice(figures: Mapping[str, Any]) -> str:
    """How to place runs on this machine, and how long the usual comparison then takes."""
    rates, n = figures["seed_steps_per_s"], figures["workers"]
    if not figures["times_textbook"]:
        return "no ratio and no advice: measure again when nothing else runs"
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
    p.add_argument(
        "--dataset", default="mnist", metavar="NAME", help="whose shape images have (default mnist)"
    )
    p.add_argument("--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets")
    p.add_argument("--job", action="store_true", help=f"also a whole job of {SEEDS} seeds on the data set")
    p.add_argument("--steps", type=number(int, 1), metavar="N", help="of the job; default by data set")
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
    sizes = sizes_of(args.dataset, args.data_root)
    measured = {}
    with Interrupt().installed() as interrupt:
        for model in args.models:
            measured[model] = measure(model, slots, args.seconds, interrupt, sizes)
            if args.json != "-":
                print(table(model, measured[model]), flush=True)
            if args.job:
                measured[model]["job"] = whole_job(args, model)
    text = json.dumps(measured, indent=2)
    if args.json == "-":
        print(text)
    elif args.json:
        Path(args.json).write_text(f"{text}\n", encoding="utf-8")
    return 0


def whole_job(args: Namespace, model: str) -> dict[str, Any]:
    """Measure a job of the runner, and print it."""
    from bench.measuring import job, others

    words = ["--models", model, "--dataset", args.dataset, "--data-root", str(args.data_root), "--offline"]
    words += ["--device", args.device, *(["--steps", str(args.steps)] if args.steps else [])]
    found = job.measure(words)
    if args.json != "-":
        print(job.text(found))
        if found["others"] > others.MOST:
            print(f"  distorted: other programs used {found['others']:.1f} cores")
        print(flush=True)
    return found


def sizes_of(dataset: str, root: Path) -> Sizes:
    """The sizes of a data set. Those of MNIST are known without its files.

    Raises:
        UsageError: there is no such data set.
    """
    from bench.measuring.workloads import MNIST, Sizes

    if dataset == MNIST.name:
        return MNIST
    from bench.data import datasets

    found = datasets.load(dataset, data_root=root, offline=True)
    return Sizes(found.name, found.shape, found.n_classes, len(found.train), len(found.test))


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
