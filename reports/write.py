"""The files of a report: tables in each format, figures, the page; and what of an older report goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.store.files import write_atomic
from bench.store.jobs import slug
from reports import across, captions, environments, folder, page
from reports.across import Across
from reports.figures import canvas, curves, figures, ranks, samples
from reports.figures.styles import Style, styles
from reports.private import Hider
from reports.searches import Search
from reports.sections import Section
from reports.tables import sheets, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reports.groups import Group


@dataclass(frozen=True)
class Content:
    """All that a report is written from."""

    runs: pd.DataFrame
    sections: Sequence[Section]
    searches: Sequence[Search]
    skipped: Sequence[str]
    """One line per record that could not be used."""
    hide: Hider
    across: Sequence[Across] = ()
    """What holds over several data sets."""

    @property
    def across_tables(self) -> list[text.Table]:
        """The tables of that."""
        both = (table for found in self.across for table in (across.table(found), across.matrix(found)))
        return [table for table in both if table is not None]


@dataclass(frozen=True)
class Written:
    """What was written."""

    pictures: list[page.Picture]
    files: list[Path]
    removed: list[Path]


def write(content: Content, out: Path, formats: Sequence[str], *, quick: bool) -> Written:
    """Write a report; see :func:`reports.build.build`."""
    before = folder.held(out)
    formats = [kind for kind in folder.FILES if kind in {*formats, *folder.formats(before)}]
    writer = _Writer(content, out, formats)
    beside: dict[int, page.Beside] = {}
    if set(formats) != {"csv"}:
        beside = writer.draw(quick=quick and not folder.is_full(before))
    if "markdown" in formats:
        names = {number: its.names for number, its in beside.items()}
        writer.text("table.md", _markdown(content, writer.pictures, names))
    if "latex" in formats:
        tables = [*content.across_tables, *(table for s in content.sections for table in s.tables)]
        parts = [part for table in tables for part in text.fitted(table)]
        writer.text("table.tex", folder.LATEX_HEAD + text.join(parts, text.latex))
    if "html" in formats:
        shown = page.render(
            content.runs,
            content.sections,
            writer.pictures,
            content.skipped,
            beside,
            content.hide,
            content.across_tables,
        )
        writer.text("report.html", shown)
    if "csv" in formats:
        writer.csv()
    removed = folder.close(out, before, writer.files)
    return Written(writer.pictures, writer.files, removed)


class _Writer:
    """Writes into a folder, and notes what."""

    def __init__(self, content: Content, out: Path, formats: Sequence[str]) -> None:
        self.content, self.out = content, out
        self.kinds = ("png", "pdf") if "latex" in formats else ("png",)
        self.dark = "html" in formats
        self.files: list[Path] = []
        self.pictures: list[page.Picture] = []

    def text(self, name: str, content: str) -> None:
        write_atomic(self.out / name, lambda path: path.write_text(content, encoding="utf-8"))
        self.files.append(self.out / name)

    def figure(self, number: int, name: str, caption: str, figure: Figure) -> None:
        self.files.extend(canvas.save(figure, self.out / name, self.kinds))
        dark = canvas.dark(figure) if self.dark else b""
        self.pictures.append(page.Picture(number, caption, self.out / f"{name}.png", dark))

    def film(self, number: int, name: str, caption: str, gif: bytes) -> None:
        write_atomic(self.out / name, lambda path: path.write_bytes(gif))
        self.files.append(self.out / name)
        self.pictures.append(page.Picture(number, caption, self.out / name))

    def draw(self, *, quick: bool) -> dict[int, page.Beside]:
        """Draw all figures; returns for each group what the page shows beside them."""
        groups = [section.group for section in self.content.sections]
        best = [group.best(figures.MOST) for group in groups]
        searches = self.content.searches
        shared = [[s for s in searches if s.alike == key] for key in sorted({s.alike for s in searches})]
        how = styles(best, shared)
        beside = {}
        for group, shown, data in zip(
            groups, best, _numbered(group.dataset for group in groups), strict=True
        ):
            histories = curves.histories(shown)
            beside[group.number] = page.Beside(
                figures.short_names(shown, how), samples.neighbours(shown), histories
            )
            drawn = figures.figures(shown, len(group.summary), how, histories, quick)
            if (film := figures.animation(shown, len(group.summary), how)) is not None:
                self.film(group.number, f"{film[0]}-{data}.gif", *film[1:])
            for name, caption, figure in drawn:
                self.figure(group.number, f"{name}-{data}", caption, figure)
        if not quick:
            self.across(groups, how)
        several = [] if quick else shared
        for mine, data in zip(
            several, _numbered(self.content.hide.paths(its[0].dataset) for its in several), strict=True
        ):
            caption = self.content.hide.paths(captions.budget(mine))
            self.figure(0, f"budget-{data}", caption, curves.budget(mine, how))
        return beside

    def across(self, groups: Sequence[Group], how: Mapping[str, Style]) -> None:
        """Draw what holds over several data sets; a label has the style of the first group that has it."""
        known = {
            label: how[run_id]
            for group in reversed(groups)
            for run_id, label in zip(group.summary["id"], group.summary["label"], strict=True)
            if run_id in how
        }
        for found in self.content.across:
            if all(standing.label in known for standing in found.standings):
                figure = ranks.figure(found, known)
                if figure is not None:
                    name = f"ranks_{slug(found.task)}"
                    self.figure(page.ACROSS, name, captions.ranks(found), figure)

    def csv(self) -> None:
        groups = [section.group for section in self.content.sections]
        rows = {g.number: g.summary.assign(environments=environments.of_rows(g)) for g in groups}
        self.text("table.csv", _csv(rows))
        self.text("comparisons.csv", _csv({s.group.number: s.compared for s in self.content.sections}))
        reached = {s.group.number: s.reached.runs for s in self.content.sections if s.reached}
        if reached:
            self.text("target.csv", _csv(reached))
        if self.content.across:
            self.text("across.csv", sheets.to_csv(across.frame(self.content.across)))
        hidden = ["evals", "folder", "record"]  # the place is the folder without what a report hides
        runs = self.content.runs.drop(columns=hidden, errors="ignore").rename(columns={"place": "folder"})
        self.text("runs.csv", sheets.to_csv(runs))


def _numbered(datasets: Iterable[str]) -> list[str]:
    """Ends of names of figures: the data set, and a number from the second time on that it comes."""
    seen = Counter[str]()
    found = []
    for name in map(slug, datasets):
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found


def _markdown(
    content: Content, pictures: Sequence[page.Picture], names: Mapping[int, Mapping[str, str]]
) -> str:
    """What holds over data sets, each group's tables and figures, and the figures of searches."""
    parts = [*map(text.markdown, content.across_tables), _shown(pictures, page.ACROSS, {})]
    for section in content.sections:
        number = section.group.number
        parts += [*map(text.markdown, section.tables), _shown(pictures, number, names[number])]
    return "\n".join(filter(None, [*parts, _shown(pictures, 0, {})]))


def _shown(pictures: Sequence[page.Picture], number: int, names: Mapping[str, str]) -> str:
    """A group's figures in markdown, each with its caption, below what their short names stand for."""
    mine = [picture for picture in pictures if picture.group == number]
    lines = [f"- {text.escape_markdown(f'{short}: {whole}')}" for short, whole in names.items() if mine]
    parts = ["Names in the figures:\n\n" + "\n".join(lines) + "\n"] if lines else []
    for picture in mine:
        path = picture.path
        parts.append(f"![{path.stem}]({path.name})\n\n*{text.escape_markdown(picture.caption)}*\n")
    return "\n".join(parts)


def _csv(frames: Mapping[int, pd.DataFrame]) -> str:
    """Frames below one another; the first column says to which table a row belongs."""
    parts = [frame.assign(table=number) for number, frame in frames.items()]
    whole = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return sheets.to_csv(whole[["table", *(name for name in whole if name != "table")]])
