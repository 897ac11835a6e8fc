"""A cache of computed results: tensors and plain data on disk, with checksums.

``<stem>.safetensors`` holds the tensors. ``<stem>.json`` holds the plain data, the SHA-256 of the first file,
and a checksum of its own. A cache entry is a folder with such a pair. It is written under a temporary name
and renamed when it is whole, so that several processes can use one cache. Loading an entry executes no code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import printable
from bench.store.files import UnreadableError, reading, set_aside, write_atomic, write_json
from bench.store.records import sealed

if TYPE_CHECKING:
    from torch import Tensor

Entry = tuple[dict[str, "Tensor"], dict[str, Any]]
"""Tensors by name, and plain data."""


class DamagedError(Exception):
    """A file exists but does not hold what was written."""


def write(stem: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write both files. ``sha256`` is added to the record."""
    from safetensors.torch import save

    data = save(dict(tensors))
    write_atomic(stem.with_suffix(".safetensors"), lambda temporary: temporary.write_bytes(data))
    write_json(stem.with_suffix(".json"), sealed({**record, "sha256": hashlib.sha256(data).hexdigest()}))


def read(stem: Path) -> Entry:
    """Read what :func:`write` wrote.

    Raises:
        FileNotFoundError: one of the files is missing.
        DamagedError: a checksum of one of them does not match.
    """
    from safetensors.torch import load  # here, not above: it imports PyTorch, which takes seconds

    data, record = _checked(stem)
    return load(data), record


def read_record(stem: Path) -> dict[str, Any]:
    """The plain data of an entry. The tensors are checked, but not loaded. Raises what :func:`read` does."""
    return _checked(stem)[1]


def _checked(stem: Path) -> tuple[bytes, dict[str, Any]]:
    data = stem.with_suffix(".safetensors").read_bytes()
    text = stem.with_suffix(".json").read_bytes()
    try:
        record = json.loads(text)
        intact = sealed(record) == record and record["sha256"] == hashlib.sha256(data).hexdigest()
    except (ValueError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise DamagedError(f"{stem} is damaged: a checksum does not match")
    return data, record


def cached(folder: Path, compute: Callable[[], Entry]) -> Entry:
    """The entry in this folder. Where there is none, or a damaged one, it is computed and kept.

    Raises:
        UnreadableError: the entry cannot be read, or the folder is a link.
    """
    entry = kept(folder)
    return keep(folder, *compute()) if entry is None else entry


def kept(folder: Path) -> Entry | None:
    """The entry in this folder, if there is one. A damaged entry is moved aside, with a line on stderr.

    Raises:
        UnreadableError: the entry cannot be read, or the folder is a link.
    """
    if folder.is_symlink():
        raise UnreadableError(errno.EINVAL, "is a link, not a folder", str(folder))
    if not folder.exists():
        return None
    stem = folder / "tensors"
    try:
        with reading(stem.with_suffix(".safetensors"), math.inf), reading(stem.with_suffix(".json")):
            return read(stem)
    except (DamagedError, FileNotFoundError) as error:
        with suppress(FileNotFoundError):  # another process moved it aside first
            print(f"{printable(error)}; moved to {set_aside(folder)}, computing it again", file=sys.stderr)
        return None


def keep(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Entry:
    """Put an entry in place, unless another process was faster. Returns the entry that is there then."""
    temporary = folder.with_name(f".{folder.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        write(temporary / "tensors", tensors, record)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read(folder / "tensors")
