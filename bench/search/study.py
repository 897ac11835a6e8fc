"""A study that any number of processes search together, on one machine or several that share a folder.

A study has ``total`` slots, each for one configuration. Each slot has a trial in Optuna's queue from the
start. Whoever has the lease on a slot's folder takes its trial (waiting -> running), proposes its
configuration, runs it, and says how it ended. A trial that was stopped or lost is enqueued anew with the same
configuration. A trial that runs although nobody has the lease is lost: its process is gone.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from bench.errors import UsageError
from bench.search import samplers
from bench.search.objectives import Direction
from bench.search.space import Space
from bench.search.storage import open_storage, storage_errors
from bench.store.leases import Leases, here, holder

Ending = Literal["complete", "pruned", "diverged", "failed", "stopped", "lost"]
"""How an attempt ended. The first four settle the slot; ``stopped`` (on request) and ``lost`` (its process
died or fell silent) open it again, ``lost`` at most ``retries`` times."""

SETTLED: tuple[Ending, ...] = ("complete", "pruned", "diverged", "failed")


@dataclass(frozen=True)
class Result:
    """What came of an attempt."""

    ending: Ending
    values: tuple[float, ...] = ()
    """One per objective, where complete."""
    reason: str = ""
    iterations: int = 0
    """Over all seeds, also those that an earlier attempt did."""
    seconds: float = 0.0
    """Training and scoring, likewise."""


@dataclass(frozen=True)
class Claim:
    """An attempt at a slot that is this process's to run."""

    slot: int
    attempt: int
    trial_id: int
    number: int
    params: Mapping[str, Any]
    alone: bool
    """An attempt beside other trials failed: this one is not to be run beside others."""


@dataclass(frozen=True)
class Slot:
    """One configuration and its attempts, in order."""

    number: int
    attempts: tuple[FrozenTrial, ...]
    retries: int

    @property
    def last(self) -> FrozenTrial:
        """The attempt that counts."""
        return self.attempts[-1]

    @property
    def state(self) -> str:
        """``waiting``, ``running``, ``open`` (to be enqueued anew), or how it was settled."""
        if not self.last.state.is_finished():
            return "running" if self.last.state == TrialState.RUNNING else "waiting"
        ending = ending_of(self.last)
        if ending == "lost":
            n_lost = sum(ending_of(trial) == "lost" for trial in self.attempts)
            return "open" if n_lost <= self.retries else "failed"
        return "open" if ending == "stopped" else ending

    @property
    def reason(self) -> str:
        """Why it was not completed."""
        return str(self.last.user_attrs.get("reason", ""))


def ending_of(trial: FrozenTrial) -> Ending:
    """How a finished trial ended."""
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.PRUNED:
        return "pruned"
    ending = trial.user_attrs.get("ending")
    return next((known for known in get_args(Ending) if known == ending), "lost")


Method = TypeVar("Method", bound=Callable[..., Any])


def _guarded(method: Method) -> Method:
    """A method of a shared study whose storage may fail: StorageError, one line."""

    @wraps(method)
    def guarded(self: SharedStudy, *args: Any, **options: Any) -> Any:
        with storage_errors(self.url, self.folder):
            return method(self, *args, **options)

    return cast(Method, guarded)


@dataclass
class SharedStudy:
    """One process's view of a study. Any method may raise :class:`StorageError`."""

    url: str | None
    """Of the storage, or what stands for it (:mod:`bench.search.addresses`); ``None``: the journal."""
    folder: Path
    name: str
    space: Space
    sampler: str
    sampler_seed: int
    pruner: optuna.pruners.BasePruner
    pruner_name: str
    total: int
    """Slots: trials that count."""
    retries: int
    connection: BaseStorage | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "connection": None}

    # ------------------------------------------------------------ looking

    @property
    def storage(self) -> BaseStorage:
        """This process's connection."""
        if self.connection is None:
            self.connection = open_storage(self.url, self.folder)
        return self.connection

    @property
    def study_id(self) -> int:
        """The storage's own number of the study."""
        return self.storage.get_study_id_from_name(self.name)

    @_guarded
    def load(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        """The study as Optuna sees it."""
        return optuna.load_study(
            study_name=self.name,
            storage=self.storage,
            sampler=sampler or optuna.samplers.RandomSampler(),
            pruner=self.pruner,
        )

    @_guarded
    def trials(self) -> list[FrozenTrial]:
        """All trials now in the storage."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def slots(self) -> dict[int, Slot]:
        """The slots that have a trial: of several trials of one slot and attempt the first counts."""
        first: dict[int, dict[int, FrozenTrial]] = {}
        for trial in sorted(self.trials(), key=lambda trial: trial.number):
            slot, attempt = (trial.user_attrs.get(name) for name in ("slot", "attempt"))
            if type(slot) is int and type(attempt) is int:  # else another program made it
                first.setdefault(slot, {}).setdefault(attempt, trial)
        return {
            number: Slot(number, tuple(attempts[k] for k in sorted(attempts)), self.retries)
            for number, attempts in sorted(first.items())
        }

    def counts(self) -> Counter[str]:
        """Slots of this study by state."""
        return Counter(slot.state for number, slot in self.slots().items() if number < self.total)

    @property
    def finished(self) -> bool:
        """Whether every slot is settled."""
        counts = self.counts()
        return sum(counts[state] for state in SETTLED) >= self.total

    # ------------------------------------------------------------ running

    def slot_folder(self, slot: int) -> Path:
        """The folder whose lease says who runs a slot."""
        return self.folder / "leases" / f"slot-{slot}"

    @_guarded
    def enqueue(self) -> None:
        """Give each slot that has none a trial in the queue. One process at a time does so."""
        with Leases() as leases:
            while not leases.take(self.folder / "leases" / "queue"):
                time.sleep(0.1)
            begun = self.slots()
            for slot in range(self.total):
                if slot not in begun:
                    self._enqueue(slot, 1)

    def _enqueue(
        self, slot: int, attempt: int, params: Mapping[str, Any] | None = None, **marks: Any
    ) -> None:
        """The first attempt at a slot, or a further one with the parameters of those before."""
        known = params is not None and set(params) == set(self.space)
        self.storage.create_new_trial(
            self.study_id,
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                user_attrs={"slot": slot, "attempt": attempt, **marks},
                system_attrs={"fixed_params": dict(params or {})} if known else {},
            ),
        )

    @_guarded
    def take(self, leases: Leases) -> Claim | None:
        """Begin a trial that nobody runs; ``None`` where there is none."""
        for k, slot in self.slots().items():
            if k >= self.total or slot.state in SETTLED:
                continue
            folder = self.slot_folder(k)
            before = holder(folder)
            if folder in leases.held or not leases.take(folder):
                continue
            if (claim := self._begin(k, before)) is not None:
                return claim
            leases.release(folder)
        return None

    def _begin(self, k: int, before: str) -> Claim | None:
        """Take the trial of a slot whose lease this process has; ``before`` had it."""
        slot = self.slots()[k]
        if slot.state == "running":
            self.end(slot.last.number, Result("lost", reason=f"{before} is gone"))
            slot = self.slots()[k]
        if slot.state == "open":  # its process died between two words
            self._enqueue(k, len(slot.attempts) + 1, slot.last.params)
            slot = self.slots()[k]
        trial = slot.last
        with suppress(UpdateFinishedTrialError):
            if slot.state == "waiting" and self._set_running(trial):
                params = self._propose(trial, k)
                alone = bool(trial.user_attrs.get("alone"))
                return Claim(k, len(slot.attempts), trial._trial_id, trial.number, params, alone)
        return None

    def _set_running(self, trial: FrozenTrial) -> bool:
        if not self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
            return False
        for name, value in (("host", here()), ("pid", os.getpid())):
            self.storage.set_trial_user_attr(trial._trial_id, name, value)
        return True

    def _propose(self, trial: FrozenTrial, slot: int) -> dict[str, Any]:
        """The slot's configuration: that of its earlier attempts, else the sampler's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = (
                None
                if trial.system_attrs.get("fixed_params")
                else samplers.sampler(
                    self.sampler, self.space, seed=self.sampler_seed, slot=slot, pruner=self.pruner_name
                )
            )
            asked = optuna.Trial(self.load(sampler), trial._trial_id)
            return {name: where.suggest(asked, name) for name, where in self.space.items()}

    @_guarded
    def end(self, number: int, result: Result, *, alone: bool = False) -> bool:
        """Say how an attempt ended; False where somebody else had given it up.

        After ``stopped``, and ``lost`` with a retry left, the next attempt is enqueued, perhaps ``alone``.
        """
        study = self.load()
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        marks = {
            "ending": result.ending,
            "reason": result.reason,
            "iterations": result.iterations,
            "seconds": round(result.seconds, 3),
        }
        try:
            for name, value in marks.items():
                self.storage.set_trial_user_attr(trial_id, name, value)
            if result.ending == "complete":
                study.tell(number, list(result.values))
            else:
                state = TrialState.PRUNED if result.ending == "pruned" else TrialState.FAIL
                study.tell(number, state=state)
        except (UpdateFinishedTrialError, ValueError):
            return False
        slot = self.slots().get(self.storage.get_trial(trial_id).user_attrs.get("slot", -1))
        if slot is not None and slot.state == "open":
            marks = {"alone": True} if alone else {}
            self._enqueue(slot.number, len(slot.attempts) + 1, slot.last.params, **marks)
        return True


def begin(
    storage: BaseStorage, name: str, directions: Sequence[Direction], request: Mapping[str, Any]
) -> None:
    """Create a study that answers a request, or join the one of this name.

    Raises:
        UsageError: it answers another request.
    """
    study = optuna.create_study(
        storage=storage, study_name=name, directions=list(directions), load_if_exists=True
    )
    asked = json.loads(json.dumps(request))
    begun = study.user_attrs.get("request", asked)
    begun = begun if isinstance(begun, dict) else {}
    for key in asked:
        if begun.get(key) != asked[key]:
            raise UsageError(
                f"--study: {name!r} was begun with {key} = {begun.get(key)}, not {asked[key]}; "
                "give this search another name"
            )
    if "request" not in study.user_attrs:
        study.set_user_attr("request", asked)
