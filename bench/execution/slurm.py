"""Slurm, through submitit: one array of jobs per submission, and ``squeue`` to see what became of them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError, printable
from bench.execution.remote import Work
from bench.execution.workers import Notice

PATIENCE = 30
"""Seconds for Slurm to answer."""

DEFAULTS = {"job_name": "gan-bench", "time": "60"}
"""A time limit (minutes) costs nothing: the run goes on in the same job, requeued."""

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

    def __init__(self, folder: Path, options: Mapping[str, str | bool], limit: int | None) -> None:
        """``folder`` is for scripts and logs; ``limit`` for jobs of an array that run at a time.

        Raises:
            UsageError: there is no Slurm here, or no submitit.
        """
        try:
            import submitit
        except ImportError as error:
            raise UsageError(
                "--executor slurm: submitit is not installed; pip install 'gan-bench[slurm]'"
            ) from error
        missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
        if missing:
            raise UsageError(f"--executor slurm: there is no {missing[0]} on this machine")
        self.said: set[str] = set()
        # As many time-outs as it takes: the job goes on after each, none starts anew.
        self.executor = submitit.SlurmExecutor(folder, max_num_timeout=10**6)
        given = {key.replace("-", "_"): value for key, value in options.items()}
        self.executor.update_parameters(
            array_parallelism=limit or self.most, additional_parameters=DEFAULTS | given
        )

    def submit(self, work: Sequence[Work]) -> list[str]:
        """One array of jobs."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with self.executor.batch():
                jobs = [self.executor.submit(Requeued(each)) for each in work]
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            raise UsageError(f"--slurm: sbatch refuses: {error}") from error
        return [str(job.job_id) for job in jobs]

    def ended(self, jobs: Collection[str]) -> dict[str, str]:
        """As ``squeue`` has it, which forgets a job some minutes after its end; ``sacct`` is not needed."""
        command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T %r"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"squeue does not answer: {getattr(error, 'stderr', None) or error}")
            return {}
        found = {name: (state, why) for name, state, why in map(str.split, done.stdout.splitlines())}
        for job in jobs:
            state, why = found.get(job, ("", ""))
            if state == "PENDING" and why not in USUAL:
                self._say(f"job {job} is pending: {why}")
        states = {job: found[job][0] if job in found else "is not known any more" for job in jobs}
        return {job: state for job, state in states.items() if state in OVER or job not in found}

    def leave(self, jobs: Collection[str]) -> None:
        """Jobs in the queue stay there: their user may have lost no more than a connection."""
        arrays = sorted({job.partition("_")[0] for job in jobs})
        if arrays:
            self._say(f"{len(jobs)} jobs stay in the queue; to end them: scancel {' '.join(arrays)}")

    def _say(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            print(f"slurm: {printable(' '.join(line.split()))}", file=sys.stderr, flush=True)
