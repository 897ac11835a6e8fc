"""Where jobs run: worker processes on this machine.

One process per slot (a CPU core or a GPU): a slot keeps its device, a worker that dies takes nothing
else with it, and a worker is started once, not once per run. Run folders are the only
truth about what was done; a worker's word is used to go on, never as a result.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from typing import Any, Literal, Protocol

from bench import record, store
from bench.spec import Job, Place

Outcome = tuple[Literal["done", "stopped", "failed"], Any]
"""How an attempt ended, and why in one line, or what it gave."""


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
        from bench.job import StoppedError, run

        try:
            run(self.jobs, place, attempt=self.attempt, stop=stop)
        except StoppedError:
            return "stopped", ""
        except Exception as error:
            _log(self.jobs, place)
            return "failed", one_line(error)
        return "done", ""


class Interrupt:
    """SIGINT and SIGTERM become a request to stop; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.watchers: list[Callable[[], None]] = []

    def __call__(self, number: int, frame: object) -> None:
        if self.signal is not None:
            os._exit(128 + number)  # workers notice that their parent is gone
        self.signal = number
        for watcher in self.watchers:
            watcher()

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
    for task in tasks:
        for attempt in range(task.attempt, retries + 2):
            outcome, reason = replace(task, attempt=attempt).run(place, lambda: interrupt.signal is not None)
            if outcome == "stopped":
                return
            if outcome == "done":
                break
        else:
            for job in task.jobs:
                record.write_failure(job, place.out, reason, attempt)


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

    Returns when all are recorded, or when ``interrupt`` was signalled and every worker has written
    its checkpoint. ``tick`` is called a few times a second.
    """
    waiting, running = deque(tasks), dict[Worker, Task]()
    with started_workers(place, slots, interrupt, timeout=timeout) as (workers, stop):
        while running or (waiting and not stop.is_set()):
            for worker in workers:
                if worker not in running and waiting and not stop.is_set():
                    running[worker] = waiting.popleft()
                    worker.give(running[worker])
            tick()
            time.sleep(0.1)
            for worker in list(running):
                if (ended := worker.outcome()) is None:
                    continue
                task = running.pop(worker)
                if ended[0] == "failed" and task.attempt <= retries and not stop.is_set():
                    waiting.append(replace(task, attempt=task.attempt + 1))
                elif ended[0] == "failed":
                    for job in task.jobs:
                        record.write_failure(job, place.out, ended[1], task.attempt)
    tick()


@contextlib.contextmanager
def started_workers(
    place: Place, slots: Sequence[str], interrupt: Interrupt, *, timeout: float | None
) -> Iterator[tuple[list[Worker], Event]]:
    """A worker per slot, and the event that asks them to stop; set where the block raises."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers: read when their libraries load
    context = get_context("spawn")
    stop = context.Event()
    interrupt.watchers.append(stop.set)
    workers = [Worker(context, stop, replace(place, device=device), timeout) for device in slots]
    try:
        yield workers, stop
    except BaseException:
        stop.set()
        raise
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that runs one task at a time on one device; it is started again when it dies."""

    def __init__(self, context: SpawnContext, stop: Event, place: Place, timeout: float | None) -> None:
        self.context, self.stop, self.place, self.timeout = context, stop, place, timeout
        self.task: Runnable | None = None
        self.deadline = math.inf
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=_serve, args=(theirs, os.getpid(), self.stop, self.place))
        self.process.start()
        theirs.close()

    def give(self, task: Runnable) -> None:
        """Hand the idle worker a task."""
        self.task = task
        self.deadline = time.monotonic() + (self.timeout or math.inf)
        with contextlib.suppress(OSError):  # it died while idle: outcome() notices
            self.pipe.send(task)

    def outcome(self) -> Outcome | None:
        """How its task ended, and the worker is idle; ``None`` while it runs."""
        if self.task is None:
            return None
        ended: Outcome | None = None
        with contextlib.suppress(EOFError, OSError):
            if self.pipe.poll():
                ended = self.pipe.recv()
        if ended is None and time.monotonic() > self.deadline:
            self.process.kill()
            self.process.join()
            ended = "failed", f"took longer than --run-timeout {self.timeout:g} s"
        if ended is None and not self.process.is_alive():
            ended = "failed", f"worker {_how_it_ended(self.process.exitcode or 0)}"
        if ended is not None:
            self.task = None
            if not self.process.is_alive():
                self.start()
        return ended

    def end(self) -> None:
        """Let the process finish, or kill it."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(timeout=None if self.stop.is_set() else 30)
        self.process.kill()
        self.process.join()


def _how_it_ended(exitcode: int) -> str:
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with code {exitcode}"


# ------------------------------------------------------------------ in the worker


def _serve(pipe: Connection, parent: int, stop: Event, place: Place) -> None:
    """Run tasks until told to end. Signals are the parent's business; without it, this ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while (task := pipe.recv()) is not None:
        pipe.send(task.run(place, stop.is_set))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _log(jobs: Sequence[Job], place: Place) -> None:
    """Keep the traceback beside the runs that it ended."""
    text = traceback.format_exc()
    for job in jobs:
        try:
            path = job.folder(place.out) / "error.log"
            store.write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        except OSError:
            print(text, file=sys.stderr)


def one_line(error: BaseException) -> str:
    """``ValueError: what went wrong``, on one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
