"""Reads what tables and figures show, for tests of reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

import reports
from reports import groups
from reports.figures import curves, samples
from reports.figures.styles import Style, styles
from reports.groups import Group
from reports.tables.text import Cell, Table


def group_of(root: Path) -> Group:
    [group] = groups.groups(reports.load(root))
    return group


def styles_of(group: Group) -> dict[str, Style]:
    return styles([group])


def grids(group: Group) -> Figure | None:
    return samples.grids(group, samples.first_grids(group), styles_of(group))


def training_curves(group: Group, styles: Mapping[str, Style]) -> Figure | None:
    return curves.curves(group, styles, curves.histories(group))


def filmstrip(group: Group) -> Figure | None:
    return samples.filmstrip(group, samples.first_frames(group), styles_of(group))


def titles(figure: Figure | None, loc: Literal["left", "center"] = "left") -> list[str]:
    """The titles of a figure's panels that have one."""
    assert figure is not None
    return [title for ax in figure.axes if (title := ax.get_title(loc=loc))]


def panels(figure: Figure | None) -> list[list[str]]:
    """The labels of each panel's lines."""
    assert figure is not None
    return [[str(line.get_label()) for line in ax.get_lines()] for ax in figure.axes]


def legend(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.legends[0].get_texts()]


def cell(table: Table, row: str, column: str) -> Cell:
    """The cell at a row's name and a column's label."""
    [found] = [r for r in table.rows if r.name == row]
    return found.cells[[c.label for c in table.columns].index(column)]
