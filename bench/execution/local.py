"""Where jobs run: in worker processes on this machine, or in this process.

waiting -> running -> recorded. Run folders are the only truth about what was done: a worker's word is
used to go on, never as a result.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import ChangedError, one_line
from bench.execution.workers import Here, Interrupt, Outcome, Worker, started_workers
from bench.plan import Job, Place
from bench.store import files, records, results
from bench.store.leases import Claims, holder

LOOK_EVERY = 2.0
"""Seconds between looks at runs that another command computes."""


@dataclass(frozen=True)
class Task:
    """A stack of jobs on its way through the workers."""

    jobs: Sequence[Job]
    attempt: int = 1

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Train, score and record the jobs."""
        import torch

        from bench.execution.job import StoppedError, run

        try:
            run(self.jobs, place, attempt=self.attempt, stop=stop)
        except StoppedError:
            return "stopped", ""
        except files.UnwritableError as error:
            return "unwritable", (error.errno, error.strerror, error.filename)
        except ChangedError as error:
            return "changed", str(error)
        except torch.OutOfMemoryError as error:
            return "too large" if len(self.jobs) > 1 else "failed", one_line(error)
        except Exception as error:
            return "failed", f"{one_line(error)}\n{traceback.format_exc()}"
        return "done", ""

    def halves(self) -> list[Task]:
        """The same in two smaller stacks."""
        middle = len(self.jobs) // 2
        return [replace(self, jobs=self.jobs[:middle]), replace(self, jobs=self.jobs[middle:])]


def run_here(tasks: Sequence[Task], place: Place, interrupt: Interrupt, *, retries: int) -> None:
    """Run every task in this process, one after the other: for debugging (``--workers 0``)."""
    _run(tasks, place.out, [Here(place, interrupt)], interrupt, retries=retries, tick=lambda: None)


def run_local(
    tasks: Sequence[Task],
    place: Place,
    slots: Sequence[str],
    interrupt: Interrupt,
    *,
    retries: int,
    timeout: float | None,
    tick: Callable[[], None],
    ticket: str = "",
) -> None:
    """Run every task in worker processes, one per slot; a slot is the name of a device.

    Returns when all are recorded, by this command or by others on the same folder, or when ``interrupt``
    was signalled and every worker has written its checkpoint. ``tick`` is called a few times a second.

    Raises:
        UnwritableError: the results folder cannot be written.
    """
    with started_workers(place, slots, interrupt, timeout=timeout) as (workers, stop):
        _run(tasks, place.out, workers, stop, retries=retries, tick=tick, ticket=ticket)


def _run(
    tasks: Sequence[Task],
    out: Path,
    workers: Sequence[Worker | Here],
    stop: Interrupt,
    *,
    retries: int,
    tick: Callable[[], None],
    ticket: str = "",
) -> None:
    """waiting -> running -> recorded; or elsewhere, while another command computes it -> waiting."""
    waiting, elsewhere = deque(tasks), deque[Task]()
    running: dict[Worker | Here, Task] = {}
    looked, said = -math.inf, False
    with Claims(ticket) as claims:
        shared = Shared(tasks, out, claims)
        while running or ((waiting or elsewhere) and not stop.is_set()):
            for worker in workers:
                while worker not in running and waiting and not stop.is_set():
                    mine, others = shared.divide(waiting.popleft())
                    if others.jobs:
                        elsewhere.append(others)
                    if mine.jobs:
                        running[worker] = mine
                        worker.give(mine)
            if elsewhere and not waiting and time.monotonic() - looked > LOOK_EVERY:
                looked = time.monotonic()
                if not running and not said:
                    said = True
                    folder = elsewhere[0].jobs[0].folder(out)
                    print(f"waiting for runs that {holder(folder)} computes", file=sys.stderr, flush=True)
                waiting, elsewhere = elsewhere, waiting
            tick()
            time.sleep(0.1)
            for worker in list(running):
                if (ended := worker.outcome()) is not None:
                    waiting += settle(running.pop(worker), ended, shared, retries)
    tick()


def settle(task: Task, ended: Outcome, shared: Shared, retries: int) -> list[Task]:
    """Record what an attempt came to; returns what is to be tried again.

    Raises:
        UnwritableError: that is what it came to.
    """
    how, what = ended
    if how == "unwritable":
        raise files.UnwritableError(*what)
    if how == "too large":
        return task.halves()
    if how in ("failed", "changed"):
        shared.log(task, f"attempt {task.attempt}: {what}")
        if how == "failed" and task.attempt <= retries:
            return [replace(task, attempt=task.attempt + 1)]
        shared.fail(task, what.partition("\n")[0])
    shared.release(task)
    return []


class Shared:
    """The run folders of these tasks, which other commands may be computing too."""

    def __init__(self, tasks: Sequence[Task], out: Path, claims: Claims) -> None:
        self.out, self.claims = out, claims
        folders = [job.folder(out) for task in tasks for job in task.jobs]
        self.before = {folder: _version(folder) for folder in folders}

    def divide(self, task: Task) -> tuple[Task, Task]:
        """What of a task is now this command's to compute, and what another one computes.

        What is in neither is settled: it has its record.
        """
        mine, others = [], []
        for job in task.jobs:
            folder = job.folder(self.out)
            if not self.claims.take(folder):
                others.append(job)
            elif self.settled(job):
                self.claims.release(folder)
            else:
                mine.append(job)
                with files.writing(folder):
                    for left in (folder / "run.json", *folder.glob(".*.tmp")):
                        left.unlink(missing_ok=True)
        return replace(task, jobs=mine), replace(task, jobs=others)

    def settled(self, job: Job) -> bool:
        """Whether a run has a record that counts: any but a failure from before this command.

        What is damaged is set aside. The record of another run, and what lies beside it, is moved out of
        the way once the run is claimed: it may be the only one.

        Raises:
            UnreadableError: it cannot be read.
        """
        folder = job.folder(self.out)
        try:
            found = records.read_record(folder, job)
        except records.DamagedRecordError as error:
            print(f"{error}; kept as {files.set_aside(error.path).name}", file=sys.stderr)
            return False
        except records.ForeignRecordError as error:
            if folder in self.claims.held:
                print(f"{error}; kept in {results.clear_out(folder).name}", file=sys.stderr)
            return False
        return found is not None and (found["status"] != "failed" or _version(folder) != self.before[folder])

    def log(self, task: Task, text: str) -> None:
        """Add to the log of each run."""
        for job in task.jobs:
            records.log(job.folder(self.out), text)

    def fail(self, task: Task, reason: str) -> None:
        """Record the failure of each run that has no record yet."""
        for job in task.jobs:
            if not self.settled(job):
                records.write_failure(job, self.out, reason, task.attempt)

    def release(self, task: Task) -> None:
        """Let others see that these runs are settled, or go on with them."""
        for job in task.jobs:
            self.claims.release(job.folder(self.out))


def _version(folder: Path) -> tuple[int, int] | None:
    """Changes whenever a record is written."""
    try:
        status = (folder / "run.json").lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
