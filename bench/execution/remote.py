"""Where jobs run, beyond this machine: stacks of runs handed to an engine (Slurm, Ray).

waiting -> handed over -> recorded. A job of an engine does on its machine what a command does here: it
claims its runs, trains on from their checkpoints, tries again what fails, writes records, releases. The
engine's word is used for one thing: that a job is gone. Its runs without a record are then tried again.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.errors import printable
from bench.execution.devices import devices
from bench.execution.local import Shared, Task, run_local, settle
from bench.execution.workers import Interrupt
from bench.plan import Job, Place
from bench.store import files
from bench.store.leases import Claims, is_claimed

LOOK_EVERY = 5.0
"""Seconds between looks at the run folders and questions to the engine."""

GRACE_S = 30.0
"""A record may take so long to be seen through a network file system after its job is gone."""

CANCELLED = "CANCELLED"
"""How a job ended that somebody ended on purpose: it is not tried again."""

NOTE = "queued.json"
"""In a run's folder: the job that is to compute it."""

Work = Callable[[Interrupt], None]
"""What a job does: it returns when it is done, or has heeded the interrupt."""


class Engine(Protocol):
    """What runs jobs elsewhere."""

    name: str
    most: int
    """Jobs in its queue at a time."""

    def submit(self, work: Sequence[Work]) -> list[str]:
        """Have each run as a job of its own; returns their names.

        Raises:
            UsageError: the engine refuses.
        """

    def ended(self, jobs: Collection[str]) -> dict[str, str]:
        """How those of these jobs ended that are over or not known to the engine; none if it is silent."""

    def leave(self, jobs: Collection[str]) -> None:
        """This command was interrupted: stop its jobs, or say how they go on without it."""


@dataclass(frozen=True)
class Handed:
    """A task that an engine has."""

    task: Task
    ticket: str


@dataclass(frozen=True)
class Attempt:
    """What a job does: compute a task on whatever machine this is. Doing it again does no harm."""

    handed: Handed
    place: Place
    retries: int
    timeout: float | None

    def __call__(self, interrupt: Interrupt) -> None:
        """Run it in a worker process on this machine's device."""
        task, out = self.handed.task, self.place.out
        slots = devices(self.place.device)[:1]
        run_local(
            [task],
            self.place,
            slots,
            interrupt,
            retries=self.retries,
            timeout=self.timeout,
            tick=lambda: None,
            ticket=self.handed.ticket,
        )
        if not interrupt.is_set():
            forget(task, out)


def run_remote(
    tasks: Sequence[Task],
    handed: Mapping[str, Handed],
    place: Place,
    engine: Engine,
    interrupt: Interrupt,
    *,
    retries: int,
    timeout: float | None,
    detach: bool,
    tick: Callable[[], None],
) -> None:
    """Hand every task to the engine, and see to it that all are recorded.

    ``handed`` are those that it has from an earlier command, by the names of their jobs. Returns when all
    runs are recorded or their jobs were cancelled; when ``interrupt`` was signalled; with ``detach`` once
    the engine has what it takes.

    Raises:
        UsageError: the engine refuses.
        UnwritableError: the results folder cannot be written.
    """
    with Claims() as claims:
        everything = [*tasks, *(each.task for each in handed.values())]
        queue = Queue(place, engine, Shared(everything, place.out, claims), retries, timeout)
        queue.running |= handed
        waiting = list(tasks)
        while not interrupt.is_set():
            waiting += queue.look()
            waiting = queue.hand_over(waiting)
            if (detach and not queue.gone) or not (waiting or queue.running):
                break
            looked = time.monotonic()
            while time.monotonic() - looked < LOOK_EVERY and not interrupt.is_set():
                tick()
                time.sleep(0.1)
    tick()
    if interrupt.is_set():
        engine.leave(queue.running)
    elif detach:
        print(f"{engine.name} has {len(queue.running)} jobs, {len(waiting)} wait: the same command goes on")


class Queue:
    """The tasks that an engine has."""

    def __init__(
        self, place: Place, engine: Engine, shared: Shared, retries: int, timeout: float | None
    ) -> None:
        self.place, self.engine, self.shared = place, engine, shared
        self.retries, self.timeout = retries, timeout
        self.running: dict[str, Handed] = {}
        self.gone: dict[str, float] = {}
        """Jobs that are over and of which no record is seen yet, and since when."""

    def hand_over(self, tasks: Sequence[Task]) -> list[Task]:
        """Submit tasks, as far as the engine has room; returns those that wait.

        The claims are given up with them: the jobs take their own when they begin.
        """
        room = self.engine.most - len(self.running)
        if room < min(len(tasks), self.engine.most // 2):  # rather a few large arrays than many small ones
            return list(tasks)
        handed, wait = [], list(tasks[room:])
        for task in tasks[:room]:
            mine, others = self.shared.divide(task)
            if mine.jobs:
                handed.append(Handed(mine, uuid.uuid4().hex))
            if others.jobs:  # another command computes them
                wait.append(others)
        work = [Attempt(each, self.place, self.retries, self.timeout) for each in handed]
        for job, each in zip(self.engine.submit(work) if work else (), handed, strict=True):
            self.running[job] = each
            note = {"engine": self.engine.name, "job": job, "ticket": each.ticket}
            for run in each.task.jobs:
                folder = run.folder(self.place.out)
                files.write_json(folder / NOTE, note | {"attempt": each.task.attempt}, durable=False)
            self.shared.release(each.task)
        return wait

    def look(self) -> list[Task]:
        """Drop what is recorded or was cancelled; returns what was lost and is to be tried again."""
        ended, again = self.engine.ended(self.running), []
        for job, each in list(self.running.items()):
            folders = [run.folder(self.place.out) for run in each.task.jobs]
            if all(map(self.shared.settled, each.task.jobs)):
                if job in ended or not any(map(is_claimed, folders)):  # it may still tidy up
                    self._drop(job)
            elif ended.get(job) == CANCELLED:
                print(f"{self.engine.name} job {job} was cancelled", file=sys.stderr, flush=True)
                self._drop(job)
            elif job in ended and time.monotonic() - self.gone.setdefault(job, time.monotonic()) > GRACE_S:
                self._drop(job)
                again += self._lost(each, f"{self.engine.name} job {job} {ended[job]}")
        return again

    def _lost(self, handed: Handed, reason: str) -> list[Task]:
        """Record an attempt that came to nothing; returns what is to be tried again."""
        self.shared.claims.void.add(handed.ticket)
        mine, others = self.shared.divide(handed.task)
        again = settle(mine, ("failed", reason), self.shared, self.retries) if mine.jobs else []
        return [*again, *([others] if others.jobs else [])]

    def _drop(self, job: str) -> None:
        forget(self.running.pop(job).task, self.place.out)
        self.gone.pop(job, None)


def forget(task: Task, out: Path) -> None:
    """No job is to compute these runs any more."""
    for job in task.jobs:
        (job.folder(out) / NOTE).unlink(missing_ok=True)


def handed_over(jobs: Sequence[Job], out: Path, engine: str) -> tuple[dict[str, Handed], list[Job]]:
    """What this engine has of these runs from earlier commands, and the other runs.

    Raises:
        UnreadableError: a note cannot be read.
    """
    held: dict[tuple[str, str, int], list[Job]] = {}
    rest = []
    for job in jobs:
        folder = job.folder(out)
        try:
            note = files.read_json(folder / NOTE)
            key = (printable(note["job"]), str(note["ticket"]), int(note["attempt"]))
            known = note["engine"] == engine and not (folder / "run.json").exists()
        except (FileNotFoundError, ValueError, LookupError, TypeError, OverflowError):
            known = False
        if known:
            held.setdefault(key, []).append(job)
        else:
            rest.append(job)
    return {name: Handed(Task(runs, n), ticket) for (name, ticket, n), runs in held.items()}, rest
