"""Cells of the tables: numbers as text, ranked where one model is better than another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.scoring.scores import Score
from reports import compare
from reports.compare import Tests
from reports.groups import Group
from reports.tables.text import NOTHING, Cell


def ranked(group: Group, name: str, score: Score) -> tuple[list[Cell], Tests | None]:
    """A column's cells, with marks at its best, its second and those not told apart from it; and the tests.

    Nothing is marked where the best is told apart from no other model. Models with one seed or with failed
    runs are not ranked; those with one seed are in no test.
    """
    cells = mean_std(group, name, score)
    means = dict(zip(group.summary["id"], (cell.value for cell in cells), strict=True))
    if score.better is None or len({mean for mean in means.values() if not math.isnan(mean)}) < 2:
        return cells, None  # nothing to rank
    tests = compare.pairwise(group, name, score)
    first = compare.best(group, tests, name)
    told = {run_id for run_id in tests.tested if first and tests.beats(first, run_id)}
    if first is None or not told:
        return cells, tests if tests.pairs else None
    solid = set(group.summary["id"][group.summary["failures"] == 0])
    rest = [means[run_id] for run_id in tests.tested if run_id in solid and means[run_id] != means[first]]
    second = (min if score.better == "lower" else max)(rest, default=math.nan)
    places = {means[first]: 1, second: 2}
    marked = []
    for run_id, cell in zip(group.summary["id"], cells, strict=True):
        place = places.get(cell.value, 0) if run_id in solid and run_id in tests.tested else 0
        tied = run_id in tests.tested and run_id not in told and place != 1
        marked.append(Cell(cell.text, cell.value, place, tied))
    return marked, tests


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
    """A number with so many decimals; with an exponent from a million on."""
    return f"{number:,.{decimals}f}" if abs(number) < 1e6 else f"{number:.3g}"


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


def seeds_needed(low: float, high: float) -> Cell:
    """From how many to how many seeds per model would tell two models apart."""
    if math.isnan(low):
        return Cell(NOTHING)
    return Cell(seed_range(low, high), low)


def seed_range(low: float, high: float) -> str:
    """``9 to 64``; ``9 or more`` where there is no upper end; ``9`` where both are the same."""
    if low > 1_000:
        return "more than 1,000"
    if high > 1_000:
        return f"{low:.0f} or more"
    return f"{low:.0f} to {high:.0f}" if high > low else f"{low:.0f}"
