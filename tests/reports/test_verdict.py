"""The verdict: what it says in each case, where it stands, and that it names no winner among equals."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from drawn import group_of

from reports.groups import Group
from reports.tables import tables, text
from reports.verdict import verdict

NAME = "metrics.classifier.fid"


def fids(root: Path, **models: list[float]) -> Group:
    for model, values in models.items():
        for seed, fid in enumerate(values):
            fake_runs.run(root, model=model, seed=seed, fid=fid, images=False)
    return group_of(root)


def test_a_winner_is_told_apart_from_every_other(tmp_path: Path) -> None:
    found = verdict(fids(tmp_path, a=[10, 11, 12, 13, 14], b=[30, 31, 32, 33, 34], c=[40, 41, 42, 43, 44]))
    assert found.text == (
        "On digits after 400 steps a has the lowest FID (12.0 ± 1.6, 5 seeds). "
        "It is told apart from b (p = 0.024) and c (p = 0.024); p is corrected for 3 pairs."
    )
    assert found.winner == "a"


def test_the_best_is_told_apart_from_some(tmp_path: Path) -> None:
    found = verdict(fids(tmp_path, a=[10, 11, 12, 13, 14], b=[11, 12, 13, 14, 15], c=[40, 41, 42, 43, 44]))
    assert found.text == (
        "On digits after 400 steps a has the lowest mean FID (12.0 ± 1.6, 5 seeds). It is told apart from c "
        "(p = 0.024), not from b (p = 0.37); p is corrected for 3 pairs. "
        "To tell it from b would take 12 or more seeds per model."
    )
    assert found.winner is None


def test_nothing_can_be_told_of_so_few_seeds(tmp_path: Path) -> None:
    found = verdict(fids(tmp_path, a=[10, 11], b=[30, 31]))
    assert found.text == (
        "On digits after 400 steps nothing can be told by FID: with so few seeds no p, corrected for 1 pair, "
        "can be below 0.33. That takes 4 seeds per model. "
        "The lowest mean is that of a (10.50 ± 0.71, 2 seeds)."
    )


def test_one_seed_each_one_model_and_no_score(tmp_path: Path) -> None:
    found = verdict(fids(tmp_path / "seed", a=[10], b=[30]))
    assert "nothing can be told by FID: that takes two seeds of two models." in found.text
    found = verdict(fids(tmp_path / "model", a=[10, 12]))
    assert found.text == (
        "On digits after 400 steps a has FID 11.0 ± 1.4 (2 seeds), training images 2. "
        "There is no model to compare it with."
    )
    fake_runs.study(tmp_path / "none", {"a": 10}, seeds=range(2), status="failed", images=False)
    found = verdict(group_of(tmp_path / "none"))
    assert found.text.endswith("no run has a score. Failed, and so not ranked: a in 2 of 2 runs.")


def test_failures_and_single_seeds_are_named_and_win_nothing(tmp_path: Path) -> None:
    fids(tmp_path, a=[10, 11, 12, 13, 14], b=[30, 31, 32, 33, 34], lone=[1])
    for seed in range(5):
        status = "diverged" if seed else "finished"
        fake_runs.run(tmp_path, model="shaky", seed=seed, fid=2.0, status=status, images=False)
    found = verdict(group_of(tmp_path))
    assert found.text.startswith("On digits after 400 steps a has the lowest mean FID of the ranked models (")
    assert "One seed, in no test: lone." in found.text
    assert found.text.endswith("Failed, and so not ranked: shaky in 4 of 5 runs.")
    assert found.winner is None


def test_a_test_that_contradicts_the_mean_tells_nothing(tmp_path: Path) -> None:
    """Four of b's five runs are better than all of a's, and the fifth is so bad that its mean is worse."""
    found = verdict(fids(tmp_path, a=[30, 30.1, 30.2, 30.3, 30.4, 30.5], b=[10, 11, 12, 13, 14, 400]))
    assert found.text.startswith("On digits after 400 steps a has the lowest mean FID")
    assert "told apart from no other model" in found.text


def test_it_opens_every_text(tmp_path: Path) -> None:
    group = fids(tmp_path, a=[10, 11, 12, 13, 14], b=[30, 31, 32, 33, 34])
    table, said = tables.scores(group), verdict(group).text
    assert table.verdict == said
    assert text.markdown(table).split("\n\n")[1] == f"**{said}**"
    caption = next(line for line in text.latex(table).splitlines() if line.startswith(r"\caption"))
    assert caption.startswith(rf"\caption{{{text.escape_latex(said)} Mean")
    parts = text.fitted(table, 40)
    assert [part.verdict for part in parts] == [said] + [""] * (len(parts) - 1)
    assert " ".join(text.plain(table, 60).split()).startswith(f"{table.title} {said}")


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_equal_models_have_a_winner_in_at_most_one_study_of_twenty(tmp_path: Path, draw: str) -> None:
    """Nor is the best told apart from any other more often. ``EXAMPLES``: so many studies."""
    fake_runs.study(tmp_path, {"a": 20, "b": 20, "c": 20, "d": 20}, images=False)
    group = group_of(tmp_path)
    rng = np.random.default_rng(11)
    studies = int(os.environ.get("EXAMPLES", "100"))
    winners = told = 0
    for _ in range(studies):
        values = 20 + getattr(rng, draw)(size=len(group.runs))
        runs = group.runs.assign(**{NAME: values})
        by_id = runs.groupby("id")[NAME]
        summary = group.summary.assign(
            **{f"{NAME}.{kind}": group.summary["id"].map(getattr(by_id, kind)()) for kind in ("mean", "std")}
        )
        found = verdict(replace(group, runs=runs, summary=summary))
        winners += found.winner is not None
        told += "It is told apart from" in found.text
    most = 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)
    assert winners / studies <= most
    assert told / studies <= most
