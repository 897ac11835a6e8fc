"""Live progress, read from the run folders: the same for runs on this machine and elsewhere.

On a terminal: one line per worker, the scores over all seeds at the last evaluation that all of them have
reached, and a bar. Elsewhere: plain lines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from bench.errors import printable
from bench.scoring.scores import FID, IS, KID, PSNR, REVERSE_KL
from bench.store.files import read_json
from bench.store.jobs import Job

EVERY = 0.5
"""Seconds between looks, or more: looking takes at most a twentieth of the time."""

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""

MOST_LINES = 16
"""Workers that are shown one by one."""

HEADLINE = (PSNR, FID, REVERSE_KL)
"""The score that a run is shown by: PSNR in super-resolution, of points reverse KL, else FID."""

IN_TABLE = (*HEADLINE, IS, KID)


class Run:
    """One run, as its folder shows it."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.failed_before = (folder / "run.json").exists()
        """It failed in an earlier command and is not yet tried again."""
        self.record: dict[str, Any] | None = None
        self.shown: dict[str, Any] = {}

    def look(self) -> bool:
        """Read what is new; True when the run has just ended."""
        if self.record is not None:
            return False
        if self.failed_before:
            self.failed_before = (self.folder / "run.json").exists()
            return False
        self.record = _read(self.folder / "run.json")
        if self.record is None:
            found = _read(self.folder / "progress.json") or {}
            step, phase = found.get("step"), found.get("phase")
            sane = type(step) is int and 0 <= step <= self.job.steps and isinstance(phase, str)
            self.shown = found if sane else {}
        return self.record is not None

    @property
    def step(self) -> int:
        """Iterations done."""
        return self.job.steps if self.record is not None else self.shown.get("step", 0)

    @property
    def name(self) -> str:
        """Model, data set and seed."""
        return f"{self.job.model} {self.job.dataset} seed {self.job.seed}"

    def ended(self) -> str:
        """How it ended: its score, or why it has none."""
        record = self.record or {}
        scores = _headline(record.get("metrics"))
        if record.get("status") != "finished" or not scores:
            return f"{record.get('status')}: {record.get('reason')}"[:300]
        return ", ".join(["finished", *scores])

    def line(self) -> str:
        """What it is at, for a line without a terminal."""
        at = f"{self.name} {self.shown['phase']:.20} {self.step}/{self.job.steps}"
        return ", ".join([at, *self._last_scores()])

    def losses(self) -> list[str]:
        """``D loss 0.69``, ``G loss 0.71``."""
        found = self.shown.get("losses")
        losses = found if isinstance(found, dict) else {}
        return [
            f"{name.partition('_')[0].upper():.8} loss {value:.3g}"
            for name, value in losses.items()
            if isinstance(value, int | float)
        ]

    def evals(self) -> dict[int, Mapping[str, Any]]:
        """Step -> scores by extractor."""
        found = (self.record or self.shown).get("evals")
        entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
        return {
            entry["step"]: entry["metrics"]
            for entry in entries
            if type(entry.get("step")) is int and isinstance(entry.get("metrics"), dict)
        }

    def _last_scores(self) -> list[str]:
        evals = self.evals()
        return _headline(evals[max(evals)]) if evals else []


class Progress:
    """Shows how the runs of a command get on."""

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        self.console = Console()
        self.runs = [Run(job, job.folder(out)) for job in jobs]
        self.total = sum(job.steps for job in jobs)
        self.started = self.printed = time.monotonic()
        self.due = 0.0
        self.first: int | None = None
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("iterations  {task.fields[left]}"),
        )
        self.task = self.bar.add_task(f"0/{len(jobs)} runs", total=self.total, left="starting workers")
        self.live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
            self.live.update(self.bar, refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tick(force=True)
        self.live.stop()

    def tick(self, *, force: bool = False) -> None:
        """Look at the run folders, at most twice a second."""
        now = time.monotonic()
        if now < self.due and not force:
            return
        for run in self.runs:
            if run.look():
                self._print(f"{run.name}: {run.ended()}")
        steps = sum(run.step for run in self.runs)
        at_work = [run for run in self.runs if run.shown and run.record is None]
        if self.first is None and at_work:  # from here on: processes take a while to start
            self.first, self.started = steps, now
        n_done = sum(run.record is not None for run in self.runs)
        done, left = f"{n_done}/{len(self.runs)} runs", self._left(steps, n_done, now)
        if self.console.is_terminal:
            self.bar.update(self.task, completed=steps, description=done, left=left)
            self.live.update(self._display(at_work), refresh=True)
        elif at_work and now - self.printed > LINE_EVERY:
            self.printed = now
            lines = [run.line() for run in at_work if run.shown["phase"] != "waiting"]
            self._print("; ".join([", ".join(filter(None, [done, left])), *lines]))
        ended = time.monotonic()
        self.due = ended + max(EVERY, 20 * (ended - now))

    def _display(self, at_work: Sequence[Run]) -> Group:
        return Group(*worker_lines(at_work), *score_table(self.runs), self.bar)

    def _left(self, steps: int, n_done: int, now: float) -> str:
        """``3 min 05 s left``, ``scoring`` when every iteration is done, nothing while no speed is known."""
        if steps >= self.total:
            return "scoring" if n_done < len(self.runs) else ""
        if self.first is None or steps <= self.first:
            return ""
        seconds = round((self.total - steps) * (now - self.started) / (steps - self.first))
        return f"{seconds // 60} min {seconds % 60:02} s left"

    def _print(self, line: str) -> None:
        self.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def worker_lines(at_work: Iterable[Run]) -> list[Text]:
    """One line per worker: model, seeds, phase, step, losses, last score. Runs that wait are counted."""
    workers: dict[object, list[Run]] = {}
    waiting = 0
    for run in at_work:
        if run.shown["phase"] == "waiting":
            waiting += 1
        else:
            workers.setdefault(str(run.shown.get("worker", run.folder)), []).append(run)
    lines = []
    for stack in list(workers.values())[:MOST_LINES]:
        first = stack[0]
        seeds = ", ".join(str(run.job.seed) for run in stack[:8]) + (" …" if len(stack) > 8 else "")
        parts = [
            f"{first.job.model} {first.job.dataset} seed{'s' * (len(stack) > 1)} {seeds}",
            f"{first.shown['phase']:.20} {first.step}/{first.job.steps}",
            *first.losses(),
            *first._last_scores(),
        ]
        lines.append(_cut("  ".join(parts)))
    if len(workers) > MOST_LINES:
        lines.append(_cut(f"and {len(workers) - MOST_LINES} more workers"))
    if waiting:
        lines.append(_cut(f"{waiting} {'run waits' if waiting == 1 else 'runs wait'} for a worker"))
    return lines


def score_table(runs: Iterable[Run]) -> list[Table]:
    """Scores over all seeds of each configuration, at the last evaluation that all have reached."""
    configurations: dict[str, list[Run]] = {}
    for run in runs:
        if run.record is None or run.record.get("status") == "finished":
            configurations.setdefault(run.job.run_id, []).append(run)
    rows = []
    for seeds in configurations.values():
        evals = [run.evals() for run in seeds]
        if common := set.intersection(*map(set, evals)):
            step = max(common)
            rows.append((seeds[0].job, step, [found[step] for found in evals]))
    scores = [each for each in IN_TABLE if any(_values(each.name, metrics) for _, _, metrics in rows)]
    if not rows:
        return []
    table = Table(box=None, pad_edge=False)
    for head in ("model", "data set", "step", "seeds", *(score.short for score in scores)):
        table.add_column(head, justify="left" if head in ("model", "data set") else "right")
    for job, step, metrics in rows:
        cells = [_mean_std(_values(score.name, metrics)) for score in scores]
        table.add_row(printable(job.model), printable(job.dataset), str(step), str(len(metrics)), *cells)
    return [table]


def _values(key: str, metrics: Iterable[Mapping[str, Any]]) -> list[float]:
    """A score of each run, under the first extractor that has it."""
    found = []
    for by_extractor in metrics:
        scores = [each[key] for each in by_extractor.values() if isinstance(each, dict) and key in each]
        found += [float(value) for value in scores[:1] if isinstance(value, int | float)]
    return found


def _mean_std(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4g}"
    return f"{mean} ± {statistics.stdev(values):.2g}" if len(values) > 1 else mean


def _headline(metrics: object) -> list[str]:
    """The score that a run is shown by, as a text, or nothing."""
    if isinstance(metrics, dict):
        for score in HEADLINE:
            for value in _values(score.name, [metrics]):
                return [f"{score.short} {value:.2f}"]
    return []


def _cut(text: str) -> Text:
    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def _read(path: Path) -> dict[str, Any] | None:
    """What a file says; nothing where there is none, or where it cannot be read: who writes it says so."""
    with suppress(OSError, ValueError):
        value = read_json(path)
        return value if isinstance(value, dict) else None
    return None
