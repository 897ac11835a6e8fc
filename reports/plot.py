"""The figures of a report, one by one: ``reports.plot.curves(reports.load("results"))``.

Each function takes runs as :func:`reports.load` gives them, or some of their rows, and returns a matplotlib
figure: a notebook shows it, ``figure.savefig("curves.pdf")`` writes it. The runs must share a table, that is,
one task and one protocol: ``runs[runs["dataset"] == "mnist"]``, say. At most 12 configurations are drawn, the
best ones.

Scores are in the unit of their label, so KID is times 1,000; ``docs/reports.md`` lists them. ``extractor``:
the features that they are computed from; by default the first one on record.

All functions raise :class:`~bench.errors.UsageError` where the runs do not share a table, or hold nothing to
draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from bench.errors import UsageError, nearest
from bench.scoring.scores import SCORES, Score
from reports import groups
from reports.figures import curves as _curves
from reports.figures import samples as _samples
from reports.figures import spread as _spread
from reports.figures.figures import MOST
from reports.figures.styles import Style, styles
from reports.groups import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["convergence", "curves", "filmstrip", "precision_recall", "profile", "samples", "scores"]


def scores(runs: pd.DataFrame, extractor: str | None = None) -> Figure:
    """Every score of every seed as a dot, with mean and interval; a dashed line: training images, or bicubic.

    Below the dots: the mean over seeds, and its interval as :func:`reports.summarise` gives it.
    """
    group, how = _group(runs)
    return _drawn(_spread.strip(group, _extractor(group, extractor), how), "no scores")


def curves(runs: pd.DataFrame) -> Figure:
    """Losses (in their own unit) and D accuracy on training batches (0 to 1) against step.

    Lines are means over seeds, bands their ranges; a cross marks a run that ended early.
    """
    group, how = _group(runs)
    return _drawn(_curves.curves(group, how, _curves.histories(group)), "no history.csv")


def convergence(runs: pd.DataFrame, score: str = "fid", extractor: str | None = None) -> Figure:
    """A score along training, against step and against seconds of training.

    Lines are means over seeds, bands their ranges. ``score`` is a name of ``docs/reports.md``: ``fid``,
    ``kid_mean``, ``psnr``.
    """
    group, how = _group(runs)
    features = _extractor(group, extractor)
    figure = _curves.convergence(group, features, _score(group, features, score), how)
    return _drawn(figure, "no run was scored more than once along training")


def precision_recall(runs: pd.DataFrame, extractor: str | None = None) -> Figure:
    """Precision (fidelity) against recall (diversity), 0 to 1, a mark per seed; a cross: training images."""
    group, how = _group(runs)
    return _drawn(
        _spread.precision_recall(group, _extractor(group, extractor), how), "no precision and recall"
    )


def profile(runs: pd.DataFrame, score: str = "fid", extractor: str | None = None) -> Figure:
    """The fraction of runs (0 to 1) that are at least as good as a threshold, for every threshold of a score.

    A failed run counts and is never good enough. At least two configurations and two seeds are needed.
    """
    group, how = _group(runs)
    features = _extractor(group, extractor)
    figure = _spread.profiles(group, features, _score(group, features, score), how)
    return _drawn(figure, "that takes two configurations or more, with two seeds or more")


def samples(runs: pd.DataFrame) -> Figure:
    """The final sample grids side by side: of each configuration the lowest seed that has one."""
    group, how = _group(runs)
    return _drawn(_samples.grids(group, _samples.first_grids(group), how), "no samples.png")


def filmstrip(runs: pd.DataFrame) -> Figure:
    """Samples along training, a corner of each grid: of each configuration the lowest seed that has them."""
    group, how = _group(runs)
    figure = _samples.filmstrip(group, _samples.first_frames(group), how)
    return _drawn(figure, "no samples of two steps")


def _group(runs: pd.DataFrame) -> tuple[Group, dict[str, Style]]:
    """The one group of these runs, its best configurations, and how they are drawn."""
    found = groups.groups(runs)
    if not found:
        raise UsageError("there are no runs to draw")
    if len(found) > 1:
        titles = "; ".join(group.title for group in found)
        raise UsageError(f"these runs are of {len(found)} tables, choose those of one: {titles}")
    group = found[0].best(MOST)
    return group, styles([group])


def _extractor(group: Group, name: str | None) -> str:
    """An extractor by name, or the first one."""
    known = group.extractors
    if not known:
        raise UsageError("none of these runs has scores")
    if name is not None and name not in known:
        raise UsageError(f"extractor: {name!r} is not allowed; {', '.join(known)}{nearest(name, known)}")
    return known[0] if name is None else name


def _score(group: Group, extractor: str, name: str) -> Score:
    """A score of this extractor by name."""
    known = {score.name: score for score in group.scores(extractor)}
    if name not in known:
        every = {score.name for score in SCORES}
        why = f"not a score of {extractor}" if name in every else "not a score"
        raise UsageError(f"score: {name!r} is {why}; {', '.join(known)}{nearest(name, known)}")
    return known[name]


def _drawn(figure: Figure | None, why: str) -> Figure:
    if figure is None:
        raise UsageError(f"there is nothing to draw: {why}")
    figure.set_layout_engine("constrained")  # whoever saves it need not know how it is laid out
    return figure
