"""Worker processes on this machine: replace those that die, end those that hang, stop all of them on request.

A worker that dies takes nothing else with it, one that fails is replaced, and none outlives this process.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.execution.processes import Process
from bench.execution.signals import Interrupt
from bench.execution.worker import Source, work
from bench.plan import RunContext, Trial
from bench.store.files import UnwritableError
from bench.store.leases import give_up, holder, is_leased, is_mine

PATIENCE = 30.0
"""Seconds for all workers together to end after an error."""

MOST_DEATHS = 3
"""So many workers in a row may die before they have advanced any work: more would, too."""


@dataclass(frozen=True)
class WorkerTarget:
    """What a worker process does."""

    source: Source
    context: RunContext
    owner: int
    trials: Sequence[Trial] = ()
    """To be made first: a model that cannot be trained is refused before anything is computed."""

    def __call__(self, pipe: Connection) -> None:
        """Work until a message asks to stop."""

        def notify(what: str, about: Any) -> None:
            pipe.send((what, about))

        try:
            for trial in self.trials:
                trial()
            notify("ready", None)
            work(self.source, self.context, pipe.poll, notify=notify, owner=self.owner, until_failure=True)
        except (UnwritableError, UsageError) as error:
            notify("raised", error)


def supervise(
    source: Source,
    context: RunContext,
    slots: Sequence[str],
    interrupt: Interrupt,
    *,
    timeout: float | None = None,
    tick: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
    trials: Sequence[Trial] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Have all work of a source done by one worker per slot; a slot is the name of a device.

    Each worker makes the ``trials`` before it takes work, and then ``ready`` is called.

    Returns when nothing is left to do, or when ``interrupt`` was signalled and every worker has saved its
    work. ``timeout`` bounds the seconds of one attempt. ``tick`` is called a few times a second.

    Raises:
        UnwritableError: the results folder cannot be written.
        UsageError: no work of this source can be done, or workers die before they advance any.
    """
    workers: list[Worker] = []
    once = cache(ready)
    spent: dict[Path, float] = {}
    try:
        for device in slots:
            here = replace(context, device=device)
            workers.append(Worker(source, here, timeout, spent, trials, once))
        said = False
        while workers := [worker for worker in workers if worker.look(interrupt)]:
            if not said and (folder := _waited_for(workers)) is not None:
                said = True
                print(f"waiting for runs that {holder(folder)} computes", file=sys.stderr, flush=True)
            tick()
            time.sleep(0.05)
    finally:
        deadline = time.monotonic() + patience
        for worker in workers:
            worker.process.send()
            worker.process.wake()
        for worker in workers:
            worker.process.end(deadline)
    tick()


def _waited_for(workers: Sequence[Worker]) -> Path | None:
    """What all workers wait for, where another command computes it."""
    folder = workers[0].waiting
    if folder is None or not all(worker.waiting for worker in workers) or not is_leased(folder):
        return None
    return None if is_mine(folder) else folder


class Worker:
    """One slot: a process that works, and after a failure the next one."""

    def __init__(
        self,
        source: Source,
        context: RunContext,
        timeout: float | None,
        spent: dict[Path, float],
        trials: Sequence[Trial],
        ready: Callable[[], None],
    ) -> None:
        """``spent``: seconds of the present attempt at each folder, of all workers."""
        self.source, self.context, self.timeout, self.spent = source, context, timeout or math.inf, spent
        self.trials, self.ready = trials, ready
        self.held: dict[Path, float] = {}
        """The folders whose leases it holds, and since when."""
        self.waiting: Path | None = None
        self.deaths = 0
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.asked = False
        self.process = Process(WorkerTarget(self.source, self.context, os.getpid(), self.trials))

    def look(self, interrupt: Interrupt) -> bool:
        """See to the process; False when it has ended and no other is needed."""
        if interrupt.is_set():
            if not self.asked:
                self.asked = True
                self.process.send()
            self.process.wake()
        alive = self.process.is_alive()  # asked before its last messages are read
        for what, about in self.process.messages():
            self._heard(what, about)
        if alive and self.held and self._seconds() > self.timeout:
            log = self.process.abort()
            self._lost(f"took longer than --run-timeout {self.timeout:g} s", log)
        elif not alive and self.held:
            self._lost(f"worker {self.process.how_it_ended()}", self.process.crash_log())
        elif not alive and self.process.process.exitcode:
            self.deaths += 1
            if self.deaths == MOST_DEATHS:
                raise UsageError(f"workers cannot start: the last one {self.process.how_it_ended()}")
        elif alive:
            return True
        self.process.end(time.monotonic())
        if interrupt.is_set() or self.source.finished():
            return False
        self.start()
        return True

    def _heard(self, what: str, about: Any) -> None:
        if what == "ready":
            self.trials = ()
            self.ready()
        elif what == "took":
            self.waiting = None
            self.held[about] = time.monotonic()
        elif what == "released":
            began = self.held.pop(about, math.inf)
            self.spent[about] = self.spent.get(about, 0.0) + max(0.0, time.monotonic() - began)
        elif what == "failed":
            self._forget(about)
        elif what == "advanced":
            self.deaths = 0
        elif what == "waiting":
            self.waiting = about
        elif what == "smaller":
            self.source.smaller(*about)
        else:
            raise about

    def _lost(self, reason: str, log: str) -> None:
        folders = list(self.held)
        self._forget(folders)
        self.source.lost(folders, reason, log)
        for folder in folders:
            give_up(folder)

    def _forget(self, folders: Sequence[Path]) -> None:
        """An attempt at these has ended."""
        for folder in folders:
            self.held.pop(folder, None)
            self.spent.pop(folder, None)

    def _seconds(self) -> float:
        """How long the longest attempt at what it holds has taken."""
        now = time.monotonic()
        return max(self.spent.get(folder, 0.0) + now - began for folder, began in self.held.items())
