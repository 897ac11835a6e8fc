"""Made-up searches: a study whose trials need no training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from bench.plan import RunContext
from bench.search import study
from bench.search.space import Options, Range, Space
from bench.search.storage import open_storage
from bench.search.study import Claim, Result, SharedStudy
from bench.store.leases import Leases

SPACE: Space = {
    "lr": Range(1e-5, 1e-2, log=True, whole=False),
    "size": Range(1, 64, log=True, whole=True),
    "norm": Options(("batch", "none")),
}


def shared_study(folder: Path, **changes: Any) -> SharedStudy:
    """A study in the folder's journal, or in the database of ``url``, with its trials in the queue."""
    url, enqueue = changes.pop("url", None), changes.pop("enqueue", True)
    storage = open_storage(url, folder)
    study.begin(storage, "s", ["minimize"] * changes.pop("objectives", 1), {"space": "the same"})
    given: dict[str, Any] = {
        "space": SPACE,
        "sampler": "random",
        "sampler_seed": 0,
        "pruner": optuna.pruners.NopPruner(),
        "pruner_name": "none",
        "total": 5,
        "retries": 1,
    }
    shared = SharedStudy(url=url, folder=folder, name="s", connection=storage, **(given | changes))
    if enqueue:
        shared.enqueue()
    return shared


def score(params: Mapping[str, Any]) -> float:
    """Best at lr = 1e-3, size 8, norm batch."""
    lr, size = float(params["lr"]), int(params["size"])
    return abs(math.log10(lr) + 3) + abs(math.log2(size) - 3) / 3 + float(params["norm"] == "none")


def take(shared: SharedStudy, leases: Leases) -> Claim:
    """The next trial, which there must be."""
    claim = shared.take(leases)
    assert claim is not None
    return claim


def end(shared: SharedStudy, leases: Leases, claim: Claim, result: Result) -> bool:
    """End an attempt, and give back the lease on its slot."""
    ended = shared.end(claim.number, result)
    leases.release(shared.slot_folder(claim.slot))
    return ended


def run_all(shared: SharedStudy) -> dict[int, float]:
    """Run what is left; slot -> score."""
    with Leases() as leases:
        while (claim := shared.take(leases)) is not None:
            end(shared, leases, claim, Result("complete", (score(claim.params),)))
    return {number: (slot.last.values or [])[0] for number, slot in shared.slots().items()}


def search(folder: Path, name: str, n_processes: int, total: int) -> None:
    """In a process of its own: search together with others that begin at the same moment."""
    folder.mkdir(exist_ok=True)
    (folder / f"ready-{name}").touch()
    while len(list(folder.glob("ready-*"))) < n_processes:
        time.sleep(0.001)
    shared, n = shared_study(folder, total=total), 0
    with Leases() as leases:
        while not shared.finished:
            if (claim := shared.take(leases)) is not None:
                end(shared, leases, claim, Result("complete", (score(claim.params),)))
                n += 1
    (folder / f"ran-{name}").write_text(str(n))


@dataclass
class Broken:
    """A source from which no work can be taken."""

    error: Exception
    name: str = "broken"
    command: str = "broken"
    stale_s: float | None = None

    def take(self, leases: Leases, context: RunContext) -> None:
        """Raise the error."""
        raise self.error

    def finished(self) -> bool:
        """Never."""
        return False
