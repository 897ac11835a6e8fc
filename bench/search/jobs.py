"""Search one study with jobs of an engine: each joins it from its machine, as a command there would."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import printable
from bench.execution import remote
from bench.execution.devices import devices
from bench.execution.remote import CANCELLED, NOTE, Engine
from bench.execution.workers import Interrupt, started_workers
from bench.plan import Place
from bench.search.study import SharedStudy, open_storage
from bench.search.worker import Recipe, search
from bench.store import files


@dataclass(frozen=True)
class Joiner:
    """What a job does: search the study with one worker, until it is settled."""

    shared: SharedStudy
    recipe: Recipe
    place: Place
    timeout: float | None
    together: int

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "shared": replace(self.shared, storage=None)}  # type: ignore[arg-type]

    def __call__(self, interrupt: Interrupt) -> None:
        """Run trials on this machine's device."""
        shared = replace(self.shared, storage=open_storage(self.shared.url, self.shared.folder))
        slots = devices(self.place.device)[:1]
        with started_workers(self.place, slots, interrupt, timeout=self.timeout) as (workers, _):
            search(shared, self.recipe, workers, interrupt, lambda: None, together=self.together)


def search_remotely(
    joiner: Joiner,
    engine: Engine,
    n_jobs: int,
    interrupt: Interrupt,
    *,
    detach: bool,
    tick: Callable[[], None],
) -> None:
    """Keep ``n_jobs`` jobs searching until the study is settled; those of an earlier command count.

    Returns early where ``interrupt`` was signalled, with ``detach``, and where no job is left: a job
    that ends too soon is replaced, as often as a trial is tried again; one that was cancelled is not.

    Raises:
        UsageError: the engine refuses, or the storage failed.
    """
    shared, note = joiner.shared, joiner.recipe.folder / NOTE
    jobs = _alive(note, engine)
    wanted, spare = n_jobs, n_jobs * (1 + shared.retries)
    while not interrupt.is_set():
        ended = engine.ended(jobs)
        shared.bury([])
        if shared.finished:
            return
        for job, how in ended.items():
            print(f"{engine.name} job {job} {how}", file=sys.stderr, flush=True)
            jobs.remove(job)
            wanted -= how == CANCELLED
        new = min(wanted - len(jobs), spare)
        if new > 0:
            jobs += engine.submit([joiner] * new)
            spare -= new
            files.write_json(note, {"engine": engine.name, "jobs": jobs}, durable=False)
        if detach or not jobs:
            break
        looked = time.monotonic()
        while time.monotonic() - looked < remote.LOOK_EVERY and not interrupt.is_set():
            tick()
            time.sleep(0.1)
    if interrupt.is_set():
        engine.leave(jobs)
    elif detach:
        print(f"{engine.name} has {len(jobs)} jobs that search: the same command goes on")


def _alive(note: Path, engine: Engine) -> list[str]:
    """The jobs of earlier commands that still search."""
    try:
        found = files.read_json(note)
        jobs = [printable(job) for job in found["jobs"] if found["engine"] == engine.name]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return []
    ended = engine.ended(jobs)
    return [job for job in jobs if job not in ended]
