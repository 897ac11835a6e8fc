"""The trials of a study as a source of work: handed out, ended, lost, failed, left to others."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import resumptions
from studies import Broken, shared_study

from bench.errors import UsageError
from bench.execution import supervisor
from bench.execution.signals import Interrupt
from bench.execution.worker import work
from bench.plan import RunContext, resolve
from bench.search import trial
from bench.search.addresses import StorageError
from bench.search.space import Options, Range, Space
from bench.search.study import SharedStudy, ending_of
from bench.search.trial_source import Recipe, Trials
from bench.store import records
from bench.store.files import UnreadableError, UnwritableError
from bench.store.jobs import Job
from bench.store.leases import Leases

Make = Callable[..., Trials]
NUMBERS: Space = {"lr": Range(1e-4, 1e-3, log=True, whole=False)}
FAULTS: Space = {"fault": Options(("none", "raises"))}


@pytest.fixture
def make(templates: dict[str, Job], context: RunContext) -> Make:
    """Makes a study of small trials, or of trials with faults."""

    def made(space: Space = NUMBERS, *, together: int = 1, total: int = 2, retries: int = 0) -> Trials:
        model = "faults:faulty" if space is FAULTS else "vanilla"
        fixed = {"at": "3"} if space is FAULTS else {"g_widths": "8", "d_widths": "8", "batch_size": "32"}
        shared = shared_study(context.out, space=space, sampler="grid", total=total, retries=retries)
        template = replace(templates[model], hyperparameters=resolve(model, fixed))
        recipe = Recipe(context.out, template, fixed, [1000], ["fid"])
        return Trials(shared, recipe, together=together, stale_s=60.0)

    return made


def never() -> bool:
    return False


def endings(shared: SharedStudy) -> dict[int, list[str]]:
    """Slot -> how its attempts ended, as far as they have."""
    return {
        number: [ending_of(each) for each in slot.attempts if each.state.is_finished()]
        for number, slot in shared.slots().items()
    }


def by_fault(shared: SharedStudy) -> Mapping[str, list[str]]:
    found = endings(shared)
    return {slot.last.params["fault"]: found[number] for number, slot in shared.slots().items()}


def test_all_trials_are_run_and_their_runs_recorded(make: Make, context: RunContext) -> None:
    source = make()
    assert not source.finished()
    work(source, context, never)
    assert source.finished()
    assert endings(source.study) == {0: ["complete"], 1: ["complete"]}
    found = [records.read_record(path.parent) or {} for path in context.out.rglob("run.json")]
    assert [record["status"] for record in found] == ["finished", "finished"]
    assert not list(context.out.rglob("lease-*"))
    assert not list(context.out.rglob("checkpoint*"))


def test_a_worker_s_copy_works_alike_and_carries_no_connection(make: Make, context: RunContext) -> None:
    copy = pickle.loads(pickle.dumps(make()))
    assert copy.study.connection is None
    work(copy, context, never)
    assert copy.finished()


def test_a_stopped_trial_goes_on_from_its_checkpoint_and_costs_no_retry(
    make: Make, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, looks = make(), itertools.count()
    work(source, context, lambda: next(looks) >= 3)
    assert endings(source.study) == {0: ["stopped"], 1: []}
    assert list(context.out.rglob("checkpoint.pt"))
    steps = resumptions(monkeypatch)
    work(source, context, never)
    assert endings(source.study) == {0: ["stopped", "complete"], 1: ["complete"]}
    assert 0 < steps[0] < 8
    assert steps[1:] == [0], "of the other trial"


def test_trials_that_others_run_are_not_taken(make: Make, context: RunContext) -> None:
    source = make()
    with Leases() as mine, Leases() as others:
        first, second = source.take(mine, context), source.take(others, context)
        assert first is not None
        assert second is not None
        assert [task.left[0].claim.slot for task in (first, second)] == [0, 1]
        assert source.take(mine, context) is None
        assert not source.finished()


# ------------------------------------------------------------------ trials that fail


def test_a_trial_that_raises_is_failed_and_the_others_go_on(make: Make, context: RunContext) -> None:
    source = make(FAULTS, retries=5)
    work(source, context, never)
    assert by_fault(source.study) == {"none": ["complete"], "raises": ["failed"]}
    assert {slot.reason for slot in source.study.slots().values()} == {
        "",
        "ValueError: a fault, made on purpose",
    }
    (log,) = context.out.rglob("error.log")
    assert "made on purpose" in log.read_text()


def test_of_trials_together_of_which_one_raises_each_is_run_alone(make: Make, context: RunContext) -> None:
    source = make(FAULTS, together=2)
    work(source, context, never)
    assert by_fault(source.study) == {"none": ["stopped", "complete"], "raises": ["stopped", "failed"]}


def test_only_trials_that_train_are_blamed(make: Make, context: RunContext) -> None:
    """Not one that waits for another process's run."""
    source = make(FAULTS, together=2)
    with Leases() as mine, Leases() as others:
        task = source.take(mine, context)
        assert task is not None
        waits = next(each for each in task.left if "none" in each.claim.params.values())
        assert others.take(waits.jobs[0].folder(context.out))
        with pytest.raises(ValueError, match="on purpose") as error:
            task.advance(never)
        source.failed(task, error.value, lambda what, about: None)
    assert endings(source.study) in ({0: ["stopped"], 1: ["failed"]}, {0: ["failed"], 1: ["stopped"]})
    assert not any(slot.alone for slot in source.study.slots().values())


def test_trials_that_do_not_fit_into_memory_together_are_run_in_smaller_company(
    make: Make, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, sizes = trial.Group.advance, []

    def starved(self: trial.Group, stop: Any) -> bool:
        sizes.append(len(self.trials))
        if len(self.trials) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return advance(self, stop)

    monkeypatch.setattr(trial.Group, "advance", starved)
    source, said = make(together=2), []
    work(source, context, never, notify=lambda what, about: said.append((what, about)))
    assert endings(source.study) == {0: ["stopped", "complete"], 1: ["stopped", "complete"]}
    assert (max(sizes[1:]), source.together) == (1, 1)
    assert ("smaller", (source.name, 1)) in said, "the next worker is told"


def test_a_trial_that_does_not_fit_alone_is_failed(
    make: Make, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(self: trial.Group, stop: Any) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trial.Group, "advance", starved)
    source = make(total=1)
    work(source, context, never)
    assert endings(source.study) == {0: ["failed"]}


def test_edited_code_fails_no_trial_and_ends_the_search(make: Make, context: RunContext) -> None:
    """All trials to come would fail alike."""
    source = make(retries=0)
    job = source.recipe.template
    changed = {**job.code, "model": {**job.code["model"], "baselines/vanilla.py": "0" * 16}}
    source.recipe = replace(source.recipe, template=replace(job, code=changed))
    said = "code changed since this run was planned: baselines/vanilla.py.*; the same command begins another"
    with pytest.raises(UsageError, match=said):
        work(source, context, never)
    assert endings(source.study) == {0: ["stopped"], 1: []}
    assert not list(context.out.rglob("run.json"))


# ------------------------------------------------------------------ what no trial is to blame for


@pytest.mark.slow
@pytest.mark.parametrize("when", ["training", "saving", "a lease"])
def test_a_full_disk_costs_no_attempt(
    make: Make, context: RunContext, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def full(*_: Any) -> bool:
        raise UnwritableError(errno.ENOSPC, "No space left on device", "checkpoint.pt")

    source, looks = make(together=2), itertools.count()
    with monkeypatch.context() as patch:
        if when == "a lease":
            takes = iter(range(9))
            take = Leases.take
            patch.setattr(
                Leases, "take", lambda self, folder: take(self, folder) if next(takes) < 1 else full()
            )
        else:
            patch.setattr(trial.Group, "advance" if when == "training" else "stop", full)
        with pytest.raises(UnwritableError, match="No space left on device"):
            work(source, context, lambda: when == "saving" and next(looks) >= 3)
    assert set(itertools.chain(*endings(source.study).values())) == {"stopped"}
    work(source, context, never)
    assert {ended[-1] for ended in endings(source.study).values()} == {"complete"}


def test_a_storage_that_fails_is_one_line(make: Make, context: RunContext) -> None:
    source, looks = make(), itertools.count()

    def stop() -> bool:
        if next(looks) == 4:
            (context.out / "journal.log").unlink()
        return False

    with pytest.raises(StorageError, match=r"journal\.log cannot be used: No such file or directory"):
        work(source, context, stop)
    assert not list(context.out.rglob("lease-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        StorageError("--storage x cannot be used"),
        UnreadableError(errno.EIO, "Input/output error", "run.json"),
    ],
    ids=["storage", "file"],
)
def test_an_error_of_a_worker_is_that_of_the_command(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        supervisor.supervise(Broken(error), RunContext(tmp_path), ["cpu"], Interrupt())
    assert str(raised.value) == str(error)


# ------------------------------------------------------------------ workers that die


def taken(source: Trials, context: RunContext) -> tuple[Leases, list[int]]:
    """Leases as a worker held them, and the slots of its trials."""
    leases = Leases()
    task = source.take(leases, context)
    assert task is not None
    return leases, [each.claim.slot for each in task.left]


def test_a_trial_whose_worker_died_is_enqueued_anew(make: Make, context: RunContext) -> None:
    source = make(retries=1)
    leases, _ = taken(source, context)
    params = source.study.slots()[0].last.params
    source.lost(leases.held, "worker killed by SIGKILL", "the stack")
    slot = source.study.slots()[0]
    assert (slot.state, slot.alone) == ("waiting", False)
    assert (slot.attempts[0].user_attrs["reason"], endings(source.study)[0]) == (
        "worker killed by SIGKILL",
        ["lost"],
    )
    assert slot.last.system_attrs["fixed_params"] == params
    (log,) = context.out.rglob("error.log")
    assert log.read_text() == "worker killed by SIGKILL\nthe stack\n"
    leases.__exit__(None, None, None)
    leases, _ = taken(source, context)
    source.lost(leases.held, "worker killed by SIGKILL", "")
    assert source.study.slots()[0].state == "failed"


def test_of_trials_together_whose_worker_died_each_is_run_alone(make: Make, context: RunContext) -> None:
    source = make(retries=1, together=2)
    leases, slots = taken(source, context)
    assert slots == [0, 1]
    source.lost(leases.held, "worker killed by SIGKILL", "")
    leases.__exit__(None, None, None)
    assert [slot.alone for slot in source.study.slots().values()] == [True, True]
    assert taken(source, context)[1] == [0]


def test_a_trial_that_another_command_took_over_is_not_given_up(make: Make, context: RunContext) -> None:
    source = make()
    leases, _ = taken(source, context)
    (running,) = [each for each in source.study.trials() if not each.state.is_finished() and each.params]
    source.study.storage.set_trial_user_attr(running._trial_id, "pid", os.getpid() + 1)
    source.lost(leases.held, "worker killed by SIGKILL", "")
    assert source.study.slots()[0].state == "running"


def test_the_name_of_its_jobs_is_one_word_and_its_folder_s(
    make: Make, context: RunContext, tmp_path: Path
) -> None:
    source = make()
    elsewhere = Trials(source.study, replace(source.recipe, folder=tmp_path), together=1, stale_s=1.0)
    again = Trials(source.study, source.recipe, together=1, stale_s=1.0)
    assert source.name == again.name != elsewhere.name
    assert source.name.isalnum()
    assert source.command != again.command
