"""Versions of a model's code: which runs each version made, and in which files they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from bench.store.jobs import digest
from bench.store.rows import HOW
from reports.words import listed

PARTS = ("code.model", "code.training")
"""Columns of the model's and the trainer's files: together they are a version of a model's code."""

SCORING = "code.scoring"
"""The column of the files behind the scores. They are a part of the protocol."""

MOST_FILES = 8
"""Files that a note names."""


@dataclass(frozen=True)
class Version:
    """One version of a model's code among those in a group."""

    name: str
    """``code 3f2a``; "" for the newest, and where there is only one."""
    files: Mapping[str, str]
    ids: frozenset[str]
    """The configurations that it made."""


def versions(runs: pd.DataFrame) -> list[Version]:
    """The versions among the runs of one model in one group, the newest first where it is known."""
    if not any(part in runs for part in PARTS):
        return [Version("", {}, frozenset(runs["id"]))]
    files: dict[str, dict[str, str]] = {}
    ids: dict[str, set[str]] = {}
    times: dict[str, list[datetime | None]] = {}
    for run in runs.reindex(columns=["id", *PARTS, "environment.time"]).to_dict("records"):
        both = {part: run[part] if isinstance(run[part], dict) else {} for part in PARTS}
        key = digest(both) if any(both.values()) else ""
        files[key] = {file: sha for part in both.values() for file, sha in part.items()}
        ids.setdefault(key, set()).add(str(run["id"]))
        times.setdefault(key, []).append(_time(run["environment.time"]))
    if len(files) == 1:
        return [Version("", mapping, frozenset(runs["id"])) for mapping in files.values()]
    newest = _newest(times)
    length = next(n for n in (4, 6, 8, 12) if len({key[:n] for key in files}) == len(files))
    found = [
        Version("" if key == newest else f"code {key[:length] or 'unknown'}", files[key], frozenset(ids[key]))
        for key in sorted(files)
    ]
    return sorted(found, key=lambda version: version.name != "")


def _time(text: Any) -> datetime | None:
    """A record's time; None where it says none."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _newest(times: Mapping[str, Iterable[datetime | None]]) -> str | None:
    """The version with the latest run; None where some version has no time, or two have the same."""
    latest = {key: max((each for each in some if each), default=None) for key, some in times.items()}
    known = sorted((time, key) for key, time in latest.items() if time is not None)
    if len(known) < len(latest) or known[-1][0] == known[-2][0]:
        return None
    return known[-1][1]


def files_that_differ(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    """The files whose digests differ in two fingerprints, or that only one of them has."""
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    if not names:
        return "nothing that is on record"
    more = [f"{len(names) - MOST_FILES} more files"] if len(names) > MOST_FILES else []
    return listed([*names[:MOST_FILES], *more])


def notes(runs: pd.DataFrame) -> list[str]:
    """Notes below a table: how versions of a model differ, and whose source could not be read."""
    found = []
    for model, mine in runs.groupby("model"):
        first, *others = versions(mine)
        for other in others:
            a, b = (f"{model} ({each.name})" if each.name else str(model) for each in (other, first))
            if other.files and first.files:
                found.append(f"{a} and {b} differ in {files_that_differ(other.files, first.files)}.")
            else:
                found.append(f"{a} and {b}: the code of one is not on record.")
    if HOW in runs:
        for how, mine in runs[runs[HOW].notna() & (runs[HOW] != "source")].groupby(HOW):
            models = ", ".join(sorted(set(mine["model"])))
            found.append(f"{models}: no source could be read; the code is identified by its {how}.")
    return found
