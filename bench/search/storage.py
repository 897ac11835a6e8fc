"""Where a study is kept: a journal file in its folder, or a database."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import SQLAlchemyError

from bench.errors import one_line
from bench.search.addresses import StorageError, address, shown, without_secrets
from bench.store.files import refuse_others

optuna.logging.set_verbosity(optuna.logging.ERROR)
# But say when a journal's lock is held for long: that of a killed process blocks the others for 30 s.
logging.getLogger("optuna.storages.journal._file").setLevel(logging.WARNING)

PATIENCE = 30
"""Seconds for a database to answer."""


def open_storage(url: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """The storage of ``--storage``, or the journal in the study's folder.

    Raises:
        StorageError: it cannot be reached or used.
    """
    with storage_errors(url, folder):
        if url is not None:
            return _database(url)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "journal.log"
        with suppress(FileNotFoundError):
            refuse_others(path)
        try:
            return JournalStorage(Journal(path))
        except REPLAYING as error:
            raise _damaged(path) from error


def _database(url: str) -> optuna.storages.BaseStorage:
    real = address(url)
    try:
        return get_storage(RDBStorage(real, engine_kwargs={"connect_args": _patience(real)}))
    except (StorageInternalError, SQLAlchemyError, ImportError, OSError):
        raise
    except Exception as error:  # what drivers make of an address: TypeError, ValueError and others
        why = without_secrets(one_line(error), real)
        raise StorageError(f"--storage {shown(url)} cannot be used: {why}") from None


REPLAYING = (
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    RecursionError,
    OverflowError,
)
"""What replaying a damaged journal trips over."""


class Journal(JournalFileBackend):
    """Optuna's journal in a file, which a process that dies in the midst of writing does not spoil."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path), WholeLines(path))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The entries from this number on.

        Raises:
            StorageError: one of them is not JSON.
        """
        try:
            yield from super().read_logs(log_number_from)
        except (ValueError, RecursionError) as error:
            raise _damaged(self.path) from error


class WholeLines(JournalFileSymlinkLock):
    """The lock of who writes: its holder begins on a new line.

    Half a line at the end was left by a process that was killed, or found the disk full. Readers skip it,
    but the next entry would become part of it. Nobody else writes while the lock is held: it is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path))

    def acquire(self) -> bool:
        """Wait for the lock."""
        held = super().acquire()
        try:
            with self.path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        except BaseException:
            self.release()
            raise
        return held


def _damaged(path: Path) -> StorageError:
    return StorageError(
        f"--storage {path} is damaged; move it away: the search begins anew and reuses finished runs"
    )


def _patience(url: str) -> dict[str, Any]:
    """Connection arguments that keep an unreachable or locked database from hanging us."""
    dialect, _, driver = url.partition(":")[0].partition("+")
    names = {"sqlite": ["timeout"], "postgresql": ["connect_timeout"], "mysql": ["connect_timeout"]}
    wanted = names.get(dialect, [])
    if dialect == "mysql" and driver in (
        "",
        "mysqldb",
        "pymysql",
    ):  # for them, a greeting is a read
        wanted += ["read_timeout", "write_timeout"]
    return dict.fromkeys(wanted, PATIENCE)


@contextmanager
def storage_errors(url: str | None, folder: Path) -> Iterator[None]:
    """Turn what storages raise into one line, without secrets and without a cause that may hold some.

    Raises:
        StorageError: naming the storage.
    """
    where = f"--storage {shown(url)}" if url else f"--storage {folder / 'journal.log'}"
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        cause = getattr(cause, "orig", None) or cause
        why = without_secrets(str(cause), address(url)) if url else str(cause)
        raise StorageError(f"{where} cannot be used: {why}") from None
    except OSError as error:
        raise StorageError(f"{where} cannot be used: {error.strerror or error}") from None
