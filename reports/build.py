"""Build the report: ``python -m reports.build results [more] [--format markdown latex csv html]``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import Parser, chosen, path, run_main
from bench.errors import UsageError, nearest, printable
from bench.store.records import DamagedRecordError

if TYPE_CHECKING:
    import pandas as pd

    from reports.groups import Group
    from reports.page import Picture
    from reports.tables.text import Table
    from reports.target import Target

FORMATS = ("markdown", "latex", "csv", "html")


@dataclass(frozen=True)
class Report:
    """What was built."""

    runs: pd.DataFrame
    groups: list[Group]
    tables: list[Table]
    pictures: list[Picture]
    files: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    """Files of an earlier report that this one did not renew."""
    skipped: list[str] = field(default_factory=list)
    """One line, with its path, per record that could not be used."""


class NoUsableRecordError(Exception):
    """There are runs, but no report can be built on any of them."""


def build(
    roots: Sequence[Path],
    out: Path,
    formats: Sequence[str] = FORMATS,
    *,
    runs: pd.DataFrame | None = None,
    baseline: str | None = None,
    quick: bool = False,
    strict_environment: bool = False,
    with_machine: bool = False,
    target: Target | None = None,
) -> Report:
    """Write the report on all runs below ``roots`` into ``out``.

    ``runs``: what :func:`reports.load` gave for these roots, where that was called before. ``baseline``: the
    model that others are compared with; by default ``vanilla`` where it was run. ``quick`` draws training
    curves, per-seed scores and sample grids only. Figures are PNG, and PDF too where ``formats`` has LaTeX.
    Formats and figures that an earlier report left in ``out`` are renewed too, or removed where there is
    nothing to draw any more: no part of a report is older than another. ``strict_environment`` refuses tables
    whose runs were computed in several environments; nothing is written then. ``with_machine`` keeps names of
    hosts and absolute paths. ``target``: the score of the table of times, see :func:`reports.target.reached`.

    Raises:
        MixedEnvironmentError: with ``strict_environment``.
        UsageError: no runs yet, none of the baseline asked for, or none scored along the way with ``target``.
        NoUsableRecordError: runs, but no record among them that can be read.
    """
    from reports import across, environments, groups, private, searches, sections, write
    from reports import runs as loading

    if not all(root.is_dir() for root in roots):
        raise UsageError(_nothing(roots))
    runs = loading.load(roots) if runs is None else runs
    skipped = list(runs.attrs["skipped"])
    _check(runs, skipped, roots, baseline)
    hide = private.SHOW_ALL if with_machine else private.hider(runs, roots)
    runs = runs if with_machine else private.without_machine(runs, hide)
    runs = runs.assign(place=[hide.paths(printable(folder)) for folder in runs["folder"]])
    found = groups.groups(runs)
    if strict_environment:
        environments.refuse_mixed(found)
    parts = [sections.section(group, baseline or "vanilla", target) for group in found]
    if target is not None and not any(part.reached for part in parts):
        raise UsageError(f"--target {target.score.name}: no run was scored with it along the way")
    studies, unread = searches.load(roots)
    content = write.Content(
        runs=runs,
        sections=parts,
        searches=studies,
        skipped=[hide.prose(line) for line in [*skipped, *unread]],
        hide=hide,
        across=across.across(found),
    )
    written = write.write(content, out, formats, quick=quick)
    tables = [*content.across_tables, *(table for s in content.sections for table in s.tables)]
    return Report(runs, found, tables, written.pictures, written.files, written.removed, [*skipped, *unread])


def _check(runs: pd.DataFrame, skipped: Sequence[str], roots: Sequence[Path], baseline: str | None) -> None:
    """Refuse to report on no runs, or against a baseline that was not run."""
    if runs.empty and skipped:
        raise NoUsableRecordError(f"{_names(roots)}: none of {len(skipped)} runs can be used; {skipped[0]}")
    if runs.empty:
        raise UsageError(_nothing(roots))
    models = sorted(set(runs["model"]))
    if baseline is not None and baseline not in models:
        raise UsageError(
            f"--baseline {baseline!r}: no runs of it; one of {', '.join(models)}{nearest(baseline, models)}"
        )


def _nothing(roots: Sequence[Path]) -> str:
    """Why there is nothing to report, and what to do."""
    missing = [str(root) for root in roots if not root.is_dir()]
    why = f"{', '.join(missing)}: no such folder" if missing else f"{_names(roots)}: no finished runs"
    return f"{why}; run `python -m bench.run --models vanilla --seeds 5` first"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def trace(group: Group) -> str:
    """Each seed behind each row of a group's tables: its scores, and the file that they stand in."""
    several = len(group.extractors) > 1
    scores = [
        (f"{score.label}{f' ({extractor})' if several else ''}", score.column(extractor), score.factor)
        for extractor in group.extractors
        for score in group.scores(extractor)
    ]
    lines = [f"Table {group.number}: {group.title}"]
    for run_id, label in zip(group.summary["id"], group.summary["label"], strict=True):
        lines.append(f"  {label}")
        for run in group.of(run_id).to_dict("records"):
            held = ((name, run[column] * factor) for name, column, factor in scores)
            values = ", ".join(f"{name} {value:.6g}" for name, value in held if value == value)
            lines.append(f"    seed {run['seed']}: {values or run['status']}")
            lines.append(f"      {printable(run['folder'])}/run.json ({run['status']})")
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
    p.add_argument(
        "--target",
        metavar="NAME=VALUE",
        help="tell when each run reaches this score, as in fid=5; default: the baseline's median final score",
    )
    p.add_argument("--trace", action="store_true", help="print each seed's scores, and its run.json")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Build the report; returns 0, or 1 where no record can be used or the report cannot be written.

    Raises:
        UsageError: the request was wrong, or there are no runs yet.
    """
    args = parser().parse(argv)
    from reports.environments import MixedEnvironmentError
    from reports.target import parse

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
            target=parse(args.target) if args.target else None,
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
    for table in report.tables:
        if table.verdict:
            print(printable(table.verdict))
    for gone in report.removed:
        print(f"removed {printable(gone)}: of an earlier report", file=sys.stderr)
    for written in report.files:
        print(printable(written))
    return 0


if __name__ == "__main__":
    run_main(main)
