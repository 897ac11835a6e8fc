"""Models across data sets: mean ranks, scores relative to training images, probability of improvement, wins.

By the first score (FID, or PSNR) of each data set's largest group. Configurations with the same label are
taken for the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.scoring.scores import Better, Score
from reports import aggregate, compare
from reports.groups import TRAINING, Group
from reports.stats import Interval
from reports.tables.text import NOTHING, Cell, Column, Row, Table
from reports.words import listed

MOST_IN_MATRIX = 12
"""Models in the table of wins, ties and losses; the CSV file has all pairs."""


@dataclass(frozen=True)
class Setting:
    """One data set: its group, and its models by the first score."""

    group: Group
    extractor: str
    score: Score
    tests: compare.Tests
    ids: Mapping[str, str]
    """Label -> id of the models that have a score."""
    reference: float
    """The score of training images (or bicubic interpolation), in the score's unit; NaN where unknown."""

    @property
    def dataset(self) -> str:
        return self.group.dataset

    def runs(self, label: str) -> NDArray[np.float64]:
        """A model's runs relative to the reference, if there is one; failed ones infinitely bad."""
        values = self.tests.outcomes[self.ids[label]] * self.score.factor
        return values if math.isnan(self.reference) else values / self.reference


@dataclass(frozen=True)
class Standing:
    """A model over all data sets."""

    label: str
    rank: float
    """Mean over data sets of its rank among the models that all of them have; 1 is best."""
    iqm: float
    """Interquartile mean of its scores relative to training images."""
    iqm_interval: Interval
    improvement: float
    """Probability that one of its runs beats one of another model, any other and any data set."""
    improvement_interval: Interval
    outcomes: tuple[int, int, int]
    """Wins, ties and losses against each other model on each data set, by the tests of that data set."""


@dataclass(frozen=True)
class Across:
    """The models of one task on several data sets."""

    task: str
    settings: Sequence[Setting]
    standings: Sequence[Standing]
    """Of the models that every data set has, best mean rank first."""
    lacking: Mapping[str, Sequence[str]]
    """Label -> the data sets that have no score of it."""
    left_out: Sequence[str]
    """Titles of groups that are not the largest of their data set."""
    critical: float
    """Nemenyi's critical difference of mean ranks at 5 %."""
    friedman: float

    @property
    def better(self) -> Better:
        return self.settings[0].score.better or "higher"

    @property
    def relative(self) -> bool:
        """Whether scores are relative to training images."""
        return not any(math.isnan(s.reference) for s in self.settings)

    @property
    def can_tell(self) -> bool:
        """Whether ranks on so few data sets could tell any two models apart."""
        return self.critical < len(self.standings) - 1


def across(groups: Sequence[Group]) -> list[Across]:
    """One per task that has at least two models on each of at least two data sets."""
    found = []
    for task, several in groupby(groups, key=lambda group: group.task):
        mine = list(several)
        first = {group.dataset: group for group in reversed(mine)}  # the largest comes first
        settings = [s for name in sorted(first) if (s := _setting(first[name])) is not None]
        settings = [s for s in settings if s.score == settings[0].score]
        if len(settings) < 2:
            continue
        shared = [label for label in settings[0].ids if all(label in s.ids for s in settings)]
        if len(shared) < 2:
            continue
        ranks = np.array([_ranks(s, shared) for s in settings])  # (data sets, models)
        standings = [_standing(settings, shared, label, ranks[:, k]) for k, label in enumerate(shared)]
        labels = dict.fromkeys(label for s in settings for label in s.group.summary["label"])
        found.append(
            Across(
                task,
                settings,
                sorted(standings, key=lambda s: (s.rank, s.label)),
                {
                    label: [s.dataset for s in settings if label not in s.ids]
                    for label in labels
                    if label not in shared
                },
                [group.title for group in mine if group is not first[group.dataset]],
                aggregate.critical_difference(len(shared), len(settings)),
                aggregate.friedman_p(ranks),
            )
        )
    return found


def _setting(group: Group) -> Setting | None:
    for extractor in group.extractors:
        for score in group.scores(extractor)[:1]:
            tests = compare.pairwise(group, score.column(extractor), score)
            labels = dict(zip(group.summary["id"], group.summary["label"], strict=True))
            known = group.references(extractor, score)
            reference = next(iter(known.values()), math.nan)
            ids = {str(labels[run_id]): run_id for run_id in tests.outcomes}
            return Setting(group, extractor, score, tests, ids, reference if reference > 0 else math.nan)
    return None


def _ranks(setting: Setting, labels: Sequence[str]) -> NDArray[np.float64]:
    """Ranks by mean; models with failed runs stand below the others, by the fraction that failed."""
    from scipy.stats import rankdata

    keys = []
    for label in labels:
        runs = setting.runs(label)
        failed = float(np.isinf(runs).mean())
        mean = 0.0 if failed else float(runs.mean())
        keys.append((failed, mean if setting.score.better == "lower" else -mean))
    order = {key: k for k, key in enumerate(sorted(set(keys)))}
    return np.asarray(rankdata([order[key] for key in keys]), dtype=float)


def _standing(
    settings: Sequence[Setting], labels: Sequence[str], label: str, ranks: NDArray[np.float64]
) -> Standing:
    mine = [s.runs(label) for s in settings]
    others = [[s.runs(other) for s in settings] for other in labels if other != label]
    better = settings[0].score.better or "higher"
    outcomes = [_outcome(s, label, other) for other in labels if other != label for s in settings]
    return Standing(
        label,
        float(ranks.mean()),
        aggregate.iqm(mine),
        aggregate.iqm_interval(mine),
        float(np.mean([aggregate.improvement(mine, other, better=better) for other in others])),
        aggregate.improvement_interval(mine, others, better=better),
        (outcomes.count(1), outcomes.count(0), outcomes.count(-1)),
    )


def _outcome(setting: Setting, a: str, b: str) -> int:
    """1 where a is told apart from b as the better one, -1 as the worse one, 0 where it is not."""
    x, y = setting.ids[a], setting.ids[b]
    return int(setting.tests.beats(x, y)) - int(setting.tests.beats(y, x))


# ---------------------------------------------------------------- what is written


def verdict(found: Across) -> str:
    """What ranks over data sets can tell, in sentences made from the tests alone."""
    names = listed([s.dataset for s in found.settings])
    best, k = found.standings[0], len(found.standings)
    text = (
        f"Over {len(found.settings)} data sets ({names}) {best.label} has the best mean rank "
        f"({best.rank:.2g} of {k} models)"
    )
    if not found.can_tell:
        return (
            f"{text}, but ranks on so few data sets cannot tell {k} models apart: the critical difference is "
            f"{found.critical:.2g}, the largest possible one {k - 1}. The wins and losses say what each data "
            "set tells."
        )
    tests = f"critical difference {found.critical:.2g}"
    if not math.isnan(found.friedman):
        tests = f"Friedman p = {found.friedman:.2g}, {tests}".replace("p = 0,", "p < 0.0001,")
    told = [s.label for s in found.standings if s.rank - best.rank >= found.critical]
    if found.friedman > compare.LEVEL or not told:
        return f"{text}, but is told apart from no other model ({tests})."
    return f"{text}. It is told apart from {listed(told)} (Nemenyi test; {tests})."


def table(found: Across) -> Table:
    """One row per model: its score on each data set, its mean rank and what holds over all data sets."""
    score = found.settings[0].score
    standing = {s.label: s for s in found.standings}
    labels = [*standing, *found.lacking]
    head = f"{score.short} / reference" if found.relative else score.short
    columns = [
        *(Column(head, s.dataset, score.better) for s in found.settings),
        Column("", "Mean rank", "lower"),
        Column("", "IQM [95 %]", score.better),
        Column("", "P(beats another) [95 %]", "higher"),
        Column("", "Wins/ties/losses"),
    ]
    rows = []
    for label in labels:
        own = [_score(s, label) for s in found.settings]
        rest = _totals(standing[label]) if label in standing else [Cell(NOTHING)] * 4
        rows.append(Row(label, "model", (*own, *rest)))
    return Table(
        f"Across data sets: {found.task}",
        caption(found),
        tuple(columns),
        tuple(rows),
        tuple(_notes(found)),
        verdict=verdict(found),
    )


def _score(setting: Setting, label: str) -> Cell:
    if label not in setting.ids:
        return Cell(NOTHING)
    runs = setting.runs(label)
    known = runs[np.isfinite(runs)]
    mean, failed = float(known.mean()), runs.size - known.size
    return Cell(f"{mean:.3g}" + (f" ({failed}/{runs.size} failed)" if failed else ""), mean)


def _totals(standing: Standing) -> list[Cell]:
    low, high = standing.improvement_interval.low, standing.improvement_interval.high
    between = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return [
        Cell(f"{standing.rank:.2f}", standing.rank),
        Cell(_iqm(standing), standing.iqm),
        Cell(f"{standing.improvement:.2f}{between}", standing.improvement),
        Cell("/".join(map(str, standing.outcomes)), standing.outcomes[0] - standing.outcomes[2]),
    ]


def _iqm(standing: Standing) -> str:
    if not math.isfinite(standing.iqm):
        return "failed"
    low, high = (f"{x:.3g}" if math.isfinite(x) else "failed" for x in _ends(standing.iqm_interval))
    return f"{standing.iqm:.3g}" + ("" if math.isnan(standing.iqm_interval.low) else f" [{low}, {high}]")


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def caption(found: Across) -> str:
    """How the numbers over data sets were computed."""
    score = found.settings[0].score
    unit = (
        f"Mean {score.short} of each data set, divided by that of "
        f"{'bicubic interpolation' if found.task == 'super-resolution' else TRAINING}"
        if found.relative
        else f"Mean {score.short} of each data set"
    )
    return (
        f"{unit}. Mean rank among the models that all data sets have. IQM: interquartile mean of these "
        "scores over all runs. P: the probability that a run beats a run of another model on the same data "
        "set, a failed run being worse than any score. Intervals: stratified bootstrap over seeds. Wins, "
        "ties and losses: against each other model on each data set, told apart there or not (permutation "
        "test, corrected for all pairs of the data set, 5 %)."
    )


def _notes(found: Across) -> list[str]:
    lacking = [
        f"{label}: no score on {listed(list(names))}; not in ranks and means."
        for label, names in found.lacking.items()
    ]
    weak = [s.dataset for s in found.settings if not s.tests.smallest <= compare.LEVEL]
    few = f"{listed(weak)}: too few seeds for any pair to be told apart, so every pair is a tie."
    return (
        [few] * bool(weak)
        + lacking
        + [
            f"Not counted, since another table of its data set has more runs: {title}."
            for title in found.left_out
        ]
    )


def matrix(found: Across) -> Table | None:
    """Wins, ties and losses of each model (row) against each other (column); None for too many models."""
    labels = [s.label for s in found.standings]
    if len(labels) > MOST_IN_MATRIX:
        return None
    rows = []
    for a in labels:
        own = []
        for b in labels:
            outcomes = [_outcome(s, a, b) for s in found.settings]
            counts = [outcomes.count(value) for value in (1, 0, -1)]
            own.append(Cell(NOTHING) if a == b else Cell("/".join(map(str, counts)), counts[0] - counts[2]))
        rows.append(Row(a, "model", tuple(own)))
    return Table(
        f"Wins, ties and losses: {found.task}",
        f"On how many of {len(found.settings)} data sets the model of the row wins against, ties with and "
        "loses to that of the column.",
        tuple(Column("", label) for label in labels),
        tuple(rows),
    )


def frame(several: Sequence[Across]) -> pd.DataFrame:
    """One row per pair of models: wins, ties, losses, and the probability of improvement of a over b."""
    rows = []
    for found in several:
        samples = {s.label: [setting.runs(s.label) for setting in found.settings] for s in found.standings}
        for a in found.standings:
            for b in found.standings:
                if a is b:
                    continue
                outcomes = [_outcome(s, a.label, b.label) for s in found.settings]
                pair = samples[a.label], [samples[b.label]]
                interval = aggregate.improvement_interval(*pair, better=found.better)
                rows.append(
                    {
                        "task": found.task,
                        "datasets": " ".join(s.dataset for s in found.settings),
                        "a": a.label,
                        "b": b.label,
                        "rank_a": a.rank,
                        "rank_b": b.rank,
                        "critical_difference": found.critical,
                        "friedman_p": found.friedman,
                        "wins": outcomes.count(1),
                        "ties": outcomes.count(0),
                        "losses": outcomes.count(-1),
                        "improvement": aggregate.improvement(
                            samples[a.label], samples[b.label], better=found.better
                        ),
                        "improvement_low": interval.low,
                        "improvement_high": interval.high,
                    }
                )
    return pd.DataFrame(rows)
