"""What a published report leaves out: names of machines, and the paths of folders on them."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import printable
from bench.store.jobs import slug
from bench.store.records import Record
from reports.runs import frame

PATH = re.compile(r"(?:file:/*|(?<![\w./~-]))/(?!/)[^\s'\"<>|:;,()\[\]{}]+")
"""An absolute path within a text, but nothing of ``https://host/page`` and ``and/or``."""

HIDDEN_HOST = "(a machine)"


@dataclass(frozen=True)
class Hider:
    """Shortens texts. Without ``roots`` it leaves them as they are."""

    roots: Mapping[str, str] | None = None
    """A results folder as a text may spell it -> its name in the report; longer spellings first."""
    hosts: Sequence[str] = ()
    slugs: Mapping[str, str] = field(default_factory=dict)
    """A data set's path as names of run folders spell it -> its replacement."""

    def paths(self, text: str) -> str:
        """The text with each absolute path cut to its last part, or to its part from a root's name on."""
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
    """The hider for these results folders and for the machines that computed the runs."""
    hosts = {platform.node()}
    if "environment.host" in runs:
        hosts |= {host for host in runs["environment.host"] if isinstance(host, str)}
    hosts |= {host.partition(".")[0] for host in hosts}
    slugs = {slug(name): slug(_dataset(name, sha)) for name, sha in sorted(_datasets(runs))}
    return Hider(_root_names(roots), sorted(hosts - {"", "localhost"}, key=len, reverse=True), slugs)


def _root_names(roots: Sequence[Path]) -> dict[str, str]:
    """Each spelling of a root -> the name that it gets; longer spellings first."""
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
    """The runs as they may be published. Only ``folder``, which no report shows, still has absolute paths."""
    names = {name: _dataset(name, sha) for name, sha in _datasets(runs)}
    hide = _Cached(hide.roots, hide.hosts, hide.slugs)
    records = [_hidden(record, hide, names) for record in runs["record"]]
    return frame(records, list(runs["folder"]), list(runs["protocol"]))


@dataclass(frozen=True)
class _Cached(Hider):
    """Shortens each text once: most texts are the same in all records."""

    done: dict[str, str] = field(default_factory=dict)

    def paths(self, text: str) -> str:
        if text not in self.done:
            self.done[text] = super().paths(text)
        return self.done[text]


KEPT = ("id", "status", "model")
"""Keys of a record whose texts are not shortened."""


def _hidden(record: Record, hide: Hider, datasets: Mapping[str, str]) -> Record:
    found: Record = {key: value if key in KEPT else _each(hide, value) for key, value in _named(record)}
    if "reason" in found:
        found["reason"] = _each(hide, record["reason"], prose=True)
    found["dataset"] = hide.paths(datasets.get(record["dataset"], record["dataset"]))
    match record.get("protocol"):
        case {"dataset": {"name": str(name)}}:
            found["protocol"]["dataset"]["name"] = hide.paths(datasets.get(name, name))
    if code := record.get("code"):
        found["code"] = {key: _files(hide, value) for key, value in _named(code)}
    if environment := found.get("environment"):
        found["environment"] = {k: v for k, v in environment.items() if k not in ("host", "source")}
    return found


def _each(hide: Hider, value: Any, *, prose: bool = False) -> Any:
    """The same in lists and objects."""
    if isinstance(value, str):
        return hide.prose(value) if prose else hide.paths(value)
    if isinstance(value, list):
        return [_each(hide, item, prose=prose) for item in value]
    if isinstance(value, dict):
        return {key: _each(hide, item, prose=prose) for key, item in _named(value)}
    return value


def _named(entries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries whose key is a name. Nothing of this harness writes a path as a key."""
    return ((key, value) for key, value in entries.items() if not _is_path(key))


@lru_cache(maxsize=4096)
def _is_path(key: str) -> bool:
    return PATH.search(key) is not None


def _files(hide: Hider, value: Any) -> Any:
    """Files with their digests: here a key may be a path."""
    return {hide.paths(file): sha for file, sha in value.items()} if isinstance(value, dict) else value


def _datasets(runs: pd.DataFrame) -> set[tuple[str, str]]:
    """Name and hash of each data set whose name is a folder's path."""
    columns = runs.reindex(columns=["dataset", "protocol.dataset.sha256"]).itertuples(index=False)
    return {(name, str(sha)) for name, sha in columns if name.startswith("folder:")}


def _dataset(name: str, sha: str) -> str:
    """``folder:/data/faces`` -> ``folder-faces-1a2b3c4d``, with eight digits of its content's hash."""
    return f"folder-{Path(name.removeprefix('folder:')).name}-{sha[:8]}"
