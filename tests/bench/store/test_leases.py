"""Several commands on one results folder: no run is computed twice, none waits for the dead."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
from commands import SERVER, SMALL, begun, folders, numbers, records, start, wait_for, without_report

from bench.store import leases
from bench.store.leases import BEAT_S, STALE_S, Leases, here

RUN = (*SMALL, "--steps", "100", "--eval-every", "100", "--checkpoint-every", "0", "--workers", "0")
RUN = (*RUN, "--draws", "1")


def left(folder: Path, n: int, *, host: str, pid: int, age: float = 0.0) -> Path:
    """A lease as another process left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"lease-{n}"
    path.write_text(json.dumps({"host": host, "pid": pid}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is gone."""
    process = SERVER.Process(target=os.getpid)
    process.start()
    assert process.pid is not None
    process.join()
    wait_for(lambda: not leases.alive(process.pid))
    return process.pid


# ------------------------------------------------------------------ one lease


def test_a_run_is_leased_once_and_released(tmp_path: Path) -> None:
    with Leases() as mine, Leases() as other:
        assert mine.take(tmp_path)
        assert mine.take(tmp_path), "again: a retry"
        assert not other.take(tmp_path)
        mine.release(tmp_path)
        assert other.take(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "pid", "age", "taken"),
    [
        ("here", "mine", 0, False),
        ("here", "dead", 0, True),
        ("here", "mine", STALE_S + 5, True),  # another process got the dead one's number
        ("elsewhere", "dead", 0, False),
        ("elsewhere", "dead", STALE_S - 5, False),
        ("elsewhere", "dead", STALE_S + 5, True),
    ],
)
def test_a_stale_lease_is_taken_over_and_a_living_one_is_not(
    tmp_path: Path, dead: int, host: str, pid: str, age: float, taken: bool
) -> None:
    who = here() if host == "here" else "elsewhere 1234"
    theirs = left(tmp_path, 1, host=who, pid=dead if pid == "dead" else os.getpid(), age=age)
    with Leases() as mine:
        assert mine.take(tmp_path) == taken
        assert theirs.exists(), "it is its holder's: nobody else touches it while there is work"
        assert (tmp_path / "lease-2").exists() == taken
    assert bool(list(tmp_path.iterdir())) != taken, "afterwards nothing is left"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3, "pid": "x"}', "\x00\xff", '{"pid": 1e999}'])
def test_a_lease_that_says_nothing_is_respected_until_it_is_stale(tmp_path: Path, content: str) -> None:
    (tmp_path / "lease-1").write_text(content)
    with Leases() as mine:
        assert not mine.take(tmp_path)
        os.utime(tmp_path / "lease-1", (0, 0))
        assert mine.take(tmp_path)


@pytest.mark.parametrize("pid", ["x", None, [], 1e300, 10**30, True])
def test_a_lease_of_no_possible_process_here_is_stale(tmp_path: Path, pid: Any) -> None:
    (tmp_path / "lease-1").write_text(json.dumps({"host": here(), "pid": pid}))
    with Leases() as mine:
        assert mine.take(tmp_path) == (pid is not True)  # 1: the first process, which is there


class Clock:
    """An own clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(leases, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("hours", [10, -0.01, 0])
def test_a_lease_is_stale_when_its_stamp_stands_still_whatever_the_clock_of_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    """A host whose clock is ten hours ahead is gone: its stamp would be young for ten hours."""
    clock = Clock(monkeypatch)
    left(tmp_path, 1, host="elsewhere 1234", pid=1, age=-3600 * hours)
    with Leases() as mine:
        assert not mine.take(tmp_path)
        clock.now += STALE_S - 1
        assert not mine.take(tmp_path)
        assert leases.is_leased(tmp_path)
        clock.now += 2
        assert not leases.is_leased(tmp_path)
        assert mine.take(tmp_path)


@pytest.mark.parametrize("hours", [10, 0])
def test_a_living_holder_is_waited_for_whatever_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    clock = Clock(monkeypatch)
    with Leases() as mine:
        for k in range(100):
            left(tmp_path, 1, host="elsewhere 1234", pid=1, age=-3600 * hours - k)
            assert not mine.take(tmp_path)
            clock.now += STALE_S / 2


def test_a_lost_lease_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its holder's renewal, when somebody has tidied up: it would keep others out."""
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    with Leases() as mine:
        assert mine.take(tmp_path)
        (tmp_path / "lease-1").unlink()
        time.sleep(0.2)
        assert not list(tmp_path.iterdir())


def test_a_lease_of_a_large_number_costs_no_time(tmp_path: Path) -> None:
    n = 10**9 - 2
    left(tmp_path, n, host="elsewhere 1234", pid=1, age=STALE_S + 5)
    with Leases() as mine:
        assert mine.take(tmp_path)
        began = time.monotonic()
        mine.release(tmp_path)
        assert time.monotonic() - began < 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"host": ' + "9" * 5000 + "}",
        '{"host": 1e400, "pid": [[]], "command": {}}',
        '{"pid": "' + "9" * 5000 + '"}',
        '{"host": "\\u001b[2J\\n\\ud800", "pid": "\\u0007"}',
    ],
)
def test_a_lease_may_say_anything(tmp_path: Path, content: str) -> None:
    (tmp_path / "lease-1").write_text(content)
    with Leases() as mine:
        assert not mine.take(tmp_path)
        assert leases.is_leased(tmp_path)
        assert leases.holder(tmp_path).isprintable()
        assert len(leases.holder(tmp_path)) <= 200
        os.utime(tmp_path / "lease-1", (0, 0))
        assert mine.take(tmp_path)


def test_the_highest_number_counts_whatever_else_lies_there(tmp_path: Path, dead: int) -> None:
    left(tmp_path, 9, host=here(), pid=dead)
    left(tmp_path, 10, host=here(), pid=os.getpid())
    for name in ("lease-x", "lease-", "lease--3", "lease-²", "lease-" + "9" * 40, "leases"):
        (tmp_path / name).touch()
    with Leases() as mine:
        assert not mine.take(tmp_path)
        (tmp_path / "lease-10").unlink()
        assert mine.take(tmp_path)


def test_a_holder_renews_its_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BEAT_S * 10 < STALE_S, "a few missed beats do not cost a lease"
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    with Leases() as mine:
        assert mine.take(tmp_path)
        os.utime(tmp_path / "lease-1", (0, 0))
        wait_for(lambda: time.time() - (tmp_path / "lease-1").stat().st_mtime < 100)


def contest(folder: Path, n_rounds: int, gate: Any, wins: Any) -> None:
    """Try to lease one folder after the other, each at the same time as everybody else.

    In two of three rounds all have looked who else is there before any of them leases it.
    """
    look = leases._newest

    def looked(path: Path) -> int:
        newest = look(path)
        if int(path.name) % 3:
            gate.wait()
        return newest

    leases._newest = looked
    with Leases() as mine:
        for k in range(n_rounds):
            gate.wait()
            if mine.take(folder / str(k)):
                wins.put(k)
            gate.wait()
            mine.release(folder / str(k))


@pytest.mark.slow
def test_of_many_that_try_at_once_exactly_one_gets_a_run(fast_path: Path, dead: int) -> None:
    """Four processes, 200 folders; in every second one lies a lease of the dead."""
    n, n_rounds = 4, 200
    for k in range(0, n_rounds, 2):
        left(fast_path / str(k), 1, host=here(), pid=dead)
    gate, wins = SERVER.Barrier(n, timeout=60), SERVER.Queue()
    processes = [SERVER.Process(target=contest, args=(fast_path, n_rounds, gate, wins)) for _ in range(n)]
    for process in processes:
        process.start()
    won = [wins.get(timeout=60) for _ in range(n_rounds)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert wins.empty()
    assert sorted(won) == list(range(n_rounds))


# ------------------------------------------------------------------ whole commands


def note_runs(path: Path, gate: Path | None = None, host: str | None = None) -> None:
    """Note in a file each run that this process begins to compute; wait for ``gate`` before it does.

    With ``host`` it believes to be on that machine, and cannot ask whether others' processes live.
    """
    from bench.execution import training

    without_report()
    if host is not None:
        leases.here = lambda: host  # type: ignore[assignment]
    real = training.begin

    def noting(jobs: Any, context: Any) -> Any:
        with path.open("a") as file:
            file.writelines(f"{os.getpid()} {each.seed}\n" for each in jobs)
        wait_for(gate.exists if gate else lambda: True)
        return real(jobs, context)

    training.begin = noting


def noted(path: Path) -> list[tuple[int, int]]:
    """(process, seed) of each computation."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(seed)) for pid, seed in map(str.split, lines)]


def table(command: commands.Command) -> str:
    """The table that a command ended with, but for the times."""
    (row,) = re.findall(r"^vanilla .*(?= +\d)", command.out, re.MULTILINE)
    return str(row)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [(None, None), ("one 1", "other 2")], ids=["one-machine", "two-machines"])
def test_two_commands_on_one_folder_compute_each_run_once_and_agree(
    fast_path: Path, hosts: tuple[str | None, ...]
) -> None:
    both = [
        start(
            fast_path,
            *(*RUN, "--seeds", "4"),
            before=partial(note_runs, fast_path / "noted", host=host),
            to=fast_path / f"printed-{k}",
        )
        for k, host in enumerate(hosts)
    ]
    for command in both:
        assert command.wait() == 0, command.err
    computed = noted(fast_path / "noted")
    assert sorted(seed for _, seed in computed) == [0, 1, 2, 3]
    assert {pid for pid, _ in computed} == {command.pid for command in both}, "both did some"
    assert [record["attempts"] for record in records(fast_path)] == [1] * 4
    assert table(both[0]) == table(both[1])
    assert not list((fast_path / "results").glob("runs/*/*/lease-*"))


@pytest.mark.slow
def test_what_a_killed_command_had_leased_another_one_takes_over(fast_path: Path) -> None:
    """The first is slow, and the second quick once the first is gone."""
    words = ("--models", "faults:faulty", "--set", "faults:faulty.fault=sleeps", "faults:faulty.at=1")
    words += ("--dataset", "digits", "--offline", "--device", "cpu", "--steps", "60", "--seeds", "1")
    words += ("--workers", "0", "--draws", "1", "--eval-every", "60", "--checkpoint-every", "0")
    hurry = fast_path / "hurry"

    def begin(folder: Path, to: str) -> commands.Command:
        return start(folder, *words, before=without_report, to=fast_path / to, FAULTS_MARKER=str(hurry))

    first = begin(fast_path, "first")
    wait_for(begun(fast_path))
    second = begin(fast_path, "second")
    wait_for(lambda: second.err)
    assert second.err == f"waiting for runs that process {first.pid} on {os.uname().nodename} computes\n"
    first.kill(signal.SIGKILL)
    first.wait()
    hurry.touch()
    alone = begin(fast_path / "alone", "third")
    assert (second.wait(), alone.wait()) == (0, 0)
    assert numbers(folders(fast_path)[0]) == numbers(folders(fast_path / "alone")[0])


@pytest.mark.slow
def test_a_lease_from_another_machine_is_waited_for_until_it_is_stale(fast_path: Path) -> None:
    planned = commands.run(fast_path, *RUN, "--seeds", "1", "--dry-run").out
    theirs = left(
        Path(re.findall(r"\S+/seed-0", planned)[0]), 1, host="elsewhere 1234", pid=1, age=STALE_S - 60
    )
    command = start(fast_path, *RUN, "--seeds", "2", before=without_report)
    wait_for(lambda: command.err)
    assert command.err == "waiting for runs that process 1 on elsewhere computes\n"
    assert [record["seed"] for record in records(fast_path)] == [1], "the rest was computed meanwhile"
    assert command.process.is_alive()
    os.utime(theirs, (0, 0))
    assert command.wait() == 0
    assert [record["seed"] for record in records(fast_path)] == [0, 1]


def soon() -> None:
    """For ``before``: what stands still for three seconds is stale."""
    without_report()
    leases.STALE_S = 3.0


@pytest.mark.slow
def test_a_lease_from_the_future_is_taken_over_by_the_watcher_s_own_clock(fast_path: Path) -> None:
    planned = commands.run(fast_path, *RUN, "--seeds", "1", "--dry-run").out
    folder = Path(re.findall(r"\S+/seed-0", planned)[0])
    left(folder, 1, host="elsewhere 1234", pid=1, age=-36_000)
    command = commands.run(fast_path, *RUN, "--seeds", "1", before=soon)
    assert command.wait() == 0
    assert command.err == "waiting for runs that process 1 on elsewhere computes\n"
    assert [record["seed"] for record in records(fast_path)] == [0]


@pytest.mark.slow
def test_a_waiting_command_can_be_interrupted(fast_path: Path) -> None:
    planned = commands.run(fast_path, *RUN, "--seeds", "1", "--dry-run").out
    theirs = left(Path(re.findall(r"\S+/seed-0", planned)[0]), 1, host="elsewhere 1234", pid=1)
    command = start(fast_path, *RUN, "--seeds", "1")
    wait_for(lambda: command.err)
    command.kill(signal.SIGINT)
    assert command.wait(seconds=30) == 130
    assert command.err.splitlines()[1:] == ["interrupted: 1 run is not finished; the same command goes on"]
    assert theirs.exists()


@pytest.mark.slow
def test_fresh_does_not_pull_a_folder_from_under_a_living_command(fast_path: Path) -> None:
    first = start(fast_path, *RUN, "--steps", "200000", "--seeds", "1")
    wait_for(begun(fast_path))
    fresh = commands.run(fast_path, *RUN, "--steps", "200000", "--seeds", "1", "--fresh", to=fast_path / "to")
    assert fresh.wait() == 2
    assert f"is being computed by process {first.pid} on" in fresh.err
    first.kill(signal.SIGINT)
    assert first.wait() == 130


@pytest.mark.slow
def test_a_failure_is_not_tried_again_by_who_waited_for_it_but_by_a_later_command(fast_path: Path) -> None:
    one = ("--models", "faults:faulty", "--dataset", "digits", "--offline", "--device", "cpu")
    one += ("--set", "faults:faulty.fault=raises", "--steps", "50", "--seeds", "1", "--workers", "0")
    one += ("--eval-every", "50")
    before = partial(note_runs, fast_path / "noted", fast_path / "gate")
    first = start(fast_path, *one, before=before)
    wait_for(lambda: noted(fast_path / "noted"))
    second = start(fast_path, *one, before=before, to=fast_path / "to")
    wait_for(lambda: second.err)
    (fast_path / "gate").touch()
    assert (first.wait(), second.wait()) == (1, 1)
    assert noted(fast_path / "noted") == [(first.pid, 0)] * 2
    (record,) = records(fast_path)
    assert (record["status"], record["attempts"]) == ("failed", 2)
    later = commands.run(fast_path, *one, before=before)
    assert later.wait() == 1
    assert noted(fast_path / "noted")[2:] == [(later.pid, 0)] * 2


def test_threads_stop_when_leases_are_given_back(tmp_path: Path) -> None:
    with Leases() as mine:
        mine.take(tmp_path)
        assert mine.thread.is_alive()
    mine.thread.join(5)
    assert not mine.thread.is_alive()


# ------------------------------------------------------------------ leases of workers


def test_a_lease_of_a_dead_process_of_the_same_command_was_lost(tmp_path: Path, dead: int) -> None:
    """Which counts as an attempt; that of another command does not."""
    for name, command in (("same", "abc"), ("other", "xyz"), ("none", "")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "lease-1").write_text(json.dumps({"host": here(), "pid": dead, "command": command}))
    with Leases(command="abc") as mine:
        assert all(mine.take(tmp_path / name) for name in ("same", "other", "none"))
        assert mine.lost == {tmp_path / "same": f"process {dead} on {os.uname().nodename}"}
        mine.release(tmp_path / "same")
        assert mine.lost == {}


def test_a_supervisor_gives_up_the_leases_of_its_dead_workers_alone(tmp_path: Path) -> None:
    """They name the supervisor, so that no other worker takes them over before it has noted why."""
    told: list[tuple[str, Path]] = []
    with Leases(owner=os.getpid(), notify=lambda what, folder: told.append((what, folder))) as worker:
        assert worker.take(tmp_path)
        with Leases() as other:
            assert not other.take(tmp_path)
            leases.give_up(tmp_path)
            assert other.take(tmp_path)
    assert told == [("took", tmp_path), ("released", tmp_path)]
    theirs = left(tmp_path / "x", 1, host="elsewhere 1234", pid=os.getpid())
    leases.give_up(tmp_path / "x")
    assert theirs.exists()
