"""The runs of a plan, as a source of work. Their folders are the only truth about what was done."""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ChangedError, one_line
from bench.execution.signals import Stop
from bench.execution.worker import Notify, Task
from bench.plan import RunContext
from bench.store import files, records, results
from bench.store.jobs import Job, digest
from bench.store.leases import Leases, is_leased

if TYPE_CHECKING:
    from bench.execution.training import Stack

ATTEMPTS = "attempts.json"
"""In a run's folder: how many attempts failed, by command."""


class Runs:
    """Hands out each run until it has a record, the least advanced ones first.

    Runs of one configuration that are equally far are handed out together, ``stack`` at a time. A failure
    that was on record when this was made is tried again.
    """

    stale_s: float | None = None

    def __init__(
        self,
        jobs: Sequence[Job],
        out: Path,
        *,
        stack: int = 1,
        retries: int = 0,
        whole: Sequence[Job] | None = None,
    ) -> None:
        """``whole``: the whole plan, if some of its runs have a record. The name is that of the plan."""
        self.out, self.stack, self.retries = out, stack, retries
        self.name = digest(sorted(str(job.folder(out)) for job in whole or jobs))
        self.command = uuid.uuid4().hex
        self.stacks: dict[str, int] = {}
        """Of configurations of which fewer fit into memory."""
        self.open = {job.folder(out): job for job in jobs}
        """Runs without a record, as far as this copy knows."""
        self.before = {folder: _version(folder) for folder in self.open}
        self.steps: dict[Path, int] = {}
        """How far each run was when this copy last looked."""
        self.look_due = 0.0

    # ------------------------------------------------------------ handing out

    def take(self, leases: Leases, context: RunContext) -> RunTask | None:
        """The least advanced runs that are free."""
        taken: dict[Path, Job] = {}
        first: tuple[int, str] | None = None
        for step, folder, job in self._least_advanced_first():
            if first is not None and (step, job.run_id) != first:
                continue
            if not leases.take(folder):
                continue
            if not self._is_open(folder, job, leases) or self._look(folder) != step:
                leases.release(folder)  # it is done, or went on since the last look
                continue
            first = step, job.run_id
            taken[folder] = job
            if len(taken) >= self.stacks.get(job.run_id, self.stack):
                break
        return RunTask(list(taken.values()), context, leases, self.attempts) if taken else None

    def is_due(self, task: Task) -> bool:
        """Whether a run that is less advanced than this task is free."""
        assert isinstance(task, RunTask)
        return any(
            step < task.step and not is_leased(folder) and self._look(folder) < task.step
            for step, folder, _ in self._least_advanced_first()
            if folder not in task.folders
        )

    def finished(self) -> bool:
        """Whether every run has its record."""
        for folder, job in list(self.open.items()):
            if self._is_settled(folder, job):
                del self.open[folder]
        return not self.open

    def waits_for(self) -> Path | None:
        """The first run that somebody else computes."""
        return next((folder for folder in self.open if is_leased(folder)), None)

    def smaller(self, key: str, n: int) -> None:
        """Stacks of the configuration ``key`` have at most so many runs from now on."""
        self.stacks[key] = n

    def _least_advanced_first(self) -> Iterator[tuple[int, Path, Job]]:
        """The open runs by how far they are. To look at all of them takes at most a twentieth of the time."""
        began = time.monotonic()
        if began >= self.look_due:
            self.steps = {folder: _step(folder) for folder in self.open}
            ended = time.monotonic()
            self.look_due = ended + 20 * (ended - began)
        order = sorted((self.steps.get(folder, 0), k, folder) for k, folder in enumerate(self.open))
        for step, _, folder in order:
            yield step, folder, self.open[folder]

    def _look(self, folder: Path) -> int:
        """How far a run is now."""
        self.steps[folder] = _step(folder)
        return self.steps[folder]

    def _is_open(self, folder: Path, job: Job, leases: Leases) -> bool:
        """Whether a run that is leased now is still to be computed; makes its folder ready."""
        if (holder := leases.lost.get(folder)) is not None and not self._is_settled(folder, job):
            self._failed([folder], f"{holder} is gone", "", retry=True)
        if self._is_settled(folder, job, mine=True):
            del self.open[folder]
            return False
        with files.writing(folder):
            for left in (folder / "run.json", *folder.glob(".*.tmp")):
                left.unlink(missing_ok=True)
        return True

    def _is_settled(self, folder: Path, job: Job, *, mine: bool = False) -> bool:
        """Whether a run has a record that counts: any but a failure from before this command.

        Raises:
            UnreadableError: it cannot be read.
        """
        found = results.usable_record(folder, job, mine=mine)
        return found is not None and (found["status"] != "failed" or _version(folder) != self.before[folder])

    # ------------------------------------------------------------ attempts that fail

    def failed(self, task: Task, error: Exception, notify: Notify) -> None:
        """Note the failure; a stack that does not fit into memory is tried again as smaller ones."""
        import torch

        assert isinstance(task, RunTask)
        if isinstance(error, torch.OutOfMemoryError) and len(task.jobs) > 1:
            fewer = task.jobs[0].run_id, len(task.jobs) // 2
            self.smaller(*fewer)
            notify("smaller", fewer)
            return
        changed = isinstance(error, ChangedError)
        reason = str(error) if changed else one_line(error)
        log = "" if changed else "".join(traceback.format_exception(error))
        self._failed(task.folders, reason, log, retry=not changed)

    def lost(self, folders: Collection[Path], reason: str, log: str) -> None:
        """Note that the worker died."""
        self._failed(folders, reason, log, retry=True)

    def attempts(self, folder: Path) -> int:
        """How many attempts of this command at a run failed."""
        return _attempts(folder).get(self.command, 0)

    def _failed(self, folders: Collection[Path], reason: str, log: str, *, retry: bool) -> None:
        for folder in folders:
            job = self.open.get(folder)
            if job is None or self._is_settled(folder, job):
                continue
            n = self.attempts(folder) + 1
            files.append(folder / "error.log", f"attempt {n}: {reason}\n{log}".rstrip() + "\n")
            if retry and n <= self.retries:
                found = _attempts(folder) | {self.command: n}
                files.write_json(folder / ATTEMPTS, found, durable=False)
            else:
                records.write_failure(job, self.out, reason, n)
                (folder / ATTEMPTS).unlink(missing_ok=True)


class RunTask:
    """Runs of one configuration that train together, up to their records."""

    def __init__(
        self, jobs: Sequence[Job], context: RunContext, leases: Leases, attempts: Callable[[Path], int]
    ) -> None:
        """``attempts``: how many failed before, at a folder."""
        self.jobs, self.context, self.leases, self.attempts = jobs, context, leases, attempts
        self.folders = [job.folder(context.out) for job in jobs]
        self.stack: Stack | None = None

    @property
    def step(self) -> int:
        """How far they are."""
        return self.stack.trainer.step if self.stack is not None else 0

    def advance(self, stop: Stop) -> bool:
        """Train to the next evaluation; at the end write the records."""
        from bench.execution import recording, training

        if self.stack is None:
            self.stack = training.begin(self.jobs, self.context)
            self._give_back_others()
        self.stack.train(stop)
        if not self.stack.done:
            return False
        self.stack.checkpoint()
        for k, lane in enumerate(self.stack.lanes):
            recording.record(self.stack, k, self.attempts(lane.folder) + 1)
            (lane.folder / ATTEMPTS).unlink(missing_ok=True)
        self.stack.report_changes()
        return True

    def _give_back_others(self) -> None:
        """Runs whose checkpoints are of another step than those of the stack."""
        assert self.stack is not None
        folders = [lane.folder for lane in self.stack.lanes]
        for folder in set(self.folders) - set(folders):
            self.leases.release(folder)
        self.jobs, self.folders = [lane.job for lane in self.stack.lanes], folders

    def save(self) -> None:
        """Write the checkpoints."""
        if self.stack is not None:
            self.stack.checkpoint()
            self.stack.write_progress("waiting")


def _version(folder: Path) -> tuple[int, int] | None:
    """Changes whenever a record is written."""
    try:
        status = (folder / "run.json").lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _step(folder: Path) -> int:
    """How far a run is, as its folder says; only the order of work depends on it."""
    with suppress(OSError, ValueError):
        found = files.read_json(folder / "progress.json")
        if isinstance(found, dict) and type(found.get("step")) is int:
            return int(found["step"])
    return 0


def _attempts(folder: Path) -> dict[str, int]:
    with suppress(OSError, ValueError):
        found = files.read_json(folder / ATTEMPTS)
        if isinstance(found, dict):
            return {str(key): n for key, n in found.items() if type(n) is int}
    return {}
