"""Live progress, read from the run folders: the same for runs on this machine and elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

from bench.spec import Job

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
                with suppress(
                    AttributeError, KeyError, TypeError, ValueError
                ):  # another version's, or damaged
                    at = f"{_name(job)} {told['phase']} {told['step']}/{told['steps']}"
                    lines.append(", ".join([at, *_score(told["metrics"])]))
                    steps += int(told["step"])
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
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _name(job: Job) -> str:
    return f"{job.model} {job.dataset} seed {job.seed}"


def _result(record: dict[str, Any]) -> str:
    metrics = record.get("metrics")
    if record.get("status") != "finished" or not isinstance(metrics, dict) or not metrics:
        return f"{record.get('status')}: {record.get('reason')}"
    return ", ".join(["finished", *_score(metrics)])


def _score(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What the task is about: PSNR in super-resolution, else FID under the first extractor. Or nothing."""
    found = [
        f"{name.upper()} {m[name]:.2f}" for name in ("psnr", "fid") for m in metrics.values() if name in m
    ]
    return found[:1]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
