"""How fast does this machine train and score: beside a textbook loop, and beside its own arithmetic?

    python -m bench.speed --models vanilla dcgan --json speed.json

MNIST's shapes, random pixels. A seed-step is one training iteration of one seed. Every figure is a
median over rounds in which all kinds of work take their turn, so that whatever else the machine is
doing falls on all of them.
"""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli import Parser, number, run_main
from bench.errors import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from torch import Tensor, nn

    from baselines.gan import Gan
    from bench.execution.processes import Process
    from bench.execution.signals import Interrupt

ROUNDS = 5
LARGEST_STACK = 256
SEEDS, STEPS = 5, 30_000
"""The example of the advice: a comparison's usual seeds, MNIST's usual iterations."""
PATIENCE = 1.0
"""Seconds for idle workers to end. One that is amid a measurement has nothing to save."""


# ------------------------------------------------------------------ the textbook loop


def textbook(gan: Gan, images: Tensor, labels: Tensor, device: str) -> Iterator[dict[str, float]]:
    """Train one seed as tutorials do: yields, after each iteration, what it logs.

    torchvision's way from an image (C, H, W) to a tensor, a ``DataLoader``, ``zero_grad``, ``backward``,
    PyTorch's default optimizers, losses read by ``.item()``, and as many threads as PyTorch takes.
    """
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import Compose, Normalize, ToTensor

    from baselines.training.streams import draw

    to_tensor = Compose([ToTensor(), Normalize(0.5, 0.5)])

    class Pixels(Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, k: int) -> dict[str, Any]:
            pixels = images[k].movedim(0, -1).squeeze(-1).numpy()
            return {"image": to_tensor(Image.fromarray(pixels)), "label": labels[k]}

    nets = {name: net.to(device) for name, net in gan.build().items()}
    optimizers = {
        name: getattr(torch.optim, type(optim).__name__)(nets[name].parameters(), **asdict(optim))  # type: ignore[arg-type]
        for name, optim in gan.optim.items()
    }
    generator = torch.Generator(device)
    step = torch.zeros((), dtype=torch.int64, device=device)
    while True:
        for loaded in DataLoader(Pixels(), gan.batch_size, shuffle=True, drop_last=True):
            batch = {name: value.to(device) for name, value in loaded.items()} | {"step": step}
            logged: dict[str, float] = {}
            for update in gan.updates:
                views = {name: TextbookNet(net, name == update.net) for name, net in nets.items()}
                noise = draw(gan.noise, (gan.batch_size,), generator)
                loss, logs = update.loss(views, batch, noise)
                optimizers[update.net].zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizers[update.net].step()
                if update.project is not None:
                    with torch.no_grad():
                        for param in nets[update.net].parameters():
                            update.project(param)
                logged |= {key: value.item() for key, value in logs.items()}
            step += 1
            yield logged


class TextbookNet:
    """A network in a tutorial: its answer is detached where another net learns from it as data."""

    def __init__(self, module: nn.Module, learns: bool) -> None:
        self.module, self.learns = module, learns

    def __call__(self, *inputs: Tensor) -> Any:
        return self.answer(self.module.train(), inputs)

    def eval(self, *inputs: Tensor) -> Any:
        return self.answer(self.module.eval(), inputs)

    def answer(self, module: nn.Module, inputs: Sequence[Tensor]) -> Any:
        answer = module(*inputs)
        if self.learns or any(x.requires_grad for x in inputs):
            return answer
        return tuple(x.detach() for x in answer) if isinstance(answer, tuple) else answer.detach()


def prepare_textbook(model: str, device: str) -> int:
    """In a worker: get ready to time the loop; returns how many threads it has."""
    from bench import workloads

    loop = textbook(workloads.gan(model), *workloads.data("cpu"), device)

    def iteration() -> float:
        next(loop)
        return 1

    workloads.prepare("textbook", iteration)
    return workloads.default_threads()


# ------------------------------------------------------------------ the measurement


def serve(pipe: Connection) -> None:
    """In a worker: do what is asked for, call by call, until told to end."""
    while (call := pipe.recv()) is not None:
        function, arguments = call
        try:
            pipe.send(("done", function(*arguments)))
        except Exception:
            pipe.send(("failed", traceback.format_exc()))


@contextmanager
def workers(n: int, threads: int | None) -> Iterator[list[Process]]:
    """So many idle workers; ``threads``: 1 as those of the runner, ``None`` for PyTorch's default."""
    from bench.execution.processes import Process

    started: list[Process] = []
    try:
        for _ in range(n):
            started.append(Process(serve, threads))  # noqa: PERF401
        yield started
    finally:
        deadline = time.monotonic() + PATIENCE
        for worker in started:
            worker.send()
            worker.wake()
        for worker in started:
            worker.end(deadline)


def together(
    group: Sequence[Process], interrupt: Interrupt, work: Callable[..., Any], *arguments: Any
) -> list[Any]:
    """What each worker returns of the same work, done at the same time."""
    for worker in group:
        worker.send((work, arguments))
    return [_result(worker, interrupt) for worker in group]


def _result(worker: Process, interrupt: Interrupt) -> Any:
    while True:
        if interrupt.signal is not None:
            raise SystemExit(128 + interrupt.signal)
        alive = worker.is_alive()
        for how, what in worker.messages():
            if how == "failed":
                raise SystemExit(f"error: in a worker: {what.strip()}")
            return what
        if not alive:
            raise SystemExit(f"error: a worker {worker.how_it_ended()}")
        time.sleep(0.005)


def measure(model: str, slots: Sequence[str], seconds: float, interrupt: Interrupt) -> dict[str, Any]:
    """Every figure of one model; ``slots`` names the device of each of the runner's workers."""
    from bench import workloads as w

    device = slots[0]
    with workers(len(slots), 1) as harness, workers(1, None) as plain:
        first = harness[:1]
        figures: dict[str, Any] = {"workers": len(slots), "stack": 1}
        [figures["environment"]] = together(first, interrupt, w.describe, device)
        [figures["textbook_threads"]] = together(plain, interrupt, prepare_textbook, model, device)
        figures |= together(first, interrupt, w.count, model)[0]
        if device != "cpu":
            figures["stacks"] = sweep(first, interrupt, model, device, seconds / 20)
            figures["stack"] = max(figures["stacks"], key=fastest)["stack"]
        together(first, interrupt, w.prepare_training, "one", model, device, 1)
        for worker, slot in zip(harness, slots, strict=True):
            together([worker], interrupt, w.prepare_training, "placed", model, slot, figures["stack"])
            together([worker], interrupt, w.prepare_products, model, slot, figures["stack"])
        turns = {
            "textbook": (plain, "textbook"),
            "one": (first, "one"),
            "one_products": (first, "products"),
            "placed": (harness, "placed"),
            "products": (harness, "products"),
            "square": (harness, "square"),
        }
        slice_s = seconds / ROUNDS / len(turns)
        rounds = [
            {
                name: sum(together(group, interrupt, w.time_it, work, slice_s))
                for name, (group, work) in turns.items()
            }
            for _ in range(ROUNDS)
        ]
        [scores] = together(first, interrupt, w.time_scores, model, device)
        return {**figures, **summary(rounds, figures["flops"]), **scores}


def sweep(
    worker: Sequence[Process], interrupt: Interrupt, model: str, device: str, seconds: float
) -> list[dict[str, Any]]:
    """Stacks of 1, 2, 4, … seeds until twice the size gains less than a tenth, or does not fit."""
    from bench import workloads

    rows: list[dict[str, Any]] = []
    size = 1
    while size <= LARGEST_STACK:
        [row] = together(worker, interrupt, workloads.try_stack, model, device, size, seconds)
        if row is None:
            break
        rows.append(row)
        if len(rows) > 1 and fastest(row) < 1.1 * fastest(rows[-2]):
            break
        size *= 2
    return rows


def fastest(row: Mapping[str, Any]) -> float:
    """Seed-steps/s of a stack, the better way."""
    return float(max(row["eager"], row["captured"] or 0.0))


def summary(rounds: Sequence[Mapping[str, float]], flops: int) -> dict[str, Any]:
    """Medians over rounds: of rates, and of ratios of rates within a round.

    ``ceiling`` is what the workers would do if an iteration were its products alone.
    """

    def median(name: str, over: str | None = None) -> float:
        return statistics.median(row[name] / (row[over] if over else 1) for row in rounds)

    return {
        "seed_steps_per_s": {name: median(name) for name in ("textbook", "one", "placed")}
        | {"ceiling": median("products")},
        "times_textbook": {name: median(name, "textbook") for name in ("one", "placed")},
        "of_ceiling": {"one": median("one", "one_products"), "placed": median("placed", "products")},
        "flops_per_s": {"products": flops * median("products"), "square": median("square")},
    }


# ------------------------------------------------------------------ what is said about it


def table(model: str, figures: Mapping[str, Any]) -> str:
    """The figures of one model, for people."""
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
        times, share = figures["times_textbook"].get(key), figures["of_ceiling"].get(key)
        lines.append(
            f"  {name:30}{rates[key]:14.1f}"
            + (f"{times:12.2f}" if times else f"{'':12}")
            + (f"{share:12.0%}" if share else "")
        )
    per_s = figures["flops_per_s"]
    lines.append(
        f"  an iteration has {figures['products']} products, {figures['flops'] / 1e9:.2f} GFLOP, "
        f"which run at {per_s['products'] / 1e9:.0f} GFLOP/s in all; "
        f"a large square one at {per_s['square'] / 1e9:.0f}"
    )
    for row in figures.get("stacks", ()):
        captured = f"{row['captured']:.0f}" if row["captured"] else "not to be had"
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
    """How to place runs here, and how long the usual comparison takes then."""
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
    p.add_argument("--seconds", type=number(float, 1), default=30.0, metavar="S", help="a model; default 30")
    p.add_argument("--json", metavar="FILE", help="write the figures there too; - prints them alone")
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
    return where.place_of(run.parser().parse(["--models", *models, "--device", device]))[1]


if __name__ == "__main__":
    run_main(main)
