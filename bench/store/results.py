"""A results folder: the run folders in it, and the records of all runs.

Only regular files are opened, and no links below ``runs``: a link leads elsewhere, and a pipe makes one wait.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import printable
from bench.store import rows
from bench.store.files import UnreadableError, read_bytes, refuse_others, set_aside, writing
from bench.store.jobs import Job
from bench.store.records import DamagedRecordError, ForeignRecordError, Record, RecordError, read_record

COMMANDS = "commands.jsonl"
"""In a results folder: the commands that were given, each with the runs that it became and their labels."""

NAMED = re.compile(
    r"run\.json|history\.csv|(samples(-\d+)?|real|neighbours)\.png|(samples|points)\.npz|checkpoint(-before)?\.pt"
    r"|progress\.json|attempts\.json|error\.log|lease-\d+"
)
"""The files of a run's folder."""


def others(folder: Path) -> list[UnreadableError]:
    """An error for each link, pipe, device or folder that stands in place of one of a run's files."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for name in sorted(each.name for each in entries if not each.is_file(follow_symlinks=False)):
            if NAMED.fullmatch(name):
                try:
                    refuse_others(folder / name)
                except UnreadableError as error:
                    found.append(error)
    return found


def old_name(folder: Path) -> Path:
    """A free name beside a run's folder, to keep it under: ``old-seed-0-1``. Reports skip such folders."""
    n = 1
    while os.path.lexists(old := folder.with_name(f"old-{folder.name}-{n}")):
        n += 1
    return old


OLD = re.compile(r"old-seed-\d+-\d{1,9}")


def clear_out(folder: Path) -> Path:
    """Move what a run's folder holds, except leases, to :func:`old_name`; returns that folder."""
    old = old_name(folder)
    with writing(old):
        old.mkdir()
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "run.json"):  # it goes last
            if not path.name.startswith("lease-"):
                path.rename(old / path.name)
    return old


def usable_record(folder: Path, job: Job, *, mine: bool) -> Record | None:
    """The record of a job's run, or ``None`` where there is none that counts.

    What is damaged is set aside. The record of another run, and what lies beside it, is moved out of the
    way by whoever has the lease (``mine``): it may be the only one.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        return read_record(folder, job)
    except DamagedRecordError as error:
        print(f"{error}; kept as {set_aside(error.path).name}", file=sys.stderr)
    except ForeignRecordError as error:
        if mine:
            print(f"{error}; kept in {clear_out(folder).name}", file=sys.stderr)
    return None


@dataclass(frozen=True)
class Found:
    """One run folder with its record."""

    folder: Path
    record: Record


def scan(roots: Iterable[Path]) -> Iterator[Found | RecordError | UnreadableError]:
    """Every record below ``<root>/runs``, in a stable order, or the error where one does not count.

    There is an error, too, for whatever stands beside a record in place of a file.
    """
    for root in roots:
        for folder in _folders(root / "runs"):
            try:
                if isinstance(folder, UnreadableError):
                    raise folder
                record = read_record(folder)
            except (RecordError, UnreadableError) as error:
                yield error
            else:
                if record is not None:
                    yield Found(folder, record)
                yield from others(folder)


def _folders(runs: Path) -> Iterator[Path | UnreadableError]:
    """The run folders of every configuration, links included, without those that were put away."""
    for configuration in _listed(runs):
        if isinstance(configuration, Path) and configuration.is_symlink():
            yield UnreadableError(errno.EINVAL, "is a link, not a folder", str(configuration))
        elif isinstance(configuration, Path):
            yield from _listed(configuration)
        else:
            yield configuration


def _listed(folder: Path) -> Iterator[Path | UnreadableError]:
    try:
        with os.scandir(folder) as entries:
            found = [each for each in entries if each.is_symlink() or each.is_dir(follow_symlinks=False)]
            names = sorted(each.name for each in found if not OLD.fullmatch(each.name))
    except FileNotFoundError:
        return
    except OSError as error:
        yield UnreadableError(error.errno, error.strerror or str(error), str(folder))
        return
    yield from (folder / name for name in names)


def load(roots: Iterable[Path]) -> tuple[list[Found], list[str]]:
    """The runs that a report can use, failed ones included, and a line with its path for each other one.

    Left out are records that do not count or that are of no use (``rows.problem``), second copies of a run,
    and runs that are not finished. All texts in the records are printable. ``label`` is added to a record
    whose configuration has one: see :func:`_labels`.
    """
    roots = list(roots)
    found: list[Found] = []
    skipped: list[str] = []
    useless: list[str] = []
    paths: dict[tuple[str, int], str] = {}
    labels = {root: _labels(root) for root in roots}
    for each in scan(roots):
        if not isinstance(each, Found):
            skipped.append(printable(each))
            continue
        run = Found(each.folder, _printable(each.record))
        path = f"{run.folder}/run.json"
        why = rows.problem(run.record)
        if why is None:
            first = paths.setdefault((run.record["id"], run.record["seed"]), path)
            why = None if first == path else f"the same run as {first}, which is used"
        if why is None:
            label = labels[run.folder.parents[2]].get(run.folder.parent.name)
            found.append(run if label is None else Found(run.folder, run.record | {"label": label}))
        else:
            useless.append(printable(f"{path}: {why}"))
    return found, [*skipped, *_unfinished(roots), *useless]


def _labels(root: Path) -> dict[str, str]:
    """Folder of a configuration -> its label, from the commands that were given; of several the latest."""
    found: dict[str, str] = {}
    try:
        lines = read_bytes(root / COMMANDS).decode(errors="replace").splitlines()
    except OSError:  # a report can do without
        return {}
    for line in lines:
        with suppress(ValueError, RecursionError):
            note = json.loads(line)
            named = note.get("labels") if isinstance(note, dict) else None
            if isinstance(named, dict):
                found |= {name: printable(label) for name, label in named.items() if isinstance(label, str)}
    return found


def _unfinished(roots: Iterable[Path]) -> Iterator[str]:
    """A line for each run without a record."""
    for root in roots:
        for folder in sorted((root / "runs").glob("*/seed-*")):
            linked = folder.is_symlink() or folder.parent.is_symlink()
            if folder.is_dir() and not linked and not os.path.lexists(folder / "run.json"):
                yield printable(f"{folder}: not finished")


def _printable(value: Any) -> Any:
    """The same with all texts printable: what a record says ends in terminals, pages and tables."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): _printable(item) for key, item in value.items()}
    return value
