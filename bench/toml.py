"""TOML files that users write: ``--config`` and ``--space``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bench.errors import UsageError

UNREADABLE = (OSError, ValueError, RecursionError)
"""What reading may raise: the file is missing, is not TOML or not UTF-8, has numbers of 5,000 digits, or is
nested too deeply."""


def read_toml(path: Path, flag: str) -> dict[str, Any]:
    """The content of a file that a flag names.

    Raises:
        UsageError: it cannot be read. The message names the flag and the file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise UsageError(f"{flag} {path}: {error}") from error
