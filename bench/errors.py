"""Errors that users see as one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(Exception):
    """The request is wrong. The message is one line that names the flag, the value and what is allowed."""


class ChangedError(Exception):
    """Code, data or weights have changed since a run was planned. The message is one line that names them."""


def nearest(word: str, options: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` if an option is similar to ``word``, otherwise an empty string.

    Upper and lower case count as equal.
    """
    folded = {option.casefold(): option for option in options}
    match = get_close_matches(word.casefold(), list(folded), n=1)
    return f"; did you mean {folded[match[0]]!r}?" if match else ""


def one_line(error: BaseException) -> str:
    """``ValueError: what went wrong``, on one line of at most 300 characters."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


def printable(text: object) -> str:
    """A text as one line that is safe in a terminal: control characters are escaped, as in ``\\x1b``.

    It is for all that comes from files: records, names of folders, notes. Characters that change the
    direction of writing, and halves of surrogate pairs, are escaped, too.
    """
    whole = str(text)
    if whole.isprintable():  # as nearly all are
        return whole
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in whole)
