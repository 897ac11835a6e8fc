"""Trials of a search that train side by side: the seeds of their configurations, scored on validation.

On a CPU the runs are advanced in turn to each evaluation; on a GPU, and for several trials at once, those
that can be members of one stack train as one. Either way each trial's mean over seeds is known at every
evaluation, and the trial can be pruned there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.execution import recording
from bench.execution.checkpoints import CHECKPOINTS
from bench.execution.signals import Stop
from bench.execution.stacking import stackable_groups
from bench.execution.training import Lane, Stack, begin_all
from bench.plan import RunContext
from bench.search.objectives import mean_scores
from bench.search.study import Claim, Ending, Result
from bench.store import records, results
from bench.store.jobs import Job

Report = Callable[[int, tuple[float, ...]], bool]
"""Is told an evaluation's step and mean scores, and answers whether to prune."""


@dataclass(eq=False)
class Trial:
    """One configuration, and what is known of its runs."""

    claim: Claim
    jobs: Sequence[Job]
    report: Report
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
                recording.record(stack, k, self.claim.attempt)
            for name in (*CHECKPOINTS, "progress.json"):
                (lane.folder / name).unlink(missing_ok=True)

    def _lanes(self) -> Iterator[Lane]:
        return (stack.lanes[k] for stack, k in self.lanes)


class Group:
    """Trials that train side by side, one evaluation after the other."""

    def __init__(self, trials: Sequence[Trial], context: RunContext, objectives: Sequence[str]) -> None:
        """Reuses the runs that are finished already.

        Raises:
            ChangedError: code, data or weights are not those that the runs were planned with.
        """
        self.trials, self.objectives = trials, objectives
        self.k = 0
        """The evaluation that is next."""
        todo: dict[Path, tuple[Job, Trial]] = {}
        for trial in trials:
            for job in trial.jobs:
                if (record := _record(job, context)) is not None:
                    trial.records.append(record)
                else:
                    todo[job.folder(context.out)] = job, trial
        jobs = [job for job, _ in todo.values()]
        together = len(trials) > 1 or context.device != "cpu"
        self.stacks = [
            stack for group in groups(jobs, together=together) for stack in begin_all(group, context)
        ]
        for stack in self.stacks:
            for k, lane in enumerate(stack.lanes):
                todo[lane.folder][1].lanes.append((stack, k))

    def advance(self, stop: Stop) -> bool:
        """Train all to the next evaluation and judge them there; True when no trial has more to do.

        Raises:
            UsageError: the runs have no such score.
        """
        going = self._going()
        if not all(self._train(stack, going, stop) for stack in self.stacks):
            return False
        for trial in going:
            _judge(trial, self.k, self.objectives)
        self.k += 1
        job = self.trials[0].jobs[0]
        if self.k == -(-job.steps // job.eval_every):
            for trial in self._going():
                trial.end("complete")
        return not self._going()

    def stop(self) -> None:
        """Save what has not ended."""
        for stack in self.stacks:
            stack.checkpoint()
        for trial in self._going():
            trial.end("stopped")

    def write(self) -> None:
        """Write the records that are due."""
        for trial in self.trials:
            trial.write()

    def _going(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.result is None]

    def _train(self, stack: Stack, going: Sequence[Trial], stop: Stop) -> bool:
        """Train to this evaluation, or until no trial is left that needs it; False after a stop.

        The members of a trial that was pruned train on beside the others: on a GPU they cost little.
        """
        needed = [trial for trial in going if any(mine is stack for mine, _ in trial.lanes)]
        with stack.turn():
            while not stack.done and any(
                len(lane.evals) <= self.k for lane in stack.lanes if lane.diverged_at is None
            ):
                if all(trial.divergence() for trial in needed):
                    break
                if stop():
                    return False
                stack.advance()
        return True


def groups(jobs: Sequence[Job], *, together: bool) -> list[list[Job]]:
    """The jobs that train as one stack each: ``together``, as far as they can, else each alone."""
    return stackable_groups(jobs) if together else [[job] for job in jobs]


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


def _record(job: Job, context: RunContext) -> records.Record | None:
    """The record of a run that needs no more work.

    Raises:
        UnreadableError: it cannot be read.
    """
    record = results.usable_record(job.folder(context.out), job, mine=True)
    return record if record is not None and record["status"] in ("finished", "diverged") else None
