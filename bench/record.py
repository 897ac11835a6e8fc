"""What is written of a run: ``run.json`` (schema 2, see ``docs/records.md``) and ``history.csv``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import store
from bench.spec import Job

if TYPE_CHECKING:
    from baselines.trainer import Trainer

HISTORY_ROWS = 1000
"""``history.csv`` has about this many rows: means over windows of iterations."""


def blank(job: Job, *, status: str, reason: str | None, attempts: int) -> store.Record:
    """A record with all its keys and no result yet: as it stays where a run failed."""
    from baselines import registry  # late: it imports PyTorch

    return {
        "schema": store.SCHEMA,
        "id": job.run_id,
        "model": job.model,
        "task": registry.card(registry.get(job.model)).task,
        "dataset": job.dataset,
        "seed": job.seed,
        "steps": job.steps,
        "eval_every": job.eval_every,
        "status": status,
        "reason": reason,
        "attempts": attempts,
        "hyperparameters": dict(job.hyperparameters),
        "parameters": {},
        "protocol": dict(job.protocol),
        "code": dict(job.code),
        "environment": {},
        "cost": {},
        "metrics": {},
        "floor": {},
        "best": None,
        "evals": [],
        "d_accuracy": {},
        "history_sha256": None,
    }


def write(folder: Path, record: store.Record) -> None:
    """Seal a record and write it: from now on the run is finished."""
    store.write_json(folder / "run.json", store.sealed(record))


def write_failure(job: Job, out: Path, reason: str, attempts: int) -> None:
    """Record a run that could not be computed."""
    folder = job.folder(out)
    write(folder, blank(job, status="failed", reason=reason, attempts=attempts))
    (folder / "progress.json").unlink(missing_ok=True)


def log(folder: Path, text: str) -> None:
    """Add to ``error.log``: what went wrong in each attempt."""
    store.append(folder / "error.log", f"{text.rstrip()}\n")


def count_parameters(trainer: Trainer) -> dict[str, dict[str, int]]:
    """Per network, as Keras counts: ``trainable``, and ``total`` with moving statistics."""
    counts = {}
    for name, pair in trainer.modules.items():
        trainable = sum(p.numel() for p in pair[0].parameters())
        moving = sum(b.numel() for b in pair[0].buffers() if b.is_floating_point())
        counts[name] = {"trainable": trainable, "total": trainable + moving}
    return counts


def write_history(path: Path, history: Mapping[str, np.ndarray], steps: int) -> str:
    """One row per window of ``max(1, steps // 1000)`` iterations: its last step, and means over it.

    Returns the file's SHA-256.
    """
    import pandas as pd

    window = max(1, steps // HISTORY_ROWS)
    frame = pd.DataFrame({key: values.astype(np.float64) for key, values in history.items()})
    frame.insert(0, "step", np.arange(1, len(frame) + 1))
    windows = frame.groupby((frame["step"] - 1) // window)
    rows = windows.mean().assign(step=windows["step"].max())
    text = rows.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    store.write_atomic(path, lambda temporary: temporary.write_bytes(text.encode()))
    return hashlib.sha256(text.encode()).hexdigest()


def describe_cost(
    train_s: float, eval_s: float, *, steps: int, stack: int, peak_mb: float, energy_j: float | None
) -> dict[str, Any]:
    """Seconds of training and scoring of the run's stack, and the run's share of device and energy."""
    return {
        "train_s": round(train_s, 3),
        "eval_s": round(eval_s, 3),
        "device_s": round((train_s + eval_s) / stack, 3),
        "stack": stack,
        "steps_per_s": round(steps * stack / train_s, 2) if train_s else None,
        "peak_memory_mb": peak_mb,
        "energy_j": None if energy_j is None else round(energy_j / stack, 1),
    }
