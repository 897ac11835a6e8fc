"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process per core; set before PyTorch is imported

# Tests start some two hundred processes, each of which would compile this project anew: half a second each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

DATA = Path(os.environ.get("GAN_BENCH_TEST_DATA") or Path(__file__).resolve().parents[1] / "data")
"""Where the original MNIST files are, if they are on this machine: in ``MNIST/raw`` below it."""


LONGEST = (
    *("robustness/test_reliability.py", "bench/execution/test_slurm.py", "bench/execution/test_ray.py"),
    *(
        "robustness/test_terminal.py",
        "bench/test_tune.py",
        "bench/test_run.py",
        "baselines/test_conformance.py",
    ),
    *("robustness/test_unusual.py", "bench/test_score.py", "bench/test_verify.py", "robustness/test_fuzz.py"),
    *("robustness/test_secrets.py", "bench/store/test_leases.py", "baselines/test_settings.py"),
    *("bench/store/test_files.py", "baselines/test_partial.py", "reports/test_build.py", "test_notebook.py"),
    *("bench/test_loading.py", "bench/test_features.py", "reports/test_across.py"),
    *("bench/identity/test_fingerprint.py", "bench/search/test_trial.py", "bench/search/test_study.py"),
    *("robustness/test_hostile.py", "bench/test_speed.py", "bench/scoring/test_generic.py"),
)
"""The files that take longest, in about that order."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: each is run by one process, which at the end would work alone."""
    tests = Path(__file__).parent
    order = {tests / name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """Ends the processes that a failed test leaves, for whose own end the test run would wait."""
    yield
    for process in active_children():
        process.kill()


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writable folder that holds the original MNIST files; the test is skipped where there are none."""
    if not (DATA / "MNIST" / "raw").is_dir():
        pytest.skip(f"the MNIST files are not in {DATA} (GAN_BENCH_TEST_DATA names another folder)")
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (DATA / "MNIST" / "raw").iterdir():
        shutil.copyfile(file, raw / file.name)
    return root


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder, in memory where there is one: tests that write much would wait for the disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
