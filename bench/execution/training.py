"""Train a stack of runs: to its next evaluation, saved and resumed exactly.

A stack is one run, or several that train together: they differ by seed and a few numbers.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines import registry
from baselines.gan import Gan, Nets
from baselines.training import settings
from baselines.training.step import Tensors
from baselines.training.trainer import Trainer
from bench.errors import ChangedError
from bench.execution import checkpoints, environment, kept
from bench.execution.checkpoints import State, copied
from bench.execution.signals import Stop
from bench.identity import fingerprint
from bench.plan import RunContext
from bench.scoring import film, pictures
from bench.scoring.evaluator import Evaluation, Evaluator, NonFiniteSamplesError, to_device
from bench.scoring.own_scores import sources
from bench.scoring.scores import FID, REVERSE_KL
from bench.store import files
from bench.store.jobs import Job

SLICE = 50
"""At most so many iterations between looks at the losses, at the clock and at a request to stop; fewer
where they take longer than a second."""

EXPLODED = 1e8
"""A loss beyond this is as good as infinite: the run has diverged."""

SHOWN_EVALS = 20
"""``progress.json`` holds the latest evaluations, at most so many."""


@dataclass
class Lane:
    """What one run has gathered beside its weights."""

    job: Job
    folder: Path
    gan: Gan
    evals: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    best_weights: Tensors | None = None
    diverged_at: int | None = None
    reason: str | None = None
    last: dict[str, Evaluation] = field(default_factory=dict)
    """Of the latest step, by whose weights (:meth:`Stack.weights_of`)."""
    losses: dict[str, float] = field(default_factory=dict)
    """Means over the latest iterations, to be shown."""
    compute: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "eval": 0.0})
    """Seconds of :func:`environment.compute_s` so far, this run's part: of training, and of scoring."""


class Stack:
    """Runs that train together: they differ in seed, and in what ``training.lanes`` allows."""

    def __init__(self, jobs: Sequence[Job], context: RunContext) -> None:
        job = jobs[0]
        self.job, self.context, self.device = job, context, torch.device(context.device)
        self.dataset = kept.dataset(job.data, context.data_root, context.offline, job.holdout)
        factory = registry.get(job.model)
        self.card = registry.card(factory)
        gans = [factory(self.dataset.spec, **job.hyperparameters) for job in jobs]
        environment.put_back()  # what making the model changed: the plan said so
        self.lanes = [Lane(job, job.folder(context.out), gan) for job, gan in zip(jobs, gans, strict=True)]
        data = to_device(self.dataset.train, self.device)
        self.trainer = Trainer(
            gans[0],
            *data,
            [job.seed for job in jobs],
            lanes=gans,
            per_example=self.dataset.per_example,
            bf16=job.protocol["precision"] == "bf16",
            steps=job.steps,
        )
        self.train_s = self.eval_s = self.energy_before = 0.0
        self.meter = environment.energy_j(context.device)
        self.slice = 1
        self.n_evaluated = 0
        self.changed: dict[str, None] = {}
        self.saved_at, self.saved_step = time.monotonic(), None if len(jobs) > 1 else 0

    @property
    def done(self) -> bool:
        """Whether every lane is at its last step or has diverged."""
        return self.trainer.step == self.job.steps or all(lane.diverged_at for lane in self.lanes)

    def evaluator(self, split: str) -> Evaluator:
        """The evaluator of a split, made once per worker.

        Raises:
            ChangedError: an extractor's weights are not those that the run was planned with.
        """
        planned = self.job.protocol["extractors"]
        scores = self.job.protocol.get("scores", {})
        found = kept.evaluator(self.dataset, split, tuple(planned), sources(self.job.protocol), self.context)
        for name, extractor in found.extractors.items():
            if extractor.sha256 != planned[name]["sha256"]:
                raise ChangedError(f"the weights of extractor {name} changed since this run was planned")
        if {own.score.name: own.describe() for own in found.own} != scores:
            raise ChangedError(f"the code of {', '.join(scores)} changed since this run was planned")
        return found

    def check(self) -> None:
        """Compare code, data and weights with those that the runs were planned with.

        Before training, and again before a record is written: a module may have been imported since.

        Raises:
            ChangedError: they differ.
        """
        fingerprint.check(self.job.model, self.job.code)
        if self.dataset.content_sha256() != self.job.protocol["dataset"]["sha256"]:
            raise ChangedError(f"data set {self.job.data!r} changed since this run was planned")
        self.evaluator("val" if self.job.holdout else "test")

    @property
    def energy_j(self) -> float | None:
        """Joules that the GPU used since the stack began, for whomever; ``None`` where it does not tell."""
        now = environment.energy_j(self.context.device)
        return None if now is None or self.meter is None else self.energy_before + now - self.meter

    # ------------------------------------------------------------ training

    def train(self, stop: Stop) -> None:
        """Train to the next evaluation and score it, or as far as ``stop`` allows."""
        n = self.n_evaluated
        with self.turn():
            while not self.done and self.n_evaluated == n and not stop():
                self.advance()

    @contextmanager
    def spending(self, on: str, lane: Lane | None = None) -> Iterator[None]:
        """Count the compute of this block as that of one lane; without one, in equal parts as that of all."""
        before = environment.compute_s(self.context.device)
        yield
        spent = environment.compute_s(self.context.device) - before
        for one in [lane] if lane else self.lanes:
            one.compute[on] += spent if lane else spent / len(self.lanes)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Train within this block: whose turn it was before does not matter, nor whose is next.

        Global random streams begin anew, and what the model changes for the whole process is put back.
        """
        settings.seed()
        try:
            yield
        finally:
            self.changed |= dict.fromkeys(environment.put_back())

    def report_changes(self) -> None:
        """Say what the model changed in training for the whole process."""
        if self.changed:
            what = "; ".join(self.changed)
            print(f"{self.job.model} changed, in training, the whole process: {what}", file=sys.stderr)

    def advance(self) -> None:
        """Train a slice of iterations, and do what is due then."""
        step, every = self.trainer.step, self.job.eval_every
        n = min(self.slice, every - step % every, self.job.steps - step)
        start = time.perf_counter()
        with self.spending("train"):
            logged = self.trainer.advance(n)
        took = time.perf_counter() - start
        self.train_s += took
        self.slice = max(1, min(SLICE, int(n / took)))
        self.notice_divergence(step, logged)
        if self.trainer.step % every == 0 or self.trainer.step == self.job.steps:
            self.evaluate()
        now = time.monotonic()
        if now - self.progress_at > 1:
            self.write_progress("scoring" if self.done else "training")
        if now - self.saved_at > self.context.checkpoint_every:
            self.checkpoint()

    def notice_divergence(self, step: int, logged: Mapping[str, np.ndarray]) -> None:
        """Mark the lanes whose losses are no longer numbers, or are absurd ones."""
        for k, lane in enumerate(self.lanes):
            lane.losses = {
                name: float(block[:, k].mean())
                for name, block in logged.items()
                if name.endswith("_loss") and np.isfinite(block[:, k]).all()
            }
            values = np.abs([block[:, k] for block in logged.values()])
            bad = ~(values < EXPLODED).all(axis=0)  # NaN is not less than anything
            if bad.any() and lane.diverged_at is None:
                lane.diverged_at = step + int(bad.argmax()) + 1
                finite = np.isfinite(values[:, bad.argmax()]).all()
                what = f"exceeds {EXPLODED:g}" if finite else "is not finite"
                lane.reason = f"a loss {what} at step {lane.diverged_at}"

    def evaluate(self) -> None:
        """Score every lane at this step: on validation where there is one, else on test."""
        self.write_progress("scoring")
        self.n_evaluated += 1
        start = time.perf_counter()
        evaluator = self.evaluator("val" if self.job.holdout else "test")
        for k, lane in enumerate(self.lanes):
            if lane.diverged_at is None:
                with self.spending("eval", lane):
                    self.evaluate_lane(k, lane, evaluator)
        self.eval_s += time.perf_counter() - start

    def weights_of(self, k: int) -> tuple[str, ...]:
        """Whose weights of one lane are scored: ``trained``, and ``ema`` where the generator's are averaged.

        First those that the protocol's tables show.
        """
        both = ("ema", "trained") if self.trainer.averages(k) else ("trained",)
        return both if self.job.protocol["weights"] == "ema" else both[::-1]

    def nets(self, k: int, whose: str) -> Nets:
        """One lane's networks with trained or averaged weights."""
        return self.trainer.nets(k, averaged=whose == "ema")

    def evaluate_lane(self, k: int, lane: Lane, evaluator: Evaluator) -> None:
        """Score one lane, and keep its weights where they are the best so far."""
        step, (shown, *others) = self.trainer.step, self.weights_of(k)
        try:
            lane.last = {
                whose: self.evaluated(evaluator, self.nets(k, whose), lane) for whose in (shown, *others)
            }
        except NonFiniteSamplesError as error:
            lane.diverged_at, lane.reason = step, f"{error} at step {step}"
            return
        metrics = lane.last[shown].metrics
        if self.dataset.points:
            film.add(lane.folder, self.dataset.name, step, lane.last[shown].images)
        else:
            picture = lane.folder / f"samples-{step:06}.png"
            pictures.sample_grid(lane.gan, self.nets(k, shown), evaluator, picture)
        if self.job.protocol["select"] == "best" and (
            lane.best is None or _selecting(metrics) < _selecting(lane.best["val"])
        ):
            lane.best = {"step": step, "val": metrics}
            lane.best_weights = copied(self.trainer.weights(k, averaged=shown == "ema"))
        scored = {
            whose: {"metrics": its.metrics, "d_accuracy": its.d_accuracy} for whose, its in lane.last.items()
        }
        lane.evals.append(
            {
                "step": step,
                "scored_on": evaluator.split,
                **scored.pop(shown),
                **scored,
                "train_s": round(self.train_s, 3),
                "compute_s": round(lane.compute["train"], 3),
            }
        )

    def evaluated(self, evaluator: Evaluator, nets: Nets, lane: Lane) -> Evaluation:
        """What the evaluator says of networks of this lane."""
        return evaluator.evaluate(lane.gan, nets, lane.job.seed, conditional="label" in self.card.needs)

    # ------------------------------------------------------------ saving

    def write_progress(self, phase: str) -> None:
        """Write each lane's ``progress.json``: all that a command anywhere needs to show the run."""
        self.progress_at = time.monotonic()
        for lane in self.lanes:
            latest = lane.evals[-SHOWN_EVALS:]
            shown = {
                "step": self.trainer.step,
                "steps": self.job.steps,
                "phase": phase,
                "worker": f"{platform.node()}-{os.getpid()}",
                "losses": lane.losses,
                "evals": [{key: entry[key] for key in ("step", "metrics")} for entry in latest],
            }
            files.write_json(lane.folder / "progress.json", shown, durable=False)

    def checkpoint(self) -> None:
        """Write each lane's checkpoint, unless that of this step is written."""
        if self.saved_step == self.trainer.step:
            return
        for k, lane in enumerate(self.lanes):
            notes = {
                "run": [lane.job.run_id, lane.job.seed],
                "evals": lane.evals,
                "best": lane.best,
                "diverged_at": lane.diverged_at,
                "reason": lane.reason,
                "train_s": self.train_s,
                "eval_s": self.eval_s,
                "energy_j": self.energy_j,
                "compute": lane.compute,
            }
            more = {"best_weights": lane.best_weights, "notes": json.dumps(notes)}
            checkpoints.write(lane.folder, self.trainer.state_dict(k) | more)
        self.saved_at, self.saved_step = time.monotonic(), self.trainer.step

    def resume(self, states: Sequence[State] | None) -> None:
        """Go on from these checkpoints, one per lane, of one step; without any, start anew.

        A stack that starts anew saves that: whenever it is killed, there is a step that all lanes have.
        """
        if states is not None:
            self._restore(states)
        self.checkpoint()
        self.write_progress("training")

    def _restore(self, states: Sequence[State]) -> None:
        try:
            self.trainer.load_state_dict(states)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # they do not fit: this attempt fails, the next one starts anew
            for path in (lane.folder / name for lane in self.lanes for name in checkpoints.CHECKPOINTS):
                if path.exists():
                    files.set_aside(path)
            raise
        self.saved_step = self.trainer.step
        for lane, state in zip(self.lanes, states, strict=True):
            notes = json.loads(state["notes"])
            self.train_s, self.eval_s = notes["train_s"], notes["eval_s"]
            self.energy_before = notes["energy_j"] or 0.0
            lane.evals, lane.best, lane.best_weights = notes["evals"], notes["best"], state["best_weights"]
            lane.diverged_at, lane.reason = notes["diverged_at"], notes["reason"]
            lane.compute = notes["compute"]


def begin(jobs: Sequence[Job], context: RunContext) -> Stack:
    """The least advanced of these jobs as one stack, at the step that all of them have reached.

    Raises:
        ChangedError: code, data or weights are not those that the jobs were planned with.
        UnreadableError: a checkpoint cannot be read.
    """
    return next(_begun(jobs, context))


def begin_all(jobs: Sequence[Job], context: RunContext) -> list[Stack]:
    """These jobs as stacks, one per step that some of them have reached; raises what :func:`begin` does."""
    return list(_begun(jobs, context))


def _begun(jobs: Sequence[Job], context: RunContext) -> Iterator[Stack]:
    protocol = jobs[0].protocol
    environment.set_up(context.device, protocol["precision"], protocol.get("threads", 1))
    for members, states in checkpoints.group_by_checkpoint(jobs, context.out, torch.device(context.device)):
        stack = Stack(members, context)
        stack.check()
        stack.resume(states)
        yield stack


def _selecting(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """The score by which the best step is chosen: the first FID, of points reverse KL."""
    return next(its[name] for name in (FID.name, REVERSE_KL.name) for its in metrics.values() if name in its)
