"""One process of this machine that does one thing for its parent, and never outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.execution.signals import Notice

THREADS = "OMP_NUM_THREADS"
"""What numerical libraries read when they are loaded: how many threads they may have."""

Target = Callable[[Connection], object]
"""What a process does. Whatever its parent sends through the pipe while it works asks it to stop."""


class Process:
    """A new Python process that runs ``target(pipe)``; what it sends comes from :meth:`messages`."""

    def __init__(self, target: Target, threads: int | None = 1) -> None:
        """``threads``: how many numerical libraries may use there; ``None``: as many as they like."""
        self.crashes = tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, os.getpid(), target, self.crashes.name))
        with _deaf_children(), _threads_of_children(threads):
            self.process.start()
        theirs.close()

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def messages(self) -> Iterator[Any]:
        """What it has sent since the last look."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                yield self.pipe.recv()

    def send(self, message: object = None) -> None:
        """Send it a message; while it works, any asks it to stop."""
        with contextlib.suppress(OSError):  # it died, which shows elsewhere
            self.pipe.send(message)

    def wake(self) -> None:
        """A process that was stopped (SIGSTOP, Ctrl-Z) can neither save nor end."""
        if self.process.is_alive():
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGCONT)

    def abort(self) -> str:
        """End it where it hangs; returns where that was."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGABRT)  # upon which faulthandler writes the stacks
        self._end(patience=5)
        return self.crash_log()

    def crash_log(self) -> str:
        """What faulthandler wrote of a crash."""
        return self.crashes.read()

    def how_it_ended(self) -> str:
        """``killed by SIGKILL``, ``ended with code 3``."""
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def end(self, deadline: float) -> None:
        """Let it end until the deadline, or kill it."""
        self._end(patience=max(0.0, deadline - time.monotonic()))
        self.pipe.close()
        self.crashes.close()

    def _end(self, patience: float) -> None:
        self.process.join(patience)
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
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
    """How many threads processes that start within the block have."""
    before = os.environ.pop(THREADS, None)
    try:
        if n is not None:
            os.environ[THREADS] = str(n)
        yield
    finally:
        os.environ.pop(THREADS, None)
        if before is not None:
            os.environ[THREADS] = before


def few_collections() -> None:
    """Look for garbage less often.

    Importing PyTorch makes half a million objects that stay, and Python looks through those it has for
    garbage after every few hundred: a fifth of the time.
    """
    gc.set_threshold(100_000, 50, 50)


# ------------------------------------------------------------------ in the process


def _serve(pipe: Connection, parent: int, target: Target, crash_log: str) -> None:
    few_collections()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with Path(crash_log).open("a") as crashes, contextlib.suppress(EOFError, BrokenPipeError):
        faulthandler.enable(crashes)
        target(pipe)


def _end_with(parent: int) -> None:
    """End this process when its parent has: on Linux at once, even where no Python code can run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
