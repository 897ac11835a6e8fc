"""Pack a study into one file: all that a paper's appendix needs, and that a reviewer can check.

python -m reports.pack results --out study.zip
python -m bench.verify study.zip
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.cli import Parser, path, run_main
from bench.errors import UsageError, printable
from bench.store import archive, records
from bench.store.files import read_bytes
from bench.version import VERSION
from reports import build
from reports.folder import is_file

if TYPE_CHECKING:
    import pandas as pd

    from reports.groups import Group
    from reports.private import Hider

OF_A_RUN = ("history.csv", "samples*.png", "real.png", "neighbours.png", "points.npz")
OF_A_STUDY = ("summary.json", "summary.md", "best.toml", "default.toml", "*.csv", "*.png")


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="reports.pack", description=(__doc__ or "").partition("\n\n")[0])
    p.add_argument("roots", nargs="*", type=path, default=[Path("results")], metavar="RESULTS")
    p.add_argument("--out", type=path, default=Path("study.zip"), metavar="FILE", help="default: study.zip")
    p.add_argument("--baseline", metavar="MODEL", help="as for reports.build")
    p.add_argument("--weights", action="store_true", help="with the final weights of every run")
    p.add_argument(
        "--with-machine", action="store_true",
        help="keep names of hosts, absolute paths and error.log, which are left out otherwise",
    )  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Pack; returns 0, or 1 where no record can be used.

    Raises:
        UsageError: the request was wrong, or there are no runs yet.
    """
    args = parser().parse(argv)
    from reports import load, private

    if args.out.is_dir():
        raise UsageError(f"--out: {args.out} is a folder; name a file, as in study.zip")
    try:
        runs = load(args.roots)
        hide = private.SHOW_ALL if args.with_machine else private.hider(runs, args.roots)
        with TemporaryDirectory(prefix="gan-bench-pack-") as scratch:
            out = Path(scratch) / "report"
            with_machine = args.with_machine
            report = build.build(
                args.roots, out, runs=runs, baseline=args.baseline, with_machine=with_machine
            )
            members = dict(_members(args.roots, report, hide, weights=args.weights))
            archive.write(args.out, members)
    except (build.NoUsableRecordError, records.DamagedRecordError) as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 1
    for line in report.skipped:
        print(f"skipped {line}", file=sys.stderr)
    size = args.out.stat().st_size / 1e6
    print(f"{printable(args.out)}: {len(report.runs)} runs, {len(members)} files, {size:.1f} MB")
    return 0


def _members(
    roots: Sequence[Path], report: build.Report, hide: Hider, *, weights: bool
) -> Iterator[tuple[str, bytes | Path]]:
    """Name in the archive -> content, or the file that holds it."""
    logs = ["error.log"] if hide.roots is None else []
    for file in report.files:
        yield f"report/{file.name}", file
    for folder in map(Path, report.runs["folder"]):
        here = f"runs/{folder.parent.name}/{folder.name}"
        yield f"{here}/run.json", _record(folder, hide)
        extra = ("samples.npz", *(["checkpoint.pt"] if weights else []), *logs)
        for file in _files(folder, (*OF_A_RUN, *extra)):
            yield f"{here}/{file.name}", file
    commands = []
    for root in roots:
        for study in sorted((root / "studies").glob("*")):
            for file in _files(study, OF_A_STUDY):
                text = file.suffix in (".json", ".md", ".toml", ".csv")
                yield f"studies/{study.name}/{file.name}", _hidden(file, hide) if text else file
        for file in sorted((root / "cache" / "classifiers").glob("*")):
            if is_file(file):
                yield f"cache/classifiers/{file.name}", file
        commands += [_hidden(file, hide) for file in _files(root, ("commands.jsonl",))]
    yield "commands.jsonl", b"".join(commands)
    yield "environment.json", (json.dumps(_environments(report.runs), indent=1) + "\n").encode()
    yield "README.md", _readme(report.groups, hide, weights=weights).encode()


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The regular files in a folder of these names."""
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if is_file(file)})


def _hidden(file: Path, hide: Hider) -> bytes:
    """A text without names of machines and absolute paths."""
    text = read_bytes(file).decode(errors="replace")
    return "".join(hide.prose(line) for line in text.splitlines(keepends=True)).encode()


def _record(folder: Path, hide: Hider) -> bytes:
    """A run's record. What names a machine is left out, and the record is sealed anew."""
    record = records.read_record(folder)
    assert record is not None  # the report has read it
    if hide.roots is not None:
        record["environment"] = {
            key: value for key, value in record["environment"].items() if key not in ("host", "source")
        }
        record["reason"] = hide.prose(record["reason"]) if record.get("reason") else record.get("reason")
        record = records.sealed(record)
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


def _environments(runs: pd.DataFrame) -> list[Mapping[str, Any]]:
    """Each environment of the runs, without the time, and how many runs were computed in it."""
    found: dict[str, int] = {}
    for record in runs["record"]:
        fields = {k: v for k, v in (record.get("environment") or {}).items() if k != "time"}
        text = json.dumps(fields, sort_keys=True)
        found[text] = found.get(text, 0) + 1
    return [{"runs": n, "environment": json.loads(text)} for text, n in found.items()]


def _readme(groups: Sequence[Group], hide: Hider, *, weights: bool) -> str:
    """What is in the archive, and the commands that make the runs again."""
    from reports.page import command

    held = "with the final weights" if weights else "without weights"
    lines = [
        f"# A study by gan-bench {VERSION}",
        "",
        "- `report/report.html`: open it in a browser; `table.md`, `table.tex`, CSV files, figures beside it",
        f"- `runs/`: the record, the history and the pictures of every run, {held}",
        "- `environment.json`: what computed the runs; `commands.jsonl`: the commands that were given",
        f"- `{archive.SUMS}`: `sha256sum --check {archive.SUMS}`",
        "",
        "Three runs, picked at random, are computed again and compared by",
        "",
        "    python -m bench.verify study.zip",
        "",
        "and every configuration is made again by",
        "",
    ]
    lines += [f"    {command(group, run_id, hide)}" for group in groups for run_id in group.summary["id"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_main(main)
