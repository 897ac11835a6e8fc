"""Which figures a report has, each with its file name and caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bench.store.jobs import slug
from reports import captions
from reports.figures import canvas, curves, points, progress, samples, spread
from reports.figures.curves import Histories
from reports.figures.styles import Style
from reports.groups import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12
"""Configurations in a figure: more cannot be told apart. Tables show all of them."""

Drawn = tuple[str, str, "Figure | None"]
"""File name without suffix, caption, figure; None where the records hold nothing to draw."""


def figures(
    group: Group, of: int, styles: Mapping[str, Style], histories: Histories, quick: bool
) -> Iterator[tuple[str, str, Figure]]:
    """All figures of a group's best configurations, ``of`` so many: name, caption and figure.

    ``histories``: of :func:`reports.figures.curves.histories`. ``quick``: scores, samples and training curves
    only.
    """
    drawn = list(_always(group, _on(group, of), styles, histories))
    if not quick:
        drawn += _more(group, _on(group, of), styles)
    yield from ((name, caption, figure) for name, caption, figure in drawn if figure is not None)


def animation(group: Group, of: int, styles: Mapping[str, Style]) -> tuple[str, str, bytes] | None:
    """The film of a group's best configurations on points in the plane: name, caption and GIF, if any."""
    films = points.first_films(group)
    gif = points.animation(films, styles)
    if gif is None:
        return None
    caption = f"{captions.points(films, ' during training')}, {_on(group, of)}. {captions.training(group)}."
    return "film", caption, gif


def _on(group: Group, of: int) -> str:
    n = len(group.summary)
    return group.title if n == of else f"{group.title}, the best {n} of {of}"


def _name(stem: str, extractor: str, k: int) -> str:
    """The first extractor's figures have the plain name."""
    return f"{stem}_{slug(extractor)}" if k else stem


def _always(group: Group, on: str, styles: Mapping[str, Style], histories: Histories) -> Iterator[Drawn]:
    runs = captions.training(group)
    for k, extractor in enumerate(group.extractors):
        marks = captions.marks(group, extractor)
        caption = f"Scores ({extractor}), {on}: {marks}. {runs}, {captions.scoring(group)}."
        yield _name("scores", extractor, k), caption, spread.strip(group, extractor, styles)
    if films := points.first_films(group):
        caption = f"{captions.points(films)}, {on}; scores of that seed. {runs}."
        yield "samples", caption, points.scatter(group, films, styles)
        caption = f"{captions.points(films, ' along training')}, {on}. {runs}."
        yield "samples_along", caption, points.filmstrip(films, styles)
    else:
        grids = samples.first_grids(group)
        beside = "; beside them real images" if samples.real_images(group) else ""
        caption = f"Samples{captions.pictures(group, grids)}, {on}{beside}. {runs}."
        yield "samples", caption, samples.grids(group, grids, styles)
    caption = (
        f"Losses and, except for critics, discriminator accuracy on training batches against step, {on}: "
        f"mean and range over seeds; dotted: one half; a cross: a run that ended early. {runs}."
    )
    yield "curves", caption, curves.curves(group, styles, histories)


def _more(group: Group, on: str, styles: Mapping[str, Style]) -> Iterator[Drawn]:
    runs = captions.training(group)
    measured = f"{runs}, {captions.scoring(group)}"
    bands = len(group.summary) <= canvas.MOST_BANDS
    lines = "mean and range over seeds" if bands else "mean over seeds"
    for k, extractor in enumerate(group.extractors):
        for first in group.scores(extractor)[:1]:
            figure = curves.convergence(group, extractor, first, styles)
            caption = f"{first.label} ({extractor}) along training, {on}: {lines}. {measured}."
            yield _name("convergence", extractor, k), caption, figure
            figure = progress.best_so_far(group, extractor, first, styles)
            caption = (
                f"Best {first.label} ({extractor}) so far against seconds and against steps, {on}: median of "
                f"the seeds and their middle half; a failed run counts as infinitely bad. {measured}."
            )
            yield _name("progress", extractor, k), caption, figure
            figure = spread.precision_recall(group, extractor, styles)
            caption = f"Precision and recall ({extractor}) of every seed, {on}. {measured}."
            yield _name("precision_recall", extractor, k), caption, figure
            figure = spread.profiles(group, extractor, first, styles)
            caption = (
                f"Fraction of runs whose {first.label} ({extractor}) is at least as good as a threshold, "
                f"{on}; failed runs count and are never good enough. {measured}."
            )
            yield _name("profile", extractor, k), caption, figure
    frames = samples.first_frames(group)
    caption = f"Samples along training{captions.pictures(group, frames)}, {on}. {runs}."
    yield "filmstrip", caption, samples.filmstrip(group, frames, styles)


def short_names(group: Group, styles: Mapping[str, Style]) -> dict[str, str]:
    """The names that figures shorten, and what they stand for."""
    mine = (styles[run_id] for run_id in group.summary["id"])
    return {how.label: how.whole for how in mine if how.label.strip() != how.whole}
