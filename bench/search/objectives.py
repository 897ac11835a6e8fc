"""What a search may optimise: scores on the validation split, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UsageError

if TYPE_CHECKING:
    from baselines.gan import Card

Direction = Literal["minimize", "maximize"]

DIRECTIONS: Mapping[str, Direction] = {
    "fid": "minimize",
    "kid_mean": "minimize",
    "isc_mean": "maximize",
    "precision": "maximize",
    "recall": "maximize",
    "modes": "maximize",
    "mode_kl": "minimize",
    "cond_accuracy": "maximize",
    "class_fid": "minimize",
    "psnr": "maximize",
    "ssim": "maximize",
    "d_accuracy_gap": "minimize",
    "train_s": "minimize",
}
"""Scores of the first extractor that has them; ``d_accuracy_gap``: distance of the held-out balanced D
accuracy from one half; ``train_s``: seconds of training."""


NEEDS: Mapping[str, tuple[str, str]] = {
    "psnr": ("task", "super-resolution"),
    "ssim": ("task", "super-resolution"),
    "cond_accuracy": ("needs", "label"),
    "class_fid": ("needs", "label"),
}
"""Objectives that not every model has: a field of its card, and what that is or holds."""


def refuse(model: str, card: Card, objectives: Sequence[str]) -> None:
    """Refuse objectives that a model will not have.

    Raises:
        UsageError: naming the first.
    """
    for name in objectives:
        if name not in NEEDS:
            continue
        field, what = NEEDS[name]
        if what not in getattr(card, field):
            raise UsageError(f"--objective: {model} has no {name!r}, which is of models with {field} {what}")


def mean_scores(entries: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> tuple[float, ...]:
    """Each objective's mean over seeds, one evaluation (an entry of a record's ``evals``) per seed."""
    return tuple(math.fsum(score(entry, name) for entry in entries) / len(entries) for name in objectives)


def score(entry: Mapping[str, Any], name: str) -> float:
    """One objective in one evaluation.

    Raises:
        UsageError: this run has no such score.
    """
    if name == "d_accuracy_gap":
        return abs(float(entry["d_accuracy"]["balanced"]) - 0.5)
    if name == "train_s":
        return float(entry["train_s"])
    for scores in entry["metrics"].values():
        if name in scores:
            return float(scores[name])
    scored = {"d_accuracy_gap", "train_s"}.union(*entry["metrics"].values())
    known = ", ".join(key for key in DIRECTIONS if key in scored)
    raise UsageError(f"--objective: these runs have no {name!r}; they have {known}")


def test_score(record: Mapping[str, Any], name: str) -> float:
    """One objective in the final scores of a finished run."""
    d_accuracy = record["d_accuracy"]["heldout"]
    entry = {"metrics": record["metrics"], "d_accuracy": d_accuracy, "train_s": record["cost"]["train_s"]}
    return score(entry, name)
