"""A section of a report: a group with its comparisons and its tables, each made once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from reports import compare
from reports.groups import Group
from reports.tables import tables
from reports.tables.text import Table


@dataclass(frozen=True)
class Section:
    """A group, and what is written of it."""

    group: Group
    compared: pd.DataFrame
    """See :func:`reports.compare.comparisons`."""
    scores: Table
    training: Table
    sources: Table | None
    against: Table | None
    """Comparisons with the baseline."""
    pairs: Table | None
    """Comparisons of all pairs; the page alone shows them."""

    @property
    def tables(self) -> list[Table]:
        """The tables that every format has."""
        several = (self.scores, self.training, self.sources, self.against)
        return [table for table in several if table is not None]


def section(group: Group, baseline: str) -> Section:
    """The section of a group; ``baseline``: the model that others are compared with."""
    compared = compare.comparisons(group, baseline)
    return Section(
        group,
        compared,
        tables.scores(group),
        tables.training(group),
        tables.sources(group),
        tables.pairs(group, compared, baseline=True),
        tables.pairs(group, compared, baseline=False),
    )
