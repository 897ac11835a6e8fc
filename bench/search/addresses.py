"""Addresses of databases. They may hold passwords, which reach no file and no terminal.

``bench.tune`` moves the address of ``--storage`` into its environment, which workers and jobs inherit. What
goes elsewhere (into workers, into the files that jobs are read from, into summaries) is a word for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from urllib.parse import quote, quote_plus

from bench.errors import UsageError

VARIABLE = "GAN_BENCH_STORAGE"

FROM_ENVIRONMENT = f"${VARIABLE}"
"""The word: it stands for the address that the variable holds. ``--storage`` takes it, too."""


class StorageError(UsageError):
    """A study's storage cannot be used; one line that names it."""


def hide(url: str) -> str:
    """Move an address into the environment of this process; returns what stands for it."""
    if url != FROM_ENVIRONMENT:
        os.environ[VARIABLE] = url
    return FROM_ENVIRONMENT


def address(url: str) -> str:
    """The address itself.

    Raises:
        StorageError: it is to be in the environment, and is not.
    """
    if url != FROM_ENVIRONMENT:
        return url
    if not (found := os.environ.get(VARIABLE)):
        raise StorageError(
            f"--storage {FROM_ENVIRONMENT}: the variable is not set; jobs need it in their environment, too"
        )
    return found


def shown(url: str) -> str:
    """An address without its password and without the values in its query, which may be passwords."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        real = address(url)
    except StorageError:
        return url
    try:
        parsed = make_url(real)
    except (ArgumentError, ValueError):
        scheme = real.rpartition("://")[0].partition("://")[0]
        return f"{scheme}://***" if scheme else "***" if {*"@?=;"} & {*real} else repr(real)
    if parsed.host is not None:  # behind the password's last @
        parsed = parsed.set(host=parsed.host.rpartition("@")[2])
    if {*"=;"} & {*(parsed.database or "")}:  # as some drivers take a password
        parsed = parsed.set(database="***")
    query = "&".join(f"{key}=***" for key in parsed.query)
    return parsed.set(query={}).render_as_string(hide_password=True) + (f"?{query}" if query else "")


def without_secrets(text: str, url: str) -> str:
    """What a driver says, with ``***`` where it repeats what :func:`shown` hides."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    secrets = {url}
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        values = parsed.normalized_query.values()
        secrets |= {str(parsed.password or ""), (parsed.host or "").rpartition("@")[0]}
        secrets |= {value for each in values for value in each if len(value) > 3}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        for form in (secret, quote(secret), quote_plus(secret)):
            text = text.replace(form, "***")
    return text
