"""The trials of a study, as a source of work."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch

from bench.errors import ChangedError, UsageError, one_line
from bench.execution.signals import Stop
from bench.execution.worker import Notify, Task, wait
from bench.plan import Job, Place, resolve
from bench.search.addresses import StorageError
from bench.search.storage import storage_errors
from bench.search.study import Claim, Result, SharedStudy
from bench.search.trial import Group, Report, Trial
from bench.store import files
from bench.store.leases import Leases

LOOK_EVERY = 0.5
"""Seconds between looks at another trial of the same configuration."""


@dataclass(frozen=True)
class Recipe:
    """How a configuration becomes runs: plain data, for workers."""

    folder: Path
    """Of the study."""
    template: Job
    """A run like all others but for hyperparameters and seed."""
    fixed: Mapping[str, Any]
    seeds: Sequence[int]
    objectives: Sequence[str]

    def jobs(self, params: Mapping[str, Any]) -> list[Job]:
        """The runs of a configuration, one per seed."""
        values = resolve(self.template.model, {**self.fixed, **params})
        return [replace(self.template, hyperparameters=values, seed=seed) for seed in self.seeds]


class Trials:
    """Hands out the trials of a study, ``together`` at a time.

    A worker keeps its trials until they have ended: they are judged against trials that went before.
    """

    def __init__(self, study: SharedStudy, recipe: Recipe, *, together: int, stale_s: float) -> None:
        self.study, self.recipe, self.together = study, recipe, together
        self.stale_s: float | None = stale_s
        self.name, self.command = study.name, uuid.uuid4().hex

    def take(self, leases: Leases, place: Place) -> TrialTask | None:
        """The next trials that nobody runs."""
        claims: list[Claim] = []
        while len(claims) < self.together and (claim := self.study.take(leases)) is not None:
            if claim.alone and claims:
                self.study.end(claim.number, Result("stopped"), alone=True)
                leases.release(self.study.slot_folder(claim.slot))
                break
            claims.append(claim)
            if claim.alone:
                break
        trials = [Trial(claim, self.recipe.jobs(claim.params), self._reporter(claim)) for claim in claims]
        return TrialTask(self.study, trials, self.recipe.objectives, place, leases) if trials else None

    def _reporter(self, claim: Claim) -> Report:
        """Tells the study mean scores, and asks whether to prune; with several objectives it never does."""
        if len(self.recipe.objectives) > 1:
            return lambda step, values: False
        guard = self.study.url, self.study.folder
        with storage_errors(*guard):
            trial = optuna.Trial(self.study.load(), claim.trial_id)
        reported: set[int] = set()

        def report(step: int, values: tuple[float, ...]) -> bool:
            with storage_errors(*guard):
                if step not in reported:
                    reported.add(step)
                    trial.report(values[0], step)
                return trial.should_prune()

        return report

    def is_due(self, task: Task) -> bool:
        """Never: see above."""
        return False

    def failed(self, task: Task, error: Exception, notify: Notify) -> None:
        """One trial failed: that is its result. Of several, nobody knows which: they are run anew.

        Raises:
            UsageError: the code changed, with which all trials to come would fail, too.
        """
        assert isinstance(task, TrialTask)
        if isinstance(error, ChangedError):
            task.end_all(Result("stopped"))
            raise UsageError(f"{error}; the same command begins another study")
        with suppress(files.UnwritableError):
            log = "".join(traceback.format_exception(error))
            files.append(task.left[0].jobs[0].folder(task.place.out) / "error.log", log)
        if len(task.left) == 1:
            task.end_all(Result("failed", reason=one_line(error)))
        elif isinstance(error, torch.OutOfMemoryError):
            fewer = self.name, len(task.left) // 2
            self.smaller(*fewer)
            notify("smaller", fewer)
            task.end_all(Result("stopped"))
        else:
            task.end_all(Result("stopped"), alone=True)

    def lost(self, folders: Collection[Path], reason: str, log: str) -> None:
        """The worker of these trials died."""
        for k, slot in self.study.slots().items():
            if self.study.slot_folder(k) in folders and slot.state == "running":
                self.study.end(slot.last.number, Result("lost", reason=reason))
                jobs = self.recipe.jobs(slot.last.params) if slot.last.params else []
                for job in jobs[:1]:
                    files.append(job.folder(self.recipe.folder) / "error.log", f"{reason}\n{log}")

    def finished(self) -> bool:
        """Whether every slot of the study is settled."""
        return self.study.finished

    def waits_for(self) -> Path | None:
        """Nothing that a user should know: the study's own lines tell."""
        return None

    def smaller(self, key: str, n: int) -> None:
        """At most so many trials train together from now on."""
        self.together = n


class TrialTask:
    """Trials that a worker runs at once, each up to its end."""

    def __init__(
        self,
        study: SharedStudy,
        trials: Sequence[Trial],
        objectives: Sequence[str],
        place: Place,
        leases: Leases,
    ) -> None:
        self.study, self.objectives, self.place, self.leases = study, objectives, place, leases
        self.left = list(trials)
        """Those that have not ended."""
        self.group: Group | None = None
        """Those of them that train now."""

    @property
    def folders(self) -> Sequence[Path]:
        """Of slots and runs."""
        return list(self.leases.held)

    def advance(self, stop: Stop) -> bool:
        """Train all seeds to the next evaluation, and judge the trials there."""
        try:
            if self.group is None and (free := self._free()):
                self.group = Group(free, self.place, self.objectives)
            if self.group is None:
                wait(LOOK_EVERY, stop)
            elif self.group.advance(stop):
                self._end_group()
        except (files.UnwritableError, UsageError):  # the fault of no trial
            with suppress(StorageError):
                self.end_all(Result("stopped"))
            raise
        return not self.left

    def save(self) -> None:
        """Leave the trials to whoever goes on with them."""
        if self.group is not None:
            self.group.stop()
            self._end_group()
        self.end_all(Result("stopped"))

    def end_all(self, result: Result, *, alone: bool = False) -> None:
        """End all trials that are left alike."""
        while self.left:
            self.study.end(self.left.pop().claim.number, result, alone=alone)

    def _end_group(self) -> None:
        assert self.group is not None
        self.group.write()
        for trial in self.group.trials:
            self.left.remove(trial)
            self.study.end(trial.claim.number, trial.result or Result("stopped"))
            for job in trial.jobs:
                self.leases.release(job.folder(self.place.out))
        self.group = None

    def _free(self) -> list[Trial]:
        """The trials whose runs nobody else trains.

        Of two trials of one configuration the second waits, to reuse the runs of the first.
        """
        free: list[Trial] = []
        taken: set[Path] = set()
        for trial in self.left:
            folders = [job.folder(self.place.out) for job in trial.jobs]
            if taken.isdisjoint(folders) and all(map(self.leases.take, folders)):
                free.append(trial)
                taken.update(folders)
        return free
