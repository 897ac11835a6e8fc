"""Small runs for the trials of searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands import quick_scores

from bench.plan import RunContext, Spec, plan
from bench.store.jobs import Job


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    """Scores are the slow part."""
    with pytest.MonkeyPatch.context() as patch:
        quick_scores(patch)
        yield


@pytest.fixture(scope="module")
def templates(few_samples: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Runs of the vanilla GAN and of the one with faults, of eight steps, scored on validation."""
    small = {"g_widths": "8", "d_widths": "8", "batch_size": "32"}
    spec = Spec(
        models=["vanilla", "faults:faulty"],
        datasets=["digits"],
        seeds=[1000],
        steps=8,
        eval_every=4,
        hyperparameters={"vanilla": small},
        scored_on="val",
        draws=1,
    )
    context = RunContext(tmp_path_factory.mktemp("plan"), offline=True)
    return {job.model: job for job in plan(spec, context)}


@pytest.fixture
def jobs(templates: dict[str, Job]) -> list[Job]:
    """Two seeds of the vanilla GAN."""
    return [replace(templates["vanilla"], seed=seed) for seed in (1000, 1001)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is computed once of the real images."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def context(fast_path: Path, cache: Path) -> RunContext:
    """A results folder."""
    return RunContext(fast_path, offline=True, checkpoint_every=1e9, cache_root=cache)
