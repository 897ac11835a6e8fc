"""Where workers are started: in this process, as processes of this machine, as jobs of an engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bench.errors import printable
from bench.execution.devices import devices
from bench.execution.signals import Interrupt
from bench.execution.supervisor import supervise
from bench.execution.worker import Source
from bench.plan import RunContext

LOOK_EVERY = 5.0
"""Seconds between questions to an engine."""

CANCELLED = "CANCELLED"
"""How a job ended that somebody ended on purpose: it is not replaced."""

Work = Callable[[Interrupt], None]
"""What a job does: it returns when nothing is left to do, or has heeded the interrupt."""


class Engine(Protocol):
    """What starts jobs on other machines, and counts them."""

    name: str
    most: int
    """Jobs that it takes at a time."""

    def start(self, work: Work, n: int, name: str) -> None:
        """Start ``n`` jobs that do the same work, all under this name.

        Raises:
            UsageError: the engine refuses.
        """

    def jobs(self, name: str) -> dict[str, str] | None:
        """The jobs of this name: ``""`` for those that wait or run, how they ended for the others.

        Those of earlier commands count. ``None`` where the engine does not answer.
        """

    def leave(self, name: str) -> None:
        """This command was interrupted: stop its jobs, or say how they go on without it."""


@dataclass(frozen=True)
class Job:
    """What a job does: on its machine what a command does here, with one worker."""

    source: Source
    context: RunContext
    timeout: float | None

    def __call__(self, interrupt: Interrupt) -> None:
        """Work on this machine's device. Doing it again does no harm."""
        slots = devices(self.context.device)[:1]
        supervise(self.source, self.context, slots, interrupt, timeout=self.timeout)


def keep_jobs(
    engine: Engine,
    source: Source,
    context: RunContext,
    n: int,
    interrupt: Interrupt,
    *,
    timeout: float | None,
    spare: int,
    detach: bool,
    tick: Callable[[], None],
) -> None:
    """Keep ``n`` jobs working until nothing is left to do.

    A job that ends too soon is replaced, ``spare`` times in all; one that was cancelled is not. Returns
    early where ``interrupt`` was signalled, with ``detach``, and where no job is left.

    Raises:
        UsageError: the engine refuses.
    """
    name, n = source.name, min(n, engine.most)
    known = engine.jobs(name) or {}
    alive = sum(not ended for ended in known.values())
    if alive:
        print(
            f"{alive} {'job' if alive == 1 else 'jobs'} of an earlier command in {engine.name} work on this"
        )
    over = {job for job, ended in known.items() if ended}
    spare += n - alive
    while not interrupt.is_set():
        jobs = engine.jobs(name)
        if source.finished():
            break
        if jobs is not None:
            for job, ended in jobs.items():
                if ended and job not in over:
                    over.add(job)
                    print(printable(f"{engine.name} job {job} {ended}"), file=sys.stderr, flush=True)
                    n -= ended == CANCELLED
            alive = sum(not ended for ended in jobs.values())
            new = min(n - alive, spare)
            if new > 0:
                engine.start(Job(source, context, timeout), new, name)
                spare -= new
            elif not alive:
                break
            if detach:
                print(f"{engine.name} has {max(alive, alive + new)} jobs: the same command goes on")
                break
        _wait(interrupt, tick)
    tick()
    if interrupt.is_set():
        engine.leave(name)


def _wait(interrupt: Interrupt, tick: Callable[[], None]) -> None:
    until = time.monotonic() + LOOK_EVERY
    while time.monotonic() < until and not interrupt.is_set():
        tick()
        time.sleep(0.1)
