"""Each score is declared once, and whatever a record can hold is declared."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import bench
from baselines.gan import Card
from bench.data.points import MIXTURES
from bench.errors import UsageError
from bench.scoring import criterion, infinity, memorisation, metrics, points, scores, superresolution
from bench.scoring.conditional import conditional_scores
from bench.scoring.scores import MEMORISATION, OBJECTIVES, SCORES, UNRANKED, Score
from bench.search import objectives
from bench.store import records

ROOT = Path(bench.__file__).parents[1]
SOURCES = [path for name in ("baselines", "bench", "reports") for path in (ROOT / name).rglob("*.py")]
DECLARED = ROOT / "bench" / "scoring" / "scores.py"
COMPUTING = ("metrics", "conditional", "infinity", "memorisation", "per_channel", "points", "superresolution")
COMPUTED = {ROOT / "bench" / "scoring" / f"{name}.py" for name in COMPUTING}


def test_whatever_the_metrics_compute_is_declared() -> None:
    rng = np.random.default_rng(0)
    labels = torch.arange(200) % 10
    sides = [
        metrics.Features(
            torch.from_numpy(rng.normal(size=(200, 4))), torch.from_numpy(rng.normal(size=(200, 10)))
        )
        for _ in range(2)
    ]
    found = metrics.score(*sides, seed=0)
    for judge in ("", "_knn"):
        found |= metrics.mode_coverage(labels, labels.numpy(), 10, judge)
    found |= conditional_scores(sides[0], labels, sides[1], labels)
    pixels = rng.integers(0, 256, (2, 1, 12, 12), dtype=np.uint8)
    found |= superresolution.restoration_scores(pixels, pixels, pixels)
    a, b = (side.features for side in sides)
    found |= memorisation.scores(a, memorisation.prepare(a, b), b)
    curve = infinity.extrapolate(sides[0].features, sides[1].features, 0)
    found |= {name: curve[name] for name in curve if name.startswith("fid_")}
    found |= points.scores(torch.zeros(5, 2, 1, 1), MIXTURES["ring"])
    assert set(found) == {score.name for score in (*SCORES, *MEMORISATION, *UNRANKED)}


def test_costs_and_accuracies_are_declared() -> None:
    cost = records.describe_cost(
        1.0, 1.0, steps=1, stack=1, peak_mb=1.0, energy_j=None, compute={"train": 1.0, "eval": 1.0}
    )
    assert set(cost) - {"stack"} == {score.name for score in scores.COSTS}
    judged = criterion.judge({"d_acc_real": [0.5], "d_acc_fake": [0.5]})
    assert list(judged["train"]) == [score.name for score in scores.TRAIN_ACCURACY]
    assert set(judged) - {"train"} == {scores.NEAR_HALF.name, scores.NEAR_HALF_SINCE.name}


def test_objectives_are_the_scores_with_a_better_direction() -> None:
    assert set(OBJECTIVES.values()) == {
        score for score in vars(scores).values() if isinstance(score, Score) and score.better
    } | set(SCORES)
    assert all(score.better for score in OBJECTIVES.values())
    assert list(objectives.DIRECTIONS) == list(OBJECTIVES)
    assert objectives.DIRECTIONS["fid"] == "minimize"
    assert objectives.DIRECTIONS["isc_mean"] == "maximize"


@pytest.mark.parametrize(
    ("name", "card", "words"),
    [
        ("psnr", Card("x", 2014), "m has no 'psnr': it needs super-resolution"),
        ("cond_accuracy", Card("x", 2014), "m has no 'cond_accuracy': it needs labels"),
        ("psnr", Card("x", 2014, task="super-resolution"), ""),
        ("class_fid", Card("x", 2014, needs=frozenset({"label"})), ""),
        ("fid", Card("x", 2014), ""),
    ],
)
def test_what_a_score_needs_decides_who_may_search_for_it(name: str, card: Card, words: str) -> None:
    if words:
        with pytest.raises(UsageError, match=words):
            objectives.refuse("m", card, [name])
    else:
        objectives.refuse("m", card, [name])


def collections(tree: ast.AST) -> Iterator[list[str]]:
    """The texts in each list, tuple, set and dictionary of a source file."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            found = [*node.elts]
        elif isinstance(node, ast.Dict):
            found = [*node.keys, *node.values]
        yield [each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str)]


@pytest.mark.slow
def test_no_other_file_lists_scores_or_names_them() -> None:
    """A second list of scores, directions or labels would sooner or later say something else."""
    declared = (*SCORES, *MEMORISATION)
    names = {score.name for score in declared}
    labels = {score.label for score in declared if score.label != score.short or " " in score.label}
    for path in SOURCES:
        if path == DECLARED:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not labels & texts, f"{path} has labels of its own"
        if path not in COMPUTED:
            assert not [some for some in collections(tree) if len(names & set(some)) > 1], path
        directions = [some for some in collections(tree) if {"lower", "minimize"} & set(some)]
        assert not [some for some in directions if names & set(some)], f"{path} has directions of its own"


def test_the_documentation_shows_them_as_declared() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reports.md").read_text(encoding="utf-8")
    assert scores.markdown(OBJECTIVES.values()) in text


def test_they_are_read_without_pytorch_and_pandas() -> None:
    code = "import sys, bench.scoring.scores; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
