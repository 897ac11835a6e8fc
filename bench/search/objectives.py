"""What a search may optimise: scores on the validation split, by name (``scores.OBJECTIVES``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UsageError
from bench.scoring.scores import ACCURACY_GAP, IS, OBJECTIVES, TRAIN_S

if TYPE_CHECKING:
    from baselines.gan import Card

Direction = Literal["minimize", "maximize"]

DIRECTIONS: Mapping[str, Direction] = {
    name: "minimize" if score.better == "lower" else "maximize" for name, score in OBJECTIVES.items()
}
"""Objective -> its direction, in Optuna's words."""


def refuse(model: str, card: Card, objectives: Sequence[str]) -> None:
    """Refuse objectives that a model cannot have.

    Raises:
        UsageError: naming the first.
    """
    for name in objectives:
        need = OBJECTIVES[name].needs
        if need == "label" and "label" not in card.needs:
            why = "it needs labels, which this model is not given"
        elif need == "super-resolution" and card.task != need:
            why = "it needs super-resolution, which is not this model's task"
        else:
            continue
        raise UsageError(f"--objective: {model} has no {name!r}: {why}")


OF_POINTS = [name for name, score in OBJECTIVES.items() if score.needs in ("points", "classes or points")]
"""What points in the plane have, beside the gap of D's accuracy and the training time."""


def refuse_features(
    objectives: Sequence[str],
    extractors: Mapping[str, Mapping[str, Any]],
    *,
    points: bool = False,
    stacked: bool = False,
) -> None:
    """Refuse objectives that no extractor of a protocol gives; or, of ``points``, that these do not have.

    ``stacked``: the data have modes without an extractor, those of their channels.

    Raises:
        UsageError: naming the first.
    """
    for name in objectives:
        need = OBJECTIVES[name].needs
        if points:
            known = (*OF_POINTS, ACCURACY_GAP.name, TRAIN_S.name)
            if name not in known:
                raise UsageError(f"--objective: points in the plane have no {name!r}, but {', '.join(known)}")
        elif need == "points":
            raise UsageError(f"--objective: {name!r} needs points in the plane, such as --dataset ring")
        elif need in ("classes", "classes or points") and stacked:
            continue
        elif need in ("classes", "label", "classes or points") and "classifier" not in extractors:
            raise UsageError(f"--objective: {name!r} needs --features classifier")
        elif name == IS.name and not any(said.get("logits", True) for said in extractors.values()):
            raise UsageError(
                f"--objective: {name!r} needs class logits, which {', '.join(extractors)} has not; "
                "add --features classifier"
            )


def mean_scores(entries: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> tuple[float, ...]:
    """Each objective's mean over seeds, one evaluation (an entry of a record's ``evals``) per seed."""
    return tuple(math.fsum(score(entry, name) for entry in entries) / len(entries) for name in objectives)


def score(entry: Mapping[str, Any], name: str) -> float:
    """One objective in one evaluation.

    Raises:
        UsageError: the evaluation has no such score.
    """
    if name == ACCURACY_GAP.name:
        return abs(float(entry["d_accuracy"]["balanced"]) - 0.5)
    if name == TRAIN_S.name:
        return float(entry["train_s"])
    for scores in entry["metrics"].values():
        if name in scores:
            return float(scores[name])
    scored = {ACCURACY_GAP.name, TRAIN_S.name}.union(*entry["metrics"].values())
    known = ", ".join(key for key in OBJECTIVES if key in scored)
    raise UsageError(f"--objective: these runs have no {name!r}; they have {known}")


def test_score(record: Mapping[str, Any], name: str) -> float:
    """One objective in the final scores of a finished run."""
    d_accuracy = record["d_accuracy"]["heldout"]
    entry = {"metrics": record["metrics"], "d_accuracy": d_accuracy, "train_s": record["cost"]["train_s"]}
    return score(entry, name)
