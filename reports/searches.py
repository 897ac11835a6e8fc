"""The searches that ``bench.tune`` left in a results folder: how good they are with how many trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd

from bench.errors import printable
from bench.store.files import UnreadableError, read_bytes, read_json
from bench.store.jobs import digest

CURVE = ["trials", "expected", "low", "high"]


@dataclass(frozen=True)
class Search:
    """One study: what is needed to compare it with others."""

    label: str
    """Model and sampler."""
    model: str
    dataset: str
    objective: str
    alike: str
    """Hash of what must be equal for two searches to share a figure: steps, seeds, protocol, objectives."""
    curve: pd.DataFrame
    """``trials``, the ``expected`` best validation score of so many, and its band, ``low`` to ``high``."""


def load(roots: Iterable[Path]) -> tuple[list[Search], list[str]]:
    """The searches below ``<root>/studies``, and a line with its path for each that cannot be read."""
    found, skipped = [], []
    for root in roots:
        for path in sorted((root / "studies").glob("*/summary.json")):
            try:
                found.append(_read(path.parent))
            except UnreadableError as error:
                skipped.append(str(error))
            except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
                why = type(error).__name__
                skipped.append(printable(f"{path}: not a search of this harness ({why})"))
    return found, skipped


def _read(folder: Path) -> Search:
    request = read_json(folder / "summary.json")["request"]
    dataset = request["protocol"]["dataset"]["name"]
    shared = {name: request[name] for name in ("steps", "seeds", "objectives", "protocol")}
    return Search(
        label=printable(f"{request['model']} ({request['sampler']})"),
        model=printable(request["model"]),
        dataset=printable(dataset),
        objective=printable(request["objectives"][0]),
        alike=digest(shared),
        curve=pd.read_csv(BytesIO(read_bytes(folder / "expected.csv")))[CURVE].astype(float),
    )
