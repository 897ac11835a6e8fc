"""Live progress, read from the run folders: the same for runs on this machine and elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

from bench.errors import printable
from bench.plan import Job
from bench.store import files

EVERY = 0.5
"""Seconds between looks, or more: looking takes at most a twentieth of the time."""

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """A bar in a terminal, plain lines elsewhere: iterations done over all runs, time left, latest scores."""

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        self.jobs, self.console = jobs, Console()
        self.folders = {job.folder(out): job for job in jobs}
        self.total = sum(job.steps for job in jobs)
        self.done: set[Path] = set()
        self.old = {folder for folder in self.folders if (folder / "run.json").exists()}
        """Runs that failed in an earlier command and are not yet tried again."""
        self.started = self.told = time.monotonic()
        self.due = 0.0
        self.first: int | None = None
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("iterations  {task.fields[left]}"),
            console=self.console,
            transient=True,
        )
        self.task = self.bars.add_task("training", total=self.total, left="")

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tick(force=True)
        self.bars.stop()

    def tick(self, *, force: bool = False) -> None:
        """Look at the run folders, at most twice a second."""
        now = time.monotonic()
        if now < self.due and not force:
            return
        steps = 0
        lines = []
        self.old = {folder for folder in self.old if (folder / "run.json").exists()}
        for folder, job in self.folders.items():
            if folder in self.old:
                continue
            told = _read(folder / "run.json") if folder not in self.done else None
            if told is not None:
                self.done.add(folder)
                self._print(f"{_name(job)}: {_result(told)}")
            if folder in self.done:
                steps += job.steps
            elif (told := _read(folder / "progress.json")) is not None:
                step, phase = told.get("step"), told.get("phase")
                if type(step) is int and 0 <= step <= job.steps and isinstance(phase, str):
                    at = f"{_name(job)} {phase:.20} {step}/{job.steps}"
                    lines.append(", ".join([at, *_score(told.get("metrics"))]))
                    steps += step
        if self.first is None and lines:  # from here on: processes take a while to start
            self.first, self.started = steps, now
        runs, left = f"{len(self.done)}/{len(self.jobs)} runs", self._left(steps, now)
        if self.console.is_terminal:
            self.bars.update(self.task, completed=steps, description=runs, left=left)
        elif lines and now - self.told > LINE_EVERY:
            self.told = now
            self._print("; ".join([", ".join(filter(None, [runs, left])), *lines]))
        ended = time.monotonic()
        self.due = ended + max(EVERY, 20 * (ended - now))

    def _left(self, steps: int, now: float) -> str:
        """``3 min 05 s left``, ``scoring`` when every iteration is done, nothing while no speed is known."""
        if steps >= self.total:
            return "scoring" if len(self.done) < len(self.jobs) else ""
        if self.first is None or steps <= self.first:
            return ""
        seconds = round((self.total - steps) * (now - self.started) / (steps - self.first))
        return f"{seconds // 60} min {seconds % 60:02} s left"

    def _print(self, line: str) -> None:
        self.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _name(job: Job) -> str:
    return f"{job.model} {job.dataset} seed {job.seed}"


def _result(record: dict[str, Any]) -> str:
    scores = _score(record.get("metrics"))
    if record.get("status") != "finished" or not scores:
        return f"{record.get('status')}: {record.get('reason')}"[:300]
    return ", ".join(["finished", *scores])


def _score(metrics: object) -> list[str]:
    """What the task is about: PSNR in super-resolution, else FID under the first extractor. Or nothing."""
    named = [each for each in metrics.values() if isinstance(each, dict)] if isinstance(metrics, dict) else []
    found = [(name, each[name]) for name in ("psnr", "fid") for each in named if name in each]
    return [f"{name.upper()} {value:.2f}" for name, value in found[:1] if isinstance(value, int | float)]


def _read(path: Path) -> dict[str, Any] | None:
    """What a file tells; nothing where it is not there or cannot be read: who writes it says so."""
    try:
        value = files.read_json(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
