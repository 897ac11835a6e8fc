"""Trials of a search: the seeds of a configuration side by side, stopped, resumed, pruned, reused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.execution import training
from bench.execution.checkpoints import CHECKPOINTS
from bench.execution.run_source import Runs
from bench.execution.worker import work
from bench.plan import RunContext
from bench.search import objectives, trial, trial_source
from bench.search.study import Claim, Result
from bench.search.trial import Trial
from bench.search.trial_source import TrialTask
from bench.store import records
from bench.store.jobs import Job
from bench.store.leases import Leases, here

STEPS = 8


class Study:
    """Notes reports; prunes at one step."""

    def __init__(self, prune_at: int | None = None) -> None:
        self.prune_at = prune_at
        self.reports: dict[int, float] = {}

    def report(self, step: int, values: tuple[float, ...]) -> bool:
        self.reports[step] = values[0]
        return step == self.prune_at


class Ended(dict[int, Result]):
    """How the trials of a study ended."""

    def end(self, number: int, result: Result, *, alone: bool = False) -> None:
        assert number not in self
        self[number] = result


def claim(k: int) -> Claim:
    return Claim(slot=k, attempt=1, trial_id=k, number=k, params={}, alone=False)


def run_together(
    configurations: list[list[Job]],
    context: RunContext,
    *studies: Study,
    stop_after: int = 10**9,
    names: tuple[str, ...] = ("fid",),
) -> list[Result]:
    """Run trials together, stopped at the n-th look."""
    looks, ended = itertools.count(), Ended()

    def stop() -> bool:
        return next(looks) >= stop_after

    some = [
        Trial(claim(k), jobs, study.report)
        for k, (jobs, study) in enumerate(itertools.zip_longest(configurations, studies, fillvalue=Study()))
    ]
    with Leases() as leases:
        task = TrialTask(ended, some, names, context, leases)  # type: ignore[arg-type]
        while not task.advance(stop):
            if stop():
                task.save()
                break
    return [ended[k] for k in range(len(configurations))]


def run(
    jobs: list[Job], context: RunContext, study: Study | None = None, *, stop_after: int = 10**9
) -> Result:
    """Run one trial, stopped at the n-th look."""
    (result,) = run_together([jobs], context, *([study] if study else []), stop_after=stop_after)
    return result


def record(job: Job, context: RunContext) -> records.Record:
    found = records.read_record(job.folder(context.out))
    assert found is not None
    return found


def numbers(job: Job, context: RunContext) -> list[Any]:
    """What a run computed, but for the time it took."""
    kept = record(job, context)
    evals = [{key: entry[key] for key in ("step", "metrics", "d_accuracy")} for entry in kept["evals"]]
    return [kept["metrics"], kept["history_sha256"], evals]


def test_the_objective_is_the_mean_of_validation_scores_over_seeds(
    jobs: list[Job], context: RunContext
) -> None:
    study = Study()
    result = run(jobs, context, study)
    records = [record(job, context) for job in jobs]
    assert all(kept["protocol"]["scored_on"] == "val" for kept in records)
    assert all(entry["scored_on"] == "val" for kept in records for entry in kept["evals"])
    fids = [kept["metrics"]["classifier"]["fid"] for kept in records]
    assert fids[0] != fids[1]
    assert result.ending == "complete"
    assert result.values == pytest.approx([sum(fids) / 2])
    assert (result.iterations, result.seconds > 0) == (2 * STEPS, True)
    for k, step in enumerate((4, 8)):
        entries = [kept["evals"][k]["metrics"]["classifier"]["fid"] for kept in records]
        assert study.reports[step] == pytest.approx(sum(entries) / 2)
    assert not list(context.out.rglob("checkpoint*"))


@pytest.mark.slow
def test_a_run_of_a_trial_is_that_of_the_main_command(
    jobs: list[Job], context: RunContext, tmp_path: Path
) -> None:
    run(jobs, context)
    alone = replace(context, out=tmp_path)
    work(Runs(jobs[:1], tmp_path), alone, lambda: False)
    assert numbers(jobs[0], alone) == numbers(jobs[0], context)


@pytest.fixture(scope="module")
def uninterrupted(
    templates: dict[str, Job], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunContext, Study, Result]:
    """A whole trial."""
    jobs = [replace(templates["vanilla"], seed=seed) for seed in (1000, 1001)]
    context, study = RunContext(tmp_path_factory.mktemp("whole"), offline=True), Study()
    return context, study, run(jobs, context, study)


@pytest.mark.slow
@pytest.mark.parametrize("looks", [0, 1, 2, 3])
def test_stopped_anywhere_it_goes_on_exactly(
    jobs: list[Job], context: RunContext, uninterrupted: tuple[RunContext, Study, Result], looks: int
) -> None:
    whole, study, expected = uninterrupted
    resumed = Study()
    assert run(jobs, context, resumed, stop_after=looks).ending == "stopped"
    result = run(jobs, context, resumed)
    assert (result.ending, result.values) == (expected.ending, expected.values)
    assert resumed.reports == study.reports
    for each in jobs:
        assert numbers(each, context) == numbers(each, whole)


def test_pruned_at_an_evaluation_it_leaves_no_weights_and_no_record(
    jobs: list[Job], context: RunContext
) -> None:
    result = run(jobs, replace(context, checkpoint_every=0), Study(prune_at=4))
    assert (result.ending, result.reason, result.iterations) == ("pruned", "at step 4", 8)
    assert not list(context.out.rglob("run.json"))
    assert not [path for name in CHECKPOINTS for path in context.out.rglob(name)]


def test_at_its_last_evaluation_it_is_not_pruned(jobs: list[Job], context: RunContext) -> None:
    assert run(jobs, context, Study(prune_at=STEPS)).ending == "complete"


def test_finished_runs_are_reused_not_repeated(
    jobs: list[Job], context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, study = Study(), Study(prune_at=4)
    result = run(jobs, context, first)
    monkeypatch.setattr(trial, "begin_all", lambda jobs, context: [])  # nothing trains
    again = run(jobs, context, study)
    assert again == replace(result, seconds=again.seconds)
    assert again.seconds == pytest.approx(sum(record(job, context)["cost"]["device_s"] for job in jobs))
    assert study.reports == first.reports


@pytest.mark.slow
def test_only_the_seeds_that_are_missing_are_trained(jobs: list[Job], context: RunContext) -> None:
    """As after a kill between the records of two seeds."""
    expected = run(jobs, context)
    folders = [job.folder(context.out) for job in jobs]
    before = (folders[0] / "run.json").stat().st_mtime_ns
    (folders[1] / "run.json").unlink()
    assert run(jobs, context).values == pytest.approx(expected.values)
    assert (folders[0] / "run.json").stat().st_mtime_ns == before
    assert (folders[1] / "run.json").exists()


@pytest.mark.slow
def test_a_damaged_record_is_set_aside_and_computed_again(jobs: list[Job], context: RunContext) -> None:
    expected = run(jobs, context)
    path = jobs[0].folder(context.out) / "run.json"
    content = json.loads(path.read_text())
    content["evals"][-1]["metrics"]["classifier"]["fid"] = 0.0
    path.write_text(json.dumps(content))
    assert run(jobs, context).values == pytest.approx(expected.values)
    assert list(path.parent.glob("run.json.damaged*"))


def faulty(templates: dict[str, Job], fault: str, at: int) -> list[Job]:
    template = templates["faults:faulty"]
    values = {**template.hyperparameters, "fault": fault, "at": at}
    return [replace(template, hyperparameters=values, seed=seed) for seed in (1000, 1001)]


def test_as_one_stack_the_seeds_give_the_same(
    jobs: list[Job],
    context: RunContext,
    uninterrupted: tuple[RunContext, Study, Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU; equal but for the order of floating-point sums."""
    monkeypatch.setattr(trial, "groups", lambda jobs, together: [jobs])
    study = Study()
    assert run(jobs, context, study, stop_after=1).ending == "stopped"
    result = run(jobs, context, study)
    assert result.values == pytest.approx(uninterrupted[2].values, rel=1e-2)
    assert study.reports == pytest.approx(uninterrupted[1].reports, rel=1e-2)
    assert {record(job, context)["cost"]["stack"] for job in jobs} == {2}


def test_two_trials_of_one_configuration_do_not_run_at_once(
    jobs: list[Job], context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits while another process trains one of its runs."""
    monkeypatch.setattr(trial_source, "LOOK_EVERY", 0)
    with Leases() as first:
        assert first.take(jobs[1].folder(context.out))
        assert run(jobs, context, stop_after=3) == Result("stopped")
        assert not (jobs[0].folder(context.out) / "progress.json").exists()
    assert run(jobs, context).ending == "complete"


def test_runs_of_a_process_that_is_gone_are_not_waited_for(jobs: list[Job], context: RunContext) -> None:
    folder = jobs[1].folder(context.out)
    folder.mkdir(parents=True)
    (folder / "lease-1").write_text(json.dumps({"host": here(), "pid": None}))
    assert run(jobs, context, stop_after=10).ending == "complete"


# ---------------------------------------------------------------- several trials together


def configured(jobs: list[Job], **values: Any) -> list[Job]:
    """The same seeds with other hyperparameters."""
    return [replace(each, hyperparameters={**each.hyperparameters, **values}) for each in jobs]


def stack_of(job: Job, context: RunContext) -> int:
    size: int = record(job, context)["cost"]["stack"]
    return size


@pytest.mark.slow
def test_trials_that_differ_in_numbers_train_as_one_stack(
    jobs: list[Job], context: RunContext, tmp_path: Path
) -> None:
    """Each with its own learning rate, equal to a trial alone but for rounding; others beside them."""
    asked = [jobs, configured(jobs, lr=1e-2, beta1=0.9), configured(jobs, latent_dim=20)]
    results = run_together(asked, context)
    alone = [run(each, replace(context, out=tmp_path)) for each in asked]
    assert [stack_of(each[0], context) for each in asked] == [4, 4, 2]
    for together, single in zip(results, alone, strict=True):
        assert together.ending == "complete"
        assert together.iterations == single.iterations
    gaps = [abs(a.values[0] - b.values[0]) for a, b in zip(results, alone, strict=True)]
    assert abs(results[0].values[0] - results[1].values[0]) > 10 * max(gaps)


@pytest.mark.slow
def test_trials_are_stopped_together_and_go_on_in_other_company(
    jobs: list[Job], context: RunContext, tmp_path: Path
) -> None:
    other = configured(jobs, lr=1e-3)
    whole = run_together([jobs, other], replace(context, out=tmp_path))
    stopped = run_together([jobs, other], context, stop_after=1)
    assert {result.ending for result in stopped} == {"stopped"}
    assert {result.iterations > 0 for result in stopped} == {True}
    (second,), (first,) = run_together([other], context), run_together([jobs], context)
    assert first.values == pytest.approx(whole[0].values, rel=1e-2)
    assert second.values == pytest.approx(whole[1].values, rel=1e-2)


@pytest.mark.slow
def test_of_trials_together_one_is_pruned_and_the_other_goes_on(jobs: list[Job], context: RunContext) -> None:
    other = configured(jobs, lr=1e-3)
    kept, pruned = Study(), Study(prune_at=4)
    results = run_together([jobs, other], context, kept, pruned)
    assert [result.ending for result in results] == ["complete", "pruned"]
    assert results[1].iterations == 8
    assert sorted(kept.reports) == [4, 8]
    assert sorted(pruned.reports) == [4]
    assert [records.read_record(each.folder(context.out)) is None for each in (jobs[0], other[0])] == [
        False,
        True,
    ]
    assert not list(context.out.rglob("checkpoint*"))


@pytest.mark.slow
def test_of_trials_together_one_diverges_and_the_other_goes_on(
    templates: dict[str, Job], context: RunContext
) -> None:
    bad, good = faulty(templates, "nan", 6), faulty(templates, "none", 6)
    results = run_together([bad, good], context)
    assert [result.ending for result in results] == ["diverged", "complete"]


def test_a_trial_twice_among_those_together_is_computed_once(jobs: list[Job], context: RunContext) -> None:
    one, other = run_together([jobs, jobs], context)
    assert one.ending == other.ending == "complete"
    assert one.values == pytest.approx(other.values)
    assert one.iterations == other.iterations


@pytest.mark.parametrize("fault", ["nan", "explodes"])
def test_a_diverged_seed_ends_the_trial_at_once(
    templates: dict[str, Job], context: RunContext, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = faulty(templates, fault, 6)
    result = run(jobs, context)
    assert result.ending == "diverged"
    assert result.reason.startswith("seed 1000: a loss ")
    assert "at step 6" in result.reason
    assert result.values == ()
    assert record(jobs[0], context)["status"] == "diverged"
    assert records.read_record(jobs[1].folder(context.out)) is None
    monkeypatch.setattr(training.Stack, "advance", None)
    again = run(jobs, context)
    assert (again.ending, again.reason) == ("diverged", result.reason)


def test_a_collapsed_generator_has_a_score(templates: dict[str, Job], context: RunContext) -> None:
    result = run(faulty(templates, "collapses", 1), context)
    assert result.ending == "complete"
    assert result.values[0] > 50


def test_a_score_that_runs_do_not_have_is_one_line(jobs: list[Job], context: RunContext) -> None:
    with pytest.raises(UsageError, match="--objective: these runs have no 'psnr'; they have fid, kid_mean"):
        run_together([jobs], context, names=("fid", "psnr"))


ENTRY = {
    "step": 4,
    "metrics": {"classifier": {"fid": 3.0, "recall": 0.5}, "inception": {"fid": 30.0}},
    "d_accuracy": {"real": 0.9, "fake": 0.3, "balanced": 0.6},
    "train_s": 1.5,
}


@pytest.mark.parametrize(
    ("name", "value"), [("fid", 3.0), ("recall", 0.5), ("d_accuracy_gap", 0.1), ("train_s", 1.5)]
)
def test_objectives_read_an_evaluation(name: str, value: float) -> None:
    assert objectives.score(ENTRY, name) == pytest.approx(value)


def test_objectives_are_averaged_over_seeds() -> None:
    other = ENTRY | {"metrics": {"classifier": {"fid": 5.0}}, "train_s": 2.5}
    assert objectives.mean_scores([ENTRY, other], ["fid", "train_s"]) == pytest.approx((4.0, 2.0))
