"""What workers can be given beside training, for tests: nothing here needs PyTorch."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.execution.workers import Interrupt, Outcome, started_workers
from bench.plan import Place


@dataclass(frozen=True)
class Sleeper:
    """Notes its process, then sleeps until told to stop; or does not listen, or lets no other code run."""

    marker: Path
    how: Literal["listens", "deaf", "holds the interpreter"] = "listens"

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Sleep."""
        self.marker.with_suffix(".new").write_text(str(os.getpid()))
        self.marker.with_suffix(".new").rename(self.marker)
        if self.how == "holds the interpreter":
            ctypes.PyDLL(None).sleep(1000)
        while self.how == "deaf" or not stop():
            time.sleep(0.02)
        return "stopped", ""


@dataclass(frozen=True)
class Ending:
    """Ends its process: by a signal, or with an exit code."""

    by: int

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """End."""
        if self.by < 0:
            os.kill(os.getpid(), -self.by)
        os._exit(self.by)


@dataclass(frozen=True)
class Failing:
    """Fails in an orderly way."""

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Fail."""
        return "failed", f"process {os.getpid()}"


@dataclass(frozen=True)
class Greeting:
    """Works."""

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Tell the process."""
        return "done", os.getpid()


def supervise(task: Sleeper, variables: dict[str, str]) -> None:
    """Give one worker this task and wait, as the process that a user started."""
    os.environ.update(variables)
    with (
        Interrupt().installed() as interrupt,
        started_workers(Place(task.marker.parent), ["cpu"], interrupt, timeout=None) as (workers, _),
    ):
        workers[0].give(task)
        while workers[0].outcome() is None:
            time.sleep(0.02)
