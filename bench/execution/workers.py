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
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.cli import few_collections
from bench.plan import Place

Outcome = tuple[Literal["done", "stopped", "failed", "changed", "too large", "unwritable"], Any]
"""How an attempt ended, and what it gave; of a failure the reason in one line, then lines for the log."""


PATIENCE = 30.0
"""Seconds for all workers together to end, writing their checkpoints where they are in the midst of a run."""


THREADS = "OMP_NUM_THREADS"
"""What numerical libraries read when they are loaded: how many threads they may have."""


ECHO_S = 0.3
"""Seconds in which a signal that comes again is the same: ``timeout`` sends it to its child and to the group.
A closed terminal says so as often as it likes: the kernel does, and then the shell."""

SHOW_CURSOR = b"\x1b[?25h\n"
"""To a terminal: a bar of progress hides the cursor."""


class Runnable(Protocol):
    """What a worker runs."""

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Run, until ``stop`` says so; exceptions are outcomes."""


class Interrupt:
    """Ctrl-C, SIGTERM, a terminal that closes: a request to stop. A second one ends the process at once."""

    signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.signal: int | None = None
        self.first = math.inf

    def __call__(self, number: int, frame: object) -> None:
        if self.signal is None:
            self.signal, self.first = number, time.monotonic()
        elif number != signal.SIGHUP and time.monotonic() - self.first > ECHO_S:
            if os.isatty(1):
                os.write(1, SHOW_CURSOR)
            os._exit(128 + number)  # workers notice that their parent is gone

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Handle these signals within the block, but for a SIGHUP that is ignored: under ``nohup``."""
        nohup = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        before = {number: signal.signal(number, self) for number in {*self.signals} - nohup}
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
    place: Place,
    slots: Sequence[str],
    interrupt: Interrupt,
    *,
    timeout: float | None,
    threads: int | None = 1,
    patience: float = PATIENCE,
) -> Iterator[tuple[list[Worker], Interrupt]]:
    """A worker per slot, and what asks them to stop; each ends when the block does, within ``patience``."""
    workers: list[Worker] = []
    try:
        for device in slots:
            workers.append(Worker(replace(place, device=device), interrupt, timeout, threads))  # noqa: PERF401
        yield workers, interrupt
    finally:
        for worker in workers:
            worker.dismiss()
        deadline = time.monotonic() + patience
        for worker in workers:
            worker.end(deadline)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that start within the block never see the signals that this one handles.

    They inherit what is blocked here, from their first instruction on: a signal to the whole process group,
    as a terminal sends it, is this process's business alone.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Notice.signals)
    try:
        resource_tracker.ensure_running()  # which starts with the first process, and unblocks signals here
        signal.pthread_sigmask(signal.SIG_BLOCK, Notice.signals)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _threads_of_children(n: int | None) -> Iterator[None]:
    """How many threads processes that start within the block have; ``None``: as many as they like."""
    before = os.environ.pop(THREADS, None)
    try:
        if n is not None:
            os.environ[THREADS] = str(n)
        yield
    finally:
        os.environ.pop(THREADS, None)
        if before is not None:
            os.environ[THREADS] = before


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

    def __init__(self, place: Place, stop: Interrupt, timeout: float | None, threads: int | None = 1) -> None:
        self.place, self.stop, self.timeout, self.threads = place, stop, timeout, threads
        self.task: Runnable | None = None
        self.crashes = tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        """Start the process."""
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, os.getpid(), self.place, self.crashes.name)
        )
        with deaf_children(), _threads_of_children(self.threads):
            self.process.start()
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
        if self.stop.is_set():
            if not self.told:
                self.told = True
                self._send(None)
            self._wake()
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

    def dismiss(self) -> None:
        """Ask the process to end: it leaves what it is at with a checkpoint."""
        self._send(None)
        self._wake()

    def end(self, deadline: float) -> None:
        """Let the process end until the deadline, or kill it."""
        self._end(patience=max(0.0, deadline - time.monotonic()))
        self.crashes.close()

    def _wake(self) -> None:
        """A process that was stopped (SIGSTOP, Ctrl-Z) cannot end, nor write its checkpoint."""
        if self.process.is_alive():
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGCONT)

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
