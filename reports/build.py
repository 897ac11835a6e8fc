"""Build the report: ``python -m reports.build results [more] [--format markdown latex csv html]``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import Parser, chosen, path, run_main
from bench.errors import UsageError, nearest, printable
from bench.store.records import DamagedRecordError, slug

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reports.page import Picture
    from reports.searches import Search
    from reports.styles import Look
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
    removed: list[Path]
    """Files of an earlier report that this one did not renew."""
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
    strict_environment: bool = False,
    with_machine: bool = False,
) -> Report:
    """Write the report on all runs below ``roots`` into ``out``.

    ``baseline``: the model that others are compared with; without one, ``vanilla`` where it was run.
    ``quick`` draws training curves, per-seed scores and sample grids only. Figures are PNG, and PDF too
    where ``formats`` has LaTeX. Whatever formats and figures an earlier report left in ``out`` are renewed
    too, or removed where there is nothing to draw any more: no part of a report is older than another.
    ``strict_environment`` refuses tables whose runs were computed in several environments; nothing is
    written then. ``with_machine`` leaves names of hosts and absolute paths in what is written.

    Raises:
        MixedEnvironmentError: with ``strict_environment``.
        UsageError: no runs yet, or none of the baseline asked for.
        NoUsableRecordError: runs, but no record among them that can be read.
    """
    from bench.store.files import write_atomic
    from reports import (
        compare,
        environments,
        folder,
        page,
        plots,
        private,
        searches,
        sheets,
        styles,
        summary,
        tables,
        text,
    )

    if not all(root.is_dir() for root in roots):
        raise UsageError(_nothing(roots))
    runs = summary.load(roots)
    skipped = list(runs.attrs["skipped"])
    if runs.empty and skipped:
        raise NoUsableRecordError(f"{_names(roots)}: none of {len(skipped)} runs can be used; {skipped[0]}")
    if runs.empty:
        raise UsageError(_nothing(roots))
    hide = private.SHOW_ALL if with_machine else private.hider(runs, roots)
    runs = runs if with_machine else private.without_machine(runs, hide)
    runs = runs.assign(place=[hide.paths(printable(folder)) for folder in runs["folder"]])
    models = sorted(set(runs["model"]))
    if baseline is not None and baseline not in models:
        raise UsageError(
            f"--baseline {baseline!r}: no runs of it; one of {', '.join(models)}{nearest(baseline, models)}"
        )
    baseline = baseline or "vanilla"
    groups = summary.groups(runs)
    if strict_environment:
        environments.refuse_mixed(groups)
    compared = {group.number: compare.comparisons(group, baseline) for group in groups}
    built: dict[int, list[Table]] = {}
    for group in groups:
        against = tables.pairs(group, compared[group.number], "baseline")
        several = (tables.scores(group), tables.training(group), tables.sources(group), against)
        built[group.number] = [table for table in several if table is not None]
    every = [table for some in built.values() for table in some]
    found, unread = searches.load(roots)
    skipped += unread
    hidden = [hide.prose(line) for line in skipped]
    before = folder.held(out)
    formats = [kind for kind in FORMATS if kind in {*formats, *folder.formats(before)}]
    quick = quick and not folder.is_full(before)
    shared = [[s for s in found if s.alike == alike] for alike in sorted({s.alike for s in found})]
    files: list[Path] = []

    def write(name: str, text: str) -> None:
        write_atomic(out / name, lambda path: path.write_text(text, encoding="utf-8"))
        files.append(out / name)

    kinds = ("png", "pdf") if "latex" in formats else ("png",)
    pictures: list[page.Picture] = []

    def draw(number: int, name: str, caption: str, figure: Figure) -> None:
        files.extend(plots.save(figure, out / name, kinds))
        pictures.append(page.Picture(number, caption, out / f"{name}.png"))

    drawn = [group.best(MOST_DRAWN) for group in groups]
    look = styles.looks(drawn, shared)
    if set(formats) != {"csv"}:
        for group, best in zip(groups, drawn, strict=True):
            number = "" if group.number == 1 else f"-{group.number}"
            for name, caption, figure in _figures(best, len(group.summary), look, quick):
                draw(group.number, f"{name}{number}", caption, figure)
        for k, mine in enumerate([] if quick else shared):
            draw(0, f"budget-{k + 1}", hide.paths(_of_searches(mine)), plots.budget(mine, look))
    keys = {group.number: _short_names(group, look) for group in drawn}
    if "markdown" in formats:
        parts: list[str] = []
        for group in groups:
            parts += map(text.markdown, built[group.number])
            parts.append(_shown(pictures, group.number, keys[group.number]))
        write("table.md", "\n".join(filter(None, [*parts, _shown(pictures, 0)])))
    if "latex" in formats:
        write(
            "table.tex",
            folder.LATEX_HEAD
            + text.join([part for table in every for part in text.fitted(table)], text.latex),
        )
    if "html" in formats:
        write("report.html", page.render(runs, groups, compared, pictures, hidden, keys, hide))
    if "csv" in formats:
        numbered = {
            group.number: group.summary.assign(environments=environments.of_rows(group)) for group in groups
        }
        write("table.csv", _csv(numbered))
        write("comparisons.csv", _csv(compared))
        shown = runs.drop(columns=["evals", "folder"], errors="ignore").rename(columns={"place": "folder"})
        write("runs.csv", sheets.to_csv(shown))
    removed = folder.close(out, before, files)
    return Report(runs, groups, every, pictures, files, removed, skipped)


MOST_DRAWN = 12
"""Configurations in a figure: more cannot be told apart. Tables show all of them."""


def _figures(
    group: Group, of: int, look: Mapping[str, Look], quick: bool
) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure of everything that the records of a group, the best of so many, can show."""
    from reports import plots

    n = len(group.summary)
    on = group.title if n == of else f"{group.title}, the best {n} of {of}"
    runs = _runs(group)
    measured = f"{runs}, {_measured(group)}"
    spread = "mean and range over seeds" if n <= plots.MOST_BANDS else "mean over seeds"
    drawn: list[tuple[str, str, Figure | None]] = []

    def draw(name: str, caption: str, figure: Figure | None) -> None:
        drawn.append((name, caption, figure))

    for k, extractor in enumerate(group.extractors):
        draw(
            f"scores_{slug(extractor)}" if k else "scores",
            f"Scores ({extractor}), {on}: {_marks(group, extractor)}. {measured}.",
            plots.strip(group, extractor, look),
        )
    grids = plots.first_grids(group)
    draw("samples", f"Samples{_whose(group, grids)}, {on}. {runs}.", plots.grids(group, grids, look))
    draw(
        "curves",
        f"Losses and, but for critics, discriminator accuracy on training batches against step, {on}: mean "
        f"and range over seeds; dotted: one half; a cross: a run that ended early. {runs}.",
        plots.curves(group, look),
    )
    for k, extractor in enumerate([] if quick else group.extractors):
        if not group.scores(extractor):
            continue
        suffix = f"_{slug(extractor)}" if k else ""
        first = group.scores(extractor)[0]
        draw(
            f"convergence{suffix}",
            f"{first.label} ({extractor}) along training, {on}: {spread}. {measured}.",
            plots.convergence(group, extractor, first, look),
        )
        draw(
            f"precision_recall{suffix}",
            f"Precision and recall ({extractor}) of every seed, {on}. {measured}.",
            plots.precision_recall(group, extractor, look),
        )
        draw(
            f"profile{suffix}",
            f"Share of runs whose {first.label} ({extractor}) is at least as good as a threshold, {on}; "
            f"failed runs count and are never good enough. {measured}.",
            plots.profiles(group, extractor, first, look),
        )
    if not quick:
        frames = plots.first_frames(group)
        draw(
            "filmstrip",
            f"Samples along training{_whose(group, frames)}, {on}. {runs}.",
            plots.filmstrip(group, frames, look),
        )
    yield from ((name, caption, figure) for name, caption, figure in drawn if figure is not None)


def _runs(group: Group) -> str:
    """How many seeds were trained, for how long."""
    from reports.summary import ranges

    seeds, steps = set(group.runs["seed"]), sorted(set(group.runs["steps"]))
    length = " to ".join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1])))
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({ranges(seeds)}), {length} steps"


def _measured(group: Group) -> str:
    """What the scores were taken on."""
    fake, real = (group.protocol.get(name, "?") for name in ("n_fake", "n_real"))
    split = group.protocol.get("scored_on", "unknown")
    against = f"{real} images of the {split} split"
    return against if group.task == "super-resolution" else f"{fake} samples against {against}"


def _marks(group: Group, extractor: str) -> str:
    """What is drawn in a figure of scores: intervals and lines where there are any."""
    from reports.plots import reference_lines
    from reports.stats import FEWEST_FOR_INTERVAL

    known = group.scores(extractor)
    names = [f"metrics.{extractor}.{score.key}" for score in known]
    sizes = {
        int(row[f"{name}.n"])
        for row in group.summary.to_dict("records")
        for name in names
        if row[f"{name}.ci_low"] == row[f"{name}.ci_low"]
    }
    marks = ["a dot per seed, a tick at the mean"]
    if sizes:
        n = " to ".join(map(str, dict.fromkeys((min(sizes), max(sizes)))))
        marks.append(f"a bar for its 95 % BCa bootstrap interval over {n} seeds")
        if (group.summary[[f"{name}.n" for name in names]] < FEWEST_FOR_INTERVAL).any(axis=None):
            marks.append(f"none of fewer than {FEWEST_FOR_INTERVAL}")
    lines = dict.fromkeys(who for score in known for who in reference_lines(group, extractor, score))
    return "; ".join([", ".join(marks), *([f"dashed: {' or '.join(lines)}"] if lines else [])])


def _whose(group: Group, shown: Mapping[str, tuple[int, object]]) -> str:
    """Of which seeds pictures are, and what stands in their columns."""
    from reports.plots import HEADS
    from reports.summary import ranges

    seeds = {seed for seed, _ in shown.values()}
    whose = f" of seed{'s' * (len(seeds) > 1)} {ranges(seeds)}"
    if len(seeds) > 1:
        whose += ", each model's first"
    if heads := HEADS.get(group.task):
        return f"{whose}, columns: {', '.join(heads)}"
    asked = "metrics.classifier.cond_accuracy"
    told = sorted(set(group.runs.loc[group.runs[asked].notna(), "model"])) if asked in group.runs else []
    return f"{whose}, columns of {', '.join(told)}: classes in order" if told else whose


def _of_searches(searches: Sequence[Search]) -> str:
    """The caption of a figure of searches."""
    from reports.plots import MOST_BANDS

    first = searches[0]
    trials = sorted(len(search.curve) for search in searches)
    n = " to ".join(map(str, dict.fromkeys((trials[0], trials[-1]))))
    band = f", with a 95 % percentile bootstrap band over {n} trials" if len(searches) <= MOST_BANDS else ""
    return (
        f"Expected best validation {first.objective} of a search on {first.dataset} against its number of "
        f"trials{band}. For random search an estimate, for others a description."
    )


def _short_names(group: Group, look: Mapping[str, Look]) -> dict[str, str]:
    """The names that figures cut short, and what they stand for."""
    mine = (look[run_id] for run_id in group.summary["id"])
    return {how.label: how.whole for how in mine if how.label.strip() != how.whole}


def _shown(pictures: Sequence[Picture], number: int, names: Mapping[str, str] | None = None) -> str:
    """A group's figures in markdown, each with its caption, below what their short names stand for."""
    from reports.text import escape_markdown

    mine = [picture for picture in pictures if picture.group == number]
    lines = [f"- {escape_markdown(f'{short}: {whole}')}" for short, whole in (names or {}).items() if mine]
    parts = ["Names in the figures:\n\n" + "\n".join(lines) + "\n"] if lines else []
    for picture in mine:
        path = picture.path
        parts.append(f"![{path.stem}]({path.name})\n\n*{escape_markdown(picture.caption)}*\n")
    return "\n".join(parts)


def _csv(frames: Mapping[int, pd.DataFrame]) -> str:
    """Frames below one another; the first column says to which table a row belongs."""
    import pandas as pd

    from reports import sheets

    parts = [frame.assign(table=number) for number, frame in frames.items()]
    whole = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return sheets.to_csv(whole[["table", *(name for name in whole if name != "table")]])


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
        lines += [
            f"    {printable(run['folder'])}/run.json ({run['status']})" for run in mine.to_dict("records")
        ]
    return "\n".join(lines)


# ---------------------------------------------------------------- the command line


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="reports.build", description="Tables, figures and a page from run folders.")
    p.add_argument("roots", nargs="*", type=path, default=[Path("results")], metavar="RESULTS")
    p.add_argument(
        "--format", type=chosen(FORMATS), nargs="+", default=list(FORMATS), metavar="NAME",
        help="markdown, latex, csv, html; default: all of them",
    )  # fmt: skip
    p.add_argument("--out", type=path, metavar="DIR", help="default: <first RESULTS>/report")
    p.add_argument("--baseline", metavar="MODEL", help="others are compared with it; default: vanilla")
    p.add_argument(
        "--strict-environment",
        action="store_true",
        help="refuse tables whose runs were computed in several environments (torch, device and so on)",
    )
    p.add_argument(
        "--with-machine",
        action="store_true",
        help="write names of hosts and absolute paths too, which are left out otherwise",
    )
    p.add_argument("--trace", action="store_true", help="print the run.json files behind each row")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Build the report; returns 0, or 1 where no record can be used or the report cannot be written.

    Raises:
        UsageError: the request was wrong, or there are no runs yet.
    """
    args = parser().parse(argv)
    from reports.environments import MixedEnvironmentError

    out = args.out or args.roots[0] / "report"
    gc.set_threshold(100_000)  # of 1,000 runs' objects hardly any is garbage: looking for it takes a tenth
    try:
        report = build(
            args.roots,
            out,
            args.format,
            baseline=args.baseline,
            strict_environment=args.strict_environment,
            with_machine=args.with_machine,
        )
    except (NoUsableRecordError, DamagedRecordError, MixedEnvironmentError) as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(printable(f"error: {error.filename or out}: {error.strerror}"), file=sys.stderr)
        return 1
    for line in report.skipped:
        print(f"skipped {line}", file=sys.stderr)
    if args.trace:
        for group in report.groups:
            print(trace(group))
    for gone in report.removed:
        print(f"removed {printable(gone)}: of an earlier report", file=sys.stderr)
    for written in report.files:
        print(printable(written))
    return 0


if __name__ == "__main__":
    run_main(main)
