"""What N runs cost that are there: ``python tests/support/scale.py N`` makes and reads them.

Times are of the processor, so that what else runs on the machine does not count.

Five seeds per configuration, three models, ten evaluations each. The numbers are made up, files and sizes
are not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_runs

import reports
from bench import run, where
from bench.store import records, results
from bench.store.jobs import digest, run_folder

SEEDS = 5
MODELS = ("vanilla", "dcgan", "lsgan")
PATIENCE = 1200
"""Seconds for a report."""


def timed(what: str, action: Callable[[], Any]) -> Any:
    """Do it, and print what it took, in child processes too."""
    start = sum(os.times()[:4])
    value = action()
    print(f"{what:24} {sum(os.times()[:4]) - start:8.2f} s", flush=True)
    return value


def make(out: Path, n: int) -> None:
    """Write n runs: some made up, the others copies of them with other hyperparameters."""
    kinds = [(model, seed) for model in MODELS for seed in range(SEEDS)]
    templates = []
    for k in range(n):
        configuration, (model, seed) = k // len(kinds), kinds[k % len(kinds)]
        values = {"lr": 1e-4 * (1 + configuration)}
        if k < len(kinds):
            fid = 20.0 + k
            templates.append(
                fake_runs.run(out, model=model, seed=seed, fid=fid, hyperparameters=values, n_evals=10)
            )
            continue
        template = templates[k % len(kinds)]
        record = json.loads((template / "run.json").read_text())
        record |= {
            "hyperparameters": record["hyperparameters"] | values,
            "id": digest([model, values]),
        }
        folder = run_folder(out, model, record["dataset"], record["id"], seed)
        shutil.copytree(template, folder)
        (folder / "run.json").write_text(json.dumps(records.sealed(record), indent=1) + "\n")


def weigh(out: Path) -> None:
    """Print how many files and folders there are, and their size on disk."""
    paths = list((out / "runs").rglob("*"))
    files = [path.stat() for path in paths if path.is_file()]
    size = sum(file.st_blocks * 512 for file in files) / 1e6
    print(f"{len(files)} files, {len(paths)} inodes, {size:.1f} MB on disk")


def build(out: Path) -> None:
    """``python -m reports.build``."""
    command = [sys.executable, "-m", "reports.build", str(out), "--format", "markdown", "csv"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        print(done.stderr.strip()[-300:] if done.returncode else "", end="")
    except subprocess.TimeoutExpired:
        print(f"reports.build: not done after {PATIENCE} s")


def sort(out: Path, n: int) -> None:
    """What a command does before and while runs are computed: which of n planned ones are there?"""
    words = ["--models", "vanilla", "--dataset", "digits", "--offline", "--out", str(out)]
    args = run.parser().parse([*words, "--device", "cpu", "--seeds", str(n)])
    context, _ = where.context_of(args)
    run.plan(run._spec(args), context)  # what is loaded once
    jobs = timed("plan", lambda: run.plan(run._spec(args), context))
    timed("look which are there", lambda: run._sort(jobs, context))
    progress = run.Progress(jobs, context.out)
    timed("look at progress once", lambda: progress.tick(force=True))


def main() -> None:
    n = int(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="scale-") as folder:
        out = Path(folder)
        sort(out, n)
        make(out, n)
        weigh(out)
        timed("store.load", lambda: results.load([out]))
        timed("reports.load", lambda: reports.load(out))
        timed("reports.build", lambda: build(out))


if __name__ == "__main__":
    main()
