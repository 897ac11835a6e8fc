"""A results folder: the run folders in it, and all their records as one frame.

Only regular files are opened, and no links below ``runs``: those lead elsewhere, and pipes make one wait.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import printable
from bench.store.files import UnreadableError, refuse_others, writing
from bench.store.records import Record, RecordError, read_record

if TYPE_CHECKING:
    import pandas as pd

NAMED = re.compile(
    r"run\.json|history\.csv|samples(-\d+)?\.png|samples\.npz|checkpoint(-before)?\.pt"
    r"|progress\.json|attempts\.json|error\.log|lease-\d+"
)
"""The files of a run's folder."""


def others(folder: Path) -> list[UnreadableError]:
    """What stands in a run's folder in place of one of its files: links, pipes, devices, folders."""
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
    """Where a run's folder can be kept, beside it: ``old-seed-0-1``. No report looks there."""
    n = 1
    while os.path.lexists(old := folder.with_name(f"old-{folder.name}-{n}")):
        n += 1
    return old


OLD = re.compile(r"old-seed-\d+-\d{1,9}")


def clear_out(folder: Path) -> Path:
    """Move all that a run's folder holds, but for claims, to where it is kept; returns that folder."""
    old = old_name(folder)
    with writing(old):
        old.mkdir()
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "run.json"):  # it goes last
            if not path.name.startswith("lease-"):
                path.rename(old / path.name)
    return old


@dataclass(frozen=True)
class Found:
    """One run folder with its record."""

    folder: Path
    record: Record


def scan(roots: Iterable[Path]) -> Iterator[Found | RecordError | UnreadableError]:
    """Every run.json below ``<root>/runs``, in a stable order; of what does not count the error.

    So too of what stands beside a record in place of a file.
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
    """The folders in the folders of configurations, links included; but for those that were put away."""
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


def load(roots: Path | Iterable[Path]) -> pd.DataFrame:
    """One row per run, nested keys joined by dots (``metrics.classifier.fid``), and its ``folder``.

    Records that do not count are left out; ``load(...).attrs["skipped"]`` lists each as a line.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    folders: list[str] = []
    skipped: list[str] = []
    for found in scan([roots] if isinstance(roots, Path) else roots):
        if isinstance(found, Found):
            rows.append(_flat(_shown(found.record)))
            folders.append(str(found.folder))
        else:
            skipped.append(printable(found))
    # A path need not be text, which is what a column of strings takes.
    frame = pd.DataFrame(rows).assign(folder=pd.Series(folders, dtype=object))
    frame.attrs["skipped"] = skipped
    return frame


def _shown(value: Any) -> Any:
    """The same with all texts printable: what a record says ends in terminals, pages and tables."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): _shown(item) for key, item in value.items()}
    return value


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) and item and prefix != "code.":  # below it, keys are files
            row |= _flat(item, f"{prefix}{key}.")
        else:
            row[prefix + key] = item
    return row
