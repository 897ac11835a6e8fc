"""A study that any number of processes search together, on one machine or several.

The storage (Optuna's) is all that they share. A study has ``total`` slots, each for one configuration.
To run a slot's next attempt a process creates a trial that carries the slot's number, and then looks: of
several trials of one slot and attempt the first stands and the others withdraw. Trial numbers are handed
out atomically by every storage, so that no lock is needed, each slot runs once and the total is exact.

Who runs trials shows a heartbeat in them. A trial whose process is gone (seen from the same machine), or
whose heartbeat stands still for ``deadline`` seconds (by the watcher's own clock, from anywhere), is told
FAIL by whoever notices, which opens its slot for another attempt with the same configuration.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from bench.errors import UsageError, one_line
from bench.search import samplers
from bench.search.addresses import StorageError, address, shown, without_secrets
from bench.search.objectives import Direction
from bench.search.samplers import Given
from bench.search.space import Space
from bench.store.files import refuse_others
from bench.store.leases import alive, here

optuna.logging.set_verbosity(optuna.logging.ERROR)
# But say when a journal's lock is held for long: that of a killed process blocks the others for 30 s.
logging.getLogger("optuna.storages.journal._file").setLevel(logging.WARNING)

Ending = Literal["complete", "pruned", "diverged", "failed", "stopped", "lost"]
"""How an attempt ended. The first four settle the slot; ``stopped`` (on request) and ``lost`` (its process
died or fell silent) open it again, ``lost`` at most ``retries`` times."""

PATIENCE = 30
"""Seconds for a database to answer."""

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
        """``running``, ``open``, or how it was settled."""
        if self.last.state == TrialState.RUNNING:
            return "running"
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

    storage: optuna.storages.BaseStorage
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
    deadline: float
    """Seconds."""
    beats: int = 0
    seen: dict[int, tuple[object, float]] = field(default_factory=dict)
    """Trial number of another process -> its heartbeat, and when this one saw it change."""

    # ------------------------------------------------------------ looking

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
        """The slots that were begun: of several trials of one slot and attempt the first counts."""
        first: dict[int, dict[int, FrozenTrial]] = {}
        for trial in sorted(self.trials(), key=lambda trial: trial.number):
            slot, attempt = (trial.user_attrs.get(name) for name in ("slot", "attempt"))
            if type(slot) is int and type(attempt) is int:  # else it is nobody's of this harness
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

    @_guarded
    def claim(self) -> Claim | None:
        """Begin a slot that nobody runs; ``None`` where there is none."""
        pick: Callable[[Sequence[int]], int] = min
        while True:
            slots = self.slots()
            free = [k for k in range(self.total) if k not in slots or slots[k].state == "open"]
            if not free:
                return None
            k = pick(free)
            attempt = len(slots[k].attempts) + 1 if k in slots else 1
            marks = {"slot": k, "attempt": attempt, "host": here(), "pid": os.getpid(), "beat": 0}
            trial_id = self.storage.create_new_trial(
                self.study_id, optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=marks)
            )
            number = self.storage.get_trial(trial_id).number
            if self.slots()[k].attempts[attempt - 1].number == number:
                before = slots[k].last.params if k in slots else {}
                with suppress(UpdateFinishedTrialError):  # given up already: this process was suspended
                    return Claim(k, attempt, trial_id, number, self._propose(trial_id, k, before))
                continue
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            pick = random.choice  # another process was faster: keep out of its way

    def _propose(self, trial_id: int, slot: int, before: Mapping[str, Any]) -> dict[str, Any]:
        """The slot's configuration: that of its earlier attempts, else the sampler's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = (
                Given(before)
                if set(before) == set(self.space)
                else samplers.sampler(
                    self.sampler, self.space, seed=self.sampler_seed, slot=slot, pruner=self.pruner_name
                )
            )
            trial = optuna.Trial(self.load(sampler), trial_id)
            return {name: where.suggest(trial, name) for name, where in self.space.items()}

    @_guarded
    def end(self, number: int, result: Result) -> bool:
        """Say how an attempt ended; False where somebody else had given it up."""
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
        return True

    @_guarded
    def beat(self, claims: Sequence[Claim]) -> None:
        """Show that these attempts' process is alive."""
        self.beats += 1
        for claim in claims:
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_user_attr(claim.trial_id, "beat", self.beats)

    @_guarded
    def bury(self, mine: Sequence[Claim]) -> None:
        """Give up the attempts of other processes that are gone or have been silent too long."""
        own, now = {claim.number for claim in mine}, time.monotonic()
        for trial in self.trials():
            if trial.state != TrialState.RUNNING or trial.number in own or "slot" not in trial.user_attrs:
                continue
            marks = trial.user_attrs
            before, since = self.seen.get(trial.number, (None, now))
            if marks.get("host") == here() and not alive(marks.get("pid")):
                self.end(trial.number, Result("lost", reason=f"process {marks.get('pid')} is gone"))
            elif (trial.number not in self.seen) or marks.get("beat") != before:
                self.seen[trial.number] = (marks.get("beat"), now)
            elif now - since > self.deadline:
                self.end(trial.number, Result("lost", reason=f"silent for {self.deadline:g} s"))


# ------------------------------------------------------------------ storages


def begin(
    storage: optuna.storages.BaseStorage,
    name: str,
    directions: Sequence[Direction],
    request: Mapping[str, Any],
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


def open_storage(url: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """The storage of ``--storage``, or the journal in the study's folder.

    Raises:
        StorageError: it cannot be reached or used.
    """
    with storage_errors(url, folder):
        if url is not None:
            return _database(url)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "journal.log"
        with suppress(FileNotFoundError):
            refuse_others(path)
        try:
            return JournalStorage(Journal(path))
        except REPLAYING as error:
            raise _damaged(path) from error


def _database(url: str) -> optuna.storages.BaseStorage:
    real = address(url)
    try:
        return get_storage(RDBStorage(real, engine_kwargs={"connect_args": _patience(real)}))
    except (StorageInternalError, SQLAlchemyError, ImportError, OSError):
        raise
    except Exception as error:  # what drivers make of an address: TypeError, ValueError and others
        why = without_secrets(one_line(error), real)
        raise StorageError(f"--storage {shown(url)} cannot be used: {why}") from None


REPLAYING = (
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    RecursionError,
    OverflowError,
)
"""What replaying a damaged journal trips over."""


class Journal(JournalFileBackend):
    """Optuna's journal in a file, which a process that dies in the midst of writing does not spoil."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path), WholeLines(path))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The entries from this number on.

        Raises:
            StorageError: one of them is not JSON.
        """
        try:
            yield from super().read_logs(log_number_from)
        except (ValueError, RecursionError) as error:
            raise _damaged(self.path) from error


class WholeLines(JournalFileSymlinkLock):
    """The lock of who writes: its holder begins on a new line.

    Half a line at the end was left by a process that was killed, or found the disk full. Readers skip it,
    but the next entry would become part of it. Nobody else writes while the lock is held: it is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path))

    def acquire(self) -> bool:
        """Wait for the lock."""
        held = super().acquire()
        try:
            with self.path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        except BaseException:
            self.release()
            raise
        return held


def _damaged(path: Path) -> StorageError:
    return StorageError(
        f"--storage {path} is damaged; move it away: the search begins anew and reuses finished runs"
    )


def _patience(url: str) -> dict[str, Any]:
    """Connection arguments that keep an unreachable or locked database from hanging us."""
    dialect, _, driver = url.partition(":")[0].partition("+")
    names = {"sqlite": ["timeout"], "postgresql": ["connect_timeout"], "mysql": ["connect_timeout"]}
    wanted = names.get(dialect, [])
    if dialect == "mysql" and driver in (
        "",
        "mysqldb",
        "pymysql",
    ):  # for them, a greeting is a read
        wanted += ["read_timeout", "write_timeout"]
    return dict.fromkeys(wanted, PATIENCE)


@contextmanager
def storage_errors(url: str | None, folder: Path) -> Iterator[None]:
    """Turn what storages raise into one line, without secrets and without a cause that may hold some.

    Raises:
        StorageError: naming the storage.
    """
    where = f"--storage {shown(url)}" if url else f"--storage {folder / 'journal.log'}"
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        cause = getattr(cause, "orig", None) or cause
        why = without_secrets(str(cause), address(url)) if url else str(cause)
        raise StorageError(f"{where} cannot be used: {why}") from None
    except OSError as error:
        raise StorageError(f"{where} cannot be used: {error.strerror or error}") from None
