"""Cells of the tables: numbers as text, ranked where one model is better than another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.scoring.scores import Score
from reports import stats
from reports.compare import LEVEL
from reports.groups import Group
from reports.tables.text import NOTHING, Cell


def ranked(group: Group, name: str, score: Score) -> tuple[list[Cell], tuple[float, int] | None]:
    """A column's cells with the best, the second, and those not separable from the best marked.

    Only models without failed runs are ranked. The best was picked after looking at the scores, so its tests
    are corrected for all pairs of models. Returned, too, where there are tests: the smallest corrected p that
    so few seeds can give, and the number of pairs.
    """
    cells = mean_std(group, name, score)
    means = [cell.value for cell in cells]
    scored = [k for k, mean in enumerate(means) if not math.isnan(mean)]
    order = sorted(
        (k for k in scored if not group.summary["failures"].iloc[k]),
        key=lambda k: means[k] if score.better == "lower" else -means[k],
    )
    if score.better is None or len({means[k] for k in scored}) < 2 or not order:
        return cells, None  # nothing to rank
    best = order[0]
    firsts = {means[best]: 1} | {means[k]: 2 for k in order[1:2] if means[k] != means[best]}
    ranks = {k: firsts[means[k]] for k in order if means[k] in firsts}
    rest = [k for k in scored if k != best]
    values = [group.outcomes(run_id, name, score) for run_id in group.summary["id"]]
    p = [stats.permutation_p(values[k], values[best]) for k in rest]
    family = math.comb(len(scored), 2)
    sizes = [values[k].size for k in rest if values[k].size > 1] if values[best].size > 1 else []
    reach = min((stats.smallest_p(n, values[best].size) for n in sizes), default=math.inf) * family
    tied = {k for k, adjusted in zip(rest, stats.holm(p, family), strict=True) if not adjusted <= LEVEL}
    ranked = [
        Cell(cell.text, cell.value, ranks.get(k, 0), reach <= LEVEL and k in tied and ranks.get(k) != 1)
        for k, cell in enumerate(cells)
    ]
    return ranked, (reach, family) if sizes else None


def mean_std(group: Group, name: str, score: Score, *, spread: bool = True) -> list[Cell]:
    """A column's cells, ``mean ± std`` over seeds; without ``spread`` the mean alone."""
    decimals = decimals_of(group, name, score)
    cells = []
    for mean, std in zip(group.summary[f"{name}.mean"], group.summary[f"{name}.std"], strict=True):
        if math.isnan(mean):
            cells.append(Cell(NOTHING))
            continue
        text = fixed(mean * score.factor, decimals)
        if spread and not math.isnan(std):
            text += f" ± {fixed(std * score.factor, decimals)}"
        cells.append(Cell(text, mean * score.factor))
    return cells


def fixed(number: float, decimals: int) -> str:
    """A number with so many decimals; with an exponent where it would be longer than any column."""
    return f"{number:,.{decimals}f}" if abs(number) < 1e12 else f"{number:.3g}"


def decimals_of(group: Group, name: str, score: Score) -> int:
    """Decimals of a column: two digits of its typical spread; without a spread four digits of its values."""
    if score.decimals is not None:
        return score.decimals
    stds = group.summary[f"{name}.std"].to_numpy(dtype=float) * score.factor
    stds = stds[stds > 0]
    if stds.size:
        return int(np.clip(1 - math.floor(math.log10(float(np.median(stds)))), 0, 4))
    means = np.abs(group.summary[f"{name}.mean"].to_numpy(dtype=float)) * score.factor
    largest = float(np.nanmax(means, initial=0.0))
    if largest == 0 or (means == np.round(means)).all():
        return 0
    return int(np.clip(3 - math.floor(math.log10(largest)), 0, 4))


def reference(value: float | None, decimals: int, std: float = math.nan) -> Cell:
    """The cell of a reference row, ``value ± std``: the column's decimals, or as many as two digits of the
    deviation need, or of the value where there is none."""
    if value is None:
        return Cell(NOTHING)
    size = value if math.isnan(std) else std
    own = 0 if size == round(size) else int(np.clip(1 - math.floor(math.log10(abs(size))), 0, 4))
    decimals = max(decimals, own)
    spread = "" if math.isnan(std) else f" ± {fixed(std, decimals)}"
    return Cell(fixed(value, decimals) + spread, value)


def alike(values: pd.Series) -> list[Cell]:
    """A column of numbers with as many decimals as its largest needs to show three digits."""
    known = values.abs().dropna()
    largest = float(known.max()) if len(known) else 0.0
    decimals = int(np.clip(2 - math.floor(math.log10(largest)), 0, 4)) if largest else 0
    return [Cell(NOTHING) if math.isnan(v) else Cell(fixed(v, decimals), v) for v in values]


def number(value: Any) -> Cell:
    """Four digits of a number; nothing for anything else."""
    number = float(value) if isinstance(value, int | float) else math.nan
    return Cell(NOTHING) if math.isnan(number) else Cell(f"{number:.4g}", number)


def word(value: Any) -> Cell:
    """A text; nothing for anything else."""
    return Cell(value if isinstance(value, str) else NOTHING)


def ratios(counts: pd.Series, totals: pd.Series) -> list[Cell]:
    """``3/5``: so many of so many runs."""
    return [Cell(f"{k}/{n}", k / n) for k, n in zip(counts, totals, strict=True)]


def whole(n: float) -> Cell:
    """A whole number, with its thousands marked."""
    return Cell(NOTHING) if math.isnan(n) else Cell(f"{int(n):,}", float(n))


def durations(seconds: pd.Series) -> list[Cell]:
    """Seconds as a person reads them: all in the largest unit (s, min, h) that makes each at least 1."""
    least = seconds.min()
    unit, size = next((pair for pair in (("h", 3600.0), ("min", 60.0)) if least >= pair[1]), ("s", 1.0))
    return [Cell(NOTHING) if math.isnan(s) else Cell(f"{fixed(s / size, 1)} {unit}", s) for s in seconds]


def p_value(p: float) -> Cell:
    """Two digits of a p-value."""
    return Cell(NOTHING if math.isnan(p) else f"{p:.2g}" if p >= 1e-4 else "<0.0001", p)


def improvement(pair: Any) -> Cell:
    """A probability of improvement with its interval, of a row of :func:`reports.compare.comparisons`."""
    value = float(pair["improvement"])
    if math.isnan(pair["improvement_low"]):
        return Cell(f"{value:.2f}", value)
    return Cell(f"{value:.2f} [{pair['improvement_low']:.2f}, {pair['improvement_high']:.2f}]", value)


def seeds_needed(n: float) -> Cell:
    """How many seeds per model it takes to tell two models apart."""
    if math.isnan(n):
        return Cell(NOTHING)
    return Cell("no difference" if math.isinf(n) else ">1,000" if n > 1_000 else f"{int(n)}", n)
