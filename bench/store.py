"""Run folders: the only truth about what was computed.

    <out>/runs/<model>-<dataset>-<id>/seed-<k>/    run.json  history.csv  checkpoint.pt  samples.png

A run is finished when its ``run.json`` exists: it is written last, to a temporary name, and renamed.
``docs/records.md`` documents the record.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import printable

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
"""The version of ``run.json`` that this code writes and reads."""

Record = dict[str, Any]


def digest(value: Any) -> str:
    """12 hex digits of the SHA-256 of a plain value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def slug(name: str) -> str:
    """A name as one safe path component: ``folder:/data/faces`` -> ``folder-data-faces``."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:80] or "unnamed"


def run_folder(out: Path, model: str, dataset: str, run_id: str, seed: int) -> Path:
    """Where one run lives."""
    return out / "runs" / f"{slug(model)}-{slug(dataset)}-{run_id}" / f"seed-{seed}"


class UnwritableError(OSError):
    """The results folder cannot be written: it is full, read-only or gone. No run's own fault."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, what the system refuses is an :class:`UnwritableError` that names the path."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), str(path)) from error


def write_atomic(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    A crash leaves the old file or the new one, never a part; ``durable`` flushes the new one to disk
    first, so that a power cut does not either.

    Raises:
        UnwritableError: no space, no permission, no folder.
    """
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write plain data as JSON, atomically. Numbers must be finite."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), durable=durable)


def sealed(record: Record) -> Record:
    """The record with a checksum of everything else in it."""
    body = {key: value for key, value in record.items() if key != "checksum"}
    return body | {"checksum": digest(body)}


def read_record(folder: Path) -> Record | None:
    """A run's record, or ``None`` where the run is not finished.

    Raises:
        DamagedRecordError: ``run.json`` exists but cannot be trusted.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(path, f"not JSON ({error})") from error
    except OSError as error:
        raise DamagedRecordError(path, f"cannot be read ({error.strerror})") from error
    if not isinstance(record, dict) or "schema" not in record:
        raise DamagedRecordError(path, "not a record of this harness")
    if record["schema"] != SCHEMA:
        raise DamagedRecordError(path, f"schema {record['schema']}, this version reads {SCHEMA}")
    try:
        intact = sealed(record)["checksum"] == record.get("checksum")
    except ValueError:
        intact = False
    if not intact:
        raise DamagedRecordError(path, "its checksum does not match: damaged or edited")
    try:
        same = file_digest(folder / "history.csv") == record.get("history_sha256")
    except FileNotFoundError:
        same = True  # nothing there to distrust
    except OSError as error:
        raise DamagedRecordError(path, f"history.csv beside it cannot be read ({error.strerror})") from error
    if record.get("history_sha256") is not None and not same:
        raise DamagedRecordError(path, "history.csv beside it does not match its checksum: damaged or edited")
    return record


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class DamagedRecordError(Exception):
    """A file that is there but cannot be trusted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that its name says so; returns the new path."""
    n = 0
    while (aside := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    path.replace(aside)
    return aside


@dataclass(frozen=True)
class Found:
    """One run folder with its record."""

    folder: Path
    record: Record


def scan(roots: Iterable[Path]) -> Iterator[Found | DamagedRecordError]:
    """Every run.json below ``<root>/runs``, in a stable order; what cannot be trusted comes as the error."""
    for root in roots:
        for path in sorted((root / "runs").glob("*/seed-*/run.json")):
            try:
                record = read_record(path.parent)
            except DamagedRecordError as error:
                yield error
            else:
                if record is not None:
                    yield Found(path.parent, record)


def load(roots: Path | Iterable[Path]) -> pd.DataFrame:
    """One row per run, nested keys joined by dots (``metrics.classifier.fid``), and its ``folder``.

    Records that cannot be trusted are left out; ``load(...).attrs["skipped"]`` lists each as a line.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    folders: list[str] = []
    skipped: list[str] = []
    for found in scan([roots] if isinstance(roots, Path) else roots):
        if isinstance(found, DamagedRecordError):
            skipped.append(printable(found))
        else:
            rows.append(_flat(_shown(found.record)))
            folders.append(str(found.folder))
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
