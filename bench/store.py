"""Run folders: the only truth about what was computed.

    <out>/runs/<model>-<dataset>-<id>/seed-<k>/    run.json  history.csv  checkpoint.pt  samples.png

A run is finished when its ``run.json`` exists: it is written last, to a temporary name, and renamed.
``docs/records.md`` documents the record.

A record counts where it is whole, this version's, and in the folder that is named after it. What is damaged
may be set aside and computed again; what is another run's is kept elsewhere; what cannot be read stays.
Only regular files are opened, and no links below ``runs``: those lead elsewhere, and pipes make one wait.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import printable

if TYPE_CHECKING:
    import pandas as pd

    from bench.spec import Job

SCHEMA = 2
"""The version of ``run.json`` that this code writes."""

READABLE = (1, SCHEMA)
"""The versions that it reads."""

MOST = 2**26
"""Bytes of a file that is read whole: no record, history, note or picture comes near."""

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


class UnreadableError(UnwritableError):
    """Nor can something in it be read, or not by this version. That is no damage: it stays where it is."""

    def __str__(self) -> str:
        return printable(f"{self.filename}: {self.strerror}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, what the system refuses is an :class:`UnwritableError` that names the path."""
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), str(path)) from error


OTHERS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_others(path: Path) -> None:
    """Refuse what is not a regular file: a link leads elsewhere, who opens a pipe waits.

    Raises:
        FileNotFoundError: there is nothing.
        UnreadableError: there is something else.
    """
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        what = OTHERS.get(stat.S_IFMT(mode), "something else")
        raise UnreadableError(errno.EINVAL, f"is {what}, not a file", str(path))


@contextmanager
def reading(path: Path, most: float = MOST) -> Iterator[BufferedReader]:
    """A regular file of at most so many bytes, open within the block.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: there is something else, or the system refuses.
    """
    try:
        refuse_others(path)
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError(errno.EINVAL, "is not a file", str(path))
            if status.st_size > most:
                raise UnreadableError(errno.EFBIG, f"has {status.st_size:,} bytes", str(path))
            yield file
    except (FileNotFoundError, UnwritableError):
        raise
    except OSError as error:
        raise UnreadableError(error.errno, error.strerror or str(error), str(path)) from error


def read_bytes(path: Path, most: float = MOST) -> bytes:
    """All of a regular file; raises what :func:`reading` does."""
    with reading(path, most) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """The JSON in a regular file.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: there is something else, or the system refuses.
        ValueError: it holds something else.
    """
    text = read_bytes(path).decode()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def append(path: Path, text: str) -> None:
    """Add lines to a log, which is made if need be.

    Raises:
        UnwritableError: the system refuses, or there is no regular file.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            refuse_others(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o666), "ab") as file:
            file.write(text.encode(errors="backslashreplace"))


def write_atomic(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    A crash leaves the old file or the new one, never a part; ``durable`` flushes the new one to disk
    first, so that a power cut does not either.

    Raises:
        UnwritableError: no space, no permission, no folder; or there is something other than a file.
    """
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                refuse_others(path)
            temporary.unlink(missing_ok=True)
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


class RecordError(Exception):
    """A record that is there and does not count."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(printable(f"{path}: {reason}"))
        self.path, self.reason = path, reason


class DamagedRecordError(RecordError):
    """It is not what was written: it may be set aside."""


class ForeignRecordError(RecordError):
    """It is whole, and another run's: it may be the only one of that."""


NEEDED = {"id": str, "model": str, "dataset": str, "seed": int, "status": str}
"""Without these nobody can say what a record is of."""


def read_record(folder: Path, job: Job | None = None) -> Record | None:
    """A run's record, or ``None`` where the run is not finished.

    It must be that of the run after which the folder is named; and of ``job``, where that is given.

    Raises:
        DamagedRecordError: it cannot be trusted.
        ForeignRecordError: it is another run's.
        UnreadableError: it, or the history beside it, cannot be read, or not by this version.
    """
    path = folder / "run.json"
    for parent in (folder, folder.parent):
        if parent.is_symlink():
            raise UnreadableError(errno.EINVAL, "is a link, not a folder", str(parent))
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedRecordError(path, f"not JSON ({error})") from error
    if not isinstance(record, dict) or "schema" not in record:
        raise DamagedRecordError(path, "not a record of this harness")
    schema = record["schema"]
    if type(schema) is int and schema > SCHEMA:
        why = f"has schema {schema}, and this version reads {SCHEMA}: use the version that wrote it"
        raise UnreadableError(errno.EPROTO, why, str(path))
    if type(schema) is not int or schema not in READABLE:
        raise DamagedRecordError(path, f"schema {schema!r:.20}, this version reads {SCHEMA}")
    try:
        intact = sealed(record)["checksum"] == record.get("checksum")
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise DamagedRecordError(path, "its checksum does not match: damaged or edited")
    for name, kind in NEEDED.items():
        if type(record.get(name)) is not kind:
            raise DamagedRecordError(path, f"no usable {name!r}")
    if whose := _another(record, folder, job):
        raise ForeignRecordError(path, f"is the record of {whose}")
    if record.get("history_sha256") is not None:
        with suppress(FileNotFoundError):  # nothing there to distrust
            if file_digest(folder / "history.csv") != record["history_sha256"]:
                why = "history.csv beside it does not match its checksum: damaged or edited"
                raise DamagedRecordError(path, why)
    return record


def _another(record: Record, folder: Path, job: Job | None) -> str:
    """Which other run a record is of, by the names of its folder, and as the job has it; or nothing."""
    model, dataset, run_id, seed = (record[key] for key in ("model", "dataset", "id", "seed"))
    own, here = run_folder(Path(), model, dataset, run_id, seed), folder.absolute()
    if own.parent.name != here.parent.name:
        return f"seed {seed} of {own.parent.name}"
    if own.name != here.name:
        return f"seed {seed}"
    if job is not None and (model, run_id, seed) != (job.model, job.run_id, job.seed):
        return f"seed {seed} of {model}, id {run_id}"
    return ""


def file_digest(path: Path) -> str:
    """The SHA-256 of a regular file's content, in hex."""
    with reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


NAMED = re.compile(
    r"run\.json|history\.csv|samples(-\d+)?\.png|samples\.npz|checkpoint(-before)?\.pt"
    r"|progress\.json|queued\.json|error\.log|claim-\d+"
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


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that its name says so; returns the new path."""
    n = 0
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{n}")):
        n += 1
    path.replace(aside)
    return aside


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
            if not path.name.startswith("claim-"):
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
