"""A table for a terminal: as many columns as its width has room for. The report's files have all of them."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from reports.tables.text import Table, plain

NARROWEST = 40
"""Characters. In a narrower terminal lines are longer than it."""


def shown(table: Table, width: int, encoding: str = "utf-8") -> str:
    """The table and its notes in lines of at most ``width`` characters.

    First come the first score and what is no score (failures, cost), then further scores in their order. A
    last note names the columns that had no room.
    """
    width = max(width, NARROWEST)
    table = _with_short_names(table, width // 3)
    every = range(len(table.columns))
    first = [k for k in every if table.columns[k].group][:1]
    others = [k for k in every if not table.columns[k].group]
    kept: list[int] = []
    for k in dict.fromkeys([*first, *reversed(others), *every]):
        if not kept or max(map(len, _grid(_part(table, [*kept, k]), encoding))) <= width:
            kept.append(k)
    left_out = [table.columns[k].label for k in every if k not in kept]
    more = (
        [f"More columns are in the report: {', '.join(dict.fromkeys(left_out)).rstrip('.')}."]
        if left_out
        else []
    )
    part = replace(_part(table, kept), notes=(*table.notes, *more))
    grid = set(_grid(part, encoding))
    lines = plain(replace(part, verdict=""), encoding=encoding).splitlines()
    if table.verdict:
        lines[1:1] = ["", *plain(Table(table.verdict, "", (), ()), encoding=encoding).splitlines()[:1]]
    wrapped = [each for line in lines for each in ([line] if line in grid else _wrapped(line, width))]
    return "\n".join(wrapped) + "\n"


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width) or [""]


def _part(table: Table, kept: list[int]) -> Table:
    """The table with these columns, in the order that they have in the whole."""
    kept = sorted(kept)
    return replace(
        table,
        columns=tuple(table.columns[k] for k in kept),
        rows=tuple(replace(row, cells=tuple(row.cells[k] for k in kept)) for row in table.rows),
    )


def _grid(table: Table, encoding: str) -> list[str]:
    """Its heads and rows as lines."""
    return plain(Table("", "", table.columns, table.rows), encoding=encoding).splitlines()[2:]


def _with_short_names(table: Table, most: int) -> Table:
    """The table with names of rows of at most so many characters; they lose their middle."""

    def short(name: str) -> str:
        half = (most - 1) // 2
        return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"

    return replace(table, rows=tuple(replace(row, name=short(row.name)) for row in table.rows))
