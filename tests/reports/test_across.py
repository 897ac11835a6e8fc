"""Models across data sets: ranks, aggregates and wins against cases solved by hand, SciPy and simulations."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import fake_runs
import numpy as np
import pytest
import scipy.stats
from drawn import cell

import reports
from reports import across, aggregate, build, groups
from reports.across import Across


def found_in(root: Path) -> Across:
    [found] = across.across(groups.groups(reports.load(root)))
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models on two data sets; a fourth on one of them only; a failed run."""
    root = tmp_path_factory.mktemp("across")
    for dataset, by in (("digits", 1.0), ("mnist", 2.0)):
        for model, mean in {"vanilla": 40.0, "dcgan": 20.0, "lsgan": 22.0}.items():
            for seed in range(5):
                fake_runs.run(
                    root, model=model, seed=seed, dataset=dataset, fid=mean * by + seed, images=False
                )
    fake_runs.run(root, model="lsgan", seed=5, dataset="mnist", status="diverged", images=False)
    fake_runs.study(root, {"lone": 10}, dataset="digits", images=False)
    return root


def test_by_hand(study: Path) -> None:
    found = found_in(study)
    table = across.table(found)
    # On mnist lsgan has a failed run and is the third, behind vanilla; that of training images is 2.
    assert [(s.label, s.rank) for s in found.standings] == [("dcgan", 1), ("lsgan", 2.5), ("vanilla", 2.5)]
    assert [cell(table, "dcgan", name).text for name in ("digits", "mnist")] == ["11", "21"]
    assert cell(table, "lsgan", "mnist").text == "23 (1/6 failed)"
    assert found.standings[0].iqm == pytest.approx(
        scipy.stats.trim_mean([*range(20, 25), *range(40, 45)], 0.2) / 2
    )
    assert cell(table, "dcgan", "Wins/ties/losses").text == "3/1/0"
    assert list(found.lacking) == ["lone"]
    assert "lone: no score on mnist; not in ranks and means." in table.notes
    assert table.rows[-1].name == "lone"
    matrix = across.matrix(found)
    assert matrix is not None
    assert cell(matrix, "dcgan", "vanilla").text == "2/0/0"
    assert cell(matrix, "vanilla", "dcgan").text == "0/0/2"


def test_two_data_sets_draw_no_bars_and_say_so(study: Path) -> None:
    found = found_in(study)
    assert found.critical == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 2)), abs=1e-3)
    assert not found.can_tell
    assert "ranks on so few data sets cannot tell 3 models apart" in across.verdict(found)


def test_many_data_sets_tell_models_apart(tmp_path: Path) -> None:
    """On six data sets the ranks of three models are the same: the critical difference is 1.35."""
    for name in ("a", "b", "c", "d", "e", "f"):
        models = {"dcgan": 20, "lsgan": 30, "vanilla": 40}
        fake_runs.study(tmp_path, models, dataset=name, seeds=range(2), spread=0.1, images=False)
    found = found_in(tmp_path)
    assert found.can_tell
    assert across.verdict(found) == (
        "Over 6 data sets (a, b, c, d, e and f) dcgan has the best mean rank (1 of 3 models). It is told "
        "apart from vanilla (Nemenyi test; Friedman p < 0.0001, critical difference 1.4)."
    )
    assert any("too few seeds for any pair" in note for note in across.table(found).notes)


@pytest.mark.slow
def test_it_is_in_every_format(study: Path, tmp_path: Path) -> None:
    report = build.build([study], tmp_path)
    said = report.tables[0].verdict
    assert said.startswith("Over 2 data sets (digits and mnist) dcgan has the best mean rank")
    for name in ("table.md", "report.html"):
        assert said in (tmp_path / name).read_text()
    assert r"\caption{Over 2 data sets" in (tmp_path / "table.tex").read_text()
    rows = list(csv.DictReader((tmp_path / "across.csv").read_text().splitlines()))
    assert [(row["a"], row["b"], row["wins"]) for row in rows if row["b"] == "vanilla"] == [
        ("dcgan", "vanilla", "2"),
        ("lsgan", "vanilla", "1"),
    ]
    assert (tmp_path / "ranks_generation.png").exists()


def test_one_data_set_has_nothing_across(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 30}, images=False)
    assert across.across(groups.groups(reports.load(tmp_path))) == []


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_demsars(k: int, q: float) -> None:
    """Table 5(a) of Demšar 2006."""
    assert aggregate.critical_difference(k, 1) == pytest.approx(q * math.sqrt(k * (k + 1) / 6), rel=1e-3)


def test_friedman_is_demsars_example_and_degenerate_cases() -> None:
    """The ranks of his table 6: chi-squared 9.28 and F 3.69 with 3 and 39 degrees of freedom."""
    mean = np.array([3.143, 2.000, 2.893, 1.964])
    chi2 = 12 * 14 / (4 * 5) * ((mean**2).sum() - 4 * 25 / 4)
    assert 13 * chi2 / (14 * 3 - chi2) == pytest.approx(3.69, abs=0.02)
    ranks = scipy.stats.rankdata(np.random.default_rng(0).normal(size=(14, 4)), axis=1)
    chi2 = scipy.stats.friedmanchisquare(*ranks.T).statistic
    assert aggregate.friedman_p(ranks) == pytest.approx(scipy.stats.f.sf(13 * chi2 / (14 * 3 - chi2), 3, 39))
    assert aggregate.friedman_p([[1, 2, 3]] * 4) == 0.0
    assert aggregate.friedman_p([[2, 2, 2]] * 4) == 1.0
    assert math.isnan(aggregate.friedman_p([[1, 2]] * 9))


def test_bars_by_hand() -> None:
    assert aggregate.cliques([1.0, 1.5, 2.6, 4.0], 1.2) == [(0, 1), (1, 2)]
    assert aggregate.cliques([1.0, 1.5, 1.9], 1.2) == [(0, 2)]
    assert aggregate.cliques([1.0, 3.0], 1.2) == []


def test_aggregates_by_hand() -> None:
    a, b = [np.array([1.0, 2.0]), np.array([5.0])], [np.array([2.0, 3.0]), np.array([4.0])]
    assert aggregate.improvement(a, b, better="lower") == pytest.approx((0.875 + 0.0) / 2)
    assert aggregate.iqm([np.array([0.0, 1.0]), np.array([2.0, math.inf])]) == 1.5
    assert math.isnan(aggregate.iqm_interval(a).low)


@pytest.mark.slow
@pytest.mark.parametrize("n_data_sets", [2, 4])
def test_stratified_intervals_cover(n_data_sets: int) -> None:
    """Data sets of different means, five seeds each: the truth is the IQM of the mixture."""
    rng = np.random.default_rng(2)
    means = np.linspace(2, 3, n_data_sets)[:, None]
    truth = scipy.stats.trim_mean((means + rng.normal(0, 0.3, (n_data_sets, 100_000))).ravel(), 0.25)
    held = [
        interval.low <= truth <= interval.high
        for interval in (
            aggregate.iqm_interval(list(means + rng.normal(0, 0.3, (n_data_sets, 5)))) for _ in range(300)
        )
    ]
    assert 0.90 <= np.mean(held) <= 0.99
