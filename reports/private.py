"""What a report that is passed on does not tell: names of machines, and where on them the runs lay."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import printable
from bench.store.records import slug

PATH = re.compile(r"(?:file:/*|(?<![\w./~-]))/(?!/)[^\s'\"<>|:;,()\[\]{}]+")
"""An absolute path within a text; of ``https://host/page`` and ``and/or`` nothing."""

HIDDEN_HOST = "(a machine)"


@dataclass(frozen=True)
class Hider:
    """Shortens texts; without names of roots it leaves them as they are."""

    roots: Mapping[str, str] | None = None
    """A results folder as it may stand in a text -> its name in the report; longer ones first."""
    hosts: Sequence[str] = ()
    slugs: Mapping[str, str] = field(default_factory=dict)
    """A data set's path as it stands in names of run folders -> what takes its place."""

    def paths(self, text: str) -> str:
        """The text without absolute paths: of each its last part, or its part from a root's name on."""
        if self.roots is None:
            return text
        for spelling, name in self.roots.items():
            text = re.sub(rf"(?<![\w./-]){re.escape(spelling)}(?![\w.-])", name.replace("\\", r"\\"), text)
        for old, new in self.slugs.items():
            text = re.sub(rf"{re.escape(old)}(?=-[0-9a-f]{{12}}\b)", new, text)
        return PATH.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], text)

    def prose(self, text: str) -> str:
        """The text without absolute paths and without names of machines."""
        text = self.paths(text)
        for host in self.hosts:
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", HIDDEN_HOST, text)
        return text


SHOW_ALL = Hider()


def hider(runs: pd.DataFrame, roots: Sequence[Path]) -> Hider:
    """What hides these results folders, and the machines that computed the runs."""
    hosts = {platform.node()}
    if "environment.host" in runs:
        hosts |= {host for host in runs["environment.host"] if isinstance(host, str)}
    hosts |= {host.partition(".")[0] for host in hosts}
    slugs = {slug(name): slug(_dataset(name, sha)) for name, sha in sorted(_datasets(runs))}
    return Hider(_root_names(roots), sorted(hosts - {"", "localhost"}, key=len, reverse=True), slugs)


def _root_names(roots: Sequence[Path]) -> dict[str, str]:
    """Each root as it may stand in a text -> the name that it gets; longer ones first."""
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for root in roots:
        whole = str(root.absolute())
        name = printable(root.absolute().name.replace("..", "") or root.resolve().name or "results")
        n = 1
        while taken.setdefault(name if n == 1 else f"{name}-{n}", whole) != whole:
            n += 1
        name = name if n == 1 else f"{name}-{n}"
        for spelling in {str(root), whole, str(root.resolve())}:
            if spelling not in {".", "/"}:
                names[printable(spelling)] = name
    return dict(sorted(names.items(), key=lambda pair: -len(pair[0])))


def without_machine(runs: pd.DataFrame, hide: Hider) -> pd.DataFrame:
    """The runs as they may be published, with no absolute path but in ``folder``, which is not shown."""
    kept = {"id", "status", "model", "folder", "protocol", "dataset", "protocol.dataset.name"}
    names = {name: _dataset(name, sha) for name, sha in _datasets(runs)}
    changed: dict[str, Any] = {}
    for column in map(str, runs.columns):
        if column not in kept and not pd.api.types.is_numeric_dtype(runs[column]):
            shorten = hide.prose if column == "reason" else hide.paths
            changed[column] = [_each(shorten, value) for value in runs[column]]
    for column in {"dataset", "protocol.dataset.name"} & set(runs):
        changed[column] = [hide.paths(names.get(name, name)) for name in map(str, runs[column])]
    found = runs.assign(**changed).drop(columns=["environment.host", "environment.source"], errors="ignore")
    found = found.rename(columns=lambda name: hide.paths(str(name)))
    return found.loc[:, ~found.columns.duplicated()]


def _each(shorten: Callable[[str], str], value: Any) -> Any:
    """The same in lists and objects."""
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, list):
        return [_each(shorten, item) for item in value]
    if isinstance(value, dict):
        return {shorten(str(key)): _each(shorten, item) for key, item in value.items()}
    return value


def _datasets(runs: pd.DataFrame) -> set[tuple[str, str]]:
    """Name and hash of each data set that is named by a folder's path."""
    columns = runs.reindex(columns=["dataset", "protocol.dataset.sha256"]).itertuples(index=False)
    return {(name, str(sha)) for name, sha in columns if name.startswith("folder:")}


def _dataset(name: str, sha: str) -> str:
    """``folder:/data/faces`` -> ``folder-faces-1a2b3c4d``, with eight digits of its content's hash."""
    return f"folder-{Path(name.removeprefix('folder:')).name}-{sha[:8]}"
