"""Comparisons of a group's configurations: which differ, and how sure that is.

All tests of one score are one family: all pairs of configurations that have two runs or more. Marks, notes,
verdict and ``comparisons.csv`` read the same p-values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.scoring.scores import Score
from reports import stats
from reports.groups import Group

LEVEL = 0.05
MOST_PAIRS = 500
"""Up to so many pairs (32 configurations) all are tested. Of more, those with the best or the baseline."""


@dataclass(frozen=True)
class Tests:
    """The tests of a group's configurations by one score."""

    score: Score
    outcomes: Mapping[str, NDArray[np.float64]]
    """Of the configurations (id) with a score: one number per run, a failed one being infinitely bad."""
    pairs: int
    """The number of pairs that p is corrected for."""
    p: Mapping[tuple[str, str], float]
    """Of each pair that was tested, in the summary's order."""
    p_corrected: Mapping[tuple[str, str], float]
    """By Holm; where not all pairs are tested by Bonferroni, which needs no other p than its own."""

    @property
    def tested(self) -> list[str]:
        """The configurations with two runs or more; one seed is in no test."""
        return [run_id for run_id, values in self.outcomes.items() if values.size > 1]

    @property
    def smallest(self) -> float:
        """The smallest corrected p that so few seeds can give, whatever the scores; NaN without a pair."""
        sizes = sorted(self.outcomes[run_id].size for run_id in self.tested)[-2:]
        return stats.smallest_p(*sizes) * self.pairs if len(sizes) == 2 else math.nan

    def corrected(self, a: str, b: str) -> float:
        """The corrected p of two configurations; NaN where they were not tested."""
        return self.p_corrected.get((a, b), self.p_corrected.get((b, a), math.nan))

    def improvement(self, a: str, b: str) -> float:
        """The probability that a run of a is better than one of b."""
        return stats.improvement(self.outcomes[a], self.outcomes[b], better=self.score.better or "higher")

    def beats(self, a: str, b: str) -> bool:
        """Whether a is told apart from b, as the better one."""
        return self.corrected(a, b) <= LEVEL and self.improvement(a, b) > 0.5


def pairwise(group: Group, name: str, score: Score, baseline: str | None = None) -> Tests:
    """Test all pairs of configurations by the score in this column; ``baseline``: an id."""
    outcomes = {}
    for run_id in group.summary["id"]:
        values = group.outcomes(run_id, name, score)
        if np.isfinite(values).any():
            outcomes[str(run_id)] = values
    found = Tests(score, outcomes, 0, {}, {})
    tested = found.tested
    number = math.comb(len(tested), 2)
    if number > MOST_PAIRS:
        pairs = _with(tested, {best(group, found, name), baseline})
    else:
        pairs = list(combinations(tested, 2))
    p = [stats.permutation_p(outcomes[a], outcomes[b]) for a, b in pairs]
    corrected = stats.holm(p) if number <= MOST_PAIRS else np.minimum(1.0, np.array(p) * number)
    return Tests(
        score,
        outcomes,
        number,
        dict(zip(pairs, p, strict=True)),
        dict(zip(pairs, map(float, corrected), strict=True)),
    )


def _with(ids: Sequence[str], centres: Collection[str | None]) -> list[tuple[str, str]]:
    """The pairs in which one of the ``centres`` is, in order. Of very many, not all pairs are made first."""
    places = [k for k, run_id in enumerate(ids) if run_id in centres]
    found = {(min(k, other), max(k, other)) for k in places for other in range(len(ids)) if other != k}
    return [(ids[a], ids[b]) for a, b in sorted(found)]


def best(group: Group, found: Tests, name: str) -> str | None:
    """The configuration with the best mean in this column, of those with several runs and no failed one."""
    rows = group.summary[group.summary["id"].isin(found.tested) & (group.summary["failures"] == 0)]
    if rows.empty:
        return None
    ordered = rows.sort_values(f"{name}.mean", ascending=found.score.better == "lower", kind="stable")
    return str(ordered["id"].iloc[0])


def baseline_id(group: Group, baseline: str) -> str | None:
    """The configuration that others are compared with: the one with that label, or the best of that model."""
    match = group.summary[group.summary["label"] == baseline]
    if match.empty:
        match = group.summary[group.summary["model"] == baseline]
    return None if match.empty else str(match["id"].iloc[0])


def comparisons(group: Group, baseline: str = "vanilla") -> pd.DataFrame:
    """Pairs of configurations by the first score of each extractor (FID, or PSNR).

    One row per pair, best configurations first; b is the baseline where it is one of the two (``baseline``:
    true). ``n_a`` and ``n_b`` are runs, the failed ones included, the means those of the runs that have a
    score; ``p_holm`` is corrected for ``pairs`` pairs. ``improvement``: the probability that a run of a beats
    one of b, with its interval. ``seeds_low`` to ``seeds_high`` per model would separate a pair that is not
    told apart (:func:`reports.stats.seeds_needed`). A configuration with one seed is in no test.
    """
    reference = baseline_id(group, baseline)
    labels = dict(zip(group.summary["id"], group.summary["label"], strict=True))
    rows: list[dict[str, Any]] = []
    for extractor in group.extractors:
        for score in group.scores(extractor)[:1]:
            found = pairwise(group, score.column(extractor), score, reference)
            for pair in _pairs(found, reference):
                a, b = reversed(pair) if pair[0] == reference else pair
                names = {
                    "extractor": extractor,
                    "score": score.label,
                    "a": labels[a],
                    "b": labels[b],
                    "baseline": b == reference,
                }
                rows.append(names | _pair(found, a, b))
    return pd.DataFrame(rows, columns=COMPARED)


def _pairs(found: Tests, reference: str | None) -> Sequence[tuple[str, str]]:
    """The tested pairs, and those with the baseline even if one of them has one seed."""
    with_baseline = _with(list(found.outcomes), {reference})
    return list(dict.fromkeys([*with_baseline, *found.p]))


COMPARED = [
    *("extractor", "score", "a", "b", "baseline", "n_a", "n_b", "mean_a", "mean_b", "p", "p_holm", "pairs"),
    *("improvement", "improvement_low", "improvement_high", "seeds_low", "seeds_high"),
]


def _pair(found: Tests, a: str, b: str) -> dict[str, float]:
    x, y = found.outcomes[a], found.outcomes[b]
    interval = stats.improvement_ci(x, y, better=found.score.better or "higher")
    needed = needed_seeds(found, a, b)
    return {
        "n_a": x.size,
        "n_b": y.size,
        "mean_a": float(x[np.isfinite(x)].mean()) * found.score.factor,
        "mean_b": float(y[np.isfinite(y)].mean()) * found.score.factor,
        "p": found.p.get((a, b), found.p.get((b, a), math.nan)),
        "p_holm": found.corrected(a, b),
        "pairs": found.pairs,
        "improvement": found.improvement(a, b),
        "improvement_low": interval.low,
        "improvement_high": interval.high,
        "seeds_low": needed.low,
        "seeds_high": needed.high,
    }


def needed_seeds(found: Tests, a: str, b: str) -> stats.Interval:
    """From how many to how many seeds per model would tell a from b; NaN where they are told apart."""
    if not found.corrected(a, b) > LEVEL:
        return stats.UNKNOWN
    return stats.seeds_needed(found.outcomes[a], found.outcomes[b], level=LEVEL, k=found.pairs)
