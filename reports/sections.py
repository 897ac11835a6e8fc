"""A section of a report: a group with its comparisons and its tables, each made once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from reports import compare, target
from reports.groups import Group
from reports.tables import tables
from reports.tables.text import Table
from reports.target import Reached, Target


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
        tables.scores(group),
        tables.memorisation(group),
        tables.training(group),
        tables.sources(group),
        tables.pairs(group, compared, baseline=True),
        tables.pairs(group, compared, baseline=False),
        found,
        None if found is None else target.table(group, found),
    )
