"""Modes of stacked digits, counted as the papers count them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from data_checks import NOWHERE
from hypothesis import given
from hypothesis import strategies as st

from bench import run
from bench.data import datasets, stacked
from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.execution import kept
from bench.scoring import evaluator, per_channel
from bench.scoring.per_channel import Judges, coverage, mode_counts
from bench.search import objectives
from bench.store.records import read_record
from reports import load
from reports.groups import TRAINING, groups
from reports.tables import tables


def test_known_answers() -> None:
    assert coverage(np.full(1000, 26)) == {"modes": 1000, "mode_kl": 0.0}
    assert coverage(np.eye(1, 1000, 7, dtype=np.int64)[0]) == {"modes": 1, "mode_kl": math.log(1000)}
    one_of_them = np.array([3, 1, 0, 0])  # p = (3/4, 1/4): one sample is enough for a mode
    expected = 0.75 * math.log(3) + 0.25 * math.log(1)
    assert coverage(one_of_them) == {"modes": 2, "mode_kl": pytest.approx(expected)}
    counts = mode_counts(np.array([[0, 1, 2], [9, 9, 9], [9, 9, 9], [1, 0, 0]]), 10)
    assert counts.shape == (1000,)
    assert {k: counts[k] for k in np.flatnonzero(counts)} == {12: 1, 999: 2, 100: 1}


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(any))
def test_kl_is_between_zero_and_the_logarithm_of_the_number_of_modes(counts: list[int]) -> None:
    scores = coverage(np.array(counts))
    assert 0 <= scores["mode_kl"] <= math.log(len(counts)) + 1e-9
    assert scores["modes"] == sum(n > 0 for n in counts)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=NOWHERE)


def test_both_judges_see_the_digits_of_each_channel(digits: Dataset) -> None:
    judges, test = Judges(digits, NOWHERE, torch.device("cpu")), digits.test
    sevens = test.images[test.labels == 7][:30]
    ones = test.images[test.labels == 1][:30]
    images = torch.from_numpy(np.concatenate([sevens, ones, sevens], axis=1))
    scores = judges(images)
    assert scores["mode_kl"] > 6.5  # nearly all are 717: ln 1000 is 6.9
    assert scores["mode_kl_knn"] > 6.5
    assert scores["modes"] <= 3


def test_a_search_may_optimise_them() -> None:
    objectives.refuse_features(["modes", "mode_kl_knn"], {"generic": {}}, stacked=True)
    for name in ("cond_accuracy", "reverse_kl"):
        with pytest.raises(UsageError, match=f"--objective: '{name}' needs"):
            objectives.refuse_features([name], {"generic": {}}, stacked=True)


@pytest.mark.slow
def test_a_run_is_scored_by_its_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(per_channel, "N_SAMPLES", 300)
    monkeypatch.setattr(stacked, "N_STACKS", 1000)
    monkeypatch.setattr(evaluator, "BASELINE_DRAWS", 2)
    kept.dataset.cache_clear()
    words = "--models vanilla --set vanilla.g_widths=16 vanilla.d_widths=16 --dataset stacked-digits"
    more = f"--offline --steps 4 --eval-every 4 --draws 2 --seeds 1 --workers 0 --device cpu --out {tmp_path}"
    assert run.main([*words.split(), *more.split()]) == 0
    kept.dataset.cache_clear()
    [folder] = tmp_path.glob("runs/*/seed-0")
    record = read_record(folder)
    assert record is not None
    assert record["protocol"]["n_fake"] == 300
    assert [*record["metrics"]] == [per_channel.NAME, "generic"]
    assert record["metrics"][per_channel.NAME].keys() == {"modes", "mode_kl", "modes_knn", "mode_kl_knn"}
    assert len(record["draws"][per_channel.NAME]["modes"]) == 2
    assert "authpct" not in record["metrics"]["generic"]
    assert 250 < record["floor"][per_channel.NAME]["modes"] <= 300  # of 300 stacks few are of one mode
    assert (folder / "neighbours.png").is_file()
    [group] = groups(load(tmp_path))
    table = tables.scores(group)
    assert [column.label for column in table.columns][:2] == ["Modes", "Mode KL"]
    assert [row.name for row in table.rows] == [TRAINING, "vanilla"]
    assert "--features auto is generic here, because stacked-digits has no labels" in capsys.readouterr().out
