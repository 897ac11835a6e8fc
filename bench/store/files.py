"""Files that are written whole, and read only where they are regular files.

What is damaged may be set aside; what cannot be read stays. No link is followed and no pipe is waited for.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from bench.errors import printable

MOST = 2**26
"""Bytes of a file that is read whole: no record, history, note or picture comes near."""


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


def file_digest(path: Path) -> str:
    """The SHA-256 of a regular file's content, in hex."""
    with reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that its name says so; returns the new path."""
    n = 0
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{n}")):
        n += 1
    path.replace(aside)
    return aside
