"""A record is the run that its folder is named after; what cannot be read is not damaged."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import commands
import fake_runs
import pytest
import torch
from commands import SMALL, folders, numbers, run_here, without_report

import reports
from bench.errors import UsageError
from bench.execution import checkpoints, training
from bench.plan import RunContext
from bench.search import trial
from bench.store import files, records
from bench.store.jobs import Job
from reports import build

RUN = (*SMALL, "--steps", "20", "--eval-every", "20", "--checkpoint-every", "0", "--workers", "0")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of two seeds."""
    folder = tmp_path_factory.mktemp("finished")
    assert commands.run(folder, *RUN, "--seeds", "2", before=without_report).wait() == 0
    return folder


@pytest.fixture
def copied(finished: Path, fast_path: Path) -> Path:
    """A copy of those, to be spoilt."""
    shutil.copytree(finished, fast_path / "x")
    return fast_path / "x"


def again(folder: Path, *arguments: str) -> commands.Command:
    """The same command, on what is there."""
    command = commands.run(folder, *RUN, *arguments, before=without_report)
    assert "Traceback" not in command.err
    return command


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@dataclasses.dataclass(frozen=True)
class Named(Job):
    """A job of a given identity."""

    name: str = ""

    @property
    def run_id(self) -> str:
        return self.name


def job_of(record: dict[str, Any]) -> Job:
    """A job of this record's identity."""
    return Named(record["model"], {}, record["dataset"], record["seed"], 1, 1, {}, {}, name=record["id"])


# ------------------------------------------------------------------ whose record it is


@pytest.mark.slow
def test_a_copied_seed_is_computed_and_the_copy_is_kept(copied: Path, finished: Path) -> None:
    first, second = folders(copied)
    shutil.rmtree(second)
    shutil.copytree(first, second)
    copy = content(second)
    dry = again(copied, "--seeds", "2", "--dry-run")
    assert "2 runs: 1 to compute, 1 reused" in dry.out
    assert dry.err == f"{second}/run.json: is the record of seed 0; to be computed again\n"
    command = again(copied, "--seeds", "2")
    assert command.wait() == 0
    assert "2 runs, 1 reused, 1 to compute" in command.out
    assert f"{second}/run.json: is the record of seed 0; kept in old-seed-1-1" in command.err
    assert content(second.with_name("old-seed-1-1")) == copy
    assert [numbers(path) for path in (first, second)] == [numbers(path) for path in folders(finished)]
    assert "2 runs, 2 reused" in again(copied, "--seeds", "2").out


@pytest.mark.slow
def test_swapped_seeds_are_computed_again_and_neither_is_lost(copied: Path, finished: Path) -> None:
    first, second = folders(copied)
    first.rename(first.with_name("x"))
    second.rename(first)
    first.with_name("x").rename(second)
    before = content(first), content(second)
    command = again(copied, "--seeds", "2")
    assert command.wait() == 0
    assert "2 runs, 0 reused, 2 to compute" in command.out
    kept = [path.with_name(f"old-{path.name}-1") for path in (first, second)]
    assert tuple(map(content, kept)) == before
    assert [numbers(path) for path in (first, second)] == [numbers(path) for path in folders(finished)]


@pytest.mark.slow
def test_a_record_of_another_configuration_is_not_reused(copied: Path) -> None:
    """That of ``g_widths=16`` lies where that of ``g_widths=32`` belongs."""
    wider = ("--set", "vanilla.g_widths=32", "vanilla.d_widths=16", "vanilla.batch_size=32", "--seeds", "1")
    arguments = [word for word in RUN if not word.startswith("vanilla.") and word != "--set"]
    planned = commands.run(copied, *arguments, *wider, "--dry-run").out
    there = Path(planned.splitlines()[-2].split()[-1])
    own = folders(copied)[0]
    shutil.copytree(own, there)
    command = commands.run(copied, *arguments, *wider, before=without_report)
    assert command.wait() == 0
    assert "1 run, 0 reused, 1 to compute" in command.out
    name = own.parent.name
    assert {f"{there}/run.json: is the record of seed 0 of {name}; kept in old-seed-0-1"} < set(
        command.err.splitlines()
    ) | {""}
    record = records.read_record(there)
    assert record is not None
    assert record["hyperparameters"]["g_widths"] == [32]


def skipped(root: Path) -> list[str]:
    """What a report leaves out, after making sure that it changes no run folder."""

    def there() -> set[tuple[Path, int, int]]:
        found = [(path, path.lstat()) for path in (root / "runs").rglob("*")]
        return {(path, status.st_ino, status.st_mtime_ns) for path, status in found}

    before = there()
    build.build([root], root / "report", ("markdown",), quick=True)
    assert there() == before
    lines: list[str] = reports.load(root).attrs["skipped"]
    assert all(line.isprintable() for line in lines)
    return lines


@pytest.mark.slow
def test_a_report_names_what_is_in_no_run_s_folder_and_uses_the_true_one(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path, fid=30.0)
    runs = tmp_path / "runs"
    backup = runs / f"a backup of {folder.parent.name}"
    shutil.copytree(folder.parent, backup)
    for name in ("seed-0 (copy)", "seed-00", "copy of seed-0", "seed-7"):
        shutil.copytree(folder, folder.with_name(name))
    shutil.copytree(folder, folder.with_name("old-seed-0-1"))
    edited = json.loads((backup / "seed-0" / "run.json").read_text())
    edited["metrics"]["classifier"]["fid"] = 1.0
    (backup / "seed-0" / "run.json").write_text(json.dumps(records.sealed(edited)))
    frame = reports.load(tmp_path)
    assert list(frame["folder"]) == [str(folder)]
    assert list(frame["metrics.classifier.fid"]) == [30.0]
    assert sorted(skipped(tmp_path)) == sorted(
        [
            f"{backup}/seed-0/run.json: is the record of seed 0 of {folder.parent.name}",
            *(
                f"{folder.with_name(name)}/run.json: is the record of seed 0"
                for name in ("seed-0 (copy)", "seed-00", "copy of seed-0", "seed-7")
            ),
        ]
    )


def test_what_merely_begins_like_a_folder_that_was_put_away_is_read(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path, model="old-seed")
    shutil.copytree(folder, folder.with_name("old-seed-0"))
    (folder.parent.with_name("loop")).symlink_to("loop")
    frame = reports.load(tmp_path)
    assert list(frame["folder"]) == [str(folder)]
    assert frame.attrs["skipped"] == [
        f"{tmp_path}/runs/loop: is a link, not a folder",
        f"{folder.parent}/old-seed-0/run.json: is the record of seed 0",
    ]


@pytest.mark.slow
def test_a_configuration_that_may_not_be_listed_is_named(copied: Path) -> None:
    """A whole configuration would be missing from a report without a word."""
    parent = folders(copied)[0].parent
    parent.chmod(0)
    code = "import commands, reports; commands.without_privileges();"
    code += "print(reports.load('results').attrs['skipped'])"
    path = os.pathsep.join(
        [str(Path(__file__).parents[2] / "support"), str(Path(reports.__file__).parents[1])]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copied,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    parent.chmod(0o755)
    assert done.stdout == f"['results/runs/{parent.name}: Permission denied']\n"


def test_a_record_that_fits_its_folder_but_not_the_job_is_another_s(tmp_path: Path) -> None:
    """Two names of models that look alike on disk."""
    folder = fake_runs.run(tmp_path, model="a:b")
    record = records.read_record(folder)
    assert record is not None
    assert records.read_record(folder, job_of(record)) == record
    for change in ({"model": "a-b"}, {"seed": 1}):
        with pytest.raises(records.ForeignRecordError, match="is the record of seed 0 of a:b, id "):
            records.read_record(folder, dataclasses.replace(job_of(record), **change))


def test_a_search_does_not_take_another_run_s_record(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path)
    record = records.read_record(folder)
    assert record is not None
    mine, context = job_of(record), RunContext(tmp_path)
    assert trial._record(mine, context) == record
    (folder / "lease-1").touch()
    (folder / "run.json").write_text(json.dumps(records.sealed(record | {"seed": 3})))
    before = content(folder)
    assert trial._record(mine, context) is None
    assert content(folder.with_name("old-seed-0-1")) | {"lease-1": b""} == before
    assert content(folder) == {"lease-1": b""}, "the lease is still there"


# ------------------------------------------------------------------ what cannot be read


def forbid(path: Path) -> None:
    path.chmod(0)


def newer(path: Path) -> None:
    """A record of a version to come, sealed as that may do it."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"schema": records.SCHEMA + 1, "checksum": "as they do it then"}))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_privileges() -> None:
    commands.without_privileges()


@pytest.mark.parametrize(
    ("name", "harm", "why"),
    [
        ("run.json", forbid, "Permission denied"),
        ("history.csv", forbid, "Permission denied"),
        ("run.json", folder_instead, "is a folder, not a file"),
        ("history.csv", folder_instead, "is a folder, not a file"),
        ("run.json", newer, f"has schema {records.SCHEMA + 1}, and this version reads {records.SCHEMA}: "),
    ],
)
def test_what_cannot_be_read_is_one_line_and_stays(copied: Path, name: str, harm: Any, why: str) -> None:
    folder = folders(copied)[1]
    harm(folder / name)
    before = sorted((path.name, path.lstat().st_ino) for path in folder.iterdir())
    command = commands.run(copied, *RUN, "--seeds", "2", before=without_privileges)
    assert command.wait() == 1
    assert command.err.startswith(f"error: {folder / name}: {why}")
    assert command.err.count("\n") == 1
    assert sorted((path.name, path.lstat().st_ino) for path in folder.iterdir()) == before
    if harm is not forbid:  # a report in this process: the administrator may read everything
        frame = reports.load(copied / "results")
        assert list(frame["seed"]) == [0]
        (line,) = frame.attrs["skipped"]
        assert line.startswith(f"{folder / name}: {why}")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["run.json", "history.csv", "checkpoint.pt"])
def test_an_error_of_the_system_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    folder = fake_runs.run(tmp_path)
    record = json.loads((folder / "run.json").read_text())
    record["history_sha256"] = files.file_digest(folder / "history.csv")
    (folder / "run.json").write_text(json.dumps(records.sealed(record)))
    assert records.read_record(folder) is not None
    (folder / "checkpoint.pt").write_bytes(b"whatever")
    real = os.open

    def refused(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path) == folder / name:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    before = sorted(path.name for path in folder.iterdir())
    read: Callable[[], Any] = partial(records.read_record, folder)
    if name == "checkpoint.pt":
        read = partial(checkpoints._checkpoints, job_of(record), folder, CPU, newest=True)
    with pytest.raises(files.UnreadableError) as caught:
        read()
    assert str(caught.value) == f"{folder / name}: {os.strerror(number)}"
    assert caught.value.errno == number
    if name != "checkpoint.pt":
        assert reports.load(tmp_path).attrs["skipped"] == [str(caught.value)]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_error_while_a_file_is_read_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``read`` raises, unlike ``open``, does not say of which file."""
    (tmp_path / "run.json").write_text("{}")

    class Failing(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdopen", lambda number, mode: (os.close(number), Failing())[1])
    monkeypatch.setattr(os, "fstat", lambda number: os.stat_result([stat.S_IFREG] + [0] * 9))
    with pytest.raises(files.UnreadableError, match=r"run\.json: Input/output error"):
        records.read_record(tmp_path)


def checkpoint(folder: Path, of: dict[str, Any], numbers: int) -> Path:
    """A checkpoint of this run with a random state of so many bytes."""
    notes = json.dumps({"run": [of["id"], of["seed"]]})
    state = {"step": 3, "notes": notes, "stream": torch.zeros(numbers, dtype=torch.uint8)}
    checkpoints.save(folder / "checkpoint.pt", state)
    return folder / "checkpoint.pt"


def test_a_checkpoint_of_another_kind_of_device_is_one_line_and_stays(tmp_path: Path) -> None:
    record = json.loads((fake_runs.run(tmp_path) / "run.json").read_text())
    mine = job_of(record)
    folder = mine.folder(tmp_path)
    path = checkpoint(folder, record, len(torch.Generator().get_state()))
    assert set(checkpoints._checkpoints(mine, folder, CPU, newest=True)) == {3}
    checkpoint(folder, record, 16)  # a GPU's
    before = path.read_bytes()
    line = f"{path}: holds random numbers of another kind of device than cpu: go on there, or move it away"
    with pytest.raises(files.UnreadableError, match=line):
        checkpoints._checkpoints(mine, folder, CPU, newest=True)
    with pytest.raises(files.UnreadableError):
        checkpoints.group_by_checkpoint([mine], tmp_path, CPU)
    assert path.read_bytes() == before
    assert not list(folder.glob("*.damaged-*"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), MemoryError()])
def test_a_checkpoint_for_which_there_is_no_memory_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    record = json.loads((fake_runs.run(tmp_path) / "run.json").read_text())
    mine = job_of(record)
    path = checkpoint(mine.folder(tmp_path), record, 16)

    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(type(error)):
        checkpoints._checkpoints(mine, path.parent, CPU, newest=True)
    assert path.exists()


def test_a_worker_s_unreadable_file_is_no_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any, **__: Any) -> None:
        raise files.UnreadableError(errno.EIO, "Input/output error", "x/checkpoint.pt")

    monkeypatch.setattr(training, "begin", unreadable)
    mine = job_of(json.loads((fake_runs.run(tmp_path / "other") / "run.json").read_text()))
    with pytest.raises(files.UnreadableError, match="Input/output error"):
        run_here([mine], RunContext(tmp_path))
    assert not list(tmp_path.rglob("error.log"))


def test_a_report_of_nothing_but_another_s_says_so(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path)
    folder.rename(folder.with_name("seed-1"))
    with pytest.raises((build.NoUsableRecordError, UsageError), match="is the record of seed 0"):
        build.build([tmp_path], tmp_path / "report", ("markdown",), quick=True)
