"""Run one trial of a search: the seeds of one configuration, side by side, scored on validation.

On a CPU the seeds are advanced in turn to each evaluation, on a GPU they are one stack: either way the
mean over seeds is known at every evaluation, and the trial can be pruned there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import environment, store
from bench.claims import Claims
from bench.job import CHECKPOINTS, Lane, Stack
from bench.search.objectives import mean_scores
from bench.search.study import Result
from bench.spec import Job, Place

LOOK_EVERY = 0.5
"""Seconds between looks at another trial of the same configuration."""


def run(
    jobs: Sequence[Job],
    place: Place,
    objectives: Sequence[str],
    *,
    attempt: int,
    report: Callable[[int, tuple[float, ...]], bool],
    stop: Callable[[], bool],
) -> Result:
    """Train and score the seeds of one configuration; runs that are finished already are reused.

    ``report`` gets each evaluation's step and mean scores, and answers whether to prune. After a stop or
    an exception the same trial goes on from its checkpoints.

    Raises:
        UsageError: the runs have no such score.
    """
    environment.set_up(place.device)
    with Claims() as claims:
        if not _claimed(claims, [job.folder(place.out) for job in jobs], wait=attempt == 1, stop=stop):
            return Result("stopped")
        return _run(Trial(jobs, place), objectives, attempt, report, stop)


def _claimed(claims: Claims, folders: Sequence[Path], *, wait: bool, stop: Callable[[], bool]) -> bool:
    """Wait while another trial of the same configuration runs, to reuse its runs; False after a stop.

    A further attempt does not wait: the claims that it finds are those of the lost one.
    """
    while not all(claims.take(folder) for folder in folders) and wait:
        if stop():
            return False
        time.sleep(LOOK_EVERY)
    return True


def _run(
    trial: Trial,
    objectives: Sequence[str],
    attempt: int,
    report: Callable[[int, tuple[float, ...]], bool],
    stop: Callable[[], bool],
) -> Result:
    values: tuple[float, ...] = ()
    for k in range(trial.n_evals):
        if not trial.advance(k, stop):
            return trial.result("stopped")
        if reason := trial.divergence():
            trial.finish(attempt, only_diverged=True)
            return trial.result("diverged", reason=reason)
        entries = [evals[k] for evals in trial.evals()]
        values, step = mean_scores(entries, objectives), entries[0]["step"]
        if report(step, values) and not trial.done:
            result = trial.result("pruned", reason=f"at step {step}")
            trial.discard()
            return result
    trial.finish(attempt)
    return trial.result("complete", values=values)


class Trial:
    """The runs of a trial: stacks that train here, and records of runs that are finished already."""

    def __init__(self, jobs: Sequence[Job], place: Place) -> None:
        records = [_record(job, place) for job in jobs]
        self.records = [record for record in records if record is not None]
        todo = [job for job, record in zip(jobs, records, strict=True) if record is None]
        self.stacks = [Stack(group, place) for group in groups(todo, place.device)]
        self.n_evals = -(-jobs[0].steps // jobs[0].eval_every)
        for stack in self.stacks:
            stack.resume()

    @property
    def lanes(self) -> list[Lane]:
        """What the runs that train here have gathered."""
        return [lane for stack in self.stacks for lane in stack.lanes]

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        return all(stack.done for stack in self.stacks)

    def evals(self) -> list[list[dict[str, Any]]]:
        """Each run's evaluations so far."""
        return [record["evals"] for record in self.records] + [lane.evals for lane in self.lanes]

    def advance(self, k: int, stop: Callable[[], bool]) -> bool:
        """Train every run to its evaluation ``k``, or until one diverges; False after a stop."""
        for stack in self.stacks:
            while not stack.done and any(len(lane.evals) <= k for lane in stack.lanes):
                if self.divergence():
                    return True
                if stop():
                    for each in self.stacks:
                        each.checkpoint()
                    return False
                stack.advance()
        return True

    def divergence(self) -> str | None:
        """Which run diverged and how, if any did."""
        for record in self.records:
            if record["status"] == "diverged":
                return f"seed {record['seed']}: {record['reason']}"
        for lane in self.lanes:
            if lane.diverged_at is not None:
                return f"seed {lane.job.seed}: {lane.reason}"
        return None

    def finish(self, attempt: int, *, only_diverged: bool = False) -> None:
        """Write the records."""
        for stack in self.stacks:
            for k, lane in enumerate(stack.lanes):
                if lane.diverged_at is not None or not only_diverged:
                    stack.finish(k, attempt)
        self.discard()

    def discard(self) -> None:
        """Remove the weights of the runs that trained here: nobody goes on from them."""
        for lane in self.lanes:
            for name in (*CHECKPOINTS, "progress.json"):
                (lane.folder / name).unlink(missing_ok=True)

    def result(self, ending: Any, *, values: tuple[float, ...] = (), reason: str = "") -> Result:
        """How the trial ended, and what it cost."""
        steps = [(record["evals"] or [{"step": 0}])[-1]["step"] for record in self.records]
        steps += [stack.trainer.step for stack in self.stacks for _ in stack.lanes]
        seconds = [record["cost"]["device_s"] for record in self.records]
        seconds += [stack.train_s + stack.eval_s for stack in self.stacks]
        return Result(ending, values, reason, sum(steps), sum(seconds))


def groups(jobs: Sequence[Job], device: str) -> list[Sequence[Job]]:
    """Which runs train as one stack: none on a CPU, all on a GPU."""
    if device == "cpu":
        return [[job] for job in jobs]
    return [jobs] if jobs else []


def _record(job: Job, place: Place) -> store.Record | None:
    """The record of a run that needs no more work."""
    try:
        record = store.read_record(job.folder(place.out))
    except store.DamagedRecordError as error:
        store.set_aside(error.path)
        return None
    return record if record is not None and record["status"] in ("finished", "diverged") else None
