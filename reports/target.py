"""Time to a target: after how many steps and seconds each run's score is as good as asked, from ``evals``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import UsageError, nearest
from bench.scoring.scores import SCORES, Score
from reports.compare import baseline_id
from reports.figures.curves import evaluations
from reports.groups import Group
from reports.tables.text import Cell, Column, Row, Table

NEVER = "never"


@dataclass(frozen=True)
class Target:
    """A score to be reached: ``fid=5``. The value is as recorded, so KID is not times 1,000."""

    score: Score
    value: float


def parse(text: str) -> Target:
    """``--target``. Raises UsageError."""
    name, _, value = text.partition("=")
    known = {score.name: score for score in SCORES if score.better}
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if name not in known:
        raise UsageError(
            f"--target {text!r}: no score {name!r}; one of {', '.join(known)}{nearest(name, known)}"
        )
    if not math.isfinite(number):
        raise UsageError(f"--target {text!r}: expected a number after '=', as in fid=5")
    return Target(known[name], number)


@dataclass(frozen=True)
class Reached:
    """When the runs of a group reached a target."""

    extractor: str
    score: Score
    value: float
    """In the score's unit."""
    whose: str
    """Where the value is from, in words."""
    runs: pd.DataFrame
    """``id``, ``label``, ``seed``, ``target``, ``steps`` and ``seconds``; infinite: never."""

    @property
    def goal(self) -> str:
        """``FID ≤ 5``."""
        return f"{self.score.short} {'≤' if self.score.better == 'lower' else '≥'} {self.value:.4g}"


def reached(group: Group, baseline: str, target: Target | None = None) -> Reached | None:
    """When each run reached the target; None where runs were not scored along the way, or have no such score.

    By default the target is the median final score of the baseline's runs, or where it was not run (or half
    of its runs failed) of the model that is last without failed runs: how soon is each model as good as that
    one in the end?
    """
    for extractor in group.extractors:
        scores = group.scores(extractor)
        wanted = [score for score in scores if target is None or score == target.score][:1]
        for score in wanted:
            points = evaluations(group, extractor, score)
            if points.empty or points.groupby(["id", "seed"]).size().max() < 2:
                return None
            value, whose = (
                (target.value * score.factor, "asked for")
                if target
                else _default(group, extractor, score, baseline)
            )
            if not math.isfinite(value):
                return None
            return Reached(extractor, score, value, whose, _first(group, points, score, value))
    return None


def _default(group: Group, extractor: str, score: Score, baseline: str) -> tuple[float, str]:
    """The default target and whose it is; NaN where no model has a score and no failed run."""
    name = score.column(extractor)
    solid = group.summary[(group.summary["failures"] == 0) & group.summary[f"{name}.mean"].notna()]
    ids = [run_id for run_id in (baseline_id(group, baseline), *solid["id"].tail(1)) if run_id is not None]
    for run_id in ids:
        values = group.outcomes(run_id, name, score)
        middle = float(np.median(values)) * score.factor if values.size else math.nan
        if math.isfinite(middle):
            label = group.summary.loc[group.summary["id"] == run_id, "label"].iloc[0]
            return middle, f"the median final score of {label}"
    return math.nan, ""


def _first(group: Group, points: pd.DataFrame, score: Score, value: float) -> pd.DataFrame:
    """Per run the first evaluation that is as good as ``value``."""
    good = points[points["value"] <= value] if score.better == "lower" else points[points["value"] >= value]
    first = {(row["id"], row["seed"]): row for row in reversed(good.sort_values("step").to_dict("records"))}
    labels = dict(zip(group.summary["id"], group.summary["label"], strict=True))
    rows = []
    for run_id in (each for each in group.summary["id"] if each not in group.elsewhere):
        for seed, status in group.of(run_id)[["seed", "status"]].itertuples(index=False):
            at = first.get((run_id, seed)) if status == "finished" else None
            steps, seconds = (at["step"], at["device_s"]) if at else (math.inf, math.inf)
            rows.append((run_id, labels[run_id], seed, value, steps, seconds))
    return pd.DataFrame(rows, columns=["id", "label", "seed", "target", "steps", "seconds"])


def table(group: Group, found: Reached) -> Table:
    """One row per model: how many seeds reached the target, and after how many steps and seconds."""
    rows = []
    for _, mine in found.runs.groupby("id", sort=False):
        count = int(np.isfinite(mine["steps"]).sum())
        cells = (
            Cell(f"{count}/{len(mine)}", count / len(mine)),
            _median(mine["steps"].tolist(), "{:,.0f}"),
            _median(mine["seconds"].tolist(), "{:,.3g}"),
        )
        rows.append(Row(str(mine["label"].iloc[0]), "model", cells))
    columns = (
        Column("", "Seeds that reach it"),
        Column("", "Steps", "lower"),
        Column("", "Device seconds", "lower"),
    )
    caption = (
        f"Steps and seconds of training (processor or GPU) until the first evaluation with {found.goal} "
        f"({found.extractor}; {found.whose}): median (range) over seeds. A run that failed or did not get "
        f"there counts as never: {group.title}."
    )
    return Table(f"Time to {found.goal}: {group.title}", caption, columns, tuple(rows))


def _median(values: Sequence[float], form: str) -> Cell:
    """``200 (100 to never)``."""

    def text(value: float) -> str:
        return form.format(value) if math.isfinite(value) else NEVER

    middle, low, high = float(np.median(values)), min(values), max(values)
    between = f" ({text(low)} to {text(high)})" if low != high else ""
    return Cell(text(middle) + between, middle if math.isfinite(middle) else math.nan)
