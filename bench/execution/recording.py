"""From a trained stack to records: the final scores, the criterion, the files of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import mean, stdev
from typing import Any

import numpy as np

from baselines.gan import Nets
from baselines.training.trainer import bind
from bench.execution import checkpoints, environment
from bench.execution.training import Lane, Stack
from bench.scoring import criterion, pictures
from bench.scoring.evaluator import Draws, Evaluation, Evaluator
from bench.scoring.references import halves
from bench.store import records
from bench.store.records import Record
from bench.store.rows import CALIBRATED


def record(stack: Stack, k: int, attempt: int) -> None:
    """Score what is still to be scored of one lane and write its files, ``run.json`` last.

    Raises:
        ChangedError: code, data or weights are not those that the run was planned with.
    """
    lane = stack.lanes[k]
    stack.check()
    evaluator = stack.evaluator("val" if stack.job.protocol["scored_on"] == "val" else "test")
    real = describe_baseline(evaluator)  # computed once for all runs, hence no part of this one's cost
    start = time.perf_counter()
    history = {key: values[: lane.diverged_at] for key, values in stack.trainer.history(k).items()}
    status = "finished" if lane.diverged_at is None else "diverged"
    result = records.blank(lane.job, status=status, reason=lane.reason, attempts=attempt)
    result["parameters"] = records.count_parameters(stack.trainer)
    result["environment"] = environment.describe(stack.context.device) | {"source": lane.job.source or None}
    result["evals"] = lane.evals
    result |= real
    result["d_accuracy"] = _judge(stack, history, lane)
    if lane.diverged_at is None:
        with stack.spending("eval", lane):
            _score(stack, k, evaluator, result)
    result["history_sha256"] = records.write_history(lane.folder / "history.csv", history, stack.job.steps)
    stack.eval_s += time.perf_counter() - start
    result["cost"] = records.describe_cost(
        stack.train_s,
        stack.eval_s,
        steps=stack.trainer.step,
        stack=len(stack.lanes),
        peak_mb=environment.peak_memory_mb(stack.context.device),
        energy_j=stack.energy_j,
        compute=lane.compute,
    )
    records.write(lane.folder, result)
    # From here on the run is finished: of the checkpoint only the weights are of use.
    checkpoints.write_weights(
        lane.folder, checkpoints.copied(stack.trainer.weights(k)), stack.trainer.averaged(k)
    )
    (lane.folder / "progress.json").unlink(missing_ok=True)


def _score(stack: Stack, k: int, evaluator: Evaluator, result: Record) -> None:
    """Add the scores of the final step, and of the best one, to a record; write the pictures."""
    lane, (shown, *others) = stack.lanes[k], stack.weights_of(k)
    nets, known = stack.nets(k, shown), lane.last
    if not known or lane.evals[-1]["scored_on"] != evaluator.split:
        known = {whose: stack.evaluated(evaluator, stack.nets(k, whose), lane) for whose in (shown, *others)}
    final = known[shown]
    result |= describe_scores(stack, evaluator, nets, lane, final)
    if final.d_accuracy is not None:
        result["d_accuracy"]["heldout"] = final.d_accuracy
    for whose in others:
        scores = describe_scores(stack, evaluator, stack.nets(k, whose), lane, known[whose])["metrics"]
        result[whose] = {"metrics": scores, "d_accuracy": known[whose].d_accuracy}
    if lane.best is not None and lane.best_weights is not None:
        at_best = bind(stack.trainer.modules, lane.best_weights)
        first = stack.evaluated(evaluator, at_best, lane)
        scores = describe_scores(stack, evaluator, at_best, lane, first)["metrics"]
        result["best"] = lane.best | {"metrics": scores}
    if not stack.dataset.points:  # of these, training keeps a film
        pictures.sample_grid(lane.gan, nets, evaluator, lane.folder / "samples.png")
        pictures.real_beside(lane.gan, nets, evaluator, lane.folder)
    if stack.context.save_samples:
        samples = evaluator.samples(lane.gan, nets, lane.job.seed, final, stack.context.save_samples)
        labels = None
        if "label" in stack.card.needs:
            labels = evaluator.labels_of_samples(lane.gan, lane.job.seed, len(samples)).cpu().numpy()
        arrays = samples.flatten(1) if stack.dataset.points else samples.permute(0, 2, 3, 1)
        pictures.write_arrays(arrays.numpy(), labels, lane.folder / "samples.npz")


def describe_scores(
    stack: Stack, evaluator: Evaluator, nets: Nets, lane: Lane, first: Evaluation
) -> dict[str, Any]:
    """The scores of a lane's networks for its record: ``metrics``, and ``draws`` where there are several.

    ``first`` is the first draw of samples. ``metrics`` is the mean over all draws.
    """
    n = stack.job.protocol["draws"]
    if not lane.gan.noise or n == 1:
        return {"metrics": evaluator.with_memorisation(first.metrics, first.features)}
    conditional = "label" in stack.card.needs
    draws = evaluator.draws(lane.gan, nets, lane.job.seed, first, n, conditional=conditional)
    return {"metrics": first.metrics | _each(mean, draws), "draws": draws}


def describe_baseline(evaluator: Evaluator) -> dict[str, Any]:
    """The scores of real images for a record: means over draws, and their deviations.

    ``floor``, ``floor_std``: training images in place of samples. ``halves``, ``halves_std``: one half of the
    split against the other.
    """
    found: dict[str, Any] = {}
    for name, draws in {"floor": evaluator.real_data_baseline(), "halves": halves(evaluator)}.items():
        found |= {name: _each(mean, draws), f"{name}_std": _each(stdev, draws)}
    return found


def _each(statistic: Callable[[list[float]], float], draws: Draws) -> dict[str, dict[str, float]]:
    return {
        extractor: {name: statistic(values) for name, values in scores.items()}
        for extractor, scores in draws.items()
    }


def _judge(stack: Stack, history: Mapping[str, np.ndarray], lane: Lane) -> dict[str, Any]:
    """The D-accuracy criterion: on the training accuracies, or for critics on those held out.

    Empty for a model without a discriminator.
    """
    if lane.gan.discriminate is None:
        return {}
    tolerance = stack.job.protocol["d_acc_tolerance"]
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
    return verdict | {"threshold": CALIBRATED}
