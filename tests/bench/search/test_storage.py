"""Where a study is kept: what cannot be reached, is damaged or is half written is one line, or none."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import SERVER
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.storages.journal import _file as journal_file
from optuna.trial import TrialState
from studies import end, run_all, search, shared_study, take

from bench.errors import UsageError
from bench.search import storage
from bench.search.addresses import StorageError
from bench.search.study import Result
from bench.store.leases import Leases


def unusable(url: str | None, folder: Path) -> str:
    with pytest.raises(UsageError) as error:
        storage.open_storage(url, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts the connection and says nothing, as behind a broken network."""
    pytest.importorskip("pymysql")
    monkeypatch.setattr(storage, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        begun = time.monotonic()
        line = unusable(f"mysql+pymysql://me:secret@127.0.0.1:{port}/x", tmp_path)
    assert "--storage mysql+pymysql://me:***@127.0.0.1" in line
    assert "secret" not in line
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("nosuchdb://host/x", "--storage nosuchdb://host/x cannot be used"),
        ("just words", "--storage 'just words' cannot be used"),
        ("postgresql+nosuchdriver://host/x", "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line(tmp_path: Path, url: str, message: str) -> None:
    assert message in unusable(url, tmp_path)


def test_a_locked_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.db"
    shared = shared_study(tmp_path, url=f"sqlite:///{path}")
    monkeypatch.setattr(storage, "PATIENCE", 0.1)
    shared.connection = storage.open_storage(f"sqlite:///{path}", tmp_path)
    lock = sqlite3.connect(path)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UsageError, match=r"--storage sqlite:.*x\.db cannot be used: database is locked"):
        shared.take(Leases())
    lock.close()


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    run_all(shared_study(tmp_path))
    journal = tmp_path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]))
    assert "journal.log is damaged; move it away" in unusable(None, tmp_path)


def test_a_line_that_was_not_written_whole_is_cut_off(tmp_path: Path) -> None:
    """As a full disk leaves it."""
    shared = shared_study(tmp_path)
    with Leases() as leases:
        end(shared, leases, take(shared, leases), Result("complete", (1.0,)))
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":8,"worker')
    assert list(run_all(shared_study(tmp_path))) == [0, 1, 2, 3, 4]
    assert list(shared_study(tmp_path).slots()) == [0, 1, 2, 3, 4]


def half_a_line(journal: Path) -> None:
    """What a process leaves that is killed, or finds the disk full, while it writes."""
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"worker')
    lock.release()


@pytest.mark.slow
def test_half_a_line_costs_those_nothing_that_search_on(fast_path: Path) -> None:
    """Two processes search while others die in the midst of writing; a third comes later."""
    processes = [SERVER.Process(target=search, args=(fast_path, str(k), 2, 30)) for k in range(2)]
    for process in processes:
        process.start()
    halves = 0
    while any(process.is_alive() for process in processes):
        if (fast_path / "journal.log").exists():
            half_a_line(fast_path / "journal.log")
            halves += 1
        time.sleep(0.01)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sum(int(path.read_text()) for path in fast_path.glob("ran-*")) == 30
    assert halves > 3
    later = shared_study(fast_path, total=31)
    assert len(run_all(later)) == 31
    assert sum(trial.state == TrialState.COMPLETE for trial in later.trials()) == 31


def test_damage_that_comes_while_it_is_searched_is_one_line(tmp_path: Path) -> None:
    shared = shared_study(tmp_path)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b"not JSON\n{}\n")
    for use in (shared.trials, shared.enqueue, lambda: shared.take(Leases())):
        with pytest.raises(StorageError, match=r"journal\.log is damaged; move it away") as error:
            use()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"9" * 5000, b"[]", b'"x"', b"null", b"{}", b"\xff", b'{"op_code":1e400}']
)
def test_a_line_that_is_no_entry_is_damage(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "journal.log").write_bytes(line + b"\n{}\n")
    assert "journal.log is damaged; move it away" in unusable(None, tmp_path)


def test_a_journal_that_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """Whoever opens a pipe waits until somebody writes into it."""
    os.mkfifo(tmp_path / "journal.log")
    assert "cannot be used: is a pipe, not a file" in unusable(None, tmp_path)


def test_a_journal_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in unusable(None, tmp_path / "file" / "study")


def test_the_lock_of_a_killed_process_is_waited_for_aloud_and_then_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_study(tmp_path)
    (tmp_path / "journal.log.lock").symlink_to(tmp_path / "journal.log")
    clock, said = itertools.count(0, 5), list[str]()
    monkeypatch.setattr(journal_file, "time", SimpleNamespace(monotonic=clock.__next__, sleep=lambda s: None))
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(logging.getLogger("optuna.storages.journal._file"), "handlers", [handler])
    take(shared, Leases())
    assert next(clock) < 200
    assert "taking longer than 10.0 seconds to acquire the lock file" in said[0]
    assert str(tmp_path) in said[0]
