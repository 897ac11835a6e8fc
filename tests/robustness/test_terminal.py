"""Ctrl-C, SIGTERM and SIGSTOP, as terminals, schedulers and containers send them to users' commands.

Each command is a Python of its own: one that is forked from a server has the server's signal masks and the
server's resource tracker, and tells nothing about what happens to a user.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
from commands import SMALL, Launched, processes, progress, wait_for
from tasks import Actions, Several

from bench.errors import UsageError
from bench.execution import supervisor
from bench.execution.checkpoints import load_checkpoint
from bench.execution.signals import Interrupt
from bench.plan import RunContext

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or Linux' own calls")

LONG = ("--steps", "1000000", "--eval-every", "1000000", "--retries", "0")
"""No checkpoint within the time of a test, but that upon a signal."""
RUN = ("bench.run", *SMALL, *LONG, "--seeds", "2")
TUNE = (
    *("bench.tune", *SMALL, *LONG, "--seeds", "1", "--trials", "2", "--retrain", "0"),
    *("--sampler", "random", "--pruner", "none"),
)
SPEED = ("bench.speed", "--device", "cpu", "--seconds", "1000")

Start = Callable[..., Launched]


@pytest.fixture
def launch(fast_path: Path) -> Iterator[Start]:
    """Starts commands in one folder; at the end of the test no process is left of any."""
    started: list[Launched] = []

    def start(*arguments: object, **options: Any) -> Launched:
        started.append(commands.launch(fast_path, *arguments, **options, TERMINAL_TEST=fast_path.name))
        return started[-1]

    yield start
    try:
        wait_for(lambda: not processes(fast_path.name), seconds=5)
    finally:
        for command in started:
            command.end()


def run_folders(folder: Path) -> list[Path]:
    """All run folders below a command's results, those of a search included."""
    return sorted((folder / "results").glob("**/seed-*"))


def trained(folder: Path, n: int) -> Callable[[], bool]:
    """Whether n runs have made steps."""
    return lambda: sum(progress(each) > 0 for each in run_folders(folder)) >= n


def saved_step(folder: Path) -> int:
    return int(load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))["step"])


WAYS = {"Ctrl-C": signal.SIGINT, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "workers", "way", "times"),
    [
        (RUN, 1, "Ctrl-C", 2),
        (RUN, 0, "SIGINT", 1),
        (TUNE, 2, "Ctrl-C", 1),
        (TUNE, 0, "SIGTERM", 1),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_a_signal_to_all_processes_costs_no_step(
    fast_path: Path, launch: Start, words: tuple[str, ...], workers: int, way: str, times: int
) -> None:
    """Every run keeps its latest step; the same command starts there, and is stopped once more."""
    at_once = max(1, workers)
    begun: dict[Path, int] = {}
    for _ in range(times):
        command = launch(*words, "--workers", workers, terminal=way == "Ctrl-C")
        wait_for(trained(fast_path, at_once))
        seen = {folder: progress(folder) for folder in run_folders(fast_path)}
        assert all(seen[folder] >= step for folder, step in begun.items()), "it starts where it stopped"
        command.interrupt(WAYS[way])
        assert command.wait(seconds=60) == 128 + WAYS[way]
        assert not re.search("Traceback|leaked", command.printed)
        left = "2 runs are not finished" if words is RUN else "2 trials are left"
        assert f"interrupted: {left}; the same command goes on" in command.printed
        for folder in run_folders(fast_path):
            assert not {"run.json", "error.log"} & {path.name for path in folder.iterdir()}
        begun = {folder: saved_step(folder) for folder, step in seen.items() if step}
        assert len(begun) == at_once
        for folder, step in begun.items():
            assert step >= seen[folder]
            (folder / "progress.json").unlink()


@pytest.mark.slow
def test_a_measurement_ends_at_once(launch: Start, fast_path: Path) -> None:
    command = launch(*SPEED, terminal=True)
    wait_for(lambda: len(processes(fast_path.name)) >= 4)  # workers, and the resource tracker
    time.sleep(1)
    command.interrupt()
    assert command.wait(seconds=20) == 130
    assert command.printed in ("", "^C")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "imported", "way"),
    [
        (RUN, "bench.errors", "Ctrl-C"),
        (TUNE, "bench.where", "SIGTERM"),
        (RUN, "baselines.registry", "Ctrl-C"),
        (RUN, "baselines.registry", "SIGTERM"),
        (SPEED, "torch.types", "SIGTERM"),
    ],
    ids=["bench.run", "bench.tune", "planning", "planning-SIGTERM", "bench.speed"],
)
def test_before_there_is_anything_to_save_a_signal_ends_it_without_a_word(
    launch: Start, words: tuple[str, ...], imported: str, way: str
) -> None:
    """At any import: Python says which it has done."""
    command = launch(*words, terminal=way == "Ctrl-C", options=["-X", "importtime"])
    wait_for(lambda: re.search(rf"\| +{re.escape(imported)}\r?\n", command.printed))
    command.interrupt(WAYS[way])
    assert command.wait(seconds=20) == 128 + WAYS[way]
    said = [line for line in command.printed.splitlines() if "import time:" not in line]
    assert [line for line in said if line not in ("", "^C", "planning: vanilla on digits")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("words", "name"), [(RUN, "bench.run"), (TUNE, "bench.tune")])
def test_a_terminal_shows_something_before_pytorch_is_imported(
    launch: Start, words: tuple[str, ...], name: str
) -> None:
    command = launch(*words, terminal=True, options=["-X", "importtime"])
    wait_for(lambda: "torch._C" in command.printed)
    said = command.printed[: command.printed.index("torch._C")]
    assert "planning: vanilla on digits" in said
    command.interrupt()


TIDY = """
def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        print("ready", flush=True)
        time.sleep(100)
"""
DESTRUCTOR = """
class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(100)
def main():
    Slow()
    return 0
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [TIDY, DESTRUCTOR], ids=["tidy", "destructor"])
def test_while_it_plans_a_signal_leaves_nothing_half_done(tmp_path: Path, code: str, number: int) -> None:
    """As of a download; nor is it lost where Python swallows what is raised."""
    code = f"import sys, tempfile, time\nfrom bench.cli import run_main\n{code}\nrun_main(main)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def children(pid: int) -> list[int]:
    """The workers of a command."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
def test_a_signal_while_workers_start_is_heeded(fast_path: Path, launch: Start) -> None:
    command = launch(*RUN, "--workers", 2, terminal=True)
    wait_for(lambda: children(command.process.pid))
    command.interrupt()
    assert command.wait(seconds=60) == 130
    assert not re.search("Traceback|leaked", command.printed)
    for folder in run_folders(fast_path):
        assert not {"run.json", "error.log"} & {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_signal_while_it_scores_is_heeded_after_that(fast_path: Path, launch: Start) -> None:
    command = launch(*RUN, "--eval-every", 20, "--workers", 0)
    wait_for(lambda: any(phase(folder) == "scoring" for folder in run_folders(fast_path)))
    command.interrupt(signal.SIGTERM)
    assert command.wait(seconds=60) == 143
    assert "Traceback" not in command.printed
    (folder,) = run_folders(fast_path)
    assert saved_step(folder) % 20 == 0
    assert saved_step(folder) > 0
    assert (folder / f"samples-{saved_step(folder):06}.png").exists()


def phase(folder: Path) -> str:
    with suppress(OSError, ValueError):
        return str(json.loads((folder / "progress.json").read_text())["phase"])
    return ""


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_woken_to_write_its_checkpoint(fast_path: Path, launch: Start) -> None:
    command = launch(*RUN, "--workers", 2)
    wait_for(trained(fast_path, 2))
    os.kill(children(command.process.pid)[0], signal.SIGSTOP)
    seen = {folder: progress(folder) for folder in run_folders(fast_path)}
    began = time.monotonic()
    command.interrupt(signal.SIGTERM)
    assert command.wait(seconds=60) == 143
    assert time.monotonic() - began < 10
    assert not re.search("Traceback|leaked", command.printed)
    assert all(saved_step(folder) >= step for folder, step in seen.items())


@pytest.mark.slow
def test_a_terminal_that_is_closed_costs_no_step(fast_path: Path, launch: Start) -> None:
    command = launch(*RUN, "--workers", 1, terminal=True)
    wait_for(trained(fast_path, 1))
    seen = {folder: progress(folder) for folder in run_folders(fast_path)}
    command.hang_up()
    for _ in range(4):  # the shell tells its jobs, too
        time.sleep(0.15)
        with suppress(ProcessLookupError):
            os.killpg(command.process.pid, signal.SIGHUP)
    command.wait(seconds=60)
    assert all(saved_step(folder) >= step for folder, step in seen.items())
    for folder in seen:
        assert not {"run.json", "error.log"} & {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_under_nohup_a_terminal_may_be_closed_and_a_signal_that_comes_twice_at_once_is_one(
    fast_path: Path, launch: Start
) -> None:
    """``nohup`` ignores SIGHUP, for this process and all that it starts. ``timeout`` sends its signal to its
    child, then to the group."""
    command = launch(*RUN, "--workers", 1, nohup=True)
    wait_for(trained(fast_path, 1))
    command.interrupt(signal.SIGHUP)
    time.sleep(0.5)
    assert command.process.poll() is None
    (folder,) = run_folders(fast_path)
    before = progress(folder)
    wait_for(lambda: progress(folder) > before)
    command.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    command.interrupt(signal.SIGTERM)
    assert command.wait(seconds=60) == 143
    assert saved_step(folder) > before


@pytest.mark.slow
def test_workers_that_do_not_end_share_one_patience(fast_path: Path) -> None:
    """As after an error of one of them."""
    sources = [Actions(fast_path / str(k), ["deaf"]) for k in range(3)]
    for source in sources:
        source.folder.mkdir()

    began = 0.0

    def fail() -> None:
        nonlocal began
        if all(source.done() for source in sources):
            began = time.monotonic()
            raise UsageError("no work can be done")

    with pytest.raises(UsageError):
        supervisor.supervise(
            Several(sources), RunContext(fast_path), ["cpu"] * 3, Interrupt(), tick=fail, patience=3
        )
    assert 2.9 < time.monotonic() - began < 8
    assert supervisor.PATIENCE == 30


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once_and_leaves_the_terminal_as_it_was(
    launch: Start, fast_path: Path
) -> None:
    """Though a worker does not listen. With its cursor, which a bar of progress hides."""
    hangs = ("--set", "faults:faulty.fault=hangs", "--workers", "1", "--seeds", "1")
    words = ("--models", "faults:faulty", "--dataset", "digits", "--offline", "--device", "cpu", *hangs)
    marker = fast_path / "hangs"
    command = launch("bench.run", *words, terminal=True, FAULTS_MARKER=str(marker))
    wait_for(marker.exists)
    command.interrupt()
    time.sleep(0.5)
    assert command.process.poll() is None, "it waits for the worker's checkpoint"
    command.interrupt()
    assert command.wait(seconds=5) == 130
    assert command.printed.rfind("\x1b[?25h") > command.printed.rfind("\x1b[?25l") > 0
