"""What a command shows while runs are computed, read from their folders."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import compute
from rich.console import Console

from bench.errors import printable
from bench.execution import progress, training
from bench.execution.progress import Progress
from bench.plan import RunContext, Spec, plan
from bench.store.jobs import Job

GENERATED = {"classifier": {"fid": 12.345, "kid_mean": 0.1}}
RESTORED = {"classifier": {"fid": 0.5}, "super-resolution": {"psnr": 21.189, "ssim": 0.9}}


@pytest.fixture
def jobs() -> list[Job]:
    return [Job("vanilla", {}, "digits", seed, 100, 10, {}, {}) for seed in range(2)]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed where there is no terminal, without waiting."""
    printed = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=printed, width=200))
    monkeypatch.setattr(progress, "LINE_EVERY", -1)
    return printed


def tell(folder: Path, step: int, phase: str = "training", metrics: Any = None, steps: int = 100) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    evals = [] if metrics is None else [{"step": step, "metrics": metrics}]
    told = {"step": step, "steps": steps, "phase": phase, "evals": evals}
    (folder / "progress.json").write_text(json.dumps(told))


def finish(folder: Path, metrics: Any) -> None:
    (folder / "run.json").write_text(json.dumps({"status": "finished", "metrics": metrics}))


def look(watched: Progress, shown: io.StringIO) -> list[str]:
    """The lines of one more look."""
    start = len(shown.getvalue())
    watched.tick(force=True)
    return shown.getvalue()[start:].splitlines()


def test_the_first_line_says_nothing_of_a_time_that_nobody_knows(
    jobs: list[Job], shown: io.StringIO, tmp_path: Path
) -> None:
    watched = Progress(jobs, tmp_path)
    assert look(watched, shown) == []
    tell(jobs[0].folder(tmp_path), 20)
    assert look(watched, shown) == ["0/2 runs; vanilla digits seed 0 training 20/100"]


def test_time_left_is_by_the_speed_since_the_first_sign_of_life(jobs: list[Job], tmp_path: Path) -> None:
    watched = Progress(jobs, tmp_path)
    tell(jobs[0].folder(tmp_path), 20)
    watched.tick(force=True)
    begun = watched.started
    assert watched._left(60, 0, begun + 10) == "0 min 35 s left"  # 40 in 10 s, 140 to go
    assert watched._left(20, 0, begun + 10) == ""


def test_runs_that_are_only_to_be_scored_are_said_to_be(
    jobs: list[Job], shown: io.StringIO, tmp_path: Path
) -> None:
    watched = Progress(jobs, tmp_path)
    folders = [one.folder(tmp_path) for one in jobs]
    for folder in folders:
        tell(folder, 100, "scoring", GENERATED)
    finish(folders[0], GENERATED)
    assert look(watched, shown) == [
        "vanilla digits seed 0: finished, FID 12.35",
        "1/2 runs, scoring; vanilla digits seed 1 scoring 100/100, FID 12.35",
    ]
    finish(folders[1], GENERATED)
    watched.tick(force=True)
    assert watched._left(200, 2, watched.started + 1) == ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    found = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda: found)
    return found


def seen(watched: Progress, terminal: Console) -> str:
    """What a terminal shows after one more look."""
    watched.tick(force=True)
    with terminal.capture() as captured:
        terminal.print(watched.live.get_renderable())
    return captured.get()


def test_the_bar_says_scoring_too(jobs: list[Job], terminal: Console, tmp_path: Path) -> None:
    watched = Progress(jobs, tmp_path)
    for one in jobs:
        tell(one.folder(tmp_path), 100, "scoring")
    found = seen(watched, terminal)
    assert "0/2 runs" in found
    assert "iterations  scoring" in found
    assert "0:00:00" not in found


def test_a_terminal_shows_a_line_per_worker_and_a_table_over_all_seeds(
    jobs: list[Job], terminal: Console, tmp_path: Path
) -> None:
    """At the last evaluation that all have reached, whoever is ahead."""
    watched = Progress(jobs, tmp_path)
    first, second = (one.folder(tmp_path) for one in jobs)
    assert "starting workers" in terminal_text(watched, terminal)
    tell(first, 20, metrics=GENERATED)
    found = seen(watched, terminal)
    assert re.search(r"vanilla digits seed 0  training 20/100  FID 12\.35", found)
    assert "seeds" not in found, "the other seed has not been scored"
    losses = {"d_loss": 0.693, "g_loss": 1}
    for folder, evals, more in (
        (
            first,
            {10: 14.0, 20: 12.0, 30: 7.0},
            {"phase": "training", "losses": losses},
        ),
        (second, {10: 16.0, 20: 10.0}, {"phase": "waiting"}),
    ):
        entries = [{"step": step, "metrics": {"classifier": {"fid": fid}}} for step, fid in evals.items()]
        step = max(evals) + 5
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "progress.json").write_text(json.dumps({"step": step, "evals": entries, **more}))
    found = seen(watched, terminal)
    assert re.search(r"seed 0  training 35/100  D loss 0\.693  G loss 1  FID 7\.00", found)
    assert "1 run waits for a worker" in found
    assert re.search(r"vanilla +digits +20 +2 +11 ± 1\.4", found)
    finish(first, GENERATED)
    assert "seed 0  training" not in seen(watched, terminal)


def test_a_stack_is_one_line(jobs: list[Job], terminal: Console, tmp_path: Path) -> None:
    for one in jobs:
        tell(one.folder(tmp_path), 20)
        path = one.folder(tmp_path) / "progress.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"worker": "somewhere-7"}))
    assert "vanilla digits seeds 0, 1  training 20/100" in seen(Progress(jobs, tmp_path), terminal)


def terminal_text(watched: Progress, terminal: Console) -> str:
    """What a terminal shows at first."""
    with terminal.capture() as captured:
        terminal.print(watched.bar.get_renderable())
    return captured.get()


def test_super_resolution_is_shown_by_its_psnr(jobs: list[Job], shown: io.StringIO, tmp_path: Path) -> None:
    watched = Progress(jobs[:1], tmp_path)
    tell(jobs[0].folder(tmp_path), 40, "training", RESTORED)
    assert look(watched, shown) == ["0/1 runs; vanilla digits seed 0 training 40/100, PSNR 21.19"]
    finish(jobs[0].folder(tmp_path), RESTORED)
    assert look(watched, shown) == ["vanilla digits seed 0: finished, PSNR 21.19"]


@pytest.mark.parametrize(
    "damage",
    [
        *("{", "[]", "{}", "[" * 100_000, '{"step": ' + "9" * 5000 + "}"),
        '{"step": "1", "phase": "training"}',
        '{"step": 1e400, "phase": "training"}',
        '{"step": -1, "phase": "training"}',
        '{"step": 101, "phase": "training"}',
        '{"step": true, "phase": "training"}',
        '{"step": 1, "phase": ["training"]}',
    ],
)
def test_what_cannot_be_read_is_not_shown(
    damage: str, jobs: list[Job], shown: io.StringIO, tmp_path: Path
) -> None:
    tell(jobs[0].folder(tmp_path), 1)
    (jobs[0].folder(tmp_path) / "progress.json").write_text(damage)
    assert look(Progress(jobs, tmp_path), shown) == []


@pytest.mark.parametrize(
    "metrics", [None, [1], 3, "fid", {"a": 1}, {"a": {"fid": None}}, {"a": {"fid": [1]}}, {"a": {"fid": "x"}}]
)
def test_scores_that_are_none_are_not_shown(
    metrics: Any, jobs: list[Job], shown: io.StringIO, tmp_path: Path
) -> None:
    watched = Progress(jobs[:1], tmp_path)
    folder = jobs[0].folder(tmp_path)
    tell(folder, 1, metrics=metrics)
    assert look(watched, shown) == ["0/1 runs; vanilla digits seed 0 training 1/100"]
    (folder / "run.json").write_text(
        json.dumps({"status": "finished", "reason": "\x1b[2J\n", "metrics": metrics})
    )
    assert look(watched, shown) == ["vanilla digits seed 0: finished: \\x1b[2J\\n"]


def test_a_phase_is_a_word_that_a_terminal_only_shows(
    jobs: list[Job], shown: io.StringIO, tmp_path: Path
) -> None:
    watched = Progress(jobs[:1], tmp_path)
    tell(jobs[0].folder(tmp_path), 1, phase="\x1b]0;mine\x07\n" + "x" * 10_000)
    assert look(watched, shown) == ["0/1 runs; vanilla digits seed 0 \\x1b]0;mine\\x07\\nxxxxxxxxxx 1/100"]


def small_srgan(context: RunContext) -> Job:
    small = {"srgan": {"n_blocks": 1, "width": 2}}
    [one] = plan(Spec(["srgan"], ["digits"], [0], steps=3, eval_every=1, hyperparameters=small), context)
    return one


def told_by(one: Job, context: RunContext) -> dict[str, Any]:
    return json.loads((one.folder(context.out) / "progress.json").read_text())


@pytest.mark.slow
def test_a_run_tells_its_latest_scores(tmp_path: Path) -> None:
    context = RunContext(tmp_path / "results", offline=True)
    one = small_srgan(context)
    compute([one], context, stop=lambda: (one.folder(context.out) / "samples-000001.png").exists())
    told = told_by(one, context)
    assert (told["step"], told["phase"]) == (1, "waiting")
    assert told["evals"][-1]["metrics"].keys() == {"classifier", "super-resolution"}
    assert all(isinstance(value, float) for value in told["losses"].values())
    assert told["losses"].keys() >= {"d_loss", "g_loss"}


def test_a_run_that_has_trained_is_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = RunContext(tmp_path / "results", offline=True)
    one = small_srgan(context)
    monkeypatch.setattr(training.Stack, "evaluate", lambda stack: setattr(stack, "progress_at", -10.0))
    stack, phases = training.Stack([one], context), []
    stack.resume(None)
    while not stack.done:
        stack.advance()
        phases.append(told_by(one, context)["phase"])
    assert phases == ["training", "training", "scoring"]


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("plain, é, 漢, 😀", "plain, é, 漢, 😀"),
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\u202eesrever", "\\u202eesrever"),
        ("\x9b31m \u2028 \udcff", "\\x9b31m \\u2028 \\udcff"),
    ],
)
def test_nothing_from_a_file_moves_the_cursor(text: str, shown_as: str) -> None:
    assert printable(text) == shown_as
    assert printable(text).isprintable()
