"""Runs as tasks of a real Ray: shares of GPUs, killed processes, nodes that go, interruption."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
from commands import SMALL, begun, folders, numbers, records, start, wait_for, without_report

from bench.errors import UsageError
from bench.execution import ray

ROOT = Path(__file__).resolve().parents[3]
LONG = (*SMALL, "--steps", "1000", "--eval-every", "1000", "--draws", "1", "--checkpoint-every", "0")
"""A run is long enough to be caught in the middle of it."""

ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(
        [str(ROOT), str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", "")]
    ),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes nothing and one node with a pretend GPU."""
    pytest.importorskip("ray", reason="ray has no wheel for this Python")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        found.add_node(num_cpus=4, num_gpus=1)
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What uninterrupted runs on this machine leave: two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    done = commands.run(folder, *LONG, "--seeds", "2", "--workers", "0", before=without_report)
    assert done.wait() == 0, done.err
    return [same(each) for each in folders(folder)]


def impatient() -> None:
    """For ``before``: no report, and looks in quick succession."""
    without_report()
    from bench.execution import launch

    launch.LOOK_EVERY = 0.5


def submit(folder: Path, *words: object) -> commands.Command:
    """Start ``bench.run`` with Ray as its executor."""
    return start(folder, *words, "--executor", "ray", before=impatient, **ENVIRONMENT)


def same(run_folder: Path) -> dict[str, Any]:
    """What may not differ, however often the run was begun."""
    found = numbers(run_folder)
    del found["record"]["attempts"]
    return found


@pytest.mark.slow
def test_on_a_cluster_one_is_killed_and_the_others_do_not_notice(
    cluster: Any, fast_path: Path, whole: list[dict[str, Any]]
) -> None:
    at = ("--ray-address", cluster.address, "--ray-gpus", "0.5")
    command = submit(fast_path, *LONG, *at, "--seeds", "3")
    held: list[int] = []

    def both_begun() -> bool:
        texts = [path.read_text() for path in fast_path.glob("results/runs/*/*/lease-1")]
        held.append(len(texts))
        return begun(fast_path, 2)()

    wait_for(both_begun)
    killed = folders(fast_path)[0]
    os.kill(json.loads((killed / "lease-1").read_text())["pid"], signal.SIGKILL)
    assert command.wait() == 0, command.err
    assert max(held) == 2, "half a GPU each, of one"
    assert [same(path) for path in folders(fast_path)][:2] == whole
    assert {record["seed"]: record["attempts"] for record in records(fast_path)} == {0: 2, 1: 1, 2: 1}
    assert "is gone" in (killed / "error.log").read_text()


@pytest.mark.slow
def test_a_run_goes_on_elsewhere_when_its_node_is_gone(
    cluster: Any, fast_path: Path, whole: list[dict[str, Any]]
) -> None:
    command = submit(fast_path, *LONG, "--seeds", "1", "--ray-address", cluster.address)
    wait_for(begun(fast_path))
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    assert command.wait() == 0, command.err
    assert [same(path) for path in folders(fast_path)] == whole[:1]
    assert [record["attempts"] for record in records(fast_path)] == [2]


@pytest.mark.slow
def test_an_interrupted_command_ends_its_tasks_at_a_checkpoint(
    fast_path: Path, whole: list[dict[str, Any]]
) -> None:
    """Without an address: on this machine. What they left goes on, here without Ray."""
    pytest.importorskip("ray", reason="ray has no wheel for this Python")
    command = submit(fast_path, *LONG, "--seeds", "1")
    wait_for(begun(fast_path))
    command.kill(signal.SIGINT)
    assert command.wait() == 130
    (folder,) = folders(fast_path)
    assert not (folder / "run.json").exists(), "it was caught in the middle"
    assert not list(folder.glob("lease-*")), "it ended in order"
    again = commands.run(fast_path, *LONG, "--seeds", "1", "--workers", "0", before=without_report)
    assert again.wait() == 0, again.err
    assert [same(folder)] == whole[:1]


def test_an_address_where_nobody_answers_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"--ray-address: nobody answers at '127\.0\.0\.1:1'"):
        ray._knock("127.0.0.1:1")
