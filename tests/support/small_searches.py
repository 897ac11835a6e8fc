"""Small searches for tests, and what they left."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
from commands import Command, quick_scores, without_report
from optuna.trial import TrialState

from bench import cli, tune
from bench.search import findings, study
from bench.search.storage import open_storage
from bench.store import records

SMALL = (
    *("--model", "vanilla", "--set", "vanilla.g_widths=16", "vanilla.d_widths=16", "vanilla.batch_size=32"),
    *("--dataset", "digits", "--offline", "--device", "cpu", "--sampler", "random", "--pruner", "none"),
    *("--seeds", "1", "--retrain", "0"),
)
QUICK = (*SMALL, "--steps", "4", "--eval-every", "4")
LONG = (
    *("--model", "faults:faulty", "--set", "faults:faulty.fault=sleeps", "faults:faulty.at=1"),
    *("--dataset", "digits", "--offline", "--device", "cpu", "--sampler", "random", "--pruner", "none"),
    *("--seeds", "1", "--retrain", "0", "--steps", "20", "--eval-every", "20", "--space", "space.toml"),
)
"""A trial takes two seconds: long enough to be caught in the middle of it. For :func:`start`."""


def command(words: tuple[str, ...], plots: bool) -> None:
    """For ``before``: ``bench.tune`` instead of ``bench.run``."""
    without_report()
    with pytest.MonkeyPatch.context() as patch:
        cheaper(patch, plots=plots)
        cli.run_main(lambda: tune.main(words))


def cheaper(patch: pytest.MonkeyPatch, *, plots: bool) -> None:
    """Leave out what takes most of a short search's time."""
    quick_scores(patch)
    if not plots:
        patch.setattr(findings, "draw", lambda *arguments: [])
        patch.setattr(findings, "draw_budget", lambda *arguments, **options: None)


def start(folder: Path, *words: str, to: str = "printed", plots: bool = False) -> Command:
    """Start ``bench.tune`` with ``folder`` as its working folder."""
    (folder / "space.toml").write_text("batch_size = {low = 16, high = 64}\n")
    commands.with_known(folder, "val", "test")
    return commands.start(folder, before=partial(command, words, plots), to=folder / to)


def study_folder(folder: Path) -> Path:
    (found,) = (folder / "results" / "studies").iterdir()
    return found


def attempts(folder: Path) -> dict[int, list[str]]:
    """Slot -> how its attempts ended, as the study's journal has it; ``RUNNING`` where one did not."""
    if not list((folder / "results" / "studies").glob("*/journal.log")):
        return {}
    storage = open_storage(None, study_folder(folder))
    found: dict[int, list[str]] = {}
    for each in storage.get_all_studies():
        for trial in storage.get_all_trials(each._study_id):
            if trial.state != TrialState.WAITING:
                ending = "RUNNING" if trial.state == TrialState.RUNNING else study.ending_of(trial)
                found.setdefault(trial.user_attrs["slot"], []).append(ending)
    return found


def trains(folder: Path) -> bool:
    """Whether a trial is in the midst of training."""
    begun = any(folder.glob("results/studies/*/runs/*/seed-*/progress.json"))
    return begun and any("RUNNING" in endings for endings in attempts(folder).values())


def run_folders(folder: Path) -> list[Path]:
    """The folders of the trials' runs, in order."""
    return sorted(folder.glob("results/studies/*/runs/*/seed-*"))


def trial_runs(folder: Path) -> list[dict[str, Any]]:
    """The records of the trials' runs."""
    return [record for path in run_folders(folder) if (record := records.read_record(path)) is not None]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study_folder(folder) / "summary.json").read_text())
    return found


def here(folder: Path, *words: str) -> int:
    """Run the command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        cheaper(patch, plots="recall" in words)
        return tune.main([*words, "--workers", "0", "--out", str(folder / "results")])
