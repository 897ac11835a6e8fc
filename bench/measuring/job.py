"""A whole job as a user starts it: how long until it says something, trains and is done, and how it idles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measuring.others import Watch

COMMAND = (sys.executable, "-m", "bench.run")
SEEDS = 5
PAUSE = 0.02


def measure(words: Sequence[str]) -> dict[str, Any]:
    """Run ``bench.run`` with these words in a folder of its own.

    Seconds since its start: ``first_line_s``, ``first_step_s`` (an iteration is done), ``last_record_s``,
    ``wall_s``. ``training_s`` and ``scoring_s``: of all runs together; ``processor_s``: of all its processes.
    ``idle``: the fraction of all cores that nobody used. ``others``: cores that other programs used.

    Raises:
        SystemExit: the job failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed, out = Path(folder, "printed"), Path(folder, "results")
        command = [*COMMAND, *words, "--seeds", str(SEEDS), "--out", str(out)]
        before, watch = _children_s(), Watch()
        with printed.open("w") as stdout:
            job = subprocess.Popen(command, stdout=stdout, stderr=subprocess.STDOUT)
            begun, found = time.time(), dict[str, Any]()
            try:
                while job.poll() is None:
                    now = time.time() - begun
                    if "first_line_s" not in found and printed.stat().st_size:
                        found["first_line_s"] = now
                    if "first_step_s" not in found and _has_begun(out):
                        found["first_step_s"] = now
                    time.sleep(PAUSE if len(found) < 2 else 0.2)
            finally:
                job.terminate()
                job.wait()
        wall = time.time() - begun
        own = _children_s() - before
        if job.returncode:
            raise SystemExit(f"error: the job failed: {printed.read_text(errors='replace').strip()}")
        records = sorted(out.glob("runs/*/seed-*/run.json"))
        costs = [json.loads(record.read_text())["cost"] for record in records]
        others = watch.others(own)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return {
            **found,
            "last_record_s": max(record.stat().st_mtime for record in records) - begun,
            "wall_s": wall,
            "training_s": sum(cost["train_s"] for cost in costs),
            "scoring_s": sum(cost["eval_s"] for cost in costs),
            "processor_s": own,
            "idle": max(0.0, 1 - (own / wall + max(0.0, others)) / cores),
            "others": others,
        }


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _has_begun(out: Path) -> bool:
    """Whether a run has done an iteration."""
    for path in out.glob("runs/*/seed-*/progress.json"):
        try:
            if json.loads(path.read_text())["step"]:
                return True
        except (OSError, ValueError):  # it is being written
            continue
    return False


def text(found: dict[str, Any]) -> str:
    """The figures as text."""
    return (
        f"  {SEEDS} seeds as a job: first line after {found['first_line_s']:.1f} s, training after "
        f"{found['first_step_s']:.1f} s, last record after {found['last_record_s']:.1f} s, "
        f"report after {found['wall_s']:.1f} s\n"
        f"  of all seeds training {found['training_s']:.1f} s and scoring {found['scoring_s']:.1f} s; "
        f"{found['processor_s']:.1f} s of processor; {found['idle']:.0%} of all cores idle"
    )
