"""Runs as jobs of a real Slurm: arrays, time-outs, kills, cancellation, collection; searches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
from bench.execution.remote import NOTE
from commands import SMALL, folders, numbers, records, start, wait_for, without_report

from bench import cli, tune
from bench.execution import remote
from bench.search import findings, study

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "srun")

SIX = ("--models", "vanilla", "dcgan", "--seeds", "3", "--dataset", "digits", "--offline", "--device", "cpu")
SIX = (*SIX, "--steps", "2", "--batch-size", "8", "--draws", "1")
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
    remote.LOOK_EVERY, remote.GRACE_S = 0.5, 1.0


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


def note(folder: Path) -> dict[str, Any]:
    """What a run's folder says of its job."""
    found: dict[str, Any] = json.loads((folder / NOTE).read_text())
    return found


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


def test_an_array_of_six_gives_the_records_of_local_workers(slurm: dict[str, str], fast_path: Path) -> None:
    array = submit(fast_path / "slurm", *SIX, "--workers", "5", slurm=slurm)
    most = 0
    while array.process.is_alive():
        most = max(most, len(squeue(slurm, "--states=running")))
        array.process.join(0.3)
    assert (array.wait(), array.err) == (0, "")
    assert 1 < most <= 5, "side by side, up to the limit"
    names = [line.split()[0] for line in squeue(slurm, "--states=all")]
    assert sorted(names) == [f"{names[0].partition('_')[0]}_{k}" for k in range(6)], "one array"
    here = commands.run(fast_path / "local", *SIX, "--workers", "2", before=without_report)
    assert (here.wait(), here.err) == (0, "")
    ours, theirs = folders(fast_path / "slurm"), folders(fast_path / "local")
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert len(ours) == 6
    assert [numbers(path) for path in ours] == [numbers(path) for path in theirs]
    assert not list((fast_path / "slurm" / "results" / "runs").glob("*/*/" + NOTE))
    assert not list((fast_path / "slurm" / "results" / "runs").glob("*/*/lease-*"))


def test_one_fails_one_is_killed_one_times_out_and_the_others_do_not_notice(
    slurm: dict[str, str], fast_path: Path, whole: list[dict[str, Any]]
) -> None:
    words = list(LONG)
    words.insert(words.index("vanilla") + 1, "faults:faulty")
    fault = ("--set", "faults:faulty.fault=raises", "faults:faulty.at=2")
    command = submit(fast_path, *words, *fault, "--seeds", "2", slurm=slurm)

    def vanilla() -> list[Path]:
        return [path for path in folders(fast_path) if path.parent.name.startswith("vanilla")]

    wait_for(lambda: len([path for path in vanilla() if (path / "checkpoint.pt").exists()]) == 2)
    killed, timed_out = vanilla()
    os.kill(json.loads((killed / "lease-1").read_text())["pid"], signal.SIGKILL)
    job = note(timed_out)["job"]
    scancel(slurm, "--signal=USR2", job)  # as Slurm does before a job's time is up
    wait_for(lambda: not any(line.startswith(f"{job} R") for line in squeue(slurm, "--format=%i %t")))
    assert not (timed_out / "run.json").exists(), "it was caught in the middle"
    wait_for(lambda: f"Requeued job {job}" in logs(fast_path, job))
    assert command.wait() == 1, command.err
    failed = [record for record in records(fast_path) if record["status"] == "failed"]
    assert len(failed) == 2
    assert all(record["reason"] == "ValueError: a fault, made on purpose" for record in failed)
    assert [record["attempts"] for record in failed] == [2, 2]
    assert [same(path) for path in vanilla()] == whole
    finished = {record["seed"]: record["attempts"] for record in records(fast_path)[-2:]}
    assert finished == {0: 2, 1: 1}, "killed: tried again; timed out: the same attempt went on"
    assert "slurm job" in (killed / "error.log").read_text()
    assert logs(fast_path, job).count("Starting with") == 2


def test_jobs_are_left_collected_and_cancelled(
    slurm: dict[str, str], fast_path: Path, whole: list[dict[str, Any]]
) -> None:
    words = (*LONG, "--seeds", "3", "--workers", "2")
    left = submit(fast_path, *words, "--detach", slurm=slurm, to="left")
    assert (left.wait(), left.err) == (0, "")
    assert "slurm has 3 jobs, 0 wait: the same command goes on" in left.out
    again = submit(fast_path, *words, "--detach", slurm=slurm, to="again")
    assert (again.wait(), again.err) == (0, "")
    assert "3 of them were handed to slurm by an earlier command" in again.out
    jobs = [note(path)["job"] for path in folders(fast_path)]
    assert len({job.partition("_")[0] for job in jobs}) == 1, "none was submitted twice"
    parted = submit(fast_path, *words, slurm=slurm, to="parted")
    wait_for(lambda: "3 of them" in parted.out)
    parted.kill(signal.SIGINT)
    assert parted.wait() == 130
    assert "jobs stay in the queue; to end them: scancel " + jobs[0].partition("_")[0] in parted.err
    stays = submit(fast_path, *words, slurm=slurm, to="stays")
    scancel(slurm, jobs[2])
    assert stays.wait() == 1
    assert f"slurm job {jobs[2]} was cancelled" in stays.err
    assert [same(path) for path in folders(fast_path)[:2]] == whole
    assert not (folders(fast_path)[2] / "run.json").exists()
    assert not (folders(fast_path)[2] / NOTE).exists()
    array = jobs[0].partition("_")[0] + "_"
    assert sum(line.split()[0].startswith(array) for line in squeue(slurm, "--states=all")) == 3


# ------------------------------------------------------------------ searches


def _tune(words: tuple[object, ...]) -> None:
    impatient()
    findings.draw = lambda *arguments, **options: []
    findings.draw_budget = lambda *arguments, **options: None
    cli.run_main(lambda: tune.main([str(word) for word in words]))


def test_two_jobs_search_one_study_and_one_that_is_killed_is_replaced(
    slurm: dict[str, str], fast_path: Path
) -> None:
    search = ("--model", *SMALL[1:], "--sampler", "random", "--pruner", "none", "--seeds", "1")
    search = (*search, "--steps", "300", "--eval-every", "300", "--trials", "4", "--retrain", "0")
    words = (*search, "--executor", "slurm", "--workers", "2")
    command = start(fast_path, before=partial(_tune, words), **slurm)

    def trials() -> list[Any]:
        (folder,) = (fast_path / "results" / "studies").glob("*")
        storage = study.open_storage(None, folder)
        return [t for t in storage.get_all_trials(0) if "ending" in t.user_attrs or not t.state.is_finished()]

    wait_for(lambda: list(fast_path.glob("results/studies/*/journal.log")))
    wait_for(lambda: len({t.user_attrs["pid"] for t in trials()}) == 2)
    os.kill(trials()[0].user_attrs["pid"], signal.SIGKILL)
    assert command.wait() == 0, command.err
    endings = [study.ending_of(trial) for trial in trials()]
    assert sorted(endings) == ["complete"] * 4 + ["lost"]
    assert len({trial.user_attrs["slot"] for trial in trials()}) == 4
    assert len({trial.user_attrs["pid"] for trial in trials()}) >= 2
    assert "slurm job" in command.err
    assert "vanilla spent 4 trials (4 complete)" in command.out
    assert len(list((fast_path / "results" / "slurm").glob("*_submitted.pkl"))) == 3


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
