"""Tensors on disk that can be trusted: whole, checked, and safe to load.

``<stem>.safetensors`` holds the tensors; ``<stem>.json`` holds what is recorded of them, with the first
file's SHA-256 and a checksum of its own. A cache keeps such a pair in a folder of its own, which is
renamed into place when both are written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from bench.errors import printable
from bench.store.files import UnreadableError, reading, set_aside, write_atomic, write_json
from bench.store.records import sealed

Entry = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and their record."""


class DamagedError(Exception):
    """A file that is there but is not what was written."""


def write(stem: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write both files; the record gains ``sha256``."""
    data = save(dict(tensors))
    write_atomic(stem.with_suffix(".safetensors"), lambda temporary: temporary.write_bytes(data))
    write_json(stem.with_suffix(".json"), sealed({**record, "sha256": hashlib.sha256(data).hexdigest()}))


def read(stem: Path) -> Entry:
    """What :func:`write` wrote.

    Raises:
        FileNotFoundError: one of the files is missing.
        DamagedError: one of them changed since.
    """
    data = stem.with_suffix(".safetensors").read_bytes()
    text = stem.with_suffix(".json").read_bytes()
    try:
        record = json.loads(text)
        intact = sealed(record) == record and record["sha256"] == hashlib.sha256(data).hexdigest()
    except (ValueError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise DamagedError(f"{stem} is damaged: a checksum does not match")
    return load(data), record


def kept(folder: Path) -> Entry | None:
    """What a cache keeps in this folder, if anything. Damage is set aside and said aloud.

    Raises:
        UnreadableError: it cannot be read, or the folder is a link.
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
        with suppress(FileNotFoundError):  # another process was first
            print(f"{printable(error)}; moved to {set_aside(folder)}, computing it again", file=sys.stderr)
        return None


def keep(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Entry:
    """Put an entry in place, whole; returns what is there then.

    Where another process was first, that is its entry.
    """
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
