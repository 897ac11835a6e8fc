"""Passwords in the address of a search's storage reach no file and no terminal."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import commands
import pytest
from small_searches import QUICK, cheaper, command, study_folder, summary

from bench import cli, tune, where
from bench.execution import launch
from bench.execution.launch import Work
from bench.search import addresses
from bench.search.storage import open_storage

SECRET = "hunter2-MARKER"
WORDS = (*QUICK, "--trials", "1", "--retrain", "1", "--retrain-steps", "4")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command leaves it in its own environment, which here is that of the tests."""
    monkeypatch.setenv(addresses.VARIABLE, "")


def database(folder: Path) -> str:
    """An address with a secret in its query, which SQLite does not mind."""
    return f"sqlite:///file:{folder / 'study.db'}?mode=rwc&uri=true&password={SECRET}"


def found_in(folder: Path) -> list[str]:
    """The files below a folder that hold the secret."""
    return [
        str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


@pytest.mark.slow
def test_a_search_leaves_its_password_nowhere(fast_path: Path) -> None:
    words = (*WORDS, "--workers", "1", "--storage", database(fast_path))
    commands.with_known(fast_path, "val", "test")
    done = commands.run(fast_path, before=partial(command, words, False), to=fast_path / "printed")
    assert done.wait() == 0, done.err
    assert (fast_path / "study.db").exists()
    assert found_in(fast_path) == []
    assert summary(fast_path)["storage"].endswith("study.db?mode=***&uri=***&password=***")
    assert "password=***" in (study_folder(fast_path) / "summary.md").read_text()


class Cluster:
    """An engine that, like Slurm's, reads its jobs from files and starts them with the environment."""

    name, most = "slurm", 10

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, work: Work, n: int, name: str) -> None:
        code = "import pickle, sys; from bench.execution.signals import Notice; "
        code += "pickle.load(open(sys.argv[1], 'rb'))(Notice())"
        for _ in range(n):
            job = str(len(self.processes))
            path = self.folder / f"{job}.pkl"
            path.write_bytes(pickle.dumps(pickle.loads(pickle.dumps(work))))  # twice, as of a requeued job
            with (self.folder / f"{job}.log").open("wb") as log:
                command = [sys.executable, "-c", code, str(path)]
                self.processes[job] = subprocess.Popen(command, stdout=log, stderr=log)

    def jobs(self, name: str) -> dict[str, str]:
        return {job: "" if process.poll() is None else "COMPLETED" for job, process in self.processes.items()}

    def leave(self, name: str) -> None:
        raise AssertionError("nobody interrupts")


@pytest.mark.slow
def test_jobs_take_the_password_from_their_environment_not_from_their_files(
    fast_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(fast_path)
    commands.with_known(fast_path, "val")
    monkeypatch.setattr(where, "_engine", lambda args, out: cluster)
    monkeypatch.setattr(launch, "LOOK_EVERY", 0.2)
    cheaper(monkeypatch, plots=False)
    words = [*QUICK, "--trials", "1", "--executor", "slurm", "--workers", "1"]
    words += ["--storage", database(fast_path), "--out", str(fast_path / "results")]
    assert tune.main(words) == 0
    assert [job.wait(60) for job in cluster.processes.values()] == [0]
    assert (fast_path / "study.db").exists()
    assert found_in(fast_path) == []
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err


def test_without_the_variable_a_job_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(addresses.StorageError, match=r"\$GAN_BENCH_STORAGE: the variable is not set"):
        open_storage(addresses.FROM_ENVIRONMENT, tmp_path)
    monkeypatch.setenv(addresses.VARIABLE, f"sqlite:///{tmp_path / 'x.db'}")
    open_storage(addresses.FROM_ENVIRONMENT, tmp_path)
    assert (tmp_path / "x.db").exists()


ADDRESSES = [
    f"mysql+pymysql://me:{SECRET}@127.0.0.1:1/x",
    f"mysql+pymysql://127.0.0.1:1/x?user=me&password={SECRET}",
    f"mysql+pymysql://127.0.0.1:1/x?passwd={SECRET}&nonsense={SECRET}",
    f"mysql+pymysql://me:p@{SECRET}@127.0.0.1:1/x",
    f"mysql+pymysql://me:{SECRET}@127.0.0.1:port/x",
    f"mysql+pymysql://me:{SECRET}/?@127.0.0.1:1/x",
    f"postgresql://me:{SECRET}@127.0.0.1:1/x?sslpassword={SECRET}",
    f"postgresql+nosuchdriver://me:{SECRET}@127.0.0.1:1/x",
    f"nosuchdb://me:{SECRET}@127.0.0.1/x",
    f"sqlite:///x.db?password={SECRET}",
    f"sqlite:////nowhere/x.db?timeout={SECRET}",
    f"me:{SECRET}@127.0.0.1/x",
    f"host=127.0.0.1 password={SECRET}",
    f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}",
    f"mssql+pyodbc://127.0.0.1/x;PWD={SECRET}",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_that_cannot_be_used_is_one_line_without_its_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.run_main(lambda: tune.main([*WORDS, "--workers", "0", "--storage", url]))
    printed = capfd.readouterr()
    assert ended.value.code == 2
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: --storage ")
    assert SECRET not in printed.out + printed.err
    assert found_in(tmp_path) == []


@pytest.mark.parametrize(
    "words", [[f"--storagee=mysql://me:{SECRET}@h/x"], ["--storage", "x", f"mysql://me:{SECRET}@h/x"]]
)
def test_a_flag_that_is_misspelt_does_not_repeat_its_value(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.run_main(lambda: tune.main([*QUICK, *words]))
    said = capsys.readouterr().err
    assert "is not a flag" in said
    assert SECRET not in said


def test_what_is_shown_of_an_address() -> None:
    for url, shown in (
        ("sqlite:////home/me/x.db", "sqlite:////home/me/x.db"),
        ("mysql+pymysql://me:x@host:3306/db", "mysql+pymysql://me:***@host:3306/db"),
        ("postgresql://host/db?user=me&password=x", "postgresql://host/db?user=***&password=***"),
        ("study.db", "'study.db'"),
    ):
        assert addresses.shown(url) == shown
    assert os.environ[addresses.VARIABLE] == "", "to look is not to hide"
