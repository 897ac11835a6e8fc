"""Comparisons of a group's configurations: which differ, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.scoring.scores import Score
from reports import stats
from reports.groups import Group

LEVEL = 0.05
MOST_PAIRS = 500
"""Up to so many pairs all are compared: those of 32 configurations."""


def baseline_id(group: Group, baseline: str) -> str | None:
    """The configuration that others are compared with: the one with that label, or the best of that model."""
    match = group.summary[group.summary["label"] == baseline]
    if match.empty:
        match = group.summary[group.summary["model"] == baseline]
    return None if match.empty else str(match["id"].iloc[0])


def comparisons(group: Group, baseline: str = "vanilla") -> pd.DataFrame:
    """Pairs of configurations by the first score of each extractor (FID, or PSNR).

    One row per pair: ``family`` ("baseline" or "all pairs", each Holm-corrected on its own), the
    ``score``, ``a`` and ``b`` (labels), the means of their runs that have it, ``p``, ``p_holm``,
    ``improvement`` (probability that a run of a beats one of b) with its interval, and ``seeds_needed`` per
    model to separate them. In tests and probabilities a failed run is worse than any score.
    """
    reference = baseline_id(group, baseline)
    labels = dict(zip(group.summary["id"], group.summary["label"], strict=True))
    rows: list[dict[str, Any]] = []
    for extractor in group.extractors:
        for score in group.scores(extractor)[:1]:
            name = score.column(extractor)
            values = {run_id: group.outcomes(run_id, name, score) for run_id in labels}
            ids = [run_id for run_id in labels if np.isfinite(values[run_id]).any()]
            families = {
                "baseline": [(a, reference) for a in ids if a != reference] if reference in ids else []
            }
            pairs = [(a, b) for k, a in enumerate(ids) for b in ids[k + 1 :]]
            families["all pairs"] = pairs if len(pairs) <= MOST_PAIRS else []
            for family, members in families.items():
                p = [stats.permutation_p(values[a], values[b]) for a, b in members]
                for (a, b), raw, adjusted in zip(members, p, stats.holm(p), strict=True):
                    rows.append(
                        {
                            "family": family,
                            "extractor": extractor,
                            "score": score.label,
                            "a": labels[a],
                            "b": labels[b],
                        }
                        | _pair(values[a], values[b], score, len(members))
                        | {"p": raw, "p_holm": adjusted}
                    )
    return pd.DataFrame(rows, columns=COMPARED)


COMPARED = [
    "family",
    "extractor",
    "score",
    "a",
    "b",
    "mean_a",
    "mean_b",
    "p",
    "p_holm",
    "improvement",
    "improvement_low",
    "improvement_high",
    "seeds_needed",
]


def _pair(a: NDArray[np.float64], b: NDArray[np.float64], score: Score, k: int) -> dict[str, float]:
    better = score.better or "higher"
    interval = stats.improvement_ci(a, b, better=better)
    return {
        "mean_a": float(a[np.isfinite(a)].mean()) * score.factor,
        "mean_b": float(b[np.isfinite(b)].mean()) * score.factor,
        "improvement": stats.improvement(a, b, better=better),
        "improvement_low": interval.low,
        "improvement_high": interval.high,
        "seeds_needed": stats.seeds_needed(a, b, level=LEVEL, k=k),
    }
