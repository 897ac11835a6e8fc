"""The end of a search: what is said of a winner whose runs fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import closing, tune
from bench.scoring import metrics
from bench.search import findings
from reports import build

GOOD, USUAL = [2.0, 2.1], [4.0, 4.1, 4.2, 4.3, 4.4]


def test_a_winner_that_fails_on_three_of_five_seeds_is_not_better() -> None:
    """Its two survivors alone would be twice as good, at p = 0.095."""
    found = closing._compared(GOOD, USUAL, 5, "fid")
    assert found["p"] == pytest.approx(0.69, abs=0.005)
    assert found["improvement"] == pytest.approx(10 / 25)
    assert (found["best"]["failed"], found["default"]["failed"]) == (3, 0)
    assert closing._comparison("fid", found) == (
        "  fid: 2.050 ± 0.071 (3 of 5 failed) against 4.20 ± 0.16 (lower is better), permutation p = 0.69; "
        "a failed run is worse than any score, so that the best wins 40% of all pairs of runs"
    )


def test_where_more_is_better_a_failed_run_is_the_least() -> None:
    assert closing._compared([9.0, 9.1], [8.0, 8.1, 8.2, 8.3, 8.4], 5, "isc_mean")["improvement"] == 0.4


def test_all_of_one_side_failed() -> None:
    found = closing._compared([], USUAL, 5, "fid")
    assert found["p"] == pytest.approx(2 / 252)
    assert found["improvement"] == 0
    assert closing._comparison("fid", found).startswith("  fid: no score (5 of 5 failed) against 4.20 ± 0.16")


def test_without_failures_nothing_is_said_of_them() -> None:
    found = closing._compared([2.0, 2.1, 2.2], [4.0, 4.1, 4.2], 3, "fid")
    assert closing._comparison("fid", found) == (
        "  fid: 2.10 ± 0.10 against 4.10 ± 0.10 (lower is better), permutation p = 0.1"
    )


def test_the_command_counts_the_retrained_runs_that_diverge(
    fast_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winner of a search of few steps diverges when it is trained for longer."""
    monkeypatch.setattr(findings, "write_all", lambda *arguments: [])
    monkeypatch.setattr(metrics, "KID_SUBSETS", 2)
    monkeypatch.setattr(build, "build", lambda *arguments, **options: None)
    space = fast_path / "space.toml"
    space.write_text('fault = {values = ["nan"]}\n')
    words = ["--model", "faults:faulty", "--dataset", "digits", "--offline", "--device", "cpu"]
    words += ["--set", "faults:faulty.at=8", "faults:faulty.batch_size=16", "--space", str(space)]
    words += ["--sampler", "grid", "--seeds", "1", "--steps", "4", "--retrain", "2", "--retrain-steps", "12"]
    words += ["--eval-every", "12"]  # calls are counted from one evaluation to the next
    assert tune.main([*words, "--workers", "0", "--out", str(fast_path / "results")]) == 1
    said = capsys.readouterr().out
    assert "  fid: no score (2 of 2 failed) against " in said
    assert "so that the best wins 0% of all pairs of runs" in said
