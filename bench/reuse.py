"""Report why a run is computed again: its code, data or weights have changed since an earlier run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.identity import outside
from bench.identity.fingerprint import differing_files
from bench.store import records
from bench.store.jobs import Job, digest, slug

MOST_READ = 50
"""How many records are read, the newest first."""

ASKED = ("scored_on", "select", "precision", "threads", "d_acc_tolerance")
"""The fields of a protocol that a flag sets. The others follow from code and data."""


def explain(todo: Sequence[Job], out: Path) -> list[str]:
    """One line for each configuration that is computed again because something has changed."""
    first = {job.run_id: job for job in reversed(todo)}
    lines = [line for job in reversed(first.values()) if (line := _what_changed(job, out)) is not None]
    return list(dict.fromkeys(lines))


def _what_changed(job: Job, out: Path) -> str | None:
    for folder, record in _alike(job, out):
        since = f"since {_date(record, folder)}"
        if files := differing_files(record["code"], job.code):
            return f"{job.model}: its code changed {since}: {', '.join(files)}"
        if record["protocol"]["dataset"]["sha256"] != job.protocol["dataset"]["sha256"]:
            return f"{job.model}: data set {job.data} changed {since}"
        then, now = (held["extractors"] for held in (record["protocol"], job.protocol))
        if changed := [name for name in now if now[name] != then.get(name)]:
            own = [name for name in changed if outside.location("--features", name)]
            what = "the weights or the code" if own else "the weights"
            return f"{job.model}: {what} of {', '.join(changed)} changed {since}"
        then, now = (held.get("scores", {}) for held in (record["protocol"], job.protocol))
        if changed := [name for name in now if now[name] != then[name]]:
            return f"{job.model}: the code of {', '.join(changed)} changed {since}"
    return None


def _alike(job: Job, out: Path) -> Iterator[tuple[Path, records.Record]]:
    """Records of the same request with other code, data or weights, the newest first."""
    data = job.dataset[:-8] if job.source else f"{slug(job.dataset)}-"
    name = f"{slug(job.model)}-{data}*/seed-{job.seed}/run.json"
    paths = [path for path in (out / "runs").glob(name) if path.is_file()]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:MOST_READ]:
        with suppress(records.RecordError, OSError):
            record = records.read_record(path.parent)
            if record is not None and "code" in record and record["status"] != "failed":
                data = record["environment"].get("source") or record["dataset"]
                if _asked(record, data) == _asked(vars(job), job.data):
                    yield path.parent, record


def _asked(run: Mapping[str, Any], data: str) -> str:
    """The request, without code, data and weights, which may have changed."""
    protocol = {key: run["protocol"].get(key) for key in ASKED} | {
        "extractors": sorted(run["protocol"]["extractors"]),
        "scores": sorted(run["protocol"].get("scores", ())),
    }
    numbers = [run[key] for key in ("model", "hyperparameters", "steps", "eval_every")]
    return digest([data, protocol, numbers])


def _date(record: records.Record, folder: Path) -> str:
    """``24 Nov 10:31``, with the year if it is another one than now."""
    recorded = record["environment"].get("time")
    if recorded is None:
        stamp = (folder / "run.json").stat().st_mtime
    else:
        stamp = datetime.fromisoformat(recorded).timestamp()
    then, now = time.localtime(stamp), time.localtime()
    return time.strftime("%d %b %H:%M" if then.tm_year == now.tm_year else "%d %b %Y %H:%M", then)
