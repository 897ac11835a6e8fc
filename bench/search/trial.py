"""Run trials of a search: the seeds of their configurations, side by side, scored on validation.

On a CPU the runs are advanced in turn to each evaluation; on a GPU, and for several trials at once, those
that can be lanes of one stack train as one. Either way each trial's mean over seeds is known at every
evaluation, and the trial can be pruned there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baselines import registry
from baselines.gan import DataSpec
from baselines.training import lanes
from bench.execution import environment
from bench.execution.job import CHECKPOINTS, Lane, Stack, abreast
from bench.plan import Job, Place
from bench.search.objectives import mean_scores
from bench.search.study import Ending, Result
from bench.store import files, records, results
from bench.store.leases import Claims

LOOK_EVERY = 0.5
"""Seconds between looks at another trial of the same configuration."""

Report = Callable[[int, tuple[float, ...]], bool]
"""Is told an evaluation's step and mean scores, and answers whether to prune."""

Stop = Callable[[], bool]


@dataclass(eq=False)
class Trial:
    """One configuration, and what is known of its runs."""

    jobs: Sequence[Job]
    report: Report
    attempt: int = 1
    records: list[records.Record] = field(default_factory=list)
    """Of runs that were finished before."""
    lanes: list[tuple[Stack, int]] = field(default_factory=list)
    """Of runs that train here: the stack, and the number in it."""
    values: tuple[float, ...] = ()
    result: Result | None = None
    """Once it has ended."""

    def evals(self, k: int) -> list[dict[str, Any]]:
        """The k-th evaluation of each run."""
        found = [record["evals"] for record in self.records] + [lane.evals for lane in self._lanes()]
        return [evals[k] for evals in found]

    def divergence(self) -> str | None:
        """Which run diverged and how, if any did."""
        for record in self.records:
            if record["status"] == "diverged":
                return f"seed {record['seed']}: {record['reason']}"
        for lane in self._lanes():
            if lane.diverged_at is not None:
                return f"seed {lane.job.seed}: {lane.reason}"
        return None

    def end(self, ending: Ending, reason: str = "") -> None:
        """Note how it ended, and what it cost."""
        steps = [(record["evals"] or [{"step": 0}])[-1]["step"] for record in self.records]
        steps += [stack.trainer.step for stack, _ in self.lanes]
        seconds = [record["cost"]["device_s"] for record in self.records]
        seconds += [(stack.train_s + stack.eval_s) / len(stack.lanes) for stack, _ in self.lanes]
        values = self.values if ending == "complete" else ()
        self.result = Result(ending, values, reason, sum(steps), sum(seconds))

    def write(self) -> None:
        """Write the records that are due, and remove the weights: nobody goes on from them."""
        assert self.result is not None
        if self.result.ending == "stopped":
            return
        for (stack, k), lane in zip(self.lanes, self._lanes(), strict=True):
            if self.result.ending == "complete" or lane.diverged_at is not None:
                stack.finish(k, self.attempt)
            for name in (*CHECKPOINTS, "progress.json"):
                (lane.folder / name).unlink(missing_ok=True)

    def _lanes(self) -> Iterator[Lane]:
        return (stack.lanes[k] for stack, k in self.lanes)


def run(trials: Sequence[Trial], place: Place, objectives: Sequence[str], *, stop: Stop) -> list[Result]:
    """Train and score the seeds of each configuration; runs that are finished already are reused.

    After a stop or an exception the same trials go on from their checkpoints.

    Raises:
        UsageError: the runs have no such score.
    """
    environment.set_up(place.device, trials[0].jobs[0].protocol["precision"])
    left = list(trials)
    while left:
        with Claims() as claims:
            if not (now := _free(left, place, claims, stop)):
                break
            _run(now, place, objectives, stop)
        left = [trial for trial in left if trial not in now]
    return [trial.result or Result("stopped") for trial in trials]


def _free(trials: Sequence[Trial], place: Place, claims: Claims, stop: Stop) -> list[Trial]:
    """The trials whose runs are nobody else's, once there is one; none after a stop.

    Of two trials of one configuration the second waits, to reuse the runs of the first. A further attempt
    does not wait: the claims that it finds are those of the lost one.
    """
    while True:
        free: list[Trial] = []
        taken: set[Path] = set()
        for trial in trials:
            folders = [job.folder(place.out) for job in trial.jobs]
            if taken.isdisjoint(folders) and (all(map(claims.take, folders)) or trial.attempt > 1):
                free.append(trial)
                taken.update(folders)
        if free:
            return free
        if stop():
            return []
        time.sleep(LOOK_EVERY)


def _run(trials: Sequence[Trial], place: Place, objectives: Sequence[str], stop: Stop) -> None:
    _begin(trials, place)
    stacks = {id(stack): stack for trial in trials for stack, _ in trial.lanes}
    job = trials[0].jobs[0]
    for k in range(-(-job.steps // job.eval_every)):
        going = [trial for trial in trials if trial.result is None]
        if not all(_advance(stack, k, going, stop) for stack in stacks.values()):
            for stack in stacks.values():
                stack.checkpoint()
            for trial in going:
                trial.end("stopped")
            break
        for trial in going:
            _judge(trial, k, objectives)
    for trial in trials:
        if trial.result is None:
            trial.end("complete")
        trial.write()


def _begin(trials: Sequence[Trial], place: Place) -> None:
    """Find the records that there are, and put the other runs into stacks."""
    todo: dict[Path, tuple[Job, Trial]] = {}
    for trial in trials:
        for job in trial.jobs:
            if (record := _record(job, place)) is not None:
                trial.records.append(record)
            else:
                todo[job.folder(place.out)] = job, trial
    for group in groups([job for job, _ in todo.values()], place, together=len(trials) > 1):
        stack = Stack(group, place)
        stack.check()
        stack.resume()
        for k, job in enumerate(group):
            todo[job.folder(place.out)][1].lanes.append((stack, k))


def _advance(stack: Stack, k: int, going: Sequence[Trial], stop: Stop) -> bool:
    """Train to evaluation ``k``, or until no trial is left that needs it; False after a stop.

    The lanes of a trial that was pruned train on beside the others: on a GPU they cost little.
    """
    needed = [t for t in going if any(mine is stack for mine, _ in t.lanes)]
    while not stack.done and any(len(lane.evals) <= k for lane in stack.lanes if lane.diverged_at is None):
        if all(trial.divergence() for trial in needed):
            return True
        if stop():
            return False
        stack.advance()
    return True


def _judge(trial: Trial, k: int, objectives: Sequence[str]) -> None:
    """Has it diverged? Else report the mean scores: is it to be pruned?"""
    if reason := trial.divergence():
        trial.end("diverged", reason)
        return
    entries = trial.evals(k)
    trial.values, step = mean_scores(entries, objectives), entries[0]["step"]
    done = all(stack.done for stack, _ in trial.lanes)
    if trial.report(step, trial.values) and not done:
        trial.end("pruned", f"at step {step}")


def groups(jobs: Sequence[Job], place: Place, *, together: bool) -> list[list[Job]]:
    """Which runs train as one stack: on a CPU none unless ``together``, else all that can."""
    if place.device == "cpu" and not together:
        return [[job] for job in jobs]
    found: list[list[Job]] = []
    for job in jobs:
        for group in found:
            if _stackable(group[0], job):
                group.append(job)
                break
        else:
            found.append([job])
    return [part for group in found for part in abreast(group, place)]


def _stackable(a: Job, b: Job) -> bool:
    data = a.protocol["dataset"]
    channels, height, width = data["shape"]
    spec = DataSpec(channels, height, width, data["n_classes"])
    return lanes.stackable(registry.get(a.model), spec, a.hyperparameters, b.hyperparameters)


def _record(job: Job, place: Place) -> records.Record | None:
    """The record of a run that needs no more work.

    Raises:
        UnreadableError: it cannot be read.
    """
    folder = job.folder(place.out)
    try:
        record = records.read_record(folder, job)
    except records.DamagedRecordError as error:
        print(f"{error}; kept as {files.set_aside(error.path).name}", file=sys.stderr)
        return None
    except records.ForeignRecordError as error:
        print(f"{error}; kept in {results.clear_out(folder).name}", file=sys.stderr)
        return None
    return record if record is not None and record["status"] in ("finished", "diverged") else None
