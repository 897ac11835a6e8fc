"""Ray: one remote task per worker, on a cluster or on this machine; nodes may come and go."""

from __future__ import annotations

import logging
import socket
from typing import Any

from bench.errors import UsageError, one_line
from bench.execution.launch import Work
from bench.execution.signals import Notice

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

    most = 1000

    def __init__(self, address: str | None, gpus: float) -> None:
        """``gpus`` per job, or a fraction of one.

        Raises:
            UsageError: there is no Ray, or none at the address.
        """
        try:
            import ray
        except ImportError as error:
            how = "in the checkout: pip install '.[ray]'"
            raise UsageError(f"--executor ray: ray is not installed; {how}") from error
        if address:
            _knock(address)
        self.ray: Any = ray
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

    def start(self, work: Work, n: int, name: str) -> None:
        """One task each."""
        self.tasks |= {task.hex(): task for task in (self.remote.remote(work) for _ in range(n))}

    def jobs(self, name: str) -> dict[str, str]:
        """The tasks of this command: others end with theirs."""
        held = list(self.tasks.values())
        over = self.ray.wait(held, num_returns=len(held), timeout=0)[0] if held else []
        return dict.fromkeys(self.tasks, "") | {task.hex(): self._how(task) for task in over}

    def _how(self, task: Any) -> str:
        try:
            self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            return f"ended: {one_line(error)}"
        return "returned"

    def leave(self, name: str) -> None:
        """Have each write its checkpoint: tasks end with their driver."""
        held = list(self.tasks.values())
        for task in held:
            self.ray.cancel(task, recursive=False)
        if held:
            self.ray.wait(held, num_returns=len(held), timeout=PATIENCE)
