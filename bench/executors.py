"""Where jobs run: worker processes on this machine.

One process per slot (a CPU core or a GPU): a slot keeps its device, a worker that dies takes nothing
else with it, and a worker is started once, not once per run. Run folders are the only
truth about what was done; a worker's word is used to go on, never as a result.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import math
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

from bench import record, store
from bench.claims import Claims, holder
from bench.errors import one_line as one_line
from bench.spec import Job, Place

LOOK_EVERY = 2.0
"""Seconds between looks at runs that another command computes."""

Outcome = tuple[Literal["done", "stopped", "failed", "too large", "unwritable"], Any]
"""How an attempt ended, and what it gave; of a failure the reason in one line, then lines for the log."""


class Runnable(Protocol):
    """What a worker runs."""

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Run, until ``stop`` says so; exceptions are outcomes."""


@dataclass(frozen=True)
class Task:
    """A stack of jobs on its way through the workers."""

    jobs: Sequence[Job]
    attempt: int = 1

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Train, score and record the jobs."""
        import torch

        from bench.job import StoppedError, run

        try:
            run(self.jobs, place, attempt=self.attempt, stop=stop)
        except StoppedError:
            return "stopped", ""
        except store.UnwritableError as error:
            return "unwritable", (error.errno, error.strerror, error.filename)
        except torch.OutOfMemoryError as error:
            return "too large" if len(self.jobs) > 1 else "failed", one_line(error)
        except Exception as error:
            return "failed", f"{one_line(error)}\n{traceback.format_exc()}"
        return "done", ""

    def halves(self) -> list[Task]:
        """The same in two smaller stacks."""
        middle = len(self.jobs) // 2
        return [replace(self, jobs=self.jobs[:middle]), replace(self, jobs=self.jobs[middle:])]


class Interrupt:
    """SIGINT and SIGTERM become a request to stop; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        if self.signal is not None:
            os._exit(128 + number)  # workers notice that their parent is gone
        self.signal = number

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Handle both signals within the block."""
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


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
) -> None:
    """Run every task in worker processes, one per slot; a slot is the name of a device.

    Returns when all are recorded, by this command or by others on the same folder, or when ``interrupt``
    was signalled and every worker has written its checkpoint. ``tick`` is called a few times a second.

    Raises:
        UnwritableError: the results folder cannot be written.
    """
    with started_workers(place, slots, interrupt, timeout=timeout) as (workers, stop):
        _run(tasks, place.out, workers, stop, retries=retries, tick=tick)


def _run(
    tasks: Sequence[Task],
    out: Path,
    workers: Sequence[Worker | Here],
    stop: Interrupt,
    *,
    retries: int,
    tick: Callable[[], None],
) -> None:
    """waiting -> running -> recorded; or elsewhere, while another command computes it -> waiting."""
    waiting, elsewhere = deque(tasks), deque[Task]()
    running: dict[Worker | Here, Task] = {}
    looked, said = -math.inf, False
    with Claims() as claims:
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
                    waiting += _settle(running.pop(worker), ended, shared, retries)
    tick()


def _settle(task: Task, ended: Outcome, shared: Shared, retries: int) -> list[Task]:
    """Record what an attempt came to; returns what is to be tried again.

    Raises:
        UnwritableError: that is what it came to.
    """
    how, what = ended
    if how == "unwritable":
        raise store.UnwritableError(*what)
    if how == "too large":
        return task.halves()
    if how == "failed":
        shared.log(task, f"attempt {task.attempt}: {what}")
        if task.attempt <= retries:
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
            elif self.settled(folder):
                self.claims.release(folder)
            else:
                mine.append(job)
                with store.writing(folder):
                    for left in (folder / "run.json", *folder.glob(".*.tmp")):
                        left.unlink(missing_ok=True)
        return replace(task, jobs=mine), replace(task, jobs=others)

    def settled(self, folder: Path) -> bool:
        """Whether a run has a record that counts: any but a failure from before this command."""
        try:
            found = store.read_record(folder)
        except store.DamagedRecordError as error:
            print(f"{error}; kept as {store.set_aside(error.path).name}", file=sys.stderr)
            return False
        return found is not None and (found["status"] != "failed" or _version(folder) != self.before[folder])

    def log(self, task: Task, text: str) -> None:
        """Add to the log of each run."""
        for job in task.jobs:
            record.log(job.folder(self.out), text)

    def fail(self, task: Task, reason: str) -> None:
        """Record the failure of each run that has no record yet."""
        for job in task.jobs:
            if not self.settled(job.folder(self.out)):
                record.write_failure(job, self.out, reason, task.attempt)

    def release(self, task: Task) -> None:
        """Let others see that these runs are settled, or go on with them."""
        for job in task.jobs:
            self.claims.release(job.folder(self.out))


def _version(folder: Path) -> tuple[int, int] | None:
    """Changes whenever a record is written."""
    try:
        status = (folder / "run.json").stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def started_workers(
    place: Place, slots: Sequence[str], interrupt: Interrupt, *, timeout: float | None
) -> Iterator[tuple[list[Worker], Interrupt]]:
    """A worker per slot, and what asks them to stop; each ends when the block does."""
    workers = [Worker(replace(place, device=device), interrupt, timeout) for device in slots]
    try:
        yield workers, interrupt
    finally:
        for worker in workers:
            worker.end()


class Here:
    """Runs tasks in this process: a worker without a process."""

    def __init__(self, place: Place, stop: Interrupt) -> None:
        self.place, self.stop = place, stop

    def give(self, task: Runnable) -> None:
        """Run the task."""
        self.ended = task.run(self.place, self.stop.is_set)

    def outcome(self) -> Outcome:
        """How it ended."""
        return self.ended


class Worker:
    """A process that runs one task at a time on one device; after a failure a new one takes over."""

    def __init__(self, place: Place, stop: Interrupt, timeout: float | None) -> None:
        self.place, self.stop, self.timeout = place, stop, timeout
        self.task: Runnable | None = None
        self.crashes = tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        """Start the process."""
        os.environ["OMP_NUM_THREADS"] = "1"  # for the process: read when its libraries load
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, os.getpid(), self.place, self.crashes.name)
        )
        # Signals are this process's business: what is blocked while that one starts stays blocked in it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def give(self, task: Runnable) -> None:
        """Hand the idle worker a task."""
        if not self.process.is_alive():
            self.start()
        self.task, self.told = task, False
        self.deadline = time.monotonic() + (self.timeout or math.inf)
        self._send(task)

    def outcome(self) -> Outcome | None:
        """How its task ended, and the worker is idle; ``None`` while it runs."""
        if self.task is None:
            return None
        if self.stop.is_set() and not self.told:
            self.told = True
            self._send(None)
        ended: Outcome | None = None
        with contextlib.suppress(EOFError, OSError):
            if self.pipe.poll():
                ended = self.pipe.recv()
        if ended is None and time.monotonic() > self.deadline:
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGABRT)  # upon which it writes where it hangs
            self._end(patience=5)
            ended = "failed", f"took longer than --run-timeout {self.timeout:g} s\n{self.crashes.read()}"
        if ended is None and not self.process.is_alive():
            how = _how_it_ended(self.process.exitcode or 0)
            ended = "failed", f"worker {how}\n{self.crashes.read()}"
        if ended is not None:
            self.task = None
            if ended[0] in ("failed", "too large"):  # its memory, or its device, may be in any state
                self._end(patience=0)
        return ended

    def end(self) -> None:
        """Let the process finish, or kill it."""
        self._send(None)
        self._end(patience=30)
        self.crashes.close()

    def _send(self, task: Runnable | None) -> None:
        with contextlib.suppress(OSError):  # it died: outcome() notices
            self.pipe.send(task)

    def _end(self, patience: float) -> None:
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _how_it_ended(exitcode: int) -> str:
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with code {exitcode}"


# ------------------------------------------------------------------ in the worker


def _serve(pipe: Connection, parent: int, place: Place, crash_log: str) -> None:
    """Run tasks until told to end; whatever arrives while one runs asks it to stop."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with Path(crash_log).open("a") as crashes, contextlib.suppress(EOFError, OSError):
        faulthandler.enable(crashes)
        while (task := pipe.recv()) is not None:
            pipe.send(task.run(place, pipe.poll))


def _end_with(parent: int) -> None:
    """End this process when its parent has: on Linux at once, even where no Python code can run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
