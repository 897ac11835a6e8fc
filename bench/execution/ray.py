"""Ray: one remote task per stack of runs, on a cluster or on this machine; nodes may come and go."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Sequence
from typing import Any

from bench.errors import UsageError, one_line
from bench.execution.remote import Work
from bench.execution.workers import Notice

KNOCK_S = 5.0
PATIENCE = 60.0
"""Seconds for interrupted jobs to write their checkpoints."""


def _run(work: Work) -> None:
    """In a process of Ray's: cancelling the task is a SIGINT there."""
    notice = Notice()
    with notice.installed():
        work(notice)


def _knock(address: str) -> None:
    """Ray itself waits for minutes where nobody answers, deaf to Ctrl-C.

    Raises:
        UsageError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"--ray-address: nobody answers at {address!r} ({error})") from error


class Ray:
    """The cluster at an address; without one, that of ``RAY_ADDRESS`` or a new one on this machine."""

    name = "ray"

    def __init__(self, address: str | None, gpus: float, limit: int | None) -> None:
        """``gpus`` per job, or a share of one; ``limit`` for jobs at a time.

        Raises:
            UsageError: there is no Ray, or none at the address.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError("--executor ray: ray is not installed; pip install 'gan-bench[ray]'") from error
        if address:
            _knock(address)
        self.ray: Any = ray
        self.most = limit or 1000
        self.tasks: dict[str, Any] = {}
        try:
            ray.init(
                address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
                ignore_reinit_error=True,  # a search, then its retraining
            )
        except Exception as error:  # Ray's own are often no more than that
            where = f"--ray-address: {address!r} cannot be used" if address else "--executor ray: no start"
            raise UsageError(f"{where}: {one_line(error)}") from error
        # The harness counts what is tried again; Ray does not.
        self.remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_run)

    def submit(self, work: Sequence[Work]) -> list[str]:
        """One task each."""
        new = {task.hex(): task for task in (self.remote.remote(each) for each in work)}
        self.tasks |= new
        return list(new)

    def ended(self, jobs: Collection[str]) -> dict[str, str]:
        """Tasks that returned, whose process died or whose node is gone; and those of earlier commands."""
        held = [self.tasks[job] for job in jobs if job in self.tasks]
        over = self.ray.wait(held, num_returns=len(held), timeout=0)[0] if held else []
        found = {task.hex(): self._how(task) for task in over}
        return {job: "is not known any more" for job in jobs if job not in self.tasks} | found

    def _how(self, task: Any) -> str:
        try:
            self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            return f"ended: {one_line(error)}"
        return "returned"

    def leave(self, jobs: Collection[str]) -> None:
        """Have each write its checkpoint: tasks end with their driver."""
        held = [self.tasks[job] for job in jobs if job in self.tasks]
        for task in held:
            self.ray.cancel(task, recursive=False)
        if held:
            self.ray.wait(held, num_returns=len(held), timeout=PATIENCE)
