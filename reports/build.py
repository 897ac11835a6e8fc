"""Build the report: ``python -m reports.build results [more] [--format markdown latex csv html]``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import Parser, chosen, run_main
from bench.errors import UsageError, nearest
from bench.store import DamagedRecordError, slug

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reports.page import Picture
    from reports.summary import Group
    from reports.text import Table

FORMATS = ("markdown", "latex", "csv", "html")


@dataclass(frozen=True)
class Report:
    """What was built."""

    runs: pd.DataFrame
    groups: list[Group]
    tables: list[Table]
    pictures: list[Picture]
    files: list[Path]
    skipped: list[str]
    """One line, with its path, per record that could not be used."""


class NoUsableRecordError(Exception):
    """There are runs, but not one that a report could be built on."""


def build(
    roots: Sequence[Path],
    out: Path,
    formats: Sequence[str] = FORMATS,
    *,
    baseline: str | None = None,
    quick: bool = False,
) -> Report:
    """Write the report on all runs below ``roots`` into ``out``.

    ``baseline``: the model that others are compared with; without one, ``vanilla`` where it was run.
    ``quick`` draws training curves, per-seed scores and sample grids only. Figures are PNG, and PDF too
    where ``formats`` has LaTeX.

    Raises:
        UsageError: no runs yet, or none of the baseline asked for.
        NoUsableRecordError: runs, but no record among them that can be read.
    """
    from bench.store import write_atomic
    from reports import compare, page, plots, searches, summary, tables, text

    runs = summary.load(roots)
    skipped = list(runs.attrs["skipped"])
    if runs.empty and skipped:
        raise NoUsableRecordError(f"{_names(roots)}: none of {len(skipped)} runs can be used; {skipped[0]}")
    if runs.empty:
        raise UsageError(_nothing(roots))
    models = sorted(set(runs["model"]))
    if baseline is not None and baseline not in models:
        raise UsageError(
            f"--baseline {baseline!r}: no runs of it; one of {', '.join(models)}{nearest(baseline, models)}"
        )
    baseline = baseline or "vanilla"
    groups = summary.groups(runs)
    compared = {group.number: compare.comparisons(group, baseline) for group in groups}
    built: list[Table] = []
    for group in groups:
        against = tables.pairs(group, compared[group.number], "baseline")
        several = (tables.scores(group), tables.training(group), tables.sources(group), against)
        built += [table for table in several if table is not None]
    files: list[Path] = []

    def write(name: str, text: str) -> None:
        write_atomic(out / name, lambda path: path.write_text(text, encoding="utf-8"))
        files.append(out / name)

    kinds = ("png", "pdf") if "latex" in formats else ("png",)
    pictures: list[page.Picture] = []
    for group in groups if set(formats) != {"csv"} else []:
        for name, caption, figure in _figures(group, quick):
            number = "" if group.number == 1 else f"-{group.number}"
            files += plots.save(figure, out / f"{name}{number}", kinds)
            pictures.append(page.Picture(group.number, caption, out / f"{name}{number}.png"))
    found, unread = searches.load(roots)
    skipped += unread
    for k, alike in enumerate(sorted({search.alike for search in found}) if pictures and not quick else []):
        mine = [search for search in found if search.alike == alike]
        files += plots.save(plots.budget(mine), out / f"budget-{k + 1}", kinds)
        caption = (
            f"Expected best validation {mine[0].objective} of a search on {mine[0].dataset} against its "
            "number of trials, with a 95 % band. For random search an estimate, for others a description."
        )
        pictures.append(page.Picture(0, caption, out / f"budget-{k + 1}.png"))
    if "markdown" in formats:
        shown = "\n".join(f"![{text.escape_markdown(p.caption)}]({p.path.name})\n" for p in pictures)
        write("table.md", "\n".join(map(text.markdown, built)) + "\n" + shown)
    if "latex" in formats:
        write(
            "table.tex",
            LATEX_HEAD + text.join([part for table in built for part in text.fitted(table)], text.latex),
        )
    if "html" in formats:
        write("report.html", page.render(runs, groups, compared, pictures, skipped))
    if "csv" in formats:
        numbered = {group.number: group.summary for group in groups}
        write("table.csv", _csv(numbered))
        write("comparisons.csv", _csv(compared))
        write("runs.csv", runs.drop(columns="evals", errors="ignore").to_csv(index=False))
    return Report(runs, groups, built, pictures, files, skipped)


LATEX_HEAD = "% In the preamble: \\usepackage[T1]{fontenc} \\usepackage{textcomp,booktabs,graphicx}\n"


MOST_DRAWN = 12
"""Configurations in a figure: more cannot be told apart. Tables show all of them."""


def _figures(group: Group, quick: bool) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure of everything that the group's records can show."""
    from reports import plots

    on = group.title
    if len(group.summary) > MOST_DRAWN:
        on += f", the best {MOST_DRAWN} of {len(group.summary)}"
        group = group.best(MOST_DRAWN)
    line = "bicubic" if group.task == "super-resolution" else "real data"
    drawn: list[tuple[str, str, Figure | None]] = []

    def draw(name: str, caption: str, figure: Figure | None) -> None:
        drawn.append((name, caption, figure))

    for k, extractor in enumerate(group.extractors):
        suffix = f"_{slug(extractor)}" if k else ""
        draw(
            f"scores{suffix}",
            f"Scores ({extractor}), {on}: every seed, the mean and its 95 % interval; dashed: {line}.",
            plots.strip(group, extractor),
        )
    draw("samples", f"Samples of each model's first seed, {on}.", plots.grids(group))
    draw(
        "curves",
        f"Losses and discriminator accuracy on training batches against step, {on}: mean and range over "
        "seeds; dotted: one half; a cross: a run that ended early.",
        plots.curves(group),
    )
    for k, extractor in enumerate([] if quick else group.extractors):
        if not group.scores(extractor):
            continue
        suffix = f"_{slug(extractor)}" if k else ""
        first = group.scores(extractor)[0]
        draw(
            f"convergence{suffix}",
            f"{first.label} ({extractor}) along training, {on}: mean and range over seeds.",
            plots.convergence(group, extractor, first),
        )
        draw(
            f"precision_recall{suffix}",
            f"Precision and recall ({extractor}) of every seed, {on}.",
            plots.precision_recall(group, extractor),
        )
        draw(
            f"profile{suffix}",
            f"Share of runs whose {first.label} ({extractor}) is at least as good as a threshold, {on}; "
            "failed runs count and are never good enough.",
            plots.profiles(group, extractor, first),
        )
    if not quick:
        draw("filmstrip", f"Samples of each model's first seed along training, {on}.", plots.filmstrip(group))
    yield from ((name, caption, figure) for name, caption, figure in drawn if figure is not None)


def _csv(frames: Mapping[int, pd.DataFrame]) -> str:
    """Frames below one another; the first column says to which table a row belongs."""
    import pandas as pd

    parts = [frame.assign(table=number) for number, frame in frames.items()]
    whole = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return whole[["table", *(name for name in whole if name != "table")]].to_csv(index=False)


def _nothing(roots: Sequence[Path]) -> str:
    """Why there is nothing to report, and what to do."""
    missing = [str(root) for root in roots if not root.is_dir()]
    why = f"{', '.join(missing)}: no such folder" if missing else f"{_names(roots)}: no finished runs"
    return f"{why}; run `python -m bench.run --models vanilla --seeds 5` first"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def trace(group: Group) -> str:
    """The run.json files behind each row of a group's tables."""
    lines = [f"Table {group.number}: {group.title}"]
    for run_id, label in zip(group.summary["id"], group.summary["label"], strict=True):
        lines.append(f"  {label}")
        mine = group.of(run_id)
        lines += [f"    {run['folder']}/run.json ({run['status']})" for run in mine.to_dict("records")]
    return "\n".join(lines)


# ---------------------------------------------------------------- the command line


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="reports.build", description="Tables, figures and a page from run folders.")
    p.add_argument("roots", nargs="*", type=Path, default=[Path("results")], metavar="RESULTS")
    p.add_argument(
        "--format", type=chosen(FORMATS), nargs="+", default=list(FORMATS), metavar="NAME",
        help="markdown, latex, csv, html; default: all of them",
    )  # fmt: skip
    p.add_argument("--out", type=Path, metavar="DIR", help="default: <first RESULTS>/report")
    p.add_argument("--baseline", metavar="MODEL", help="others are compared with it; default: vanilla")
    p.add_argument("--trace", action="store_true", help="print the run.json files behind each row")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Build the report; returns 0, or 1 where no record can be used or the report cannot be written.

    Raises:
        UsageError: the request was wrong, or there are no runs yet.
    """
    args = parser().parse(argv)
    out = args.out or args.roots[0] / "report"
    gc.set_threshold(100_000)  # of 1,000 runs' objects hardly any is garbage: looking for it takes a tenth
    try:
        report = build(args.roots, out, args.format, baseline=args.baseline)
    except (NoUsableRecordError, DamagedRecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or out}: {error.strerror}", file=sys.stderr)
        return 1
    for line in report.skipped:
        print(f"skipped {line}", file=sys.stderr)
    if args.trace:
        for group in report.groups:
            print(trace(group))
    for path in report.files:
        print(path)
    return 0


if __name__ == "__main__":
    run_main(main)
