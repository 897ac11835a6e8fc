"""What stands in the tables: scores, discriminator and cost, sources of spread, comparisons, single runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.scoring.scores import (
    BEST_STEP,
    COMPUTE_S,
    COSTS,
    DEVICE_S,
    FID,
    HELDOUT_ACCURACY,
    NEAR_HALF,
    NEAR_HALF_SINCE,
    REVERSE_KL,
    TRAIN_ACCURACY,
    TRAIN_S,
    Score,
)
from reports import captions, environments, published, published_pacgan, versions
from reports.captions import protocol
from reports.compare import LEVEL, MOST_PAIRS, Tests
from reports.groups import HALVES, Group
from reports.tables import cells, notes
from reports.tables.text import NOTHING, Cell, Column, Row, Table
from reports.verdict import verdict
from reports.words import span

Columns = list[tuple[Column, list[Cell]]]
"""Columns with their cells, one per configuration."""


def scores(group: Group) -> Table:
    """The main table: every score as mean ± std over seeds, beside what real images get."""
    columns: Columns = []
    references: dict[str, list[Cell]] = {group.training: [], HALVES: [], "bicubic": []}
    tests: list[Tests] = []
    for extractor in group.extractors:
        for score in group.scores(extractor):
            name = score.column(extractor)
            ranked, tested = cells.ranked(group, name, score)
            columns.append((Column(extractor, score.label, score.better), ranked))
            tests += [tested] if tested else []
            _refer(group, extractor, score, references)
            best = f"best.{name}"
            if score in (FID, REVERSE_KL) and group.has(best):
                head = Column(extractor, f"{score.label} at best step", score.better)
                ranked, tested = cells.ranked(group, best, score)
                columns.append((head, ranked))
                tests += [tested] if tested else []
                for who, its in references.items():
                    its.append(Cell(NOTHING) if who == "bicubic" else its[-1])
    extra = _outcome(group)
    rows = _reference_rows(references, len(extra))
    columns += extra
    papers, remarks = _published(group, [head for head, _ in columns])
    rows += papers + _rows(group, columns)
    mixed = environments.differences(group)
    below = (
        *notes.notes(group, rows, tests),
        *(difference.sentence for difference in mixed),
        *versions.notes(group.runs),
        *group.remarks,
        *notes.cautions(group),
        *remarks,
    )
    caption = protocol(group) + environments.caption(mixed)
    table = _table(f"Scores: {group.title}", caption, columns, rows, below)
    return replace(table, verdict=verdict(group).text)


def memorisation(group: Group) -> Table | None:
    """Whether models copy their training images; None where no record says."""
    columns: Columns = []
    references: dict[str, list[Cell]] = {group.training: [], HALVES: []}
    for extractor in group.extractors:
        for score in group.memorisation(extractor):
            column = cells.mean_std(group, score.column(extractor), score)
            columns.append((Column(extractor, score.label), column))
            _refer(group, extractor, score, references)
    if not columns:
        return None
    rows = [*_reference_rows(references), *_rows(group, columns)]
    title = f"Memorisation: {group.title}"
    return _table(title, captions.memorisation(group), columns, rows, notes.memorisation(group, HALVES))


def _refer(group: Group, extractor: str, score: Score, references: Mapping[str, list[Cell]]) -> None:
    """Add a score's cell to each row of references."""
    known = group.reference_rows(extractor, score)
    decimals = cells.decimals_of(group, score.column(extractor), score)
    for who, its in references.items():
        value, std = known.get(who, (None, math.nan))
        its.append(cells.reference(value, decimals, std))


def _reference_rows(references: Mapping[str, list[Cell]], n_empty: int = 0) -> list[Row]:
    """The rows of those references that have any value, with empty cells at their end."""
    return [
        Row(who, "reference", (*its, *[Cell("")] * n_empty))
        for who, its in references.items()
        if any(not math.isnan(cell.value) for cell in its)
    ]


def training(group: Group) -> Table:
    """The second table: the discriminator's accuracy, steps and cost."""
    columns: Columns = [
        (Column("", "Steps"), _of_trained(group, [cells.whole(n) for n in group.summary["steps"]])),
        (Column("", "Trainable"), [cells.whole(n) for n in group.summary["parameters"]]),
    ]
    for head, several in (
        ("D acc. in training, %", TRAIN_ACCURACY),
        ("D acc. held out, %", HELDOUT_ACCURACY),
        ("", (NEAR_HALF_SINCE, BEST_STEP)),
        ("Mean cost", COSTS),
    ):
        for score in several:
            if group.has(score.column()):
                spread = several is not COSTS
                column = cells.mean_std(group, score.column(), score, spread=spread)
                column = _without_critics(group, column) if score == NEAR_HALF_SINCE else column
                columns.append((Column(head, score.label), column))
    below = []
    if critics := sorted({row["model"] for row in notes.critics(group)}):
        below.append(
            f"{', '.join(critics)}: no natural threshold, so no accuracy in training; held out, the "
            "threshold is chosen on half of the scores, and the accuracy is that on the other half."
        )
    caption = (
        "Discriminator accuracy, mean ± standard deviation over training seeds, and mean cost per run: "
        f"{group.title}."
    )
    title = f"Discriminator and cost: {group.title}"
    return _table(title, caption, columns, _rows(group, columns), below)


def sources(group: Group) -> Table | None:
    """Where the spread comes from: training seeds or sample draws; None where no run has several draws."""
    columns: Columns = []
    for extractor in group.extractors:
        for score in group.scores(extractor):
            for kind in ("training", "sampling"):
                name = f"{score.column(extractor)}.{kind}_std"
                if name in group.summary and group.summary[name].notna().any():
                    head = Column(extractor, f"{score.label}, {kind}")
                    columns.append((head, cells.alike(group.summary[name] * score.factor)))
    if not columns:
        return None
    caption = (
        "Standard deviation between training seeds, without the part that is sampling (0: sampling explains "
        f"all of it), and between sample draws of one trained model: {group.title}."
    )
    return _table(f"Sources of spread: {group.title}", caption, columns, _rows(group, columns))


def pairs(group: Group, compared: pd.DataFrame, *, baseline: bool) -> Table | None:
    """The comparisons with the baseline, or of all pairs; None where there are none."""
    mine = compared[compared["baseline"].astype(bool)] if baseline else compared
    if mine.empty:
        return None
    several = not baseline
    heads = ["B"] * several + ["Seeds A", "Seeds B", "Score", "Mean A", "Mean B", "p", "p (Holm)"]
    heads += ["P(A better) [95 % CI]", "Seeds needed"]
    rows = [Row(str(pair["a"]), "model", _pair(pair, several)) for pair in mine.to_dict("records")]
    who = mine["b"].iloc[0]
    against = "All pairs" if several else f"Against {who}"
    b = "B" if several else f"B, {who}"
    number = span(mine["pairs"])
    how = "Holm" if mine["pairs"].max() <= MOST_PAIRS else "Bonferroni"
    caption = (
        f"{group.title}. Model A against {b}: permutation test of whether a run of A is as often better as "
        f"worse than one of B (exact up to 10 seeds against 10), {how}-corrected for all {number} pairs; the "
        "probability that it is better, a failed run being worse than any score; for pairs that are not told "
        f"apart at {100 * LEVEL:.0f} %, how many seeds per model would do it with a power of 80 % (at both "
        "ends of an 80 % interval of the effect)."
    )
    columns = tuple(Column("", head) for head in heads)
    return Table(f"{against}: {group.title}", caption, columns, tuple(rows), head="A")


def _pair(pair: Any, several: bool) -> tuple[Cell, ...]:
    """The cells of one comparison."""
    return (
        *([Cell(str(pair["b"]))] if several else []),
        *(cells.whole(pair[name]) for name in ("n_a", "n_b")),
        Cell(f"{pair['score']} ({pair['extractor']})"),
        Cell(f"{pair['mean_a']:.4g}", pair["mean_a"]),
        Cell(f"{pair['mean_b']:.4g}", pair["mean_b"]),
        cells.p_value(pair["p"]),
        cells.p_value(pair["p_holm"]),
        cells.improvement(pair),
        cells.seeds_needed(pair["seeds_low"], pair["seeds_high"]),
    )


def seeds(group: Group, run_id: str) -> Table:
    """Every run of one configuration: how it ended, its scores, its folder."""
    mine = group.of(run_id)
    columns: Columns = [(Column("", "Status"), [cells.word(status) for status in mine["status"]])]
    for extractor in group.extractors:
        for score in group.scores(extractor):
            values = mine[score.column(extractor)].astype(float) * score.factor
            columns.append((Column(extractor, score.label, score.better), [cells.number(v) for v in values]))
    balanced = HELDOUT_ACCURACY[-1]
    for head, name in (
        ("D acc. held out", balanced.column()),
        (NEAR_HALF.label, NEAR_HALF.column()),
        (TRAIN_S.label.capitalize(), TRAIN_S.column()),
    ):
        if name in mine:
            columns.append((Column("", head), [cells.number(value) for value in mine[name]]))
    for head, cell in (("Attempts", cells.number), ("Reason", cells.word), ("Folder", cells.word)):
        name = "place" if head == "Folder" else head.lower()
        given = mine[name] if name in mine else [None] * len(mine)
        columns.append((Column("", head), [cell(value) for value in given]))
    names = [f"seed {seed}" for seed in mine["seed"]]
    return _table("", "", columns, _rows_of(names, columns))


def _published(group: Group, columns: Sequence[Column]) -> tuple[list[Row], list[str]]:
    """Rows of published scores for models that were measured in the same way; notes on the others."""
    runs = [
        {str(name): value for name, value in run.items()}
        for run in group.runs.drop_duplicates("id").to_dict("records")
    ]
    rows: list[Row] = []
    found: list[str] = []
    for paper in (published, published_pacgan):
        more: dict[str, Row] = {}
        differing: dict[str, None] = {}  # in order, each once
        deviating: dict[str, None] = {}
        for run in runs:
            figure = paper.row(run)
            if figure is None or not {where for where, _ in figure.cells} & {*group.extractors}:
                continue
            if differences := paper.compare(run):
                differing |= dict.fromkeys(map(str, differences))
                continue
            deviating |= dict.fromkeys(map(str, paper.deviations(run)))
            shown = [_cell(figure, column) for column in columns]
            more[figure.name] = Row(figure.name, "reference", tuple(shown))
        rows += more.values()
        if more:
            but = f" Our code differs in {'; '.join(deviating)}." if deviating else ""
            found.append(f"Published: {paper.SOURCE}.{but}")
        if differing:
            found.append(
                f"The figures of {paper.SOURCE} are not shown, since their protocol differs in "
                f"{'; '.join(differing)}."
            )
    return rows, found


def _cell(figure: published.Figure, column: Column) -> Cell:
    known = figure.cells.get((column.group, column.label))
    return Cell(*known) if known else Cell(NOTHING if column.group else "")


def _outcome(group: Group) -> Columns:
    """What stands beside the scores: the criterion, failures, time."""
    summary = group.summary
    columns: Columns = [(Column("", "Seeds"), [cells.whole(n) for n in summary["n"]])]
    if NEAR_HALF.column() in group.runs:
        near = cells.ratios(summary["near_half"], summary["n"])
        columns.append((Column("", NEAR_HALF.label), _without_critics(group, near)))
    failures = cells.ratios(summary["failures"], summary["n"])
    columns.append((Column("", "Failures"), _of_trained(group, failures)))
    for score, head in ((COMPUTE_S, "Cost"), (DEVICE_S, "Time")):
        if group.has(score.column()):
            columns.append((Column("", head), cells.durations(summary[f"{score.column()}.mean"])))
            break  # records of earlier versions know the time on the wall alone
    return columns


def _without_critics(group: Group, column: Sequence[Cell]) -> list[Cell]:
    """A column of the criterion. Critics are judged in another way, which a note says."""
    return _without(group, {row["id"] for row in notes.critics(group)}, _of_trained(group, column))


def _of_trained(group: Group, column: Sequence[Cell]) -> list[Cell]:
    """A column without its cells of samples from elsewhere: of their models' training nothing is known."""
    return _without(group, group.elsewhere, column)


def _without(group: Group, ids: Collection[Hashable], column: Sequence[Cell]) -> list[Cell]:
    """A column without the cells of these configurations."""
    return [
        Cell(NOTHING) if run_id in ids else cell
        for run_id, cell in zip(group.summary["id"], column, strict=True)
    ]


def _rows(group: Group, columns: Columns) -> list[Row]:
    """A row per configuration."""
    return _rows_of([str(label) for label in group.summary["label"]], columns)


def _rows_of(names: Sequence[str], columns: Columns) -> list[Row]:
    return [Row(name, "model", tuple(column[k] for _, column in columns)) for k, name in enumerate(names)]


def _table(
    title: str, caption: str, columns: Columns, rows: Sequence[Row], below: Sequence[str] = ()
) -> Table:
    return Table(title, caption, tuple(head for head, _ in columns), tuple(rows), tuple(below))
