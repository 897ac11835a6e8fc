"""Fixtures for tests of figures."""

from __future__ import annotations

import fake_runs
import pytest
from drawn import group_of

from reports.groups import Group


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Three models, one of them a critic, one with a diverged run; scored along the way."""
    root = tmp_path_factory.mktemp("study")
    fake_runs.study(root, {"vanilla": 40, "dcgan": 20, "wgan_gp": 25}, seeds=range(3), n_evals=4)
    fake_runs.run(root, model="dcgan", seed=3, status="diverged", n_evals=4)
    return group_of(root)


@pytest.fixture(scope="session")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Twelve models: as many as a figure shows."""
    root = tmp_path_factory.mktemp("twelve")
    models = {f"model_{k:02}": 20.0 + k for k in range(12)}
    fake_runs.study(root, models, seeds=range(2), n_evals=10, conditional=True)
    return group_of(root)
