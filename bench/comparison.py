"""Compare a run on record with the same run, computed again: what differs, and whether rounding explains
it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.store.records import Record

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-3
"""The largest relative difference that counts as rounding. It applies to numbers that training has not
amplified: the first window of the history, and scores of the same weights."""

ENVIRONMENT = ("torch", "numpy", "torch_fidelity", "cpu", "cpu_capability", "matmul", "threads", "device")
"""The fields of a record's environment that rounding depends on."""

SCORED = ("metrics", "draws", "floor", "floor_std", "halves", "halves_std")
"""The fields of a record that hold scores of its final weights, and of real images."""

COMPARED = ("status", "reason", "parameters", *SCORED, "trained", "ema", "best", "d_accuracy", "evals")
"""The fields of a record that hold the run's outcome."""

Finding = Literal["identical", "rounding", "different", "cannot"]


@dataclass(frozen=True)
class Verdict:
    """The result for one run, and the reason."""

    finding: Finding
    why: str = ""

    def __str__(self) -> str:
        words = {
            "identical": "identical to the bit",
            "rounding": "same within rounding",
            "different": "different",
            "cannot": "cannot be recomputed here",
        }[self.finding]
        return f"{words}: {self.why}" if self.why else words


def compare(folder: Path, record: Record, here: Path, again: Record, *, weights: bool = True) -> Verdict:
    """Compare a run on record, in ``folder``, with the same run, computed again in the folder ``here``.

    Without ``weights`` only history and scores: an archive may hold no more.
    """
    if again["status"] == "failed":
        return Verdict("cannot", str(again["reason"]))
    first = (
        _history_difference(folder, here)
        or (_weights_difference(folder, here) if weights else None)
        or _score_difference(record, again)
    )
    if first is None:
        return Verdict("identical", "" if weights else "history and scores; there are no weights to compare")
    environments = _environment_differences(record, again)
    if not environments or not _starts_alike(folder, here):
        return Verdict("different", first)
    return Verdict("rounding", f"{'; '.join(environments)}; {first}; {_first_scores(record, again)}")


def compare_scores(record: Record, again: Mapping[str, Any], whose: str = "the stored weights") -> Verdict:
    """Compare the scores of a record with those of its stored weights, or of what else has them.

    ``again`` holds ``d_accuracy`` (held out), and of :data:`SCORED` what the record has.
    """
    a = {name: record[name] for name in SCORED if record.get(name)}
    a["d_accuracy"] = record["d_accuracy"].get("heldout")
    again = {name: found for name, found in again.items() if found or name not in SCORED}
    apart = list(differences(a, again))
    if not apart:
        return Verdict("identical", f"scores of {whose}")
    far = [name for name in apart if not _is_close(_at(a, name), _at(again, name))]
    name = (far or apart)[0]
    what = f"{name} is {_at(a, name)} on record, {_at(again, name)} from {whose}"
    return Verdict("different" if far else "rounding", what)


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of the fields in which two nested objects differ."""
    for key in [*a, *(key for key in b if key not in a)]:
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            yield from differences(x, y, f"{prefix}{key}.")
        elif x != y:
            yield f"{prefix}{key}"


def _history_difference(folder: Path, here: Path) -> str | None:
    """The first step at which two histories differ."""
    a, b = ((run / "history.csv").read_bytes() for run in (folder, here))
    if a == b:
        return None
    (head, *rows), (other_head, *others) = (text.decode().splitlines() for text in (a, b))
    if head != other_head:
        return f"history.csv has the columns {head} on record, {other_head} recomputed"
    for row, other in zip_longest(rows, others, fillvalue=""):
        if row != other:
            cells = zip(head.split(","), row.split(","), other.split(","), strict=False)
            step = (row or other).partition(",")[0]
            name, x, y = next((cell for cell in cells if cell[1] != cell[2]), ("rows", "none", "none"))
            return f"history differs from step {step}: {name} is {x} on record, {y} recomputed"
    return "history.csv differs in its line ends"


def _starts_alike(folder: Path, here: Path) -> bool:
    """Whether the first windows of two histories are equal up to rounding."""
    import numpy as np
    import pandas as pd

    a, b = (pd.read_csv(run / "history.csv", nrows=1) for run in (folder, here))
    if list(a.columns) != list(b.columns) or len(a) != len(b):
        return False
    return np.allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


def _weights_difference(folder: Path, here: Path) -> str | None:
    """The first tensor in which two runs' final weights differ."""
    import torch

    a, b = _weights(folder), _weights(here)
    if a is None:
        return "checkpoint.pt, its final weights, is missing or unreadable"
    assert b is not None
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in a or name not in b or not torch.equal(a[name], b[name]):
            return f"the final weights differ in {name}"
    return None


def _weights(folder: Path) -> dict[str, Tensor] | None:
    """The final weights of a run, and their averages, by their full names."""
    state = _stored(folder)
    if state is None:
        return None
    return {
        f"{prefix}{net}.{name}": tensor
        for prefix, nets in (("", state["weights"]), ("average of ", state["average"]))
        for net, held in nets.items()
        for name, tensor in held.items()
    }


def stored_nets(folder: Path, *, averaged: bool = False) -> dict[str, dict[str, Tensor]] | None:
    """The final weights of a run, network by network; ``None`` where they are missing or unreadable.

    With ``averaged``, the averages stand in place of the parameters that have one.
    """
    state = _stored(folder)
    if state is None:
        return None
    means = state["average"] if averaged else {}
    return {net: held | means.get(net, {}) for net, held in state["weights"].items()}


def _stored(folder: Path) -> dict[str, dict[str, dict[str, Tensor]]] | None:
    """``weights``, and ``average``, which is empty in the files of earlier versions."""
    import torch

    from bench.execution.checkpoints import load_checkpoint

    try:
        state = load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))
        return {"weights": state["weights"], "average": state.get("average", {})}
    except Exception:  # a damaged file can make its reader raise anything
        return None


def _outcome(record: Record) -> dict[str, Any]:
    """The outcome of a run as its record has it, without times."""
    held = {name: record.get(name) for name in COMPARED}
    times = ("train_s", "compute_s")
    timeless = [{key: value for key, value in entry.items() if key not in times} for entry in record["evals"]]
    return held | {"evals": {str(entry["step"]): entry for entry in timeless}}


def _score_difference(record: Record, again: Record) -> str | None:
    """The first field in which the outcomes of two records differ."""
    a, b = _outcome(record), _outcome(again)
    name = next(differences(a, b), None)
    return None if name is None else f"{name} is {_at(a, name)} on record, {_at(b, name)} recomputed"


def _at(held: Any, name: str) -> str:
    """The value of a dotted name in a nested object, as text."""
    for key in name.split("."):
        held = held.get(key) if isinstance(held, Mapping) else None
    return f"{held:.6g}" if isinstance(held, float) else str(held)


def _environment_differences(record: Record, again: Record) -> list[str]:
    """The fields of two environments that differ and that can change rounding."""
    fields = {name: (record["environment"].get(name), again["environment"].get(name)) for name in ENVIRONMENT}
    fields["stack"] = (record["cost"].get("stack"), again["cost"].get("stack"))
    return [f"{name} {a} there, {b} here" for name, (a, b) in fields.items() if a != b and a is not None]


def _first_scores(record: Record, again: Record) -> str:
    """The first score of each extractor, on record and recomputed."""
    found = []
    for extractor, scores in record["metrics"].items():
        for name, there in list(scores.items())[:1]:
            here = again["metrics"].get(extractor, {}).get(name, math.nan)
            found.append(f"{name} ({extractor}) {there:.4g} there, {here:.4g} here")
    return "; ".join(found) or "no scores"


def _is_close(x: str, y: str) -> bool:
    """Whether two numbers, as text, differ by rounding alone."""
    try:
        return math.isclose(float(x), float(y), rel_tol=ROUNDING, abs_tol=ROUNDING)
    except ValueError:
        return False
