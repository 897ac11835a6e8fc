"""A search's winner against the default configuration: what is said of a winner whose runs fail."""

from __future__ import annotations

import pytest

from reports import winner

GOOD, USUAL = [2.0, 2.1], [4.0, 4.1, 4.2, 4.3, 4.4]


def test_a_winner_that_fails_on_three_of_five_seeds_is_not_better() -> None:
    """Its two survivors alone would be twice as good, at p = 0.095."""
    found = winner.compared(GOOD, USUAL, 5, "fid")
    assert found["p"] == pytest.approx(0.69, abs=0.005)
    assert found["improvement"] == pytest.approx(10 / 25)
    assert (found["best"]["failed"], found["default"]["failed"]) == (3, 0)
    assert winner.comparison("fid", found) == (
        "  fid: 2.050 ± 0.071 (3 of 5 failed) against 4.20 ± 0.16 (lower is better), permutation p = 0.69; "
        "a failed run is worse than any score, so that the best wins 40% of all pairs of runs"
    )


def test_where_more_is_better_a_failed_run_is_the_least() -> None:
    assert winner.compared([9.0, 9.1], [8.0, 8.1, 8.2, 8.3, 8.4], 5, "isc_mean")["improvement"] == 0.4


def test_all_of_one_side_failed() -> None:
    found = winner.compared([], USUAL, 5, "fid")
    assert found["p"] == pytest.approx(2 / 252)
    assert found["improvement"] == 0
    said = winner.comparison("fid", found)
    assert said.startswith("  fid: no score (5 of 5 failed) against 4.20 ± 0.16")


def test_without_failures_nothing_is_said_of_them() -> None:
    found = winner.compared([2.0, 2.1, 2.2], [4.0, 4.1, 4.2], 3, "fid")
    assert winner.comparison("fid", found) == (
        "  fid: 2.10 ± 0.10 against 4.10 ± 0.10 (lower is better), permutation p = 0.1"
    )


def test_a_comparison_of_several_scores_counts_the_runs_that_failed() -> None:
    best, default = {"fid": GOOD, "recall": [0.5, 0.6]}, {"fid": USUAL, "recall": [0.1] * 5}
    found = winner.compare(best, default, n_seeds=5, steps=100)
    assert found["seeds"] == [0, 1, 2, 3, 4]
    assert found["failed"] == {"best": 3, "default": 0}
    assert found["scores"]["fid"] == winner.compared(GOOD, USUAL, 5, "fid")
    assert winner.comparison("recall", found["scores"]["recall"]).count("(higher is better)") == 1
