"""Wrong requests, said in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(Exception):
    """The request was wrong. The message is one line that names the flag, the value and what is allowed."""


def nearest(word: str, options: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where an option is close to ``word``, else an empty string."""
    match = get_close_matches(word, list(options), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def one_line(error: BaseException) -> str:
    """``ValueError: what went wrong``, on one line of at most 300 characters."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


def printable(text: object) -> str:
    """A text as one line that a terminal only shows: a control character becomes its escape, ``\\x1b``.

    For whatever was read from files: records, names of folders, notes. Characters that turn the direction
    of writing, and halves of surrogate pairs, are escaped too.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
