"""Build the report: ``python -m reports.build results [more] [--format markdown latex csv html]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError, nearest
from bench.store import slug

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reports.page import Picture
    from reports.summary import Group
    from reports.tables import Table

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
        UsageError: nothing to report on, or no runs of the baseline asked for.
    """
    from bench.store import write_atomic
    from reports import page, plots, summary, tables

    runs = summary.load(roots)
    skipped = list(runs.attrs["skipped"])
    if runs.empty:
        raise UsageError(_nothing(roots, skipped))
    models = sorted(set(runs["model"]))
    if baseline is not None and baseline not in models:
        raise UsageError(
            f"--baseline {baseline}: no runs of it; there are {', '.join(models)}{nearest(baseline, models)}"
        )
    baseline = baseline or "vanilla"
    groups = summary.groups(runs)
    compared = {group.number: summary.comparisons(group, baseline) for group in groups}
    built: list[Table] = []
    for group in groups:
        built += [tables.scores(group), tables.training(group)]
        against = tables.pairs(group, compared[group.number], "baseline")
        built += [against] if against else []
    files: list[Path] = []

    def write(name: str, text: str) -> None:
        write_atomic(out / name, lambda path: path.write_text(text, encoding="utf-8"))
        files.append(out / name)

    kinds = ("png", "pdf") if "latex" in formats else ("png",)
    pictures: list[page.Picture] = []
    for group in groups:
        for name, caption, figure in _figures(group, quick):
            number = "" if group.number == 1 else f"-{group.number}"
            files += plots.save(figure, out / f"{name}{number}", kinds)
            pictures.append(page.Picture(group.number, caption, out / f"{name}{number}.png"))
    if "markdown" in formats:
        shown = "\n".join(f"![{tables.escape_markdown(p.caption)}]({p.path.name})\n" for p in pictures)
        write("table.md", "\n".join(map(tables.markdown, built)) + "\n" + shown)
    if "latex" in formats:
        write("table.tex", LATEX_HEAD + tables.join(built, tables.latex))
    if "html" in formats:
        write("report.html", page.render(runs, groups, compared, pictures, skipped))
    if "csv" in formats:
        numbered = {group.number: group.summary for group in groups}
        write("table.csv", _csv(numbered))
        write("comparisons.csv", _csv(compared))
        write("runs.csv", runs.drop(columns="evals", errors="ignore").to_csv(index=False))
    return Report(runs, groups, built, pictures, files, skipped)


LATEX_HEAD = "% In the preamble: \\usepackage[T1]{fontenc} \\usepackage{textcomp,booktabs,graphicx}\n"


MOST_DRAWN = 16
"""Configurations in a figure: more cannot be told apart. Tables show all of them."""


def _figures(group: Group, quick: bool) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure of everything that the group's records can show."""
    from reports import plots

    on = group.title
    if len(group.summary) > MOST_DRAWN:
        on += f", the best {MOST_DRAWN} of {len(group.summary)}"
        group = group.best(MOST_DRAWN)
    drawn: list[tuple[str, str, Figure | None]] = []

    def draw(name: str, caption: str, figure: Figure | None) -> None:
        drawn.append((name, caption, figure))

    draw(
        "curves",
        f"Losses and discriminator accuracy on training batches against step, {on}: mean and range over "
        "seeds; dotted: one half; a cross: a run that ended early.",
        plots.curves(group),
    )
    for k, extractor in enumerate(group.extractors):
        suffix = f"_{slug(extractor)}" if k else ""
        draw(
            f"scores{suffix}",
            f"Scores ({extractor}), {on}: every seed, the mean and its 95 % interval; dashed: real data.",
            plots.strip(group, extractor),
        )
        if quick or not group.scores(extractor):
            continue
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
    draw("samples", f"Samples of each model's first seed, {on}.", plots.grids(group))
    if not quick:
        draw("filmstrip", f"Samples of each model's first seed along training, {on}.", plots.filmstrip(group))
    yield from ((name, caption, figure) for name, caption, figure in drawn if figure is not None)


def _csv(frames: Mapping[int, pd.DataFrame]) -> str:
    """Frames below one another; the first column says to which table a row belongs."""
    import pandas as pd

    parts = [frame.assign(table=number) for number, frame in frames.items() if len(frame)]
    if not parts:
        return ""
    whole = pd.concat(parts, ignore_index=True)
    return whole[["table", *(name for name in whole if name != "table")]].to_csv(index=False)


def _nothing(roots: Sequence[Path], skipped: Sequence[str]) -> str:
    """Why there is nothing to report, and what to do."""
    where = ", ".join(map(str, roots))
    missing = [str(root) for root in roots if not root.is_dir()]
    if skipped:
        return f"{where}: none of {len(skipped)} records can be used; first: {skipped[0]}"
    advice = "run `python -m bench.run --models vanilla --seeds 5` first"
    return (
        f"{', '.join(missing)}: no such folder; {advice}"
        if missing
        else f"{where}: no finished runs; {advice}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. 0: built; 2: the request was wrong or there is nothing to report."""
    parser = argparse.ArgumentParser(
        "python -m reports.build", description="Tables, plots and a page from run folders."
    )
    parser.add_argument(
        "roots", nargs="*", type=Path, default=[Path("results")], metavar="RESULTS", help="results folders"
    )
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: all of them"
    )
    parser.add_argument("--out", type=Path, help="where to write; default: <first RESULTS>/report")
    parser.add_argument("--baseline", help="the model that others are compared with; default: vanilla")
    parser.add_argument("--trace", action="store_true", help="print which run.json files are behind each row")
    args = parser.parse_args(argv)
    try:
        report = build(args.roots, args.out or args.roots[0] / "report", args.format, baseline=args.baseline)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    for line in report.skipped:
        print(f"skipped {line}", file=sys.stderr)
    if args.trace:
        for group in report.groups:
            print(trace(group))
    for path in report.files:
        print(path)
    return 0


def trace(group: Group) -> str:
    """The run.json files behind each row of a group's tables."""
    lines = [f"Table {group.number}: {group.title}"]
    for run_id, label in zip(group.summary["id"], group.summary["label"], strict=True):
        lines.append(f"  {label}")
        mine = group.runs[group.runs["id"] == run_id].sort_values("seed")
        lines += [f"    {run['folder']}/run.json ({run['status']})" for run in mine.to_dict("records")]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
