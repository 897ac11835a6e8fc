"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process per core; set before PyTorch is imported

DATA = Path(os.environ.get("GAN_BENCH_TEST_DATA") or Path(__file__).resolve().parents[1] / "data")
"""Where the original MNIST files are, if they are on this machine: in ``MNIST/raw`` below it."""


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
