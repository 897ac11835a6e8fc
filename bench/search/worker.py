"""Search one study with worker processes: claim -> run -> tell, until every slot is settled.

This process does the study's bookkeeping; its workers train, and report scores on the way.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from bench.errors import ChangedError, UsageError, one_line
from bench.execution.workers import Here, Interrupt, Outcome, Worker
from bench.plan import Job, Place, resolve
from bench.search import samplers
from bench.search.addresses import StorageError
from bench.search.study import Claim, Result, SharedStudy, open_storage, storage_errors
from bench.store import files, records

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

LOOK_EVERY = 1.0
"""Seconds between looks at what other processes do."""


@dataclass(frozen=True)
class Recipe:
    """How a configuration becomes runs, and where its study is: plain data, for workers."""

    study: str
    storage: str | None
    """As :class:`SharedStudy` has its ``url``: with no password."""
    folder: Path
    template: Job
    """A run like all others but for hyperparameters and seed."""
    fixed: Mapping[str, Any]
    seeds: Sequence[int]
    objectives: Sequence[str]
    pruner: str

    def jobs(self, params: Mapping[str, Any]) -> list[Job]:
        """The runs of a configuration, one per seed."""
        values = resolve(self.template.model, {**self.fixed, **params})
        return [replace(self.template, hyperparameters=values, seed=seed) for seed in self.seeds]


def search(
    shared: SharedStudy,
    recipe: Recipe,
    workers: Sequence[Worker | Here],
    interrupt: Interrupt,
    tick: Callable[[], None],
    *,
    together: int = 1,
) -> None:
    """Run trials on these workers, ``together`` at a time on each, beside any other process on the study.

    Returns when every slot of the study is settled, or when ``interrupt`` was signalled and every worker
    has written its checkpoints.

    Raises:
        UsageError: the storage failed, or the runs lack a score that was asked for.
        UnwritableError: the study's folder cannot be written.
    """
    running: dict[Worker | Here, list[Claim]] = {}
    looked = -math.inf
    with _beating(shared, running):
        while True:
            if time.monotonic() - looked > LOOK_EVERY:
                shared.bury(list(chain(*running.values())))
                for worker in workers:
                    if worker not in running:
                        claims = [] if interrupt.is_set() else _claims(shared, together)
                        if not claims:
                            break
                        running[worker] = claims
                        worker.give(Attempt(claims, recipe))
                tick()
                if not running and (interrupt.is_set() or shared.finished):
                    return
                looked = time.monotonic()
            time.sleep(0.1)
            for worker in list(running):
                if (ended := worker.outcome()) is not None:
                    claims = running[worker]
                    for claim, result in zip(claims, _results(ended, len(claims)), strict=True):
                        shared.end(claim.number, result)
                    del running[worker]
                    looked = -math.inf


def _claims(shared: SharedStudy, most: int) -> list[Claim]:
    claims: list[Claim] = []
    while len(claims) < most and (claim := shared.claim()) is not None:
        claims.append(claim)
    return claims


@contextmanager
def _beating(shared: SharedStudy, running: Mapping[Any, Sequence[Claim]]) -> Iterator[None]:
    """Renew the heartbeats of what runs, six times in a deadline; what runs after an error is reopened."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(shared.deadline / 6):
            with suppress(StorageError):
                shared.beat(list(chain(*list(running.values()))))

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with suppress(StorageError):
            for claim in chain(*running.values()):
                shared.end(claim.number, Result("stopped"))


def _results(ended: Outcome, n: int) -> Sequence[Result]:
    how, what = ended
    if how == "unwritable":
        raise files.UnwritableError(*what)
    if isinstance(what, UsageError):
        raise what
    return what if isinstance(what, list) else [Result("lost", reason=what.partition("\n")[0])] * n


@dataclass(frozen=True)
class Attempt:
    """What a worker gets: trials to run together."""

    claims: Sequence[Claim]
    recipe: Recipe

    def run(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """Run the trials: a list of :class:`Result`, or why there is none."""
        from bench.search import trial

        jobs = [self.recipe.jobs(claim.params) for claim in self.claims]
        try:
            trials = [
                trial.Trial(each, self._reporter(claim, each[0]), claim.attempt)
                for claim, each in zip(self.claims, jobs, strict=True)
            ]
            return "done", trial.run(trials, place, self.recipe.objectives, stop=stop)
        except StorageError as error:
            return "failed", str(error)
        except UsageError as error:
            return "failed", error
        except ChangedError as error:  # all trials to come would fail alike
            return "failed", UsageError(f"{error}; the same command begins another study")
        except files.UnwritableError as error:
            return "unwritable", (error.errno, error.strerror, error.filename)
        except Exception as error:
            with suppress(files.UnwritableError):
                records.log(jobs[0][0].folder(place.out), traceback.format_exc())
            if len(self.claims) == 1:
                return "failed", [Result("failed", reason=one_line(error))]
        return self._in_halves(place, stop)

    def _in_halves(self, place: Place, stop: Callable[[], bool]) -> Outcome:
        """The same, fewer at a time: one of them fails, or together they do not fit into memory."""
        middle = len(self.claims) // 2
        results: list[Result] = []
        for half in (self.claims[:middle], self.claims[middle:]):
            how, what = replace(self, claims=half).run(place, stop)
            if not isinstance(what, list):
                return how, what
            results += what
        return "done", results

    def _reporter(self, claim: Claim, job: Job) -> Callable[[int, tuple[float, ...]], bool]:
        """Tell the study a mean score, and ask whether to prune; searches of several scores do not prune."""
        if len(self.recipe.objectives) > 1:
            return lambda step, values: False
        guard = (self.recipe.storage, self.recipe.folder)
        with storage_errors(*guard):
            study = optuna.load_study(
                study_name=self.recipe.study,
                storage=_storage(*guard),
                sampler=optuna.samplers.RandomSampler(),
                pruner=samplers.pruner(self.recipe.pruner, steps=job.steps, eval_every=job.eval_every),
            )
            optuna_trial = optuna.Trial(study, claim.trial_id)
            told = study._storage.get_trial(claim.trial_id).intermediate_values

        def report(step: int, values: tuple[float, ...]) -> bool:
            with storage_errors(*guard):
                if step not in told:  # else it starts again, in smaller company
                    optuna_trial.report(values[0], step)
                return optuna_trial.should_prune()

        return report


@lru_cache(maxsize=1)
def _storage(url: str | None, folder: Path) -> BaseStorage:
    """This worker's connection."""
    return open_storage(url, folder)
