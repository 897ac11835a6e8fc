"""A pipe, a link or a device in place of any file of a results folder: one line, and no waiting."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import fake_runs
import pytest
from commands import SMALL, folders, without_report

import reports
from bench import cli
from bench.errors import UsageError
from bench.execution.run_source import Runs
from bench.search.addresses import StorageError
from bench.search.storage import open_storage
from bench.store import cache, files, records
from bench.store.jobs import Job
from bench.store.leases import Leases, is_leased
from reports import build

LIMIT_S = 120
RUN = (*SMALL, "--steps", "20", "--eval-every", "10", "--checkpoint-every", "0", "--workers", "0")
RUN = (*RUN, "--draws", "1")
INSIDE = (
    *("run.json", "history.csv", "samples.png", "samples-000010.png", "samples.npz", "checkpoint.pt"),
    *("checkpoint-before.pt", "progress.json", "lease-1", "attempts.json", "error.log"),
)
"""What docs/records.md names in a run's folder."""


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Whoever opens a pipe waits for ever: not longer than this."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)


def pipe(path: Path, outside: Path) -> str:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return "is a pipe, not a file"


def link(path: Path, outside: Path) -> str:
    """To a file of somebody else, which may have been the right one."""
    if path.exists():
        path.replace(outside)
    else:
        outside.write_text("{}")
    path.symlink_to(outside)
    return "is a link, not a file"


def endless(path: Path, outside: Path) -> str:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    return "is a link, not a file"


def lost(path: Path, outside: Path) -> str:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")
    return "is a link, not a file"


def device(path: Path, outside: Path) -> str:
    path.unlink(missing_ok=True)
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only the administrator makes devices")
    return "is a device, not a file"


Harm = Callable[[Path, Path], str]
HARMS = pytest.mark.parametrize("harm", [pipe, link, endless, lost, device])
COMMANDED = pytest.mark.parametrize("harm", [pipe, link])
ALTERNATING = [(name, (pipe, link)[k % 2]) for k, name in enumerate(INSIDE)]
"""Each way of opening a file meets all harms below: here each file meets one."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """What a command leaves: finished, and stopped midway."""
    found = {}
    for finished in (True, False):
        folder = tmp_path_factory.mktemp("results")
        command = commands.run(folder, *RUN, "--seeds", "1", before=without_report if finished else stopped)
        assert command.wait() == (0 if finished else 1)
        found[finished] = folder
    assert {"checkpoint.pt", "checkpoint-before.pt"} <= {p.name for p in folders(found[False])[0].iterdir()}
    return found


def stopped() -> None:
    """For ``before``: the disk fails when the run is to be recorded."""
    from bench.store import records

    without_report()

    def fail(*_: Any) -> None:
        raise files.UnwritableError(5, "as if", "x")

    records.write = fail


# ------------------------------------------------------------------ bench.run


def ended(folder: Path, outside: Path, *arguments: str) -> commands.Command:
    """The same command again, ended in time and without a traceback; what is outside is as it was."""
    before = outside.read_bytes() if outside.exists() else None
    command = commands.start(folder, *RUN, "--seeds", "1", *arguments, before=without_report)
    command.wait(seconds=LIMIT_S)
    assert "Traceback" not in command.err
    assert (outside.read_bytes() if outside.exists() else None) == before
    return command


@pytest.mark.slow
@pytest.mark.parametrize(("name", "harm"), ALTERNATING)
def test_a_finished_run_is_reused_or_refused_in_one_line(
    results: dict[bool, Path], fast_path: Path, name: str, harm: Harm
) -> None:
    shutil.copytree(results[True], fast_path / "x")
    (run,) = folders(fast_path / "x")
    what = harm(run / name, fast_path / "outside")
    command = ended(fast_path / "x", fast_path / "outside")
    refused = name in ("run.json", "history.csv")
    assert command.wait() == refused
    start = "error: " if refused else ""
    assert command.err.startswith(f"{start}{run / name}: {what}")
    assert command.err.count("\n") == 1
    assert not (run / name).is_file() or (run / name).is_symlink(), "it is left as it is"


NOT_OPENED = ("attempts.json", "checkpoint-before.pt", "error.log", "samples.npz")
"""By a command that has no engine, whose run does not fail, and which saves no samples."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "harm"), [pair for pair in ALTERNATING if pair[0] not in NOT_OPENED])
def test_an_unfinished_run_is_one_line(
    results: dict[bool, Path], fast_path: Path, name: str, harm: Harm
) -> None:
    shutil.copytree(results[False], fast_path / "x")
    (run,) = folders(fast_path / "x")
    if name == "samples-000010.png":  # so that it is due once more
        for path in run.glob("checkpoint*"):
            path.unlink()
    what = harm(run / name, fast_path / "outside")
    command = ended(fast_path / "x", fast_path / "outside")
    assert command.wait() == 1
    assert command.err.count("\n") == 1
    assert command.err.startswith(f"error: {run / name}: {what}")
    assert not list(run.glob("*.damaged-*"))


@pytest.mark.slow
@COMMANDED
def test_commands_are_noted_in_no_other_file(results: dict[bool, Path], fast_path: Path, harm: Harm) -> None:
    shutil.copytree(results[True], fast_path / "x")
    path = fast_path / "x" / "results" / "commands.jsonl"
    what = harm(path, fast_path / "outside")
    command = ended(fast_path / "x", fast_path / "outside")
    assert command.wait() == 1
    assert command.err.startswith(f"error: {path}: {what}")
    assert command.err.count("\n") == 1


@pytest.mark.slow
def test_a_linked_run_folder_is_named_and_a_linked_results_folder_is_not(
    results: dict[bool, Path], fast_path: Path
) -> None:
    shutil.copytree(results[True], fast_path / "x")
    (run,) = folders(fast_path / "x")
    (fast_path / "x" / "results").rename(fast_path / "elsewhere")
    (fast_path / "x" / "results").symlink_to(fast_path / "elsewhere")
    command = ended(fast_path / "x", fast_path / "outside")
    assert (command.wait(), command.err) == (0, "")
    for path in (run, run.parent):
        path.rename(fast_path / "moved")
        path.symlink_to(fast_path / "moved")
        command = ended(fast_path / "x", fast_path / "outside")
        assert command.wait() == 1
        assert command.err.startswith(f"error: {path}: is a link, not a folder")
        assert command.err.count("\n") == 1
        path.unlink()
        (fast_path / "moved").rename(path)


# ------------------------------------------------------------------ reports.build


@pytest.mark.slow
@HARMS
def test_a_report_names_each(tmp_path: Path, harm: Harm, capsys: pytest.CaptureFixture[str]) -> None:
    """One run for each file, and a good one."""
    expected, root = [], tmp_path / "results"
    good = fake_runs.run(root, seed=99, n_evals=2)
    for k, name in enumerate(INSIDE):
        folder = fake_runs.run(root, seed=k, n_evals=2, images=False)
        record = json.loads((folder / "run.json").read_text())
        record["history_sha256"] = files.file_digest(folder / "history.csv")
        (folder / "run.json").write_text(json.dumps(records.sealed(record)))
        what = harm(folder / name, tmp_path / f"outside-{k}")
        expected.append(f"skipped {folder / name}: {what}")
    study = root / "studies" / "one" / "summary.json"
    study.parent.mkdir(parents=True)
    if harm is not lost:
        expected.append(f"skipped {study}: {harm(study, tmp_path / 'outside')}")
    assert build.main([str(root), "--format", "markdown", "html"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == sorted(expected)
    runs = reports.load(root)
    assert str(good) in set(runs["folder"])
    assert len(runs) == len(INSIDE) - 1  # all but those without run.json or history.csv


# ------------------------------------------------------------------ each way of opening


@HARMS
def test_nothing_else_is_opened(tmp_path: Path, harm: Harm) -> None:
    outside, path = tmp_path / "outside", tmp_path / "x"
    path.write_text("{}")
    what = harm(path, outside)
    before = outside.read_bytes() if outside.exists() else None
    for use in (
        lambda: files.read_json(path),
        lambda: files.file_digest(path),
        lambda: files.append(path, "more\n"),
        lambda: files.write_json(path, {"a": 1}),
    ):
        with pytest.raises(files.UnwritableError) as caught:
            use()
        assert (caught.value.filename, caught.value.strerror) == (str(path), what)
    assert (outside.read_bytes() if outside.exists() else None) == before


def test_a_file_that_becomes_a_link_between_two_looks_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").write_text("{}")
    (tmp_path / "x").symlink_to("outside")
    monkeypatch.setattr(files, "refuse_others", lambda path: None)
    with pytest.raises(files.UnreadableError, match="symbolic links"):
        files.read_json(tmp_path / "x")
    with pytest.raises(files.UnwritableError, match="symbolic links"):
        files.append(tmp_path / "x", "more")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(files.UnreadableError, match="is not a file"):
        files.read_json(tmp_path / "pipe")


def test_a_temporary_file_is_never_somebody_s(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    temporary = tmp_path / f".x.{os.uname().nodename}-{os.getpid()}.tmp"
    temporary.symlink_to("outside")
    files.write_json(tmp_path / "x", {"a": 1})
    assert (tmp_path / "outside").read_text() == "theirs"
    assert json.loads((tmp_path / "x").read_text()) == {"a": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes")
def test_a_file_of_terabytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(files.UnreadableError, match=r"run\.json: has 1,099,511,627,776 bytes"):
        records.read_record(tmp_path)


@HARMS
def test_leases_are_files(tmp_path: Path, harm: Harm) -> None:
    what = harm(tmp_path / "lease-1", tmp_path / "outside")
    with Leases() as mine, pytest.raises(files.UnreadableError, match=rf"lease-1: {what}"):
        mine.take(tmp_path)
    with pytest.raises(files.UnreadableError, match=rf"lease-1: {what}"):
        is_leased(tmp_path)


@HARMS
def test_counts_of_attempts_are_files(tmp_path: Path, harm: Harm) -> None:
    """They are read only where a regular file is there; else an attempt is the first."""
    job = Job("vanilla", {}, "digits", 0, 1, 1, {}, {})
    folder = job.folder(tmp_path)
    folder.mkdir(parents=True)
    harm(folder / "attempts.json", tmp_path / "outside")
    assert Runs([job], tmp_path).attempts(folder) == 0


@HARMS
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_what_is_in_the_cache_are_files(tmp_path: Path, harm: Harm, suffix: str) -> None:
    import torch

    cache.keep(tmp_path / "cache" / "x", {"a": torch.zeros(2)}, {})
    assert cache.kept(tmp_path / "cache" / "x") is not None
    path = tmp_path / "cache" / "x" / f"tensors.{suffix}"
    what = harm(path, tmp_path / "outside")
    with pytest.raises(files.UnreadableError, match=re.escape(f"{path}: {what}")):
        cache.kept(path.parent)
    shutil.rmtree(path.parent)
    assert harm(path.parent, tmp_path / "outside")
    with pytest.raises(files.UnreadableError):
        cache.kept(path.parent)


@HARMS
def test_a_journal_is_a_file(tmp_path: Path, harm: Harm) -> None:
    path = tmp_path / "study" / "journal.log"
    path.parent.mkdir()
    what = harm(path, tmp_path / "outside")
    before = (tmp_path / "outside").read_bytes() if harm is link else None
    with pytest.raises(StorageError, match=re.escape(f"--storage {path} cannot be used: {what}")):
        open_storage(None, path.parent)
    assert harm is not link or (tmp_path / "outside").read_bytes() == before


# ------------------------------------------------------------------ terminals

NASTY = "\x1b[2J\x1b]0;mine\x07\r\nerror: \u202eno\x9b31m"


@pytest.mark.slow
def test_no_record_or_folder_writes_to_a_terminal_what_it_likes(
    results: dict[bool, Path], fast_path: Path
) -> None:
    shutil.copytree(results[True], fast_path / "x")
    (run,) = folders(fast_path / "x")
    record = json.loads((run / "run.json").read_text())
    record |= {"status": "diverged", "reason": NASTY, "metrics": {}}
    (run / "run.json").write_text(json.dumps(records.sealed(record)))
    shutil.copytree(run.parent, run.parent.with_name(NASTY.replace("/", "")))
    shutil.copytree(run, run.with_name(f"seed-0{NASTY}"))
    (run.with_name(f"seed-1{NASTY}")).symlink_to(run)
    command = ended(fast_path / "x", fast_path / "outside")
    assert command.wait() == 1
    (line,) = command.err.split("\n")[:-1]
    assert line.isprintable()
    assert line.startswith("diverged: vanilla digits seed 0: \\x1b[2J")
    skipped = reports.load(fast_path / "x" / "results").attrs["skipped"]
    assert len(skipped) == 3
    assert all(line.isprintable() for line in skipped)


@pytest.mark.parametrize(
    "error", [UsageError(NASTY), OSError(5, NASTY, NASTY), files.UnreadableError(5, NASTY, NASTY)]
)
def test_no_error_writes_to_a_terminal_what_it_likes(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise error

    with pytest.raises(SystemExit):
        cli.run_main(main)
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


def test_a_log_takes_any_text(tmp_path: Path) -> None:
    """What a model raises may hold half a surrogate pair."""
    files.append(tmp_path / "error.log", "\udcff, é\n")
    files.append(tmp_path / "error.log", "more\n")
    assert (tmp_path / "error.log").read_text() == "\\udcff, é\nmore\n"
