"""The report folder: which files a report wrote there, so that the next one renews or removes all of them.

``files.json`` lists them. Files that are not on the list belong to somebody else and stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.store import files

LIST = "files.json"

FILES: Mapping[str, tuple[str, ...]] = {
    "markdown": ("table.md",),
    "latex": ("table.tex",),
    "csv": ("table.csv", "comparisons.csv", "runs.csv", "across.csv", "target.csv"),
    "html": ("report.html",),
}
"""Format -> the files that it is written to."""

QUICK = ("scores", "samples", "curves")
"""The figures of a quick report: names begin so for every group and extractor."""

LATEX_HEAD = "% In the preamble: \\usepackage[T1]{fontenc} \\usepackage{textcomp,booktabs,graphicx}\n"

HEADS: Mapping[str, bytes] = {
    "table.md": b"## Scores: ",
    "table.tex": LATEX_HEAD.encode(),
    "report.html": b"<title>GAN benchmark report</title>",
}
"""How the files of a report are recognised that was written before there was a list."""


def held(out: Path) -> dict[str, str]:
    """Name -> SHA-256 (at the time of writing) of each file of an earlier report that is still there."""
    path = out / LIST
    if not is_file(path):
        return {name: files.file_digest(out / name) for name in HEADS if _is_ours(out / name)}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # no list of ours: nothing is known to be
    return {name: sha for name, sha in listed if Path(name).name == name and is_file(out / name)}


def is_file(path: Path) -> bool:
    """Whether it is a regular file: a link leads elsewhere, and who reads a pipe waits."""
    return path.is_file() and not path.is_symlink()


def _is_ours(path: Path) -> bool:
    if not is_file(path):
        return False
    with path.open("rb") as file:
        return HEADS[path.name] in file.read(2000)


def formats(names: Iterable[str]) -> list[str]:
    """The formats that these files are of."""
    names = set(names)
    return [kind for kind, files in FILES.items() if names & set(files)]


def is_full(names: Iterable[str]) -> bool:
    """Whether these files hold a figure that only a full report draws."""
    return any(name.endswith((".png", ".pdf")) and not name.startswith(QUICK) for name in names)


def close(out: Path, before: Mapping[str, str], written: Iterable[Path]) -> list[Path]:
    """List what was written, and remove the files of an earlier report that this one did not renew.

    A file that was changed since it was written stays. Returns the removed ones.
    """
    now = {path.name: files.file_digest(path) for path in written}
    stale = [out / name for name in before if name not in now]
    removed = [path for path in stale if is_file(path) and files.file_digest(path) == before[path.name]]
    for path in removed:
        with files.writing(path):
            path.unlink(missing_ok=True)
    about = "What the report wrote here. The next one renews or removes it, and touches nothing else."
    files.write_json(out / LIST, {"about": about, "files": dict(sorted(now.items()))}, durable=False)
    return removed
