"""A section of a report: a group with its comparisons and its tables, each made once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import overload

import pandas as pd

from reports import compare, target
from reports.groups import Group
from reports.tables import tables
from reports.tables.text import Table
from reports.target import Reached, Target

MOST_ROWS = 100
"""Rows of models that a table in a report has."""


@dataclass(frozen=True)
class Section:
    """A group, and what is written of it."""

    group: Group
    compared: pd.DataFrame
    """See :func:`reports.compare.comparisons`."""
    scores: Table
    memorisation: Table | None
    training: Table
    sources: Table | None
    against: Table | None
    """Comparisons with the baseline."""
    pairs: Table | None
    """Comparisons of all pairs; the page alone shows them."""

    reached: Reached | None
    """When each run reached the target; None where runs were not scored along the way."""
    reach: Table | None
    """That as a table."""

    @property
    def tables(self) -> list[Table]:
        """The tables that every format has."""
        several = (self.scores, self.memorisation, self.training, self.sources, self.against, self.reach)
        return [table for table in several if table is not None]


def section(group: Group, baseline: str, wanted: Target | None = None) -> Section:
    """The section of a group; ``baseline``: the model that others are compared with; ``wanted``: --target."""
    compared = compare.comparisons(group, baseline)
    found = target.reached(group, baseline, wanted)
    return Section(
        group,
        compared,
        shortened(tables.scores(group), "table.csv"),
        shortened(tables.memorisation(group), "table.csv"),
        shortened(tables.training(group), "table.csv"),
        shortened(tables.sources(group), "table.csv"),
        shortened(tables.pairs(group, compared, baseline=True), "comparisons.csv"),
        shortened(tables.pairs(group, compared, baseline=False), "comparisons.csv"),
        found,
        None if found is None else shortened(target.table(group, found), "target.csv"),
    )


@overload
def shortened(table: Table, file: str) -> Table: ...


@overload
def shortened(table: Table | None, file: str) -> Table | None: ...


def shortened(table: Table | None, file: str) -> Table | None:
    """A table with its first rows alone where it has very many, and a note that says so; ``file`` has all."""
    models = [row for row in table.rows if row.kind == "model"] if table else []
    if table is None or len(models) <= MOST_ROWS:
        return table
    kept = [row for row in table.rows if row.kind != "model"] + models[:MOST_ROWS]
    note = f"The first {MOST_ROWS} of {len(models):,} rows; {file} (--format csv) has all of them."
    return replace(table, rows=tuple(kept), notes=(note, *table.notes))
