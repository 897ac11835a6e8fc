"""A study that several processes share: its queue, leases, attempts; the samplers and pruners."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import SERVER
from optuna.trial import TrialState
from studies import SPACE, end, run_all, score, search, shared_study, take

from bench.errors import UsageError
from bench.search import PRUNERS, SAMPLERS, samplers, study
from bench.search.space import Options, Range, Space
from bench.search.storage import open_storage
from bench.search.study import Result, SharedStudy
from bench.store.leases import STALE_S, Leases, here


@pytest.fixture(params=["journal", "sqlite"])
def shared(request: pytest.FixtureRequest, fast_path: Path) -> SharedStudy:
    url = f"sqlite:///{fast_path / 'study.db'}" if request.param == "sqlite" else None
    return shared_study(fast_path, url=url)


def another(shared: SharedStudy, **changes: Any) -> SharedStudy:
    """As another process sees the study."""
    return replace(shared, connection=open_storage(shared.url, shared.folder), **changes)


def left(shared: SharedStudy, slot: int, *, host: str = "", pid: int = 0) -> Path:
    """The lease on a slot as a process left it that was killed."""
    (lease,) = shared.slot_folder(slot).glob("lease-*")
    lease.write_text(json.dumps({"host": host or here(), "pid": pid or dead()}))
    return lease


def dead() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait(timeout=60)
    return process.pid


# ------------------------------------------------------------------ the queue


def test_the_queue_shows_all_trials_from_the_start(shared: SharedStudy) -> None:
    """As Optuna, and what shows its studies, see it."""
    waiting = shared.load().get_trials(states=[TrialState.WAITING])
    assert [trial.number for trial in waiting] == [0, 1, 2, 3, 4]
    assert shared.counts() == {"waiting": 5}
    with Leases() as leases:
        take(shared, leases)
    states = [trial.state for trial in shared.load().trials]
    assert states == [TrialState.RUNNING] + 4 * [TrialState.WAITING]


def test_every_slot_is_run_once_and_then_there_is_nothing_to_take(shared: SharedStudy) -> None:
    assert not shared.finished
    assert list(run_all(shared)) == [0, 1, 2, 3, 4]
    assert shared.finished
    assert shared.take(Leases()) is None
    assert len(shared.trials()) == 5


def test_running_trials_are_not_taken_again(shared: SharedStudy) -> None:
    with Leases() as leases, Leases() as others:
        claims = [take(shared, leases) for _ in range(5)]
        assert [claim.slot for claim in claims] == [0, 1, 2, 3, 4]
        assert shared.take(leases) is None
        assert another(shared).take(others) is None
        assert not shared.finished
        assert shared.counts() == {"running": 5}


def test_a_larger_total_adds_slots(shared: SharedStudy) -> None:
    first = run_all(shared)
    larger = replace(shared, total=7)
    assert not larger.finished
    larger.enqueue()
    assert run_all(larger).keys() == first.keys() | {5, 6}


def test_a_smaller_total_leaves_the_others_in_the_queue(shared: SharedStudy) -> None:
    smaller = replace(shared, total=2)
    smaller.enqueue()
    with Leases() as leases:
        for _ in range(2):
            end(smaller, leases, take(smaller, leases), Result("complete", (1.0,)))
        assert smaller.finished
        assert smaller.take(leases) is None
    assert shared.counts() == {"complete": 2, "waiting": 3}


def test_of_two_trials_of_one_attempt_the_first_counts(shared: SharedStudy) -> None:
    """As where an older version enqueued at the same moment; the other one stays in the queue."""
    for attempt in (1, 1):
        marks = {"slot": 0, "attempt": attempt}
        trial = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=marks)
        shared.storage.create_new_trial(shared.study_id, trial)
    assert [trial.number for trial in shared.slots()[0].attempts] == [0]
    assert list(run_all(shared)) == [0, 1, 2, 3, 4]
    assert sum(trial.state == TrialState.COMPLETE for trial in shared.trials()) == 5


def test_trials_of_another_program_are_left_alone(shared: SharedStudy) -> None:
    shared.load().enqueue_trial({"lr": 1e-3})
    for marks in ({"slot": -1, "attempt": 1}, {"slot": True, "attempt": 1}, {"slot": 0}):
        trial = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=marks)
        shared.storage.create_new_trial(shared.study_id, trial)
    before = [trial.state for trial in shared.trials()]
    assert list(run_all(shared)) == [0, 1, 2, 3, 4]
    assert [trial.state for trial in shared.trials()][5:] == before[5:]


def test_a_trial_that_another_program_took_from_the_queue_is_enqueued_anew(shared: SharedStudy) -> None:
    assert shared.load().ask().number == 0
    assert list(run_all(shared)) == [0, 1, 2, 3, 4]
    assert [study.ending_of(trial) for trial in shared.slots()[0].attempts] == ["lost", "complete"]


def test_attempts_may_be_numbered_anyhow(shared: SharedStudy) -> None:
    marks = {"slot": 0, "attempt": 7, "ending": "stopped"}
    trial = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=marks)
    shared.storage.create_new_trial(shared.study_id, trial)
    with Leases() as leases:
        assert take(shared, leases).attempt == 8
        assert take(shared, leases).slot == 1


def together(folder: Path, n: int, total: int) -> list[Any]:
    """Processes that begin to search at the same moment."""
    processes = [SERVER.Process(target=search, args=(folder, str(k), n, total)) for k in range(n)]
    for process in processes:
        process.start()
    return processes


def n_run(folder: Path) -> int:
    return sum(int(path.read_text()) for path in folder.glob("ran-*"))


@pytest.mark.slow
def test_processes_that_start_at_once_run_exactly_the_trials_asked_for(fast_path: Path) -> None:
    """Each slot is enqueued once, and run once."""
    for process in together(fast_path, 3, total=30):
        process.join(120)
        assert process.exitcode == 0
    shared = shared_study(fast_path, total=30)
    assert n_run(fast_path) == 30
    assert [trial.state for trial in shared.trials()] == 30 * [TrialState.COMPLETE]
    assert sorted(trial.user_attrs["slot"] for trial in shared.trials()) == list(range(30))
    assert len({tuple(trial.params.values()) for trial in shared.trials()}) == 30


def test_of_processes_that_enqueue_at_once_the_second_waits(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_study(fast_path, enqueue=False)
    with Leases() as first:
        assert first.take(fast_path / "leases" / "queue")
        waits = iter([lambda: None, lambda: first.release(fast_path / "leases" / "queue")])
        monkeypatch.setattr(time, "sleep", lambda seconds: next(waits)())
        shared.enqueue()
    assert next(waits, None) is None
    assert len(shared.trials()) == 5


# ------------------------------------------------------------------ attempts


def test_a_lost_trial_is_enqueued_anew_with_its_configuration_as_often_as_allowed(
    shared: SharedStudy,
) -> None:
    with Leases() as leases:
        first = take(shared, leases)
        end(shared, leases, first, Result("lost", reason="killed"))
        assert shared.trials()[-1].state == TrialState.WAITING
        assert shared.trials()[-1].system_attrs["fixed_params"] == first.params
        second = take(shared, leases)
        assert (second.slot, second.attempt, second.params) == (0, 2, first.params)
        end(shared, leases, second, Result("lost", reason="killed again"))
        assert take(shared, leases).slot == 1
    assert shared.slots()[0].state == "failed"
    assert shared.slots()[0].reason == "killed again"
    assert len(shared.slots()[0].attempts) == 2


def test_a_stopped_trial_is_run_again_and_costs_no_retry(shared: SharedStudy) -> None:
    params = []
    with Leases() as leases:
        for attempt in range(1, 6):
            claim = take(shared, leases)
            assert (claim.slot, claim.attempt) == (0, attempt)
            params.append(claim.params)
            end(shared, leases, claim, Result("stopped"))
    assert all(each == params[0] for each in params)


@pytest.mark.parametrize("ending", ["diverged", "failed", "pruned"])
def test_trials_that_gave_nothing_count_and_are_not_run_again(fast_path: Path, ending: study.Ending) -> None:
    shared = shared_study(fast_path, total=1)
    with Leases() as leases:
        end(shared, leases, take(shared, leases), Result(ending, reason="why", iterations=7, seconds=1.5))
    assert shared.finished
    assert shared.counts() == {ending: 1}
    slot = shared.slots()[0]
    assert (slot.reason, slot.last.user_attrs["iterations"]) == ("why", 7)
    assert shared.load().trials[0].state == (TrialState.PRUNED if ending == "pruned" else TrialState.FAIL)


def test_a_trial_whose_process_is_gone_is_taken_over_at_once(shared: SharedStudy) -> None:
    with Leases(owner=os.getpid()) as theirs, Leases() as mine:
        claim = take(shared, theirs)
        assert take(shared, mine).slot == 1, "this process is alive"
        left(shared, 0)
        again = take(shared, mine)
        theirs.held.clear()
    assert (again.slot, again.attempt, again.params) == (0, 2, claim.params)
    before, now = shared.slots()[0].attempts
    assert before.user_attrs["ending"] == "lost"
    host = here().partition(" ")[0]
    assert before.user_attrs["reason"] == f"process {os.getpid()} on {host} is gone"
    assert now.state == TrialState.RUNNING


def test_a_silent_trial_of_another_host_is_taken_over_after_the_deadline(
    shared: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shared = replace(shared, total=1)
    with Leases() as theirs, Leases(stale_s=90.0) as mine:
        claim = take(shared, theirs)
        lease = left(shared, 0, host="elsewhere", pid=1)
        for now[0] in (1000.0, 1000.0 + STALE_S + 1):
            assert shared.take(mine) is None
        os.utime(lease)  # it was heard of
        for now[0] in (1091.0, 1180.0):
            assert shared.take(mine) is None
        now[0] = 1182.0
        again = take(shared, mine)
        theirs.held.clear()
    assert (again.attempt, again.params) == (2, claim.params)


@pytest.mark.parametrize("n_params", [0, 1])
def test_a_process_that_dies_while_it_proposes_leaves_no_half_configuration(
    fast_path: Path, n_params: int
) -> None:
    shared = shared_study(fast_path, total=1)
    claim = take(shared, Leases())
    params = list(claim.params.items())[:n_params]
    trial = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        user_attrs={"slot": 1, "attempt": 1},
        params=dict(params),
        distributions={name: claim_distribution(shared, name) for name, _ in params},
    )
    shared.storage.create_new_trial(shared.study_id, trial)
    with Leases() as leases:
        again = take(replace(shared, total=2), leases)
        while again.slot != 1:
            again = take(replace(shared, total=2), leases)
    assert (again.attempt, set(again.params)) == (2, set(SPACE))
    assert again.params == samplers.sampler("random", SPACE, seed=0, slot=1).values  # type: ignore[attr-defined]


def claim_distribution(shared: SharedStudy, name: str) -> optuna.distributions.BaseDistribution:
    return shared.trials()[0].distributions[name]


def test_a_trial_that_was_ended_but_not_enqueued_anew_is(shared: SharedStudy) -> None:
    """Its process died between the two."""
    with Leases() as leases:
        claim = take(shared, leases)
        shared.storage.set_trial_user_attr(claim.trial_id, "ending", "stopped")
        shared.storage.set_trial_state_values(claim.trial_id, TrialState.FAIL)
        leases.release(shared.slot_folder(0))
        assert shared.slots()[0].state == "open"
        again = take(shared, leases)
    assert (again.slot, again.attempt, again.params) == (0, 2, claim.params)


def test_who_was_given_up_has_no_say(shared: SharedStudy) -> None:
    claim = take(shared, Leases())
    shared.end(claim.number, Result("lost", reason="silent"))
    assert not shared.end(claim.number, Result("complete", (1.0,)))
    assert shared.slots()[0].state == "waiting"


def test_a_trial_that_failed_beside_others_is_run_alone(shared: SharedStudy) -> None:
    with Leases() as leases:
        claims = [take(shared, leases), take(shared, leases)]
        for claim in claims:
            shared.end(claim.number, Result("stopped"), alone=True)
            leases.release(shared.slot_folder(claim.slot))
        n = len(shared.trials())
        beside = shared.take(leases, beside=True)
        assert beside is not None
        assert (beside.slot, beside.alone) == (2, False)
        first = take(shared, leases)
        assert (first.slot, first.alone) == (0, True)
        assert len(shared.trials()) == n, "nothing was put back"
        end(shared, leases, first, Result("stopped"))
        assert take(shared, leases).alone, "still"


# ------------------------------------------------------------------ one results folder


@pytest.mark.slow
def test_a_database_s_study_belongs_to_one_results_folder(fast_path: Path) -> None:
    """The leases are there: elsewhere, all trials that run would seem to be lost."""
    url = f"sqlite:///{fast_path / 'study.db'}"
    first = shared_study(fast_path / "a", url=url)
    claim = take(first, Leases())
    with pytest.raises(UsageError, match="--storage: trials of study 's' run from another results folder"):
        shared_study(fast_path / "b", url=url)
    assert first.counts() == {"running": 1, "waiting": 4}
    assert first.end(claim.number, Result("complete", (1.0,)))
    second = shared_study(fast_path / "b", url=url)  # nobody is at work: it moves
    assert list(run_all(second)) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="run from another results folder"):
        first.take(Leases())
    (fast_path / "b").rename(fast_path / "c")
    assert shared_study(fast_path / "c", url=url).finished


# ------------------------------------------------------------------ the request


def test_a_study_of_another_request_is_not_joined(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    study.begin(storage, "s", ["minimize"], {"steps": 100, "seeds": (0, 1)})
    study.begin(storage, "s", ["minimize"], {"steps": 100, "seeds": (0, 1)})
    with pytest.raises(UsageError, match="--study: 's' was begun with steps = 100, not 200"):
        study.begin(storage, "s", ["minimize"], {"steps": 200, "seeds": (0, 1)})


# ------------------------------------------------------------------ samplers


@pytest.mark.parametrize("name", ["random", "qmc", "grid"])
def test_a_slot_has_the_same_configuration_whoever_asks_and_when(fast_path: Path, name: str) -> None:
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
    shared = shared_study(fast_path, sampler=name, sampler_seed=3, total=12)
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
def test_adaptive_samplers_find_the_good_region(fast_path: Path, name: str) -> None:
    numbers = {key: where for key, where in SPACE.items() if key != "norm"}

    def off(params: Any) -> float:
        return score({**params, "norm": "batch"})

    def mean_of_last_ten(sampler: str) -> float:
        shared = shared_study(fast_path / sampler, sampler=sampler, space=numbers, total=30)
        with Leases() as leases:
            while (claim := shared.take(leases)) is not None:
                end(shared, leases, claim, Result("complete", (off(claim.params),)))
        return sum(off(shared.slots()[k].last.params) for k in range(20, 30)) / 10

    assert mean_of_last_ten(name) < 0.6 * mean_of_last_ten("random")


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_parallel_workers_do_not_propose_the_same(fast_path: Path, name: str) -> None:
    shared = shared_study(fast_path, sampler=name, total=8)
    with Leases() as leases:
        proposed = [tuple(take(shared, leases).params.values()) for _ in range(8)]
    assert len(set(proposed)) == 8


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "space",
    [
        {"norm": Options(("batch", "none"))},
        {"lr": Range(1e-5, 1e-2, log=True, whole=False)},
        {"size": Range(1, 2, log=False, whole=True), "clip": Options((None, 0.5))},
    ],
    ids=["a choice", "a number", "mixed"],
)
def test_every_sampler_takes_every_space(fast_path: Path, name: str, space: Space) -> None:
    shared = shared_study(fast_path, sampler=name, space=space, total=2)
    for _ in range(2):
        claim = take(shared, Leases())
        shared.end(claim.number, Result("complete", (1.0,)))
        for key, where in space.items():
            value = claim.params[key]
            assert value in where.values if isinstance(where, Options) else where.low <= value <= where.high


def test_several_objectives_give_a_front_of_trials(fast_path: Path) -> None:
    shared = shared_study(fast_path, sampler="tpe", objectives=2, total=15)
    with Leases() as leases:
        while (claim := shared.take(leases)) is not None:
            x = claim.params["size"]
            end(shared, leases, claim, Result("complete", (float(x), float(1 / x))))
    assert shared.finished


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_stop_what_is_much_worse(fast_path: Path, name: str) -> None:
    pruner = samplers.pruner(name, steps=90, eval_every=10)
    shared = shared_study(fast_path, pruner=pruner, pruner_name=name, total=12)
    pruned = []
    for k in range(12):
        claim = take(shared, Leases())
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
