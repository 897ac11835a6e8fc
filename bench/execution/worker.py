"""The one loop that trains: take work, advance it to its next evaluation, save it, give it back.

A source (the runs of a plan, the trials of a study) hands out work under leases until all of it is done.
Work that is least advanced comes first: all runs reach an evaluation before any goes beyond it. A worker
goes on with what it has while nothing less advanced is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.errors import UsageError
from bench.execution.signals import Stop
from bench.plan import RunContext
from bench.store.files import UnwritableError
from bench.store.leases import Leases

LOOK_EVERY = 1.0
"""Seconds between looks for work while others have all of it."""

Notify = Callable[[str, Any], object]
"""Tells the supervisor: ``took`` or ``released`` a folder, ``waiting`` for one, ``failed`` at some,
``advanced`` a task; stacks are to be ``smaller``."""


class Task(Protocol):
    """Work that a worker has taken: one run, or several that train together."""

    @property
    def folders(self) -> Sequence[Path]:
        """Whose leases it holds."""

    def advance(self, stop: Stop) -> bool:
        """Work up to the next evaluation, or until ``stop``; True when everything is recorded."""

    def save(self) -> None:
        """Write what anybody needs to go on with it."""


class Source(Protocol):
    """What hands out work. Workers have a copy each: what they share are files."""

    name: str
    """Of the work: the same command has the same."""
    command: str
    """Names this command, once."""
    stale_s: float | None
    """Seconds after which a silent lease is stale, if not the usual."""

    def take(self, leases: Leases, context: RunContext) -> Task | None:
        """The least advanced work that is free, leased; ``None`` while there is none."""

    def is_due(self, task: Task) -> bool:
        """Whether work that is less advanced than this task is free."""

    def failed(self, task: Task, error: Exception, notify: Notify) -> None:
        """An attempt at a task failed: note it; where no attempt is left, record it."""

    def lost(self, folders: Collection[Path], reason: str, log: str) -> None:
        """The worker that had leases on these folders died: note it likewise."""

    def finished(self) -> bool:
        """Whether nothing is left to do, for anybody."""

    def waits_for(self) -> Path | None:
        """The folder of work that somebody else does."""

    def smaller(self, key: str, n: int) -> None:
        """From now on at most so many of these train together: more do not fit into memory."""


def work(
    source: Source,
    context: RunContext,
    stop: Stop,
    *,
    notify: Notify = lambda what, about: None,
    owner: int | None = None,
    until_failure: bool = False,
) -> None:
    """Do all work of a source until ``stop``; with ``until_failure``, until a task fails.

    Raises:
        UnwritableError: the results folder cannot be written.
        UsageError: no work of this source can be done.
    """
    with Leases(command=source.command, owner=owner, stale_s=source.stale_s, notify=notify) as leases:
        while not stop():
            task = source.take(leases, context)
            if task is not None:
                done = _advance(source, task, leases, stop, notify)
                notify("advanced", None)
                if not done and until_failure:
                    return
            elif source.finished():
                return
            else:
                notify("waiting", source.waits_for())
                wait(LOOK_EVERY, stop)


def _advance(source: Source, task: Task, leases: Leases, stop: Stop, notify: Notify) -> bool:
    """Advance a task until another one is due; False if it failed."""
    try:
        while not task.advance(stop):
            if stop() or source.is_due(task):
                task.save()
                break
    except (UnwritableError, UsageError):
        raise
    except Exception as error:
        source.failed(task, error, notify)
        notify("failed", list(task.folders))
        return False
    finally:
        for folder in task.folders:
            leases.release(folder)
    return True


def wait(seconds: float, stop: Stop) -> None:
    """Wait, but not beyond ``stop``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        time.sleep(0.05)
