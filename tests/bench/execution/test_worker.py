"""The one loop: who works on what, and in which order. Without PyTorch: tasks that only count."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from tasks import Actions

from bench.errors import UsageError
from bench.execution import run_source, worker
from bench.execution.run_source import Runs, RunTask
from bench.execution.signals import Stop
from bench.execution.worker import work
from bench.plan import RunContext
from bench.store import files, records
from bench.store.jobs import Job
from bench.store.leases import Leases, here, is_leased

EVERY, STEPS = 10, 30


def jobs_of(*seeds: int, model: str = "vanilla") -> list[Job]:
    return [Job(model, {}, "digits", seed, STEPS, EVERY, {}, {}) for seed in seeds]


class Counting(RunTask):
    """Advances by counting; keeps a diary of (first seed, step) over all tasks."""

    diary: list[tuple[int, int]]

    def advance(self, stop: Stop) -> bool:
        if not hasattr(self, "at"):
            self.at = _saved(self.folders[0])
        self.at += EVERY
        self.diary.append((self.jobs[0].seed, self.at))
        for job in self.jobs if self.at == STEPS else []:
            done = records.blank(job, status="finished", reason=None, attempts=1)
            records.write(job.folder(self.context.out), done)
        return self.at == STEPS

    @property
    def step(self) -> int:
        return self.at

    def save(self) -> None:
        for folder in self.folders:
            files.write_json(folder / "progress.json", {"step": self.at}, durable=False)


def _saved(folder: Path) -> int:
    path = folder / "progress.json"
    return int(json.loads(path.read_text())["step"]) if path.exists() else 0


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What tasks of runs did, in order."""
    Counting.diary = []
    monkeypatch.setattr("bench.execution.run_source.RunTask", Counting)
    return Counting.diary


def never() -> bool:
    return False


def taken(source: Runs, out: Path) -> list[RunTask]:
    """What workers get, one after the other, until nothing is free."""
    found = []
    with ExitStack() as workers:
        while task := source.take(workers.enter_context(Leases()), RunContext(out)):
            found.append(task)
    return found


def test_all_runs_reach_an_evaluation_before_any_goes_beyond_it(
    tmp_path: Path, diary: list[tuple[int, int]]
) -> None:
    context = RunContext(tmp_path)
    work(Runs(jobs_of(0, 1, 2), tmp_path), context, never)
    steps = [step for _, step in diary]
    assert sorted(diary) == [(seed, step) for seed in range(3) for step in (10, 20, 30)]
    assert steps == sorted(steps)
    assert not list(tmp_path.rglob("lease-*"))


def test_with_nothing_else_due_a_run_is_kept_and_not_saved(
    tmp_path: Path, diary: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "save", None)
    work(Runs(jobs_of(0), tmp_path), RunContext(tmp_path), never)
    assert diary == [(0, 10), (0, 20), (0, 30)]


def test_what_others_work_on_is_not_taken_and_is_no_reason_to_give_back(
    tmp_path: Path, diary: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run is less advanced all the time; once it is free again, it is done, too."""
    jobs = jobs_of(0, 1)
    with Leases() as others:
        assert others.take(jobs[0].folder(tmp_path))
        waited = []

        def wait(seconds: float, stop: Stop) -> None:
            waited.append(seconds)
            others.release(jobs[0].folder(tmp_path))

        monkeypatch.setattr(worker, "wait", wait)
        work(Runs(jobs, tmp_path), RunContext(tmp_path), never)
    assert diary == [(1, 10), (1, 20), (1, 30), (0, 10), (0, 20), (0, 30)]
    assert waited == [worker.LOOK_EVERY]


def test_a_stop_is_heeded_at_an_evaluation_and_what_was_done_is_saved(
    tmp_path: Path, diary: list[tuple[int, int]]
) -> None:
    jobs = jobs_of(0)
    work(Runs(jobs, tmp_path), RunContext(tmp_path), lambda: len(diary) == 2)
    assert _saved(jobs[0].folder(tmp_path)) == 20
    assert not is_leased(jobs[0].folder(tmp_path))
    work(Runs(jobs, tmp_path), RunContext(tmp_path), never)
    assert diary[2:] == [(0, 30)]


@pytest.mark.parametrize(("stack", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (8, [5])])
def test_seeds_that_are_equally_far_are_handed_out_together(
    tmp_path: Path, diary: list[tuple[int, int]], stack: int, sizes: Sequence[int]
) -> None:
    source = Runs(jobs_of(*range(5)), tmp_path, stack=stack)
    tasks = taken(source, tmp_path)
    assert [len(task.jobs) for task in tasks] == sizes


def test_configurations_and_steps_are_not_mixed(tmp_path: Path, diary: list[tuple[int, int]]) -> None:
    jobs = [*jobs_of(0, 1, 2), *jobs_of(0, model="dcgan")]
    files.write_json(jobs[1].folder(tmp_path) / "progress.json", {"step": 10})
    source = Runs(jobs, tmp_path, stack=8)
    tasks = taken(source, tmp_path)
    assert [[(job.model, job.seed) for job in task.jobs] for task in tasks] == [
        [("vanilla", 0), ("vanilla", 2)],
        [("dcgan", 0)],
        [("vanilla", 1)],
    ]


def test_many_runs_are_not_looked_at_all_the_time(
    tmp_path: Path, diary: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a copy remembers may be old: nothing is computed twice, nothing left out."""
    looks = 0
    step = run_source._step

    def slow(folder: Path) -> int:
        nonlocal looks
        looks += 1
        time.sleep(0.002)
        return step(folder)

    monkeypatch.setattr(run_source, "_step", slow)
    work(Runs(jobs_of(*range(20)), tmp_path), RunContext(tmp_path), never)
    assert sorted(diary) == [(seed, step) for seed in range(20) for step in (10, 20, 30)]
    assert looks < 20 * 60


def test_the_name_of_the_work_is_that_of_the_whole_plan(tmp_path: Path) -> None:
    """By which a later command finds its jobs, although some runs have a record by then."""
    jobs = jobs_of(0, 1, 2)
    assert Runs(jobs[1:], tmp_path, whole=jobs).name == Runs(jobs, tmp_path).name
    assert Runs(jobs[1:], tmp_path).name != Runs(jobs, tmp_path).name


# ------------------------------------------------------------------ attempts


class Failing(Counting):
    def advance(self, stop: Stop) -> bool:
        self.diary.append((self.jobs[0].seed, -1))
        raise ValueError("on purpose")


@pytest.mark.parametrize("retries", [0, 2])
def test_a_run_that_fails_is_tried_as_often_as_allowed_and_recorded(
    tmp_path: Path, diary: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setattr("bench.execution.run_source.RunTask", Failing)
    jobs = jobs_of(0)
    folder = jobs[0].folder(tmp_path)
    for command in (1, 2):  # a later command tries again, as often
        work(Runs(jobs, tmp_path, retries=retries), RunContext(tmp_path), never)
        record = records.read_record(folder)
        assert record is not None
        assert (record["status"], record["attempts"]) == ("failed", retries + 1)
        assert record["reason"] == "ValueError: on purpose"
        assert len(diary) == command * (retries + 1)
    log = (folder / "error.log").read_text()
    assert log.count("attempt 1: ValueError: on purpose") == 2
    assert "test_worker.py" in log
    assert not (folder / "attempts.json").exists()


def test_a_process_of_the_same_command_that_is_gone_costs_an_attempt(
    tmp_path: Path, diary: list[tuple[int, int]]
) -> None:
    """That of another command does not: it was killed, perhaps with its whole machine."""
    for seed, (same, status) in enumerate(((True, "failed"), (False, "finished"))):
        jobs = jobs_of(seed)
        source, folder = Runs(jobs, tmp_path, retries=0), jobs[0].folder(tmp_path)
        lease = {"host": here(), "pid": 2**22 + 1, "command": source.command if same else "other"}
        files.write_json(folder / "lease-1", lease)
        work(source, RunContext(tmp_path), never)
        assert (records.read_record(folder) or {})["status"] == status
    assert "process 4194305 on" in (jobs_of(0)[0].folder(tmp_path) / "error.log").read_text()


def test_an_error_of_the_folder_ends_the_work_and_counts_for_nobody(
    tmp_path: Path, diary: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(task: Counting, stop: Stop) -> bool:
        raise files.UnwritableError(28, "No space left on device", "x")

    monkeypatch.setattr(Counting, "advance", full)
    (job,) = jobs_of(0)
    with pytest.raises(files.UnwritableError):
        work(Runs([job], tmp_path), RunContext(tmp_path), never)
    assert not [path.name for path in job.folder(tmp_path).iterdir()]


def test_in_this_process_a_failure_does_not_end_the_work_in_a_worker_it_does(tmp_path: Path) -> None:
    """Its memory, or its device, may be in any state: the next process goes on."""
    for until_failure, done in ((False, ["greet", "fail", "greet"]), (True, ["greet", "fail"])):
        folder = tmp_path / str(until_failure)
        folder.mkdir()
        source = Actions(folder, ["greet", "fail", "greet"])
        told: list[tuple[str, object]] = []

        def notify(what: str, about: object, told: list[tuple[str, object]] = told) -> None:
            told.append((what, about))

        work(source, RunContext(folder), never, notify=notify, until_failure=until_failure)
        assert [what for what, _ in source.done()] == done
        assert source.notes() == "on purpose\n"
        assert [what for what, _ in told[:7]] == [
            *("took", "released", "advanced"),
            *("took", "failed", "released", "advanced"),
        ]


def test_when_no_work_can_be_done_the_worker_says_so(tmp_path: Path) -> None:
    class Refusing(Actions):
        def take(self, leases: Leases, context: RunContext) -> None:
            raise UsageError("no such storage")

    with pytest.raises(UsageError, match="no such storage"):
        work(Refusing(tmp_path, ["greet"]), RunContext(tmp_path), never)


def test_the_lease_of_a_worker_is_its_supervisors(tmp_path: Path) -> None:
    class Looking(Actions):
        def lost(self, *_: object) -> None:
            pass

        def finished(self) -> bool:
            found = list(self.folder.glob("lease-*"))
            return super().finished() and not found

    seen = []

    def notify(what: str, about: object) -> None:
        if what == "released":
            seen.append(list(tmp_path.glob("lease-*")))

    work(Looking(tmp_path, ["greet"]), RunContext(tmp_path), never, notify=notify, owner=os.getppid())
    assert seen == [[]]
