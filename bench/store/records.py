"""The record of a run: its schema (``docs/records.md``), its reader and its writer.

    <out>/runs/<model>-<dataset>-<id>/seed-<k>/    run.json  history.csv  checkpoint.pt  samples.png

A run is finished when its ``run.json`` exists: it is written last, to a temporary name, and renamed. A record
counts where it is whole, of a schema that this version reads, and in the folder that is named after it.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import printable
from bench.store import files
from bench.store.files import UnreadableError, file_digest, read_json
from bench.store.jobs import Job, digest, run_folder

if TYPE_CHECKING:
    from baselines.training.trainer import Trainer


SCHEMA = 2
"""The version of ``run.json`` that this code writes."""

READABLE = (1, SCHEMA)
"""The versions that it reads."""

Record = dict[str, Any]


def sealed(record: Record) -> Record:
    """The record with a checksum of everything else in it."""
    body = {key: value for key, value in record.items() if key != "checksum"}
    return body | {"checksum": digest(body)}


HISTORY_ROWS = 1000
"""``history.csv`` has about this many rows: means over windows of iterations."""


# ------------------------------------------------------------------ writing


def blank(job: Job, *, status: str, reason: str | None, attempts: int, task: str | None = None) -> Record:
    """A record with all its keys and no result yet: as it stays where a run failed.

    ``task``: of a model that is none of ours, so that no card of it says it.
    """
    if task is None:
        from baselines import registry  # late: it imports PyTorch

        task = registry.card(registry.get(job.model)).task
    return {
        "schema": SCHEMA,
        "id": job.run_id,
        "model": job.model,
        "task": task,
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
        "floor_std": {},
        "halves": {},
        "halves_std": {},
        "best": None,
        "evals": [],
        "d_accuracy": {},
        "history_sha256": None,
    }


def write(folder: Path, record: Record) -> None:
    """Seal a record and write it: from now on the run is finished."""
    files.write_json(folder / "run.json", sealed(record))


def write_failure(job: Job, out: Path, reason: str, attempts: int) -> None:
    """Record a run that could not be computed."""
    folder = job.folder(out)
    write(folder, blank(job, status="failed", reason=reason, attempts=attempts))
    (folder / "progress.json").unlink(missing_ok=True)


def log(folder: Path, text: str) -> None:
    """Add to ``error.log``: what went wrong in each attempt."""
    files.append(folder / "error.log", f"{text.rstrip()}\n")


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
    files.write_atomic(path, lambda temporary: temporary.write_bytes(text.encode()))
    return hashlib.sha256(text.encode()).hexdigest()


def describe_cost(
    train_s: float,
    eval_s: float,
    *,
    steps: int,
    stack: int,
    peak_mb: float,
    energy_j: float | None,
    compute: Mapping[str, float],
) -> dict[str, Any]:
    """Seconds on the wall of training and scoring of the run's stack; the run's share of wall and energy; its
    compute (of ``train`` and of ``eval``), see :func:`bench.execution.environment.compute_s`."""
    return {
        "compute_s": round(compute["train"] + compute["eval"], 3),
        "train_compute_s": round(compute["train"], 3),
        "train_s": round(train_s, 3),
        "eval_s": round(eval_s, 3),
        "device_s": round((train_s + eval_s) / stack, 3),
        "stack": stack,
        "steps_per_s": round(steps * stack / train_s, 2) if train_s else None,
        "peak_memory_mb": peak_mb,
        "energy_j": None if energy_j is None else round(energy_j / stack, 1),
    }


# ------------------------------------------------------------------ reading


class RecordError(Exception):
    """A record that is there and does not count."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(printable(f"{path}: {reason}"))
        self.path, self.reason = path, reason


class DamagedRecordError(RecordError):
    """It is not what was written: it may be set aside."""


class ForeignRecordError(RecordError):
    """It is whole, and another run's: it may be the only one of that."""


NEEDED = {"id": str, "model": str, "dataset": str, "seed": int, "status": str}
"""Without these nobody can say what a record is of."""


def read_record(folder: Path, job: Job | None = None) -> Record | None:
    """A run's record, or ``None`` where the run is not finished.

    It must be that of the run after which the folder is named; and of ``job``, where that is given.

    Raises:
        DamagedRecordError: it cannot be trusted.
        ForeignRecordError: it is another run's.
        UnreadableError: it, or the history beside it, cannot be read, or not by this version.
    """
    path = folder / "run.json"
    for parent in (folder, folder.parent):
        if parent.is_symlink():
            raise UnreadableError(errno.EINVAL, "is a link, not a folder", str(parent))
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedRecordError(path, f"not JSON ({error})") from error
    if not isinstance(record, dict) or "schema" not in record:
        raise DamagedRecordError(path, "not a record of this harness")
    schema = record["schema"]
    if type(schema) is int and schema > SCHEMA:
        why = f"has schema {schema}, and this version reads {SCHEMA}: use the version that wrote it"
        raise UnreadableError(errno.EPROTO, why, str(path))
    if type(schema) is not int or schema not in READABLE:
        raise DamagedRecordError(path, f"schema {schema!r:.20}, this version reads {SCHEMA}")
    try:
        intact = sealed(record)["checksum"] == record.get("checksum")
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise DamagedRecordError(path, "its checksum does not match: damaged or edited")
    for name, kind in NEEDED.items():
        if type(record.get(name)) is not kind:
            raise DamagedRecordError(path, f"no usable {name!r}")
    if whose := _another(record, folder, job):
        raise ForeignRecordError(path, f"is the record of {whose}")
    if record.get("history_sha256") is not None:
        with suppress(FileNotFoundError):  # nothing there to distrust
            if file_digest(folder / "history.csv") != record["history_sha256"]:
                why = "history.csv beside it does not match its checksum: damaged or edited"
                raise DamagedRecordError(path, why)
    return record


def _another(record: Record, folder: Path, job: Job | None) -> str:
    """Which other run a record is of, by the names of its folder, and as the job has it; or nothing."""
    model, dataset, run_id, seed = (record[key] for key in ("model", "dataset", "id", "seed"))
    own, here = run_folder(Path(), model, dataset, run_id, seed), folder.absolute()
    if own.parent.name != here.parent.name:
        return f"seed {seed} of {own.parent.name}"
    if own.name != here.name:
        return f"seed {seed}"
    if job is not None and (model, run_id, seed) != (job.model, job.run_id, job.seed):
        return f"seed {seed} of {model}, id {run_id}"
    return ""
