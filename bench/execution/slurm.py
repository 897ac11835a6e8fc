"""Slurm, through submitit: arrays of jobs, and ``squeue`` to count them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError, printable
from bench.execution.launch import Work
from bench.execution.signals import Notice

PATIENCE = 30
"""Seconds for Slurm to answer."""

DEFAULTS = {"job_name": "gan-bench", "time": "60"}
"""A time limit (minutes) costs nothing: the job is requeued and goes on."""

USUAL = {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime"}
"""Reasons for which a job is pending, and will run in its turn."""

OVER = {
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED"),
}
"""States of jobs that will not run again."""


@dataclass(frozen=True)
class Requeued:
    """Work that is requeued where Slurm asks for the machine back before it is done."""

    work: Work

    def __call__(self) -> None:
        """Do it, up to a checkpoint where Slurm says so."""
        notice = Notice()
        with notice.installed():
            self.work(notice)
        if notice.signal == signal.SIGUSR2:
            signal.raise_signal(signal.SIGUSR2)  # submitit's, from here on: it requeues the job

    def checkpoint(self) -> Any:
        """What submitit runs in the requeued job: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slurm:
    """The cluster that ``sbatch`` on this machine submits to."""

    name = "slurm"
    most = 1000
    """Slurm's own limit on an array."""

    def __init__(self, folder: Path, options: Mapping[str, str | bool]) -> None:
        """``folder`` is for scripts and logs.

        Raises:
            UsageError: there is no Slurm here, or no submitit.
        """
        try:
            import submitit
        except ImportError as error:
            raise UsageError(
                "--executor slurm: submitit is not installed; in the checkout: pip install '.[slurm]'"
            ) from error
        missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
        if missing:
            raise UsageError(f"--executor slurm: there is no {missing[0]} on this machine")
        self.said: set[str] = set()
        # As many time-outs as it takes: the job goes on after each, none starts anew.
        self.executor = submitit.SlurmExecutor(folder, max_num_timeout=10**6)
        self.options: dict[str, str | bool] = dict(DEFAULTS)
        self.options |= {key.replace("-", "_"): value for key, value in options.items()}

    def start(self, work: Work, n: int, name: str) -> None:
        """Submit one array; its comment names the work."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        comment = f"{self.options.get('comment', 'gan-bench')} {name}"
        self.executor.update_parameters(
            array_parallelism=n, additional_parameters=self.options | {"comment": comment}
        )
        try:
            with self.executor.batch():
                for _ in range(n):
                    self.executor.submit(Requeued(work))
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            raise UsageError(f"--slurm: sbatch refuses: {error}") from error

    def jobs(self, name: str) -> dict[str, str] | None:
        """As ``squeue`` has it, which forgets a job some minutes after its end; ``sacct`` is not needed."""
        command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r|%k"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"squeue does not answer: {getattr(error, 'stderr', None) or error}")
            return None
        found: dict[str, str] = {}
        for line in done.stdout.splitlines():
            job, state, why, comment = (*line.split("|", 3), "", "", "")[:4]
            if comment.split()[-1:] == [name]:
                found[job] = state if state in OVER else ""
                if state == "PENDING" and why not in USUAL:
                    self._say(f"job {job} is pending: {why}")
        return found

    def leave(self, name: str) -> None:
        """Jobs in the queue stay there: their user may have lost no more than a connection."""
        jobs = [job for job, ended in (self.jobs(name) or {}).items() if not ended]
        arrays = sorted({job.partition("_")[0] for job in jobs})
        if arrays:
            self._say(f"{len(jobs)} jobs stay in the queue; to end them: scancel {' '.join(arrays)}")

    def _say(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            print(f"slurm: {printable(' '.join(line.split()))}", file=sys.stderr, flush=True)
