"""The trials of a study, as a source of work."""

from __future__ import annotations

import os
import traceback
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from bench.errors import ChangedError, UsageError, one_line
from bench.execution.signals import Stop
from bench.execution.worker import Notify, Task, wait
from bench.plan import RunContext, resolve
from bench.search.addresses import StorageError
from bench.search.storage import storage_errors
from bench.search.study import Claim, Result, SharedStudy
from bench.store import files
from bench.store.jobs import Job, digest
from bench.store.leases import Leases

if TYPE_CHECKING:
    from bench.search.trial import Group, Report, Trial

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
        values = resolve(self.template.model, {**self.template.hyperparameters, **params})
        return [replace(self.template, hyperparameters=values, seed=seed) for seed in self.seeds]


class Trials:
    """Hands out the trials of a study, ``together`` at a time.

    A worker keeps its trials until they have ended: they are judged against trials that went before.
    """

    def __init__(self, study: SharedStudy, recipe: Recipe, *, together: int, stale_s: float) -> None:
        self.study, self.recipe, self.together = study, recipe, together
        self.stale_s: float | None = stale_s
        self.name = digest([str(recipe.folder), study.name])
        self.command = uuid.uuid4().hex

    def take(self, leases: Leases, context: RunContext) -> TrialTask | None:
        """The next trials that nobody runs; one that failed beside others comes alone."""
        claims: list[Claim] = []
        try:
            while len(claims) < self.together:
                if (claim := self.study.take(leases, beside=bool(claims))) is None:
                    break
                claims.append(claim)
                if claim.alone:
                    break
            from bench.search.trial import Trial  # here, not above: it imports PyTorch

            trials = [Trial(claim, self.recipe.jobs(claim.params), self._reporter(claim)) for claim in claims]
        except Exception:
            with suppress(StorageError):
                for claim in claims:
                    self.study.end(claim.number, Result("stopped"))
            raise
        return TrialTask(self.study, trials, self.recipe.objectives, context, leases) if trials else None

    def _reporter(self, claim: Claim) -> Report:
        """Tells the study a trial's mean scores, and asks whether to prune it.

        A search of several objectives does not prune.
        """
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
        """Never: a trial is not given back before it has ended."""
        return False

    def failed(self, task: Task, error: Exception, notify: Notify) -> None:
        """A trial failed: that is its result. Of several that trained together, each is run again alone.

        Raises:
            UsageError: the code changed: all other trials would fail, too.
        """
        import torch

        assert isinstance(task, TrialTask)
        blamed = task.training or task.left
        others = [trial for trial in task.left if trial not in blamed]
        if isinstance(error, ChangedError):
            task.end(task.left, Result("stopped"))
            raise UsageError(f"{error}; the same command begins another study")
        with suppress(files.UnwritableError):
            log = "".join(traceback.format_exception(error))
            files.append(blamed[0].jobs[0].folder(task.context.out) / "error.log", log)
        if len(blamed) == 1:
            task.end(blamed, Result("failed", reason=one_line(error)))
        elif isinstance(error, torch.OutOfMemoryError):
            fewer = self.name, len(blamed) // 2
            self.smaller(*fewer)
            notify("smaller", fewer)
            task.end(blamed, Result("stopped"))
        else:
            task.end(blamed, Result("stopped"), alone=True)
        task.end(others, Result("stopped"))

    def lost(self, folders: Collection[Path], reason: str, log: str) -> None:
        """The worker of these trials died; of several that trained together, each is run again alone."""
        lost = [
            slot
            for k, slot in self.study.slots().items()
            if self.study.slot_folder(k) in folders
            and slot.state == "running"
            and slot.last.user_attrs.get("pid") == os.getpid()  # else another process took it over
        ]
        for slot in lost:
            self.study.end(slot.last.number, Result("lost", reason=reason), alone=len(lost) > 1)
            if set(slot.last.params) == set(self.study.space):
                folder = self.recipe.jobs(slot.last.params)[0].folder(self.recipe.folder)
                files.append(folder / "error.log", f"{reason}\n{log}".rstrip() + "\n")

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
        context: RunContext,
        leases: Leases,
    ) -> None:
        self.study, self.objectives, self.context, self.leases = study, objectives, context, leases
        self.left = list(trials)
        """Those that have not ended."""
        self.training: list[Trial] = []
        """Those of them that train now. The others wait for runs that another process trains."""
        self.group: Group | None = None

    @property
    def folders(self) -> Sequence[Path]:
        """Of slots and runs."""
        return list(self.leases.held)

    def advance(self, stop: Stop) -> bool:
        """Train to the next evaluation, and judge the trials there; True when none is left."""
        with self._left_to_others():
            if self.group is None:
                self.training = self._free()
                if not self.training:
                    wait(LOOK_EVERY, stop)
                    return False
                from bench.search.trial import Group

                self.group = Group(list(self.training), self.context, self.objectives)
            if self.group.advance(stop):
                self._end_group()
        return not self.left

    def save(self) -> None:
        """Leave the trials to whoever goes on with them."""
        with self._left_to_others():
            if self.group is not None:
                self.group.stop()
                self._end_group()
            self.end(self.left, Result("stopped"))

    def end(self, trials: Sequence[Trial], result: Result, *, alone: bool = False) -> None:
        """End these trials alike."""
        for trial in list(trials):
            self._end(trial, result, alone=alone)

    def _end(self, trial: Trial, result: Result, *, alone: bool = False) -> None:
        self.left.remove(trial)
        if trial in self.training:
            self.training.remove(trial)
        self.study.end(trial.claim.number, result, alone=alone)

    def _end_group(self) -> None:
        assert self.group is not None
        self.group.write()
        for trial in self.group.trials:
            self._end(trial, trial.result or Result("stopped"))
            for job in trial.jobs:
                self.leases.release(job.folder(self.context.out))
        self.group = None

    @contextmanager
    def _left_to_others(self) -> Iterator[None]:
        """After an error that is no trial's fault, whoever can goes on with all of them."""
        try:
            yield
        except (files.UnwritableError, UsageError):
            with suppress(StorageError):
                self.end(self.left, Result("stopped"))
            raise

    def _free(self) -> list[Trial]:
        """The trials whose runs nobody else trains.

        Of two trials of one configuration the second waits, to reuse the runs of the first.
        """
        free: list[Trial] = []
        taken: set[Path] = set()
        for trial in self.left:
            folders = [job.folder(self.context.out) for job in trial.jobs]
            if taken.isdisjoint(folders) and all(map(self.leases.take, folders)):
                free.append(trial)
                taken.update(folders)
        return free
