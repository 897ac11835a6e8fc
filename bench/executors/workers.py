"""Processes that run one thing at a time, on one device each; and how they are stopped.

A slot (a CPU core or a GPU) keeps its device and its process. A worker that dies takes nothing else with
it, one that fails is replaced, and none outlives its parent.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.cli import few_collections
from bench.spec import Place

Outcome = tuple[Literal["done", "stopped", "failed", "changed", "too large", "unwritable"], Any]
"""How an attempt ended, and what it gave; of a failure the reason in one line, then lines for the log."""


class Runnable(Protocol):
    """What a worker runs."""

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Run, until ``stop`` says so; exceptions are outcomes."""


class Interrupt:
    """SIGINT and SIGTERM become a request to stop; a second one ends the process at once."""

    signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)

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
        """Handle these signals within the block."""
        before = {number: signal.signal(number, self) for number in self.signals}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Notice(Interrupt):
    """In a job of an engine, SIGUSR2 too: its time is up. It has until the engine kills it."""

    signals = (*Interrupt.signals, signal.SIGUSR2)

    def __call__(self, number: int, frame: object) -> None:
        self.signal = self.signal or number


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
        before = signal.pthread_sigmask(signal.SIG_BLOCK, Notice.signals)
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
    few_collections()
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
