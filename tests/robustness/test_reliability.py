"""Nothing is lost: real processes, really killed, stopped, filled up and starved."""

from __future__ import annotations

import csv
import dataclasses
import errno
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
from commands import (
    SMALL,
    begun,
    compute,
    folders,
    known,
    numbers,
    processes,
    progress,
    quick_scores,
    resumptions,
    run_here,
    start,
    wait_for,
    without_privileges,
    without_report,
)
from tasks import Actions, Broken, supervised

from bench.errors import UsageError
from bench.execution import checkpoints, kept, recording, training
from bench.execution.signals import Interrupt
from bench.execution.supervisor import supervise
from bench.plan import RunContext, Spec, plan
from bench.scoring import sizes
from bench.store import files, records
from bench.store.jobs import Job
from bench.store.leases import alive

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or Linux' own calls")
FAULTY = ("--models", "faults:faulty", "--dataset", "digits", "--offline", "--device", "cpu", "--draws", "1")
NARROW = ("--set", "vanilla.g_widths=16", "vanilla.d_widths=16")
RUN = (*SMALL, "--seeds", "1", "--steps", "200", "--eval-every", "100", "--checkpoint-every", "0")
RUN = (*RUN, "--draws", "1")
LONG = (*SMALL, "--steps", "200000", "--eval-every", "100000", "--checkpoint-every", "0")


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run."""

    folder: Path
    """The working folder of its command."""
    numbers: dict[str, Any]
    """What it left."""
    seconds: float
    """How long its command took."""

    def copy(self, folder: Path) -> None:
        """Put its results into another working folder."""
        shutil.copytree(self.folder / "results", folder / "results")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """``RUN``, from its beginning to its end."""
    folder = tmp_path_factory.mktemp("whole")
    commands.run(folder / "first", *RUN, "--dry-run")  # starts the server
    began = time.monotonic()
    done = commands.run(folder, *RUN, "--workers", "0", before=without_report)
    seconds = time.monotonic() - began
    assert done.wait() == 0, done.err
    return Whole(folder, numbers(folders(folder)[0]), seconds)


# ------------------------------------------------------------------ kill -9, then the same command


KILLS = int(os.environ.get("KILLS", "3"))
"""The counts in docs/reliability.md are of 20."""


@pytest.mark.slow
def test_killed_at_random_instants_it_goes_on_exactly(whole: Whole, fast_path: Path) -> None:
    """Wherever a kill falls, from planning to writing the record."""
    draw = random.Random(KILLS)
    kills, n = 0, 0
    while kills < KILLS:
        folder = fast_path / str(n)
        n += 1
        while kills < KILLS and not (folders(folder) and (folders(folder)[0] / "run.json").exists()):
            command = start(folder, *RUN, "--workers", "0", before=without_report)
            command.process.join(draw.uniform(0, whole.seconds))
            if command.process.is_alive():
                command.kill(signal.SIGKILL)
                kills += command.wait() == -signal.SIGKILL
        done = commands.run(folder, *RUN, "--workers", "0", before=without_report)
        assert (done.wait(), done.err) == (0, "")
        assert numbers(folders(folder)[0]) == whole.numbers


def saved_step(folder: Path) -> int:
    """The step of a run's newest checkpoint."""
    return int(checkpoints.load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))["step"])


class Crash(BaseException):
    """What no handler of the harness's own catches."""


@pytest.mark.slow
def test_crashed_between_any_two_file_operations_a_stack_goes_on_exactly(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds in one stack: also where one has the newer checkpoint, or its record, and the other not.

    It goes on from the last checkpoint that was complete, or a later one, until there are records.
    """
    quick_scores(monkeypatch)
    spec = Spec(["faults:faulty"], ["digits"], range(2), steps=24, eval_every=24, draws=1)
    context = RunContext(fast_path / "whole", offline=True, checkpoint_every=0, cache_root=fast_path)
    jobs = plan(spec, context)
    compute(jobs, context)
    expected = [numbers(each.folder(context.out)) for each in jobs]
    renamed, checkpoint = Path.replace, training.Stack.checkpoint
    calls = last = saved = 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += "progress" not in self.name  # written when a second has passed
        if calls > last:
            raise Crash
        return renamed(self, target)

    def checkpointed(self: training.Stack) -> None:
        nonlocal saved
        checkpoint(self)
        saved = self.trainer.step

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(training.Stack, "checkpoint", checkpointed)
    resumed, trained = resumptions(monkeypatch), advances(monkeypatch)
    first: list[int] = []

    def crashes(out: Path, after: int) -> bool:
        """Run as far as so many file operations; whether that was not to the end."""
        nonlocal calls, last, context
        calls, last, kept, context = 0, after, saved, dataclasses.replace(context, out=out)
        left = [each for each in jobs if not (each.folder(out) / "run.json").exists()]
        resumed.clear()
        trained.clear()
        with suppress(Crash):
            run_here(jobs, context, retries=0)
        assert all(step >= kept for step in resumed)
        assert resumed or calls > last or not left
        assert not (kept == 24 and trained), "what was trained to the end is only scored"
        return calls > last

    for point in range(100):
        saved, out = 0, fast_path / str(point)
        if not crashes(out, point):
            break
        first.append(saved)
        crashes(out, 3)
        assert not crashes(out, 10**6)
        assert [numbers(each.folder(out)) for each in jobs] == expected
    assert point > 15
    assert min(first) == 0
    assert first.count(24) > 5


@pytest.mark.slow
def test_checkpoints_are_written_by_the_clock(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every minute by default: of a run that takes half a second a step, after steps 121 and 242."""
    assert RunContext().checkpoint_every == 60
    clock, saved = 0.0, []

    def advance(self: training.Stack) -> None:
        nonlocal clock
        clock += 0.5
        self.slice = 1
        advanced(self)

    def noted(self: training.Stack) -> None:
        saved.append(self.trainer.step)
        checkpoint(self)

    advanced, checkpoint = training.Stack.advance, training.Stack.checkpoint
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    monkeypatch.setattr(training.Stack, "advance", advance)
    monkeypatch.setattr(training.Stack, "checkpoint", noted)
    context = RunContext(fast_path, offline=True, cache_root=known())
    compute(
        plan(Spec(["faults:faulty"], ["digits"], [0], steps=300, eval_every=300, draws=1), context), context
    )
    assert saved == [0, 121, 242, 300]


@pytest.mark.slow
def test_a_stack_of_seeds_that_came_differently_far_loses_nothing(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an interrupted command goes on with more seeds, or a larger ``--stack``."""
    context = RunContext(fast_path, offline=True, checkpoint_every=0, cache_root=known())
    jobs = plan(Spec(["faults:faulty"], ["digits"], range(3), steps=60, eval_every=20, draws=1), context)
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        return looks >= 3

    compute(jobs[1:2], context, stop=stop)
    reached = saved_step(jobs[1].folder(fast_path))
    resumed = resumptions(monkeypatch)
    run_here(jobs, context, retries=0)
    assert resumed == [0, reached, 20, 40], "the least advanced first, each up to an evaluation"
    assert [(records.read_record(each.folder(fast_path)) or {})["cost"]["stack"] for each in jobs] == [
        2,
        1,
        2,
    ]


def advances(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The step at which each stretch of training begins, from now on."""
    steps: list[int] = []
    advance = training.Stack.advance

    def advanced(self: training.Stack) -> None:
        steps.append(self.trainer.step)
        advance(self)

    monkeypatch.setattr(training.Stack, "advance", advanced)
    return steps


# ------------------------------------------------------------------ signals


@pytest.fixture
def token(fast_path: Path) -> Iterator[str]:
    """A mark in the environment of a command's workers; at the end of the test none is left."""
    yield fast_path.name
    wait_for(lambda: not processes(fast_path.name), seconds=20)


@pytest.mark.slow
@LINUX
def test_a_signal_ends_all_cleanly_and_says_how_to_go_on(fast_path: Path, token: str) -> None:
    """Sent to the whole group, as a job scheduler does. With two workers, and a checkpoint of each run."""
    command = start(fast_path, *LONG, "--seeds", "2", "--workers", "2", RELIABILITY=token)
    wait_for(begun(fast_path, 2))
    assert len(processes(token)) == 2
    command.kill_group(signal.SIGTERM)
    assert command.wait(seconds=60) == 143
    assert command.err == "interrupted: 2 runs are not finished; the same command goes on\n"
    for folder in folders(fast_path):
        left = {path.name for path in folder.iterdir()}
        assert {"checkpoint.pt", "progress.json"} <= left
        assert not left & {"run.json", "error.log", "lease-1"}
        assert checkpoints.load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))["step"] >= progress(
            folder
        )


@pytest.mark.slow
@LINUX
def test_killed_itself_a_command_leaves_no_process(fast_path: Path, token: str) -> None:
    command = start(fast_path, *LONG, "--seeds", "1", "--workers", "1", RELIABILITY=token)
    wait_for(begun(fast_path))
    command.kill(signal.SIGKILL)
    wait_for(lambda: not processes(token), seconds=5)


def sleeper(folder: Path, token: str, how: str) -> tuple[Any, int]:
    """A process with a worker that sleeps, and the worker's number."""
    process = commands.SERVER.Process(target=supervised, args=(folder, how, {"RELIABILITY": token}))
    process.start()
    ((_, worker),) = wait_for(Actions(folder, [how]).done)
    return process, worker


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("how", ["sleep", "deaf", "hold"])
def test_a_worker_ends_with_its_parent_whatever_it_does(fast_path: Path, token: str, how: str) -> None:
    process, worker = sleeper(fast_path, token, how)
    process.kill()
    wait_for(lambda: not alive(worker), seconds=5)


# ------------------------------------------------------------------ runs that fail


def done(folder: Path, *actions: str, timeout: float | None = None) -> Actions:
    """Have one worker, and those that replace it, do these one after the other."""
    source = Actions(folder, actions)
    supervise(source, RunContext(folder), ["cpu"], Interrupt(), timeout=timeout)
    return source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (-signal.SIGKILL, "worker killed by SIGKILL"),
        (-signal.SIGSEGV, "worker killed by SIGSEGV"),
        (0, "worker ended with code 0"),
        (3, "worker ended with code 3"),
    ],
)
def test_a_worker_that_dies_is_noticed_named_and_replaced(fast_path: Path, by: int, reason: str) -> None:
    source = done(fast_path, str(by), "greet")
    first, _, log = source.notes().partition("\n")
    assert first == reason
    assert ('tasks.py", line' in log) == (by == -signal.SIGSEGV), "the log says where it crashed"
    assert [what for what, _ in source.done()] == [str(by), "greet"]
    assert not list(fast_path.glob("lease-*"))


@pytest.mark.slow
def test_a_worker_is_kept_while_it_works_and_replaced_after_a_failure(fast_path: Path) -> None:
    source = done(fast_path, "greet", "greet", "fail", "greet")
    (_, first), (_, second), (_, third), (_, fourth) = source.done()
    assert first == second == third != fourth
    assert source.notes() == "on purpose\n"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deaf", "hold"])
def test_a_hang_is_ended_and_the_log_says_where(fast_path: Path, how: str) -> None:
    began = time.monotonic()
    source = done(fast_path, how, timeout=1)
    assert 0.9 < time.monotonic() - began < 15
    first, _, log = source.notes().partition("\n")
    assert first == "took longer than --run-timeout 1 s"
    assert 'tasks.py", line' in log, "the stack of the process that hung"
    assert not alive(source.done()[0][1])


@pytest.mark.slow
def test_workers_that_cannot_start_are_not_started_for_ever(fast_path: Path) -> None:
    """Three in a row that die before they take any work."""

    class Unusable(Actions):
        def __reduce__(self) -> Any:
            return os._exit, (7,)

    with pytest.raises(UsageError, match="workers cannot start: the last one ended with code 7"):
        supervise(Unusable(fast_path, ["greet"]), RunContext(fast_path), ["cpu"], Interrupt())


@pytest.mark.slow
def test_a_source_that_breaks_is_not_asked_for_ever(
    fast_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even where it breaks after a lease was taken."""
    with pytest.raises(UsageError, match="workers cannot start: the last one ended with code 1"):
        supervise(Broken(fast_path, ["greet"]), RunContext(fast_path), ["cpu"], Interrupt())
    assert capfd.readouterr().err.count("LookupError: broken") == 3


@pytest.mark.slow
def test_what_fails_is_recorded_and_the_others_go_on(fast_path: Path) -> None:
    """One results folder, a command for each fault; the retries are counted."""
    one = (*FAULTY, "--seeds", "1", "--steps", "60", "--eval-every", "60", "--retries", "1")
    for fault, *more in (
        ("raises", "--workers", "0"),
        ("starves", "--workers", "0"),
        ("dies", "--workers", "1", "--models", "faults:faulty", "vanilla", *NARROW),
        ("hangs", "--workers", "1", "--run-timeout", "1", "--retries", "0"),
    ):
        done = commands.run(
            fast_path,
            *(*(one[2:] if "--models" in more else one), "--set", f"faults:faulty.fault={fault}", *more),
            before=without_report,
            FAULTS_MARKER=str(fast_path / "marker"),
        )
        assert done.wait() == 1, done.err
        assert "Traceback" not in done.err
    found = {record["hyperparameters"].get("fault"): record for record in commands.records(fast_path)}
    assert found[None]["status"] == "finished", "that of the other model, which came after the one that dies"
    starved = found["starves"]["reason"]
    assert re.match("RuntimeError: .*can't allocate memory", starved)
    assert {fault: (r["status"], r["reason"], r["attempts"]) for fault, r in found.items() if fault} == {
        "raises": ("failed", "ValueError: a fault, made on purpose", 2),
        "starves": ("failed", starved, 2),
        "dies": ("failed", "worker killed by SIGKILL", 2),
        "hangs": ("failed", "took longer than --run-timeout 1 s", 1),
    }
    for folder in folders(fast_path):
        record = records.read_record(folder)
        assert record is not None
        assert not (folder / "progress.json").exists()
        if record["model"] == "vanilla":
            continue
        log = (folder / "error.log").read_text().splitlines()
        assert [line for line in log if line.startswith("attempt")] == [
            f"attempt {k}: {record['reason']}" for k in range(1, record["attempts"] + 1)
        ]
        if record["hyperparameters"]["fault"] in ("raises", "starves"):
            assert "faults.py" in "".join(log), "where it happened"


@pytest.mark.slow
def test_losses_or_images_that_are_not_numbers_or_absurd_end_a_run_as_diverged(fast_path: Path) -> None:
    for fault in ("nan", "explodes", "collapses", "nan images"):
        done = commands.run(
            fast_path,
            *(*FAULTY, "--seeds", "1", "--steps", "60", "--eval-every", "60", "--workers", "0"),
            "--set",
            f"faults:faulty.fault={fault}",
            before=without_report,
        )
        assert done.wait() == (0 if fault == "collapses" else 1), done.err
        assert not re.search(r"\bnan\b", done.out), "no table shows what is not a number"
    found = {record["hyperparameters"]["fault"]: record for record in commands.records(fast_path)}
    assert {fault: (r["status"], r["reason"]) for fault, r in found.items()} == {
        "nan": ("diverged", "a loss is not finite at step 30"),
        "explodes": ("diverged", "a loss exceeds 1e+08 at step 30"),
        "collapses": ("finished", None),
        "nan images": ("diverged", "the generator's samples are not finite at step 60"),
    }
    scores = found["collapses"]["metrics"]["classifier"]
    assert all(math.isfinite(value) for value in scores.values())
    assert (scores["isc_mean"], scores["modes"], scores["modes_knn"]) == (pytest.approx(1), 1, 1)


@pytest.mark.slow
def test_a_retry_goes_on_from_the_checkpoint_exactly(fast_path: Path) -> None:
    """A worker killed by the system at step 230: the record is that of a run that was left alone."""
    one = (*FAULTY, "--seeds", "1", "--steps", "300", "--eval-every", "300", "--checkpoint-every", "0")
    one += ("--set", "faults:faulty.fault=dies once", "faults:faulty.at=230", "--workers")
    marker = fast_path / "died"
    killed = commands.run(fast_path / "a", *one, "1", before=without_report, FAULTS_MARKER=str(marker))
    assert (killed.wait(), marker.exists()) == (0, True)
    log = (folders(fast_path / "a")[0] / "error.log").read_text().splitlines()
    assert [line for line in log if "attempt" in line] == ["attempt 1: worker killed by SIGKILL"]
    calm = commands.run(fast_path / "b", *one, "0", before=without_report, FAULTS_MARKER=str(marker))
    assert calm.wait() == 0
    one_run, other = (numbers(folders(fast_path / name)[0]) for name in "ab")
    assert (one_run["record"].pop("attempts"), other["record"].pop("attempts")) == (2, 1)
    assert one_run == other


def in_process(
    context: RunContext, n_seeds: int, **options: Any
) -> tuple[list[Job], list[dict[str, Any] | None]]:
    """Jobs, run as one stack in this process, and their records."""
    context = dataclasses.replace(context, cache_root=known())
    jobs = plan(
        Spec(["faults:faulty"], ["digits"], range(n_seeds), steps=20, eval_every=20, draws=1), context
    )
    run_here(jobs, context, retries=options.get("retries", 0))
    return jobs, [records.read_record(each.folder(context.out)) for each in jobs]


@pytest.mark.slow
def test_a_stack_that_does_not_fit_into_memory_is_halved(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = training.begin

    def small_device(jobs: list[Job], context: RunContext) -> training.Stack:
        sizes.append(len(jobs))
        if len(jobs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(jobs, context)

    monkeypatch.setattr(training, "begin", small_device)
    _, found = in_process(RunContext(fast_path, offline=True), 3)
    assert sizes == [3, 1, 1, 1]
    assert [(r["status"], r["attempts"], r["cost"]["stack"]) for r in found if r] == [("finished", 1, 1)] * 3


def test_a_run_that_does_not_fit_alone_is_a_failure(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "begin", full)
    _, (record,) = in_process(RunContext(fast_path, offline=True), 1, retries=2)
    assert record is not None
    assert (record["status"], record["attempts"]) == ("failed", 3)
    assert record["reason"] == "OutOfMemoryError: CUDA out of memory"


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 1])
def test_a_failure_after_one_seed_of_a_stack_was_recorded_leaves_that_record(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    record = recording.record

    def second_fails(stack: training.Stack, k: int, attempt: int) -> None:
        if stack.lanes[k].job.seed == 1:
            raise RuntimeError("only this one")
        record(stack, k, attempt)

    monkeypatch.setattr(recording, "record", second_fails)
    _, found = in_process(RunContext(fast_path, offline=True), 2, retries=retries)
    assert [(r["status"], r["attempts"]) for r in found if r] == [("finished", 1), ("failed", 1 + retries)]


def test_scores_that_cannot_be_computed_are_a_named_failure(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "ISC_SPLITS", 361)  # one more than there are test images
    kept._evaluators.clear()
    _, (record,) = in_process(RunContext(fast_path, offline=True), 1)
    assert record is not None
    assert record["status"] == "failed"
    assert record["reason"] == "ScoreError: 360 real images cannot be scored: at least 361 are needed"
    assert record["metrics"] == {}


# ------------------------------------------------------------------ full, read-only and deleted folders


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Fill a disk but for this many bytes."""
    junk = disk / "junk"
    junk.write_bytes(bytes(shutil.disk_usage(disk).free - leave))
    return junk


def assert_one_line(command: commands.Command, what: str) -> None:
    """It said this in one line, and nothing else."""
    assert command.err.count("\n") == 1, command.err
    assert command.err.startswith("error: ")
    assert what in command.err
    assert command.err.endswith("what is finished is kept, the same command goes on\n")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "leave"), [(0, 0), (1, 60_000)])
def test_a_full_disk_is_one_line_and_afterwards_the_command_goes_on(
    small_disk: Path, whole: Whole, workers: int, leave: int
) -> None:
    """Full when the second seed begins, or while it trains."""
    whole.copy(small_disk)
    junk = fill(small_disk, leave=leave)
    both = [*RUN, "--seeds", "2", "--workers"]
    command = commands.run(small_disk, *both, workers, before=without_report, to=small_disk.parent)
    assert command.wait() == 1
    assert_one_line(command, "No space left on device")
    assert [record["seed"] for record in commands.records(small_disk)] == [0]
    junk.unlink()
    again = commands.run(small_disk, *both, "0", before=without_report)
    assert (again.wait(), again.err) == (0, "")
    assert "2 runs, 1 reused, 1 to compute" in again.out
    assert numbers(folders(small_disk)[0]) == whole.numbers
    assert [record["status"] for record in commands.records(small_disk)] == ["finished"] * 2


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_report_is_written_is_one_line(small_disk: Path, whole: Whole) -> None:
    whole.copy(small_disk)
    fill(small_disk, leave=0)
    command = commands.run(small_disk, *RUN, to=small_disk.parent)
    assert command.wait() == 1
    assert "vanilla" in command.out, "the table was printed before"
    assert_one_line(command, "No space left on device")


@pytest.mark.slow
def test_every_write_that_fails_is_one_line(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from the n-th written file on, for every n: the same error, and never half a file."""
    quick_scores(monkeypatch)
    real, calls, last = os.fsync, 0, 0

    def fsync(number: int) -> None:
        nonlocal calls
        calls += 1
        if calls > last:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    spec = Spec(["faults:faulty"], ["digits"], [0], steps=20, eval_every=20, draws=1)
    cache = RunContext(fast_path / "cache", offline=True, cache_root=fast_path / "cache")
    jobs = plan(spec, cache)
    for last in range(100):
        calls, context = 0, dataclasses.replace(cache, out=fast_path / str(last))
        try:
            run_here(jobs, context)
            break
        except files.UnwritableError as error:
            found = error.errno
        assert found == errno.ENOSPC
        folder = jobs[0].folder(context.out)
        assert not list(folder.glob(".*"))
        last = 10**6
        run_here(jobs, context, retries=0)
        assert (records.read_record(folder) or {})["status"] == "finished"
    assert last > 4


@pytest.fixture
def read_only(small_disk: Path) -> Iterator[Any]:
    """Makes a folder read-only, and writable again."""

    def switch(on: bool) -> None:
        mode = "ro" if on else "rw"
        command = ["mount", "-o", f"remount,{mode}", str(small_disk)]
        wait_for(lambda: not subprocess.run(command, capture_output=True, check=False).returncode)  # busy

    yield switch
    switch(False)


@pytest.mark.slow
def test_a_folder_that_turns_read_only_is_one_line(small_disk: Path, read_only: Any) -> None:
    elsewhere = small_disk.parent
    one = (*LONG, "--seeds", "1", "--out", small_disk / "results")
    command = start(elsewhere, *one, "--workers", "1")
    wait_for(begun(small_disk))
    read_only(True)
    assert command.wait() == 1
    assert_one_line(command, "Read-only file system")
    again = commands.run(elsewhere, *one)
    assert again.wait() == 1
    assert_one_line(again, "Read-only file system")


@pytest.mark.slow
@LINUX
def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir(mode=0o500)
    command = commands.run(tmp_path, *RUN, before=without_privileges)
    assert command.wait() == 1
    assert_one_line(command, "results/commands.jsonl: Permission denied")
    results.chmod(0o700)
    command = start(tmp_path, *LONG, "--seeds", "1", "--workers", "0", before=without_privileges)
    wait_for(begun(tmp_path))
    folders(tmp_path)[0].chmod(0o500)
    assert command.wait() == 1
    assert_one_line(command, "Permission denied")
    folders(tmp_path)[0].chmod(0o700)


@pytest.mark.slow
def test_a_folder_that_is_deleted_midway_costs_what_was_in_it_and_no_more(
    fast_path: Path, whole: Whole
) -> None:
    """While the second of two seeds trains: the first one's record is missed, and can be computed again."""
    whole.copy(fast_path)
    both = (*RUN, "--seeds", "2", "--workers", "0")
    command = start(fast_path, *both, before=without_report)
    wait_for(lambda: len(folders(fast_path)) == 2 and (folders(fast_path)[1] / "checkpoint.pt").exists())
    (fast_path / "results").rename(fast_path / "gone")
    code = command.wait()
    assert code == 1
    assert command.err.count("\n") == 1, command.err
    assert command.err.startswith("error: ")
    assert "Traceback" not in command.err
    again = commands.run(fast_path, *both, before=without_report)
    assert (again.wait(), again.err) == (0, "")
    assert numbers(folders(fast_path)[0]) == whole.numbers


# ------------------------------------------------------------------ many runs


@pytest.mark.slow
@LINUX
def test_many_runs_in_one_command_leave_memory_and_open_files_flat(fast_path: Path, token: str) -> None:
    """``SOAK=500`` makes it 500 runs; see docs/reliability.md for what that gave."""
    n = int(os.environ.get("SOAK", "12"))
    command = start(
        fast_path,
        *(*FAULTY, "--steps", "2", "--eval-every", "2", "--seeds", str(n), "--workers", "1"),
        RELIABILITY=token,
    )
    files: list[int] = []
    while command.process.is_alive():
        with suppress(FileNotFoundError):  # one has just ended
            mine = (command.pid, *processes(token))
            files.append(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in mine))
        command.process.join(0.2)
    assert command.wait() == 0, command.err
    found = commands.records(fast_path)
    assert sorted(record["seed"] for record in found) == list(range(n))
    by_age = sorted(folders(fast_path), key=lambda folder: (folder / "run.json").stat().st_mtime)
    memory = [(records.read_record(folder) or {})["cost"]["peak_memory_mb"] for folder in by_age]
    assert memory[-1] < memory[n // 4] * 1.02, memory
    most = [max(half) for half in (files[: len(files) // 2], files[len(files) // 2 :])]
    assert most[1] <= most[0] + 3, files  # a file may just be open; a leak would add one with each run
    left = {path.name for folder in by_age for path in folder.iterdir()}
    pictures = {"samples.png", "samples-000002.png", "real.png", "neighbours.png"}
    assert left == {"checkpoint.pt", "history.csv", "run.json"} | pictures
    recount(fast_path, found)


def recount(folder: Path, found: list[dict[str, Any]]) -> None:
    """The report's mean and deviation are those of the records, added up by hand."""
    with (folder / "results" / "report" / "table.csv").open() as file:
        (row,) = csv.DictReader(file)
    for name in ("fid", "kid_mean", "isc_mean", "precision", "recall"):
        values = [record["metrics"]["classifier"][name] for record in found]
        assert float(row[f"metrics.classifier.{name}.mean"]) == pytest.approx(
            statistics.fmean(values), rel=1e-9
        )
        assert float(row[f"metrics.classifier.{name}.std"]) == pytest.approx(
            statistics.stdev(values), rel=1e-9
        )
        assert int(float(row[f"metrics.classifier.{name}.n"])) == len(found)
