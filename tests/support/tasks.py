"""Work that workers can be given beside training, for tests: nothing here needs PyTorch."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.execution.signals import Interrupt, Stop
from bench.execution.supervisor import supervise
from bench.execution.worker import Notify, Task
from bench.plan import RunContext
from bench.store.leases import Leases


@dataclass(frozen=True)
class Action:
    """Notes its process, then does something."""

    folder: Path
    what: str
    """``greet``, ``fail``, ``sleep`` until it is told to stop, ``deaf``: sleep for ever, ``hold``: and let no
    other code run; or the number with which its process ends, below 0 of a signal."""

    @property
    def folders(self) -> Sequence[Path]:
        return [self.folder]

    def advance(self, stop: Stop) -> bool:
        with (self.folder / "log").open("a") as log:
            log.write(f"{self.what} {os.getpid()}\n")
        if self.what == "fail":
            raise ValueError("on purpose")
        if self.what == "hold":
            ctypes.PyDLL(None).sleep(1000)
        while self.what == "deaf" or (self.what == "sleep" and not stop()):
            time.sleep(0.02)
        if self.what.lstrip("-").isdigit():
            end = int(self.what)
            if end < 0:
                os.kill(os.getpid(), -end)
            os._exit(end)
        return True

    def save(self) -> None:
        (self.folder / "saved").touch()


@dataclass
class Actions:
    """A source of actions, one after the other; with ``at_once``, each worker does the same."""

    folder: Path
    actions: Sequence[str]
    name: str = "actions"
    command: str = "test"
    stale_s: float | None = None

    def take(self, leases: Leases, context: RunContext) -> Task | None:
        if self.finished() or not leases.take(self.folder):
            return None
        return Action(self.folder, self.actions[len(self.done())])

    def done(self) -> list[tuple[str, int]]:
        """Each action that was begun, and its process."""
        try:
            lines = (self.folder / "log").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(what, int(pid)) for what, pid in map(str.split, lines)]

    def notes(self) -> str:
        """What was noted of failures."""
        return (self.folder / "notes").read_text()

    def is_due(self, task: Task) -> bool:
        return False

    def failed(self, task: Task, error: Exception, notify: Notify) -> None:
        self.lost([], str(error), "")

    def lost(self, folders: Collection[Path], reason: str, log: str) -> None:
        with (self.folder / "notes").open("a") as notes:
            notes.write(f"{reason}\n{log}")

    def finished(self) -> bool:
        return len(self.done()) >= len(self.actions)

    def waits_for(self) -> Path | None:
        return None

    def smaller(self, key: str, n: int) -> None:
        pass


class Several(Actions):
    """Several sources as one."""

    def __init__(self, sources: Sequence[Actions]) -> None:
        super().__init__(sources[0].folder, ["deaf"])
        self.sources = sources

    def take(self, leases: Leases, context: RunContext) -> Task | None:
        return next((task for source in self.sources if (task := source.take(leases, context))), None)

    def finished(self) -> bool:
        return False


class Broken(Actions):
    """Takes a lease, and breaks."""

    def take(self, leases: Leases, context: RunContext) -> Task | None:
        leases.take(self.folder)
        raise LookupError("broken")


def supervised(folder: Path, what: str, variables: dict[str, str]) -> None:
    """Have one worker do this, as the process that a user started."""
    os.environ.update(variables)
    with Interrupt().installed() as interrupt:
        supervise(Actions(folder, [what]), RunContext(folder), ["cpu"], interrupt)
