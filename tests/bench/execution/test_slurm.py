"""Runs as jobs of a real Slurm: arrays, time-outs, kills, cancellation, collection; searches."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
import small_searches
from commands import SMALL, begun, folders, numbers, records, start, wait_for, without_report

from bench import cli, tune
from bench.execution import launch
from bench.search import findings, storage, study

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "srun")

FOUR = ("--models", "vanilla", "lsgan", "--seeds", "2", "--dataset", "digits", "--offline", "--device", "cpu")
FOUR = (*FOUR, "--steps", "2", "--eval-every", "2", "--batch-size", "8", "--draws", "1")
LONG = (*SMALL, "--steps", "1000", "--eval-every", "1000", "--draws", "1", "--checkpoint-every", "0")
"""A run is long enough to be caught in the middle of it."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find a cluster of one node."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not on this machine (Debian: slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root")
    pytest.importorskip("submitit")
    folder = tmp_path_factory.mktemp("cluster")
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "SLURM_TEST_PORT": str(_two_free_ports())}
    up = [ROOT / "tests" / "support" / "slurm" / "up.sh", folder]
    subprocess.run(up, check=True, timeout=60, env={**os.environ, **environment})
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", "")])
    yield {**environment, "PYTHONPATH": path}
    subprocess.run([ROOT / "tests" / "support" / "slurm" / "down.sh", folder], check=True, timeout=60)


def _two_free_ports() -> int:
    for port in range(16817 + os.getpid() % 1000 * 2, 65000, 2):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


def impatient() -> None:
    """For ``before``: no report, and looks in quick succession."""
    without_report()
    launch.LOOK_EVERY = 0.5


def submit(folder: Path, *words: object, slurm: dict[str, str], to: str = "printed") -> commands.Command:
    """Start ``bench.run`` with Slurm as its executor."""
    return start(folder, *words, "--executor", "slurm", before=impatient, to=folder / to, **slurm)


def squeue(slurm: dict[str, str], *words: str) -> list[str]:
    """Lines of ``squeue``."""
    command = ["squeue", "--noheader", "--array", *words]
    done = subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True, timeout=30)
    return done.stdout.splitlines()


def scancel(slurm: dict[str, str], *words: str) -> None:
    subprocess.run(["scancel", *words], env={**os.environ, **slurm}, check=True, timeout=30)


def supervisor(folder: Path) -> int:
    """The process of the job that computes a run, as its lease says."""
    return int(json.loads(wait_for(lambda: (folder / "lease-1").read_text()))["pid"])


def at_work(folder: Path) -> int | None:
    """The process of a job that computes some run."""
    for lease in (folder / "results").glob("runs/*/*/lease-1"):
        with suppress(OSError, ValueError):
            return int(json.loads(lease.read_text())["pid"])
    return None


def job_of(pid: int) -> str:
    """The array job that a process is in: ``12_3``."""
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return f"{found['SLURM_ARRAY_JOB_ID']}_{found['SLURM_ARRAY_TASK_ID']}"


def logs(folder: Path, job: str) -> str:
    """What a job printed, over all its beginnings."""
    return "".join(path.read_text() for path in (folder / "results" / "slurm").glob(f"{job}_*_log.*"))


def same(run_folder: Path) -> dict[str, Any]:
    """What may not differ, however often the run was begun."""
    found = numbers(run_folder)
    del found["record"]["attempts"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What uninterrupted runs on this machine leave: two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    done = commands.run(folder, *LONG, "--seeds", "2", "--workers", "0", before=without_report)
    assert done.wait() == 0, done.err
    return [same(each) for each in folders(folder)]


# ------------------------------------------------------------------ arrays


@pytest.mark.slow
def test_an_array_gives_the_records_of_this_process(slurm: dict[str, str], fast_path: Path) -> None:
    array = submit(fast_path / "slurm", *FOUR, "--workers", "2", slurm=slurm)
    most = 0
    while array.process.is_alive():
        most = max(most, len(squeue(slurm, "--states=running")))
        array.process.join(0.3)
    assert (array.wait(), array.err) == (0, "")
    assert most == 2, "side by side, up to the limit"
    names = [line.split()[0] for line in squeue(slurm, "--states=all")]
    assert sorted(names) == [f"{names[0].partition('_')[0]}_{k}" for k in range(2)], "one array"
    here = commands.run(fast_path / "local", *FOUR, "--workers", "0", before=without_report)
    assert (here.wait(), here.err) == (0, "")
    ours, theirs = folders(fast_path / "slurm"), folders(fast_path / "local")
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert len(ours) == 4
    assert [numbers(path) for path in ours] == [numbers(path) for path in theirs]
    assert not list((fast_path / "slurm" / "results" / "runs").glob("*/*/lease-*"))


@pytest.mark.slow
def test_one_is_killed_one_times_out_and_both_go_on_exactly(
    slurm: dict[str, str], fast_path: Path, whole: list[dict[str, Any]]
) -> None:
    command = submit(fast_path, *LONG, "--seeds", "2", slurm=slurm)
    wait_for(begun(fast_path, 2))
    killed, timed_out = folders(fast_path)
    job = job_of(supervisor(timed_out))
    os.kill(supervisor(killed), signal.SIGKILL)
    scancel(slurm, "--signal=USR2", job)  # as Slurm does before a job's time is up
    wait_for(lambda: f"Requeued job {job}" in logs(fast_path, job))
    assert command.wait() == 0, command.err
    assert [same(path) for path in folders(fast_path)] == whole
    finished = {record["seed"]: record["attempts"] for record in records(fast_path)}
    assert finished == {0: 2, 1: 1}, "killed: tried again; timed out: the same attempt went on"
    assert re.search(r"process \d+ on \S+ is gone", (killed / "error.log").read_text())
    wait_for(lambda: logs(fast_path, job).count("Starting with") == 2, seconds=60)


@pytest.mark.slow
def test_jobs_are_left_collected_and_cancelled(slurm: dict[str, str], fast_path: Path) -> None:
    """Of runs that take a minute, unless there is a file."""
    hurry = fast_path / "hurry"
    slurm = {**slurm, "FAULTS_MARKER": str(hurry)}
    words = ("--models", "faults:faulty", "--set", "faults:faulty.fault=sleeps", "faults:faulty.at=1")
    words += ("--dataset", "digits", "--offline", "--device", "cpu", "--steps", "600", "--draws", "1")
    words += ("--eval-every", "600", "--seeds", "3", "--workers", "2")
    left = submit(fast_path, *words, "--detach", slurm=slurm, to="left")
    assert (left.wait(), left.err) == (0, "")
    assert "slurm has 2 jobs: the same command goes on" in left.out
    again = submit(fast_path, *words, "--detach", slurm=slurm, to="again")
    assert (again.wait(), again.err) == (0, "")
    assert "2 jobs of an earlier command in slurm work on this" in again.out
    array = job_of(wait_for(lambda: at_work(fast_path))).partition("_")[0]
    parted = submit(fast_path, *words, slurm=slurm, to="parted")
    wait_for(lambda: "2 jobs of an earlier" in parted.out)
    parted.kill(signal.SIGINT)
    assert parted.wait() == 130
    assert f"2 jobs stay in the queue; to end them: scancel {array}" in parted.err
    stays = submit(fast_path, *words, slurm=slurm, to="stays")
    wait_for(lambda: "2 jobs of an earlier" in stays.out)
    scancel(slurm, f"{array}_0")
    hurry.touch()
    assert stays.wait() == 0, stays.err
    assert f"slurm job {array}_0 CANCELLED" in stays.err, "the other one did all the work"
    assert [record["status"] for record in records(fast_path)] == ["finished"] * 3
    assert sum(line.split()[0].startswith(f"{array}_") for line in squeue(slurm, "--states=all")) == 2


@pytest.mark.slow
def test_when_all_its_jobs_are_cancelled_a_command_ends(slurm: dict[str, str], fast_path: Path) -> None:
    command = submit(fast_path, *LONG, "--steps", "100000", "--seeds", "2", slurm=slurm)
    wait_for(begun(fast_path, 2))
    scancel(slurm, job_of(supervisor(folders(fast_path)[0])).partition("_")[0])
    assert command.wait() == 1
    assert command.err.count("CANCELLED") == 2
    assert "the records of 2 of 2 runs are missing" in command.err


@pytest.mark.slow
def test_a_killed_job_costs_the_work_since_its_last_save_without_a_word_from_slurm(
    slurm: dict[str, str], fast_path: Path, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command watches: another job that waits for work takes the run over."""
    command = submit(fast_path, *LONG, "--seeds", "2", "--detach", slurm=slurm)
    assert command.wait() == 0
    wait_for(begun(fast_path, 2))
    killed = folders(fast_path)[0]
    os.kill(supervisor(killed), signal.SIGKILL)
    wait_for(lambda: all((path / "run.json").exists() for path in folders(fast_path)), seconds=90)
    assert [same(path) for path in folders(fast_path)] == whole


# ------------------------------------------------------------------ searches


def _tune(words: tuple[object, ...]) -> None:
    impatient()
    findings.draw = lambda *arguments, **options: []
    findings.draw_budget = lambda *arguments, **options: None
    cli.run_main(lambda: tune.main([str(word) for word in words]))


@pytest.mark.slow
def test_two_jobs_search_one_study_and_one_that_is_killed_is_replaced(
    slurm: dict[str, str], fast_path: Path
) -> None:
    hurry = fast_path / "hurry"
    (fast_path / "space.toml").write_text("batch_size = {low = 16, high = 64}\n")
    words = (*small_searches.LONG, "--steps", "600", "--eval-every", "600", "--trials", "4")
    words += ("--executor", "slurm", "--workers", "2")
    command = start(fast_path, before=partial(_tune, words), **slurm, FAULTS_MARKER=str(hurry))

    def trials(*states: str) -> list[Any]:
        (folder,) = (fast_path / "results" / "studies").glob("*")
        found = storage.open_storage(None, folder).get_all_trials(0)
        return [trial for trial in found if trial.state.name in states]

    wait_for(lambda: list(fast_path.glob("results/studies/*/journal.log")))
    wait_for(lambda: len({t.user_attrs["pid"] for t in trials("RUNNING") if "pid" in t.user_attrs}) == 2)
    os.kill(wait_for(lambda: trials("RUNNING"))[0].user_attrs["pid"], signal.SIGKILL)  # a job's supervisor
    hurry.touch()
    assert command.wait() == 0, command.err
    ended = trials("COMPLETE", "FAIL")
    assert sorted(map(study.ending_of, ended)) == ["complete"] * 4 + ["lost"]
    assert len({trial.user_attrs["slot"] for trial in ended}) == 4
    assert "slurm job" in command.err
    assert "faults:faulty spent 4 trials (4 complete)" in command.out
    assert len(list((fast_path / "results" / "slurm").glob("*_submitted.pkl"))) == 3


@pytest.mark.slow
def test_jobs_find_their_database_and_no_file_holds_its_password(
    slurm: dict[str, str], fast_path: Path
) -> None:
    search = ("--model", *SMALL[1:], "--sampler", "random", "--pruner", "none", "--seeds", "1")
    search = (*search, "--steps", "4", "--eval-every", "4", "--trials", "2", "--retrain", "0")
    url = f"sqlite:///file:{fast_path / 'study.db'}?mode=rwc&uri=true&password=hunter2-MARKER"
    words = (*search, "--executor", "slurm", "--workers", "1", "--storage", url)
    command = start(fast_path, before=partial(_tune, words), **slurm)
    assert command.wait() == 0, command.err
    assert "vanilla spent 2 trials (2 complete)" in command.out
    assert len(list((fast_path / "results" / "slurm").glob("*_submitted.pkl"))) == 1
    for path in fast_path.rglob("*"):
        assert not path.is_file() or b"MARKER" not in path.read_bytes(), path
