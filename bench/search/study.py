"""A study that any number of processes search together, on one machine or several that share a folder.

A study has ``total`` slots, each for one configuration. Each slot has a trial in Optuna's queue from the
start. Whoever has the lease on a slot's folder takes its trial (waiting -> running), proposes its
configuration, runs it, and says how it ended. A trial that was stopped or lost is enqueued anew with the same
configuration. A trial that runs although nobody has the lease is lost: its process is gone.
"""

from __future__ import annotations

import json
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from bench.errors import UsageError, printable
from bench.search import samplers
from bench.search.objectives import Direction
from bench.search.space import Space
from bench.search.storage import open_storage, storage_errors
from bench.store import files
from bench.store.leases import Leases, here

Ending = Literal["complete", "pruned", "diverged", "failed", "stopped", "lost"]
"""How an attempt ended. The first four settle the slot; ``stopped`` (on request) and ``lost`` (its process
died or fell silent) open it again, ``lost`` at most ``retries`` times."""

FOLDER_ID = "folder.json"
"""In the folder of a study in a database: names this folder, wherever it is mounted."""

SETTLED: tuple[Ending, ...] = ("complete", "pruned", "diverged", "failed")

FAILED: tuple[Ending, ...] = ("diverged", "failed", "stopped", "lost")
"""Endings that Optuna has no state for: to it, all of them are FAIL."""


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
    """Not to be run beside other trials: an earlier attempt was, and failed."""


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
    def alone(self) -> bool:
        """Whether it is not to be run beside other trials."""
        return bool(self.last.user_attrs.get("alone"))

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
    return next((known for known in FAILED if known == ending), "lost")


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
            if type(slot) is int and type(attempt) is int and slot >= 0:  # else another program made it
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

    def enqueue(self) -> None:
        """Give each slot that has none a trial in the queue. One process at a time does so.

        Raises:
            UsageError: trials of this study run from another results folder.
        """
        with Leases() as leases:
            while not leases.take(self.folder / "leases" / "queue"):
                time.sleep(0.1)
            if self.url is not None:
                if self._folder_id() is None:
                    files.write_json(self.folder / FOLDER_ID, {"id": uuid.uuid4().hex})
                self._adopt()
            begun = self.slots()
            for slot in range(self.total):
                if slot not in begun:
                    self._enqueue(slot)

    @_guarded
    def _enqueue(self, slot: int, before: Slot | None = None, *, alone: bool = False) -> None:
        """The first attempt at a slot, or one more after those ``before``, with their parameters."""
        marks = {"slot": slot, "attempt": before.last.user_attrs["attempt"] + 1 if before else 1}
        if alone or (before is not None and before.alone):
            marks["alone"] = True
        params = before.last.params if before else {}
        known = before is not None and set(params) == set(self.space)
        trial = optuna.trial.create_trial(
            state=TrialState.WAITING,
            user_attrs=marks,
            system_attrs={"fixed_params": params} if known else {},
        )
        self.storage.create_new_trial(self.study_id, trial)

    def take(self, leases: Leases, *, beside: bool = False) -> Claim | None:
        """Begin a trial that nobody runs; ``None`` where there is none.

        ``beside``: it will train beside other trials; those that are to be run alone are left where they are.

        Raises:
            UnwritableError: no lease can be written.
            UsageError: another results folder has taken over the study.
        """
        if self.url is not None and self._folder_of_study() != self._folder_id():
            raise self._elsewhere()
        for k, slot in self.slots().items():
            folder = self.slot_folder(k)
            if k >= self.total or slot.state in SETTLED or folder in leases.held or not leases.take(folder):
                continue
            if (claim := self._begin(k, leases.owner, beside)) is not None:
                return claim
            leases.release(folder)
        return None

    @_guarded
    def _begin(self, k: int, owner: int, beside: bool) -> Claim | None:
        """Take the trial of a slot whose lease this process has got."""
        slot = self.slots()[k]
        if slot.state == "running":
            self.end(slot.last.number, Result("lost", reason=f"{_process(slot.last)} is gone"))
            slot = self.slots()[k]
        if slot.state == "open":  # whoever ended the last attempt died before it enqueued the next one
            self._enqueue(k, slot)
            slot = self.slots()[k]
        if slot.state != "waiting" or (beside and slot.alone):
            return None
        trial = slot.last
        with suppress(UpdateFinishedTrialError):
            if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                for name, value in (("host", here()), ("pid", owner)):
                    self.storage.set_trial_user_attr(trial._trial_id, name, value)
                attempt, params = trial.user_attrs["attempt"], self._propose(trial, k)
                return Claim(k, attempt, trial._trial_id, trial.number, params, slot.alone)
        return None

    def _propose(self, trial: FrozenTrial, slot: int) -> dict[str, Any]:
        """The slot's configuration: that of its earlier attempts, else the sampler's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = None
            if not trial.system_attrs.get("fixed_params"):
                sampler = samplers.sampler(
                    self.sampler, self.space, seed=self.sampler_seed, slot=slot, pruner=self.pruner_name
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
            self._enqueue(slot.number, slot, alone=alone)
        return True

    # ------------------------------------------------------------ one results folder

    @_guarded
    def _adopt(self) -> None:
        """Note in a database from which results folder its study is searched: the leases are there."""
        mine, theirs = self._folder_id(), self._folder_of_study()
        if theirs not in (None, mine) and any(trial.state == TrialState.RUNNING for trial in self.trials()):
            raise self._elsewhere()
        if theirs != mine:
            self.storage.set_study_user_attr(self.study_id, "folder", mine)

    def _folder_id(self) -> Any:
        with suppress(OSError, ValueError, LookupError, TypeError):
            return files.read_json(self.folder / FOLDER_ID)["id"]
        return None

    @_guarded
    def _folder_of_study(self) -> Any:
        return self.storage.get_study_user_attrs(self.study_id).get("folder")

    def _elsewhere(self) -> UsageError:
        return UsageError(
            f"--storage: trials of study {self.name!r} run from another results folder; all commands on a "
            "study share --out: or give this search another name with --study"
        )


def _process(trial: FrozenTrial) -> str:
    """The process that runs a trial, as far as it says."""
    host, pid = (trial.user_attrs.get(name) for name in ("host", "pid"))
    return printable(f"process {pid} on {str(host).partition(' ')[0]}")[:200] if pid else "its process"


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
