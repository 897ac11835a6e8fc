"""A study that several processes share: slots, claims, heartbeats, storages, samplers."""

from __future__ import annotations

import itertools
import logging
import math
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.storages.journal import _file as journal_file
from optuna.trial import TrialState

from bench.errors import UsageError
from bench.search import samplers, study
from bench.search.space import Options, Range, Space
from bench.search.study import Claim, Result, SharedStudy

SPACE: Space = {
    "lr": Range(1e-5, 1e-2, log=True, whole=False),
    "size": Range(1, 64, log=True, whole=True),
    "norm": Options(("batch", "none")),
}


def shared_study(folder: Path, **changes: Any) -> SharedStudy:
    """A study in the folder's journal, or in the database of ``url``."""
    url = changes.pop("url", None)
    storage = study.open_storage(url, folder)
    study.begin(storage, "s", ["minimize"] * changes.pop("objectives", 1), {"space": "the same"})
    given: dict[str, Any] = {
        "space": SPACE,
        "sampler": "random",
        "sampler_seed": 0,
        "pruner": optuna.pruners.NopPruner(),
        "pruner_name": "none",
        "total": 5,
        "retries": 1,
        "deadline": 60.0,
    }
    return SharedStudy(storage, url, folder, "s", **(given | changes))


def claimed(shared: SharedStudy) -> Claim:
    claim = shared.claim()
    assert claim is not None
    return claim


def score(params: Mapping[str, Any]) -> float:
    """Best at lr = 1e-3, size 8, norm batch."""
    lr, size = float(params["lr"]), int(params["size"])
    return abs(math.log10(lr) + 3) + abs(math.log2(size) - 3) / 3 + float(params["norm"] == "none")


def run_all(shared: SharedStudy) -> dict[int, float]:
    while (claim := shared.claim()) is not None:
        shared.end(claim.number, Result("complete", (score(claim.params),)))
    return {number: slot.last.values[0] for number, slot in shared.slots().items()}


@pytest.fixture(params=["journal", "sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStudy:
    url = f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else None
    return shared_study(tmp_path, url=url)


class Clock:
    """``time.monotonic`` by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


# ------------------------------------------------------------------ slots


def test_every_slot_is_run_once_and_then_there_is_nothing_to_claim(shared: SharedStudy) -> None:
    assert not shared.finished
    assert list(run_all(shared)) == [0, 1, 2, 3, 4]
    assert shared.finished
    assert shared.claim() is None
    assert len(shared.trials()) == 5


def test_running_trials_are_not_claimed_again(shared: SharedStudy) -> None:
    claims = [claimed(shared) for _ in range(5)]
    assert [claim.slot for claim in claims] == [0, 1, 2, 3, 4]
    assert shared.claim() is None
    assert not shared.finished
    assert shared.counts() == {"running": 5}


def test_a_larger_total_adds_slots(shared: SharedStudy) -> None:
    first = run_all(shared)
    assert run_all(replace(shared, total=7)).keys() == first.keys() | {5, 6}


def test_of_two_trials_of_one_attempt_the_first_stands(shared: SharedStudy) -> None:
    """As when two processes look at the same moment."""
    mine = claimed(shared)
    marks = {"slot": mine.slot, "attempt": 1, "host": "elsewhere", "pid": 1, "beat": 0}
    shared.storage.create_new_trial(
        shared.study_id, optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=marks)
    )
    assert [trial.number for trial in shared.slots()[0].attempts] == [mine.number]


def test_a_claim_that_comes_second_is_withdrawn(
    shared: SharedStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another process begins slot 0 between this one's look and its own trial."""
    slots, looks = SharedStudy.slots, iter(range(99))

    def late(self: SharedStudy) -> dict[int, study.Slot]:
        found = slots(self)
        if next(looks) == 0:
            marks = {"slot": 0, "attempt": 1, "host": "elsewhere", "pid": 1, "beat": 0}
            other = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=marks)
            self.storage.create_new_trial(self.study_id, other)
        return found

    monkeypatch.setattr(SharedStudy, "slots", late)
    claim = claimed(shared)
    assert claim.slot != 0
    assert [trial.state for trial in shared.trials()] == [
        TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert shared.counts() == {"running": 2}


WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_study import shared_study, score
from bench.search.study import Result
folder = Path(sys.argv[1])
shared = shared_study(folder, total=30)
(folder / f"ready-{sys.argv[3]}").touch()
while len(list(folder.glob("ready-*"))) < 3:
    time.sleep(0.01)
n = 0
while (claim := shared.claim()) is not None:
    shared.end(claim.number, Result("complete", (score(claim.params),)))
    n += 1
print(n)
"""


def test_processes_that_start_at_once_run_exactly_the_trials_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(Path(__file__).parents[2] / "support")]
    processes = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(3)]
    counts = [int(process.communicate(timeout=120)[0]) for process in processes]
    shared = shared_study(tmp_path, total=30)
    complete = [trial for trial in shared.trials() if trial.state == TrialState.COMPLETE]
    assert sum(counts) == len(complete) == 30
    assert sorted(trial.user_attrs["slot"] for trial in complete) == list(range(30))
    assert len({tuple(trial.params.values()) for trial in complete}) == 30


# ------------------------------------------------------------------ attempts


def test_a_lost_trial_is_run_again_with_its_configuration_as_often_as_allowed(shared: SharedStudy) -> None:
    first = claimed(shared)
    shared.end(first.number, Result("lost", reason="killed"))
    second = claimed(shared)
    assert (second.slot, second.attempt, second.params) == (0, 2, first.params)
    shared.end(second.number, Result("lost", reason="killed again"))
    assert claimed(shared).slot == 1
    assert shared.slots()[0].state == "failed"
    assert shared.slots()[0].reason == "killed again"


def test_a_stopped_trial_is_run_again_and_costs_no_retry(shared: SharedStudy) -> None:
    params = []
    for attempt in range(1, 6):
        claim = claimed(shared)
        assert (claim.slot, claim.attempt) == (0, attempt)
        params.append(claim.params)
        shared.end(claim.number, Result("stopped"))
    assert all(each == params[0] for each in params)


@pytest.mark.parametrize("ending", ["diverged", "failed", "pruned"])
def test_trials_that_gave_nothing_count_and_are_not_run_again(tmp_path: Path, ending: study.Ending) -> None:
    shared = shared_study(tmp_path, total=1)
    shared.end(claimed(shared).number, Result(ending, reason="why", iterations=7, seconds=1.5))
    assert shared.finished
    assert shared.counts() == {ending: 1}
    slot = shared.slots()[0]
    assert (slot.reason, slot.last.user_attrs["iterations"]) == ("why", 7)
    assert shared.load().trials[0].state == (TrialState.PRUNED if ending == "pruned" else TrialState.FAIL)


def test_a_trial_whose_process_is_gone_is_given_up_at_once(shared: SharedStudy) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(timeout=60)
    claim = claimed(shared)
    shared.bury([])
    assert shared.counts() == {"running": 1}, "this process is alive"
    shared.storage.set_trial_user_attr(claim.trial_id, "pid", child.pid)
    shared.bury([])
    assert shared.slots()[0].state == "open"
    assert shared.slots()[0].reason == f"process {child.pid} is gone"


def test_a_silent_trial_on_another_host_is_given_up_after_the_deadline(
    shared: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    other = replace(shared, seen={})
    claim = claimed(other)
    shared.storage.set_trial_user_attr(claim.trial_id, "host", "elsewhere")
    for clock.now in (1000.0, 1050.0):
        shared.bury([])
        assert shared.counts() == {"running": 1}
    clock.now = 1059.0
    other.beat([claim])
    for clock.now in (1061.0, 1110.0, 1120.0):
        shared.bury([])
        assert shared.counts() == {"running": 1}, "it was heard since"
    clock.now = 1122.0
    shared.bury([])
    assert shared.slots()[0].state == "open"
    assert shared.slots()[0].reason == "silent for 60 s"


def test_own_trials_are_never_given_up(shared: SharedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    claim = claimed(shared)
    for clock.now in (0.0, 1e6, 2e6):
        shared.bury([claim])
    assert shared.counts() == {"running": 1}


def test_who_was_given_up_has_no_say(shared: SharedStudy) -> None:
    claim = claimed(shared)
    shared.end(claim.number, Result("lost", reason="silent"))
    shared.beat([claim])
    assert not shared.end(claim.number, Result("complete", (1.0,)))
    assert shared.slots()[0].state == "open"


# ------------------------------------------------------------------ the request


def test_a_study_of_another_request_is_not_joined(tmp_path: Path) -> None:
    storage = study.open_storage(None, tmp_path)
    study.begin(storage, "s", ["minimize"], {"steps": 100, "seeds": (0, 1)})
    study.begin(storage, "s", ["minimize"], {"steps": 100, "seeds": (0, 1)})
    with pytest.raises(UsageError, match="--study: 's' was begun with steps = 100, not 200"):
        study.begin(storage, "s", ["minimize"], {"steps": 200, "seeds": (0, 1)})


# ------------------------------------------------------------------ storages


def unusable(url: str | None, folder: Path) -> str:
    with pytest.raises(UsageError) as error:
        study.open_storage(url, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_database_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts the connection and says nothing, as behind a broken network."""
    pytest.importorskip("pymysql")
    monkeypatch.setattr(study, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        begun = time.monotonic()
        line = unusable(f"mysql+pymysql://me:secret@127.0.0.1:{port}/x", tmp_path)
    assert "--storage mysql+pymysql://me:***@127.0.0.1" in line
    assert "secret" not in line
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("nosuchdb://host/x", "--storage nosuchdb://host/x cannot be used"),
        ("just words", "--storage 'just words' cannot be used"),
        ("postgresql+nosuchdriver://host/x", "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line(tmp_path: Path, url: str, message: str) -> None:
    assert message in unusable(url, tmp_path)


def test_a_locked_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.db"
    shared = shared_study(tmp_path, url=f"sqlite:///{path}")
    monkeypatch.setattr(study, "PATIENCE", 0.1)
    storage = study.open_storage(f"sqlite:///{path}", tmp_path)
    lock = sqlite3.connect(path)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UsageError, match=r"--storage sqlite:.*x\.db cannot be used: database is locked"):
        replace(shared, storage=storage).claim()
    lock.close()


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    run_all(shared_study(tmp_path))
    journal = tmp_path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]))
    assert "journal.log is damaged; move it away" in unusable(None, tmp_path)


def test_a_line_that_was_not_written_whole_is_cut_off(tmp_path: Path) -> None:
    """As a full disk leaves it."""
    shared = shared_study(tmp_path)
    shared.end(claimed(shared).number, Result("complete", (1.0,)))
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":8,"worker')
    assert list(run_all(shared_study(tmp_path))) == [0, 1, 2, 3, 4]
    assert list(shared_study(tmp_path).slots()) == [0, 1, 2, 3, 4]


def half_a_line(journal: Path) -> None:
    """What a process leaves that is killed, or finds the disk full, while it writes."""
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"worker')
    lock.release()


def test_half_a_line_costs_those_nothing_that_search_on(tmp_path: Path) -> None:
    """Two processes search while others die in the midst of writing; a third comes later."""
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(Path(__file__).parents[2] / "support")]
    (tmp_path / "ready-here").touch()
    processes = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(2)]
    halves = 0
    while any(process.poll() is None for process in processes):
        if (tmp_path / "journal.log").exists():
            half_a_line(tmp_path / "journal.log")
            halves += 1
        time.sleep(0.02)
    assert sum(int(process.communicate()[0]) for process in processes) == 30
    assert halves > 10
    later = shared_study(tmp_path, total=31)
    assert len(run_all(later)) == 31
    assert sum(trial.state == TrialState.COMPLETE for trial in later.trials()) == 31


def test_damage_that_comes_while_it_is_searched_is_one_line(tmp_path: Path) -> None:
    shared = shared_study(tmp_path)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b"not JSON\n{}\n")
    for use in (shared.trials, shared.claim):
        with pytest.raises(study.StorageError, match=r"journal\.log is damaged; move it away") as error:
            use()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"9" * 5000, b"[]", b'"x"', b"null", b"{}", b"\xff", b'{"op_code":1e400}']
)
def test_a_line_that_is_no_entry_is_damage(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "journal.log").write_bytes(line + b"\n{}\n")
    assert "journal.log is damaged; move it away" in unusable(None, tmp_path)


def test_a_journal_that_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """Whoever opens a pipe waits until somebody writes into it."""
    os.mkfifo(tmp_path / "journal.log")
    assert "cannot be used: is a pipe, not a file" in unusable(None, tmp_path)


def test_a_journal_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in unusable(None, tmp_path / "file" / "study")


def test_the_lock_of_a_killed_process_is_waited_for_aloud_and_then_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_study(tmp_path)
    (tmp_path / "journal.log.lock").symlink_to(tmp_path / "journal.log")
    clock, said = itertools.count(0, 5), list[str]()
    monkeypatch.setattr(journal_file, "time", SimpleNamespace(monotonic=clock.__next__, sleep=lambda s: None))
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(logging.getLogger("optuna.storages.journal._file"), "handlers", [handler])
    claimed(shared)
    assert next(clock) < 200
    assert "taking longer than 10.0 seconds to acquire the lock file" in said[0]
    assert str(tmp_path) in said[0]


# ------------------------------------------------------------------ samplers


@pytest.mark.parametrize("name", ["random", "qmc", "grid"])
def test_a_slot_has_the_same_configuration_whoever_asks_and_when(tmp_path: Path, name: str) -> None:
    forwards = {
        k: samplers.sampler(name, SPACE, seed=3, slot=k).values  # type: ignore[attr-defined]
        for k in range(12)
    }
    backwards = {
        k: samplers.sampler(name, SPACE, seed=3, slot=k).values  # type: ignore[attr-defined]
        for k in reversed(range(12))
    }
    assert forwards == backwards
    assert len({tuple(values.values()) for values in forwards.values()}) == 12
    shared = shared_study(tmp_path, sampler=name, sampler_seed=3, total=12)
    run_all(shared)
    assert {k: slot.last.params for k, slot in shared.slots().items()} == forwards
    other = samplers.sampler(name, SPACE, seed=4, slot=0).values  # type: ignore[attr-defined]
    assert other != forwards[0]


def test_qmc_spreads_evenly() -> None:
    """The first 2^m points of a scrambled Sobol sequence have one in each of 2^m equal intervals."""
    points = [samplers.point("qmc", 3, seed=5, slot=k) for k in range(16)]
    for axis in range(3):
        assert sorted(int(point[axis] * 16) for point in points) == list(range(16))


def test_random_is_uniform() -> None:
    points = [samplers.point("random", 1, seed=0, slot=k)[0] for k in range(4000)]
    counts = Counter(int(10 * x) for x in points)
    assert all(abs(counts[k] - 400) < 5 * math.sqrt(400) for k in range(10))


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_adaptive_samplers_find_the_good_region(tmp_path: Path, name: str) -> None:
    numbers = {key: where for key, where in SPACE.items() if key != "norm"}

    def off(params: Any) -> float:
        return score({**params, "norm": "batch"})

    def mean_of_last_ten(sampler: str) -> float:
        shared = shared_study(tmp_path / sampler, sampler=sampler, space=numbers, total=30)
        while (claim := shared.claim()) is not None:
            shared.end(claim.number, Result("complete", (off(claim.params),)))
        return sum(off(shared.slots()[k].last.params) for k in range(20, 30)) / 10

    assert mean_of_last_ten(name) < 0.6 * mean_of_last_ten("random")


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_parallel_workers_do_not_propose_the_same(tmp_path: Path, name: str) -> None:
    shared = shared_study(tmp_path, sampler=name, total=8)
    proposed = [tuple(claimed(shared).params.values()) for _ in range(8)]
    assert len(set(proposed)) == 8


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize(
    "space",
    [
        {"norm": Options(("batch", "none"))},
        {"lr": Range(1e-5, 1e-2, log=True, whole=False)},
        {"size": Range(1, 2, log=False, whole=True), "clip": Options((None, 0.5))},
    ],
    ids=["a choice", "a number", "mixed"],
)
def test_every_sampler_takes_every_space(tmp_path: Path, name: str, space: Space) -> None:
    shared = shared_study(tmp_path, sampler=name, space=space, total=2)
    for _ in range(2):
        claim = claimed(shared)
        shared.end(claim.number, Result("complete", (1.0,)))
        for key, where in space.items():
            value = claim.params[key]
            assert value in where.values if isinstance(where, Options) else where.low <= value <= where.high


def test_several_objectives_give_a_front_of_trials(tmp_path: Path) -> None:
    shared = shared_study(tmp_path, sampler="tpe", objectives=2, total=15)
    while (claim := shared.claim()) is not None:
        x = claim.params["size"]
        shared.end(claim.number, Result("complete", (float(x), float(1 / x))))
    assert shared.finished


@pytest.mark.parametrize("name", samplers.PRUNERS)
def test_pruners_stop_what_is_much_worse(tmp_path: Path, name: str) -> None:
    pruner = samplers.pruner(name, steps=90, eval_every=10)
    shared = shared_study(tmp_path, pruner=pruner, pruner_name=name, total=12)
    pruned = []
    for k in range(12):
        claim = claimed(shared)
        trial = optuna.Trial(shared.load(), claim.trial_id)
        for step in range(10, 91, 10):
            trial.report(float(k if k < 10 else 1000), step)
            if trial.should_prune():
                pruned.append(k)
                shared.end(claim.number, Result("pruned"))
                break
        else:
            shared.end(claim.number, Result("complete", (float(k),)))
    if name == "none":
        assert not pruned
    else:
        assert {10, 11} <= set(pruned)
        assert 0 not in pruned
