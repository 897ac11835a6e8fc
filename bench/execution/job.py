"""Run one job, or a stack of jobs that differ by seed and a few numbers: train -> sample -> score -> record.

The only place where models, data, scores and files meet.
"""

from __future__ import annotations

import errno
import io
import json
import math
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.serialization import default_restore_location

from baselines import registry
from baselines.gan import Gan, Nets
from baselines.training.step import Tensors
from baselines.training.trainer import Trainer, bind
from bench import fingerprint
from bench.data import datasets
from bench.errors import ChangedError, one_line, printable
from bench.execution import environment
from bench.plan import Job, Place
from bench.scoring import criterion, pictures
from bench.scoring.evaluator import Evaluation, Evaluator, NonFiniteSamplesError, to_device
from bench.scoring.extractors import load_extractor
from bench.store import files, records

SLICE = 50
"""At most so many iterations between looks at the losses, at the clock and at a request to stop; fewer
where they take longer than a second."""

EXPLODED = 1e8
"""A loss beyond this is as good as infinite: the run has diverged."""

CHECKPOINTS = ("checkpoint.pt", "checkpoint-before.pt")
"""The newest, and the one before."""


class StoppedError(Exception):
    """A request to stop was heeded: a checkpoint was written, and the same job goes on from it."""


def run(
    jobs: Sequence[Job], place: Place, *, attempt: int = 1, stop: Callable[[], bool] = lambda: False
) -> None:
    """Train, score and record a stack of jobs: a ``run.json`` for each.

    Raises:
        StoppedError: ``stop`` said so.
        ChangedError: code, data or weights are not those that the jobs were planned with.
    """
    for together in abreast(jobs, place):
        environment.set_up(place.device, jobs[0].protocol["precision"])
        stack = Stack(together, place)
        stack.check()
        stack.resume()
        while not stack.done:
            stack.advance()
            if stop():
                stack.checkpoint()
                raise StoppedError
        stack.checkpoint()
        for k in range(len(together)):
            stack.finish(k, attempt)
        if changed := environment.put_back():
            what = "; ".join(changed)
            print(f"{stack.job.model} changed, in training, the whole process: {what}", file=sys.stderr)


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
    last: Evaluation | None = None

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The latest scores, by extractor."""
        return self.evals[-1]["metrics"] if self.evals else {}


class Stack:
    """Runs that train together: they differ in seed, and in what ``training.lanes`` allows."""

    def __init__(self, jobs: Sequence[Job], place: Place) -> None:
        job = jobs[0]
        self.job, self.place, self.device = job, place, torch.device(place.device)
        self.dataset = _dataset(job.data, place.data_root, place.offline, job.holdout)
        factory = registry.get(job.model)
        self.card = registry.card(factory)
        gans = [factory(self.dataset.spec, **job.hyperparameters) for job in jobs]
        environment.put_back()  # what making the model changed: the plan said so
        self.lanes = [Lane(job, job.folder(place.out), gan) for job, gan in zip(jobs, gans, strict=True)]
        data = to_device(self.dataset.train, self.device)
        self.trainer = Trainer(
            gans[0],
            *data,
            [job.seed for job in jobs],
            lanes=gans,
            bf16=job.protocol["precision"] == "bf16",
        )
        self.train_s = self.eval_s = self.energy_before = 0.0
        self.meter = environment.energy_j(place.device)
        self.slice = 1
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
        found = _evaluator(self.dataset, split, tuple(planned), self.place)
        for name, extractor in found.extractors.items():
            if extractor.sha256 != planned[name]["sha256"]:
                raise ChangedError(f"the weights of extractor {name} changed since this run was planned")
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
        now = environment.energy_j(self.place.device)
        return None if now is None or self.meter is None else self.energy_before + now - self.meter

    # ------------------------------------------------------------ training

    def advance(self) -> None:
        """Train to the next look, and do what is due there."""
        step, every = self.trainer.step, self.job.eval_every
        n = min(self.slice, every - step % every, self.job.steps - step)
        start = time.perf_counter()
        logged = self.trainer.advance(n)
        took = time.perf_counter() - start
        self.train_s += took
        self.slice = max(1, min(SLICE, int(n / took)))
        self.notice_divergence(step, logged)
        if self.trainer.step % every == 0 or self.trainer.step == self.job.steps:
            self.evaluate()
        now = time.monotonic()
        if now - self.told_at > 1:
            self.tell("scoring" if self.done else "training")
        if now - self.saved_at > self.place.checkpoint_every:
            self.checkpoint()

    def notice_divergence(self, step: int, logged: Mapping[str, np.ndarray]) -> None:
        """Mark the lanes whose losses are no longer numbers, or are absurd ones."""
        for k, lane in enumerate(self.lanes):
            values = np.abs([block[:, k] for block in logged.values()])
            bad = ~(values < EXPLODED).all(axis=0)  # NaN is not less than anything
            if bad.any() and lane.diverged_at is None:
                lane.diverged_at = step + int(bad.argmax()) + 1
                finite = np.isfinite(values[:, bad.argmax()]).all()
                what = f"exceeds {EXPLODED:g}" if finite else "is not finite"
                lane.reason = f"a loss {what} at step {lane.diverged_at}"

    def evaluate(self) -> None:
        """Score every lane at this step: on validation where there is one, else on test."""
        self.tell("scoring")
        start = time.perf_counter()
        evaluator = self.evaluator("val" if self.job.holdout else "test")
        for k, lane in enumerate(self.lanes):
            if lane.diverged_at is None:
                self.evaluate_lane(k, lane, evaluator)
        self.eval_s += time.perf_counter() - start

    def evaluate_lane(self, k: int, lane: Lane, evaluator: Evaluator) -> None:
        """Score one lane, and keep its weights where they are the best so far."""
        step, nets = self.trainer.step, self.trainer.nets(k)
        try:
            lane.last = self.evaluated(evaluator, nets, lane)
        except NonFiniteSamplesError as error:
            lane.diverged_at, lane.reason = step, f"{error} at step {step}"
            return
        pictures.sample_grid(lane.gan, nets, evaluator, lane.folder / f"samples-{step:06}.png")
        fid = _first_fid(lane.last.metrics)
        if self.job.protocol["select"] == "best" and (
            lane.best is None or fid < _first_fid(lane.best["val"])
        ):
            lane.best = {"step": step, "val": lane.last.metrics}
            lane.best_weights = _copied(self.trainer.weights(k))
        lane.evals.append(
            {
                "step": step,
                "scored_on": evaluator.split,
                "metrics": lane.last.metrics,
                "d_accuracy": lane.last.d_accuracy,
                "train_s": round(self.train_s, 3),
            }
        )

    def evaluated(self, evaluator: Evaluator, nets: Nets, lane: Lane) -> Evaluation:
        """What the evaluator says of networks of this lane."""
        return evaluator.evaluate(lane.gan, nets, lane.job.seed, conditional="label" in self.card.needs)

    # ------------------------------------------------------------ saving

    def tell(self, phase: str) -> None:
        """Write each lane's ``progress.json``: all that a runner anywhere needs to show it."""
        self.told_at = time.monotonic()
        for lane in self.lanes:
            told = {"step": self.trainer.step, "steps": self.job.steps, "phase": phase}
            told["metrics"] = lane.metrics
            files.write_json(lane.folder / "progress.json", told, durable=False)

    def checkpoint(self) -> None:
        """Write each lane's ``checkpoint.pt``: all that it needs to go on exactly.

        The one before is kept: while some lanes have the new one already, all still have that.
        """
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
            }
            more = {"best_weights": lane.best_weights, "notes": json.dumps(notes)}
            newest, before = (lane.folder / name for name in CHECKPOINTS)
            if newest.exists():
                newest.replace(before)
            _save(newest, self.trainer.state_dict(k) | more)
        self.saved_at, self.saved_step = time.monotonic(), self.trainer.step

    def resume(self) -> None:
        """Go on from the last step of which all lanes have a checkpoint; without one, start anew.

        A stack that starts anew saves that: whenever it is killed, there is a step that all lanes have.
        """
        self._restore()
        self.checkpoint()
        self.tell("training")

    def _restore(self) -> None:
        found = [_checkpoints(lane.job, lane.folder, self.device) for lane in self.lanes]
        common = set.intersection(*map(set, found))
        if not common:
            return
        step = max(common)
        states = [states[step] for states in found]
        try:
            self.trainer.load_state_dict(states)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # they do not fit: this attempt fails, the next one starts anew
            for path in (lane.folder / name for lane in self.lanes for name in CHECKPOINTS):
                if path.exists():
                    files.set_aside(path)
            raise
        self.saved_step = step
        for lane, state, its in zip(self.lanes, states, found, strict=True):
            if max(its) > step:  # ahead of the others: to keep it, the one before would have to go
                newest, before = (lane.folder / name for name in CHECKPOINTS)
                before.replace(newest)
            notes = json.loads(state["notes"])
            self.train_s, self.eval_s = notes["train_s"], notes["eval_s"]
            self.energy_before = notes["energy_j"] or 0.0
            lane.evals, lane.best, lane.best_weights = notes["evals"], notes["best"], state["best_weights"]
            lane.diverged_at, lane.reason = notes["diverged_at"], notes["reason"]

    # ------------------------------------------------------------ recording

    def finish(self, k: int, attempt: int) -> None:
        """Score what is still to be scored of one lane and write its files, ``run.json`` last."""
        lane, start = self.lanes[k], time.perf_counter()
        self.check()
        evaluator = self.evaluator("val" if self.job.protocol["scored_on"] == "val" else "test")
        history = {key: values[: lane.diverged_at] for key, values in self.trainer.history(k).items()}
        status = "finished" if lane.diverged_at is None else "diverged"
        result = records.blank(lane.job, status=status, reason=lane.reason, attempts=attempt)
        result["parameters"] = records.count_parameters(self.trainer)
        result["environment"] = environment.describe(self.place.device) | {"source": lane.job.source or None}
        result["evals"] = lane.evals
        result["floor"] = evaluator.floor()
        result["d_accuracy"] = self.judge(history, lane)
        if lane.diverged_at is None:
            self.score(k, evaluator, result)
        result["history_sha256"] = records.write_history(lane.folder / "history.csv", history, self.job.steps)
        self.eval_s += time.perf_counter() - start
        result["cost"] = records.describe_cost(
            self.train_s,
            self.eval_s,
            steps=self.trainer.step,
            stack=len(self.lanes),
            peak_mb=environment.peak_memory_mb(self.place.device),
            energy_j=self.energy_j,
        )
        records.write(lane.folder, result)
        # From here on the run is finished: of the checkpoint only the weights are of use.
        newest, before = (lane.folder / name for name in CHECKPOINTS)
        _save(newest, {"weights": _copied(self.trainer.weights(k))})
        before.unlink(missing_ok=True)
        (lane.folder / "progress.json").unlink(missing_ok=True)

    def score(self, k: int, evaluator: Evaluator, result: records.Record) -> None:
        """Add the scores of the final step, and of the best one, to a record; write the pictures."""
        lane, nets = self.lanes[k], self.trainer.nets(k)
        final = lane.last
        if final is None or lane.evals[-1]["scored_on"] != evaluator.split:
            final = self.evaluated(evaluator, nets, lane)
        result["metrics"] = final.metrics
        if final.d_accuracy is not None:
            result["d_accuracy"]["heldout"] = final.d_accuracy
        if lane.best is not None and lane.best_weights is not None:
            at_best = bind(self.trainer.modules, lane.best_weights)
            scores = self.evaluated(evaluator, at_best, lane).metrics
            result["best"] = lane.best | {"metrics": scores}
        pictures.sample_grid(lane.gan, nets, evaluator, lane.folder / "samples.png")
        if lane.gan.noise and self.place.draws > 1:
            result["draws"] = evaluator.draws(
                lane.gan, nets, lane.job.seed, final, self.place.draws, conditional="label" in self.card.needs
            )
        if self.place.save_samples:
            samples = evaluator.samples(lane.gan, nets, lane.job.seed, final, self.place.save_samples)
            array = samples.permute(0, 2, 3, 1).numpy()
            files.write_atomic(lane.folder / "samples.npz", lambda path: _savez(path, array))

    def judge(self, history: Mapping[str, np.ndarray], lane: Lane) -> dict[str, Any]:
        """The D-accuracy criterion: on the training accuracies, or for critics on those held out.

        Empty for a model without a discriminator.
        """
        if lane.gan.discriminate is None:
            return {}
        tolerance = self.job.protocol["d_acc_tolerance"]
        if lane.gan.threshold is not None:
            return criterion.judge(history, tolerance) | {"threshold": lane.gan.threshold}
        steps = [entry["step"] for entry in lane.evals]
        held_out = {
            f"d_acc_{kind}": np.array([entry["d_accuracy"][kind] for entry in lane.evals])
            for kind in ("real", "fake")
        }
        verdict = criterion.judge(held_out, tolerance) if steps else {}
        verdict.pop("train", None)  # it is of the same held-out images
        if verdict.get("near_half_since") is not None:
            verdict["near_half_since"] = steps[verdict["near_half_since"] - 1]
        return verdict | {"threshold": "calibrated"}


def abreast(jobs: Sequence[Job], place: Place) -> list[list[Job]]:
    """The jobs, or where no checkpoints of one step exist of all, those together that go on from the same."""
    steps = [set(_checkpoints(job, job.folder(place.out), torch.device(place.device))) for job in jobs]
    if set.intersection(*steps):
        return [list(jobs)]
    groups: dict[int, list[Job]] = {}
    for job, found in zip(jobs, steps, strict=True):
        groups.setdefault(max(found, default=0), []).append(job)
    return list(groups.values())


def _first_fid(metrics: Mapping[str, Mapping[str, float]]) -> float:
    return next(iter(metrics.values()))["fid"]


def _copied(weights: Tensors) -> Tensors:
    return {net: {name: value.clone() for name, value in held.items()} for net, held in weights.items()}


def _save(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()  # not the file: what torch.save raises on a full disk does not say so
    torch.save(state, buffer)
    files.write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def _checkpoints(job: Job, folder: Path, device: torch.device) -> dict[int, dict[str, Any]]:
    """Step -> state, of each checkpoint of this run that is intact. Damaged ones are set aside.

    Raises:
        UnreadableError: one cannot be read, or not go on here.
    """
    found = {}
    for path in (folder / name for name in CHECKPOINTS):
        try:
            state = load_checkpoint(path, device)
            if "notes" not in state:  # of a run that was finished: weights alone
                continue
            if json.loads(state["notes"])["run"] != [job.run_id, job.seed]:
                raise ValueError("it is another run's")
            if state["stream"].shape != torch.Generator(device).get_state().shape:
                why = f"holds random numbers of another kind of device than {device.type}: go on there"
                raise files.UnreadableError(errno.ENODEV, f"{why}, or move it away to begin anew", str(path))
            found[int(state["step"])] = state
        except FileNotFoundError:
            continue
        except (OSError, MemoryError, torch.OutOfMemoryError):  # the file may be whole
            raise
        except Exception as error:  # whatever a damaged file makes its reader raise
            why = printable(f"{path} is damaged ({one_line(error)})")
            print(f"{why}; kept as {files.set_aside(path).name}", file=sys.stderr)
    return found


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """What :func:`_save` wrote, without executing any code that may be in it.

    What was in a GPU's memory comes to ``device``, the rest stays on the host.
    """

    def restored(storage: Any, where: str) -> Any:
        to = "cpu" if where == "cpu" else str(device)
        return default_restore_location(storage, to)  # type: ignore[no-untyped-call]

    with files.reading(path, most=math.inf) as file:
        with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums in its files
            if (name := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {name} does not match")
        file.seek(0)
        state: dict[str, Any] = torch.load(file, map_location=restored, weights_only=True)
    return state


def _savez(path: Path, samples: np.ndarray) -> None:
    with path.open("wb") as file:  # given a name, NumPy would add .npz to it
        np.savez_compressed(file, samples)


@lru_cache(maxsize=2)
def _dataset(name: str, data_root: Path, offline: bool, holdout: bool) -> datasets.Dataset:
    return datasets.load(name, data_root=data_root, offline=offline, holdout=holdout)


_evaluators: dict[tuple[str, str, tuple[str, ...], Place], Evaluator] = {}


def _evaluator(dataset: datasets.Dataset, split: str, names: tuple[str, ...], place: Place) -> Evaluator:
    key = (dataset.sha256, split, names, place)
    if key not in _evaluators:
        extractors = {
            name: load_extractor(name, dataset, **place.for_extractors(place.device)) for name in names
        }
        _evaluators[key] = Evaluator(dataset, split, extractors, place.cache, torch.device(place.device))
    return _evaluators[key]
