"""The environments in which the runs of a table were computed: they may shift numbers by rounding.

Seeds of several environments share a row, since the distribution over seeds is the same; the table says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import words
from reports.groups import Group

MOST_ROWS = 6
"""Rows that a sentence names for one environment."""


class MixedEnvironmentError(Exception):
    """A table's runs were computed in several environments. The message is one line that says which."""


def _device(value: object) -> str:
    """``cuda:1 (NVIDIA H100)`` -> ``NVIDIA H100``: which of several equal devices does not matter."""
    match = re.fullmatch(r"\w+:\d+ \((.+)\)", str(value))
    return match[1] if match else "CPU" if value == "cpu" else str(value)


FIELDS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "environment.torch": ("torch", lambda value: f"torch {value}"),
    "environment.torch_fidelity": ("torch-fidelity", lambda value: f"torch-fidelity {value}"),
    "environment.numpy": ("numpy", lambda value: f"numpy {value}"),
    "environment.device": ("device", _device),
    "environment.cpu_capability": ("CPU instruction set", lambda value: f"instruction set {value}"),
    "environment.aten_cpu_capability": ("ATEN_CPU_CAPABILITY", lambda value: f"ATEN_CPU_CAPABILITY {value}"),
    "environment.onednn_max_cpu_isa": ("ONEDNN_MAX_CPU_ISA", lambda value: f"ONEDNN_MAX_CPU_ISA {value}"),
    "environment.matmul": ("matmul precision", lambda value: f"matmul precision {value}"),
    "environment.threads": ("threads", lambda value: f"{value} thread{'s' * (value != 1)}"),
    "cost.stack": ("stack size", lambda value: f"stacks of {value:g} seed{'s' * (value != 1)}"),
    "environment.commit": ("commit", lambda value: f"commit {str(value)[:19]}"),
}
"""Column -> its name, and its value in words."""

OVERRIDES = ("environment.aten_cpu_capability", "environment.onednn_max_cpu_isa")
"""Environment variables that may be unset. A record with an instruction set says whether they were."""


@dataclass(frozen=True)
class Difference:
    """A field that is not the same for all runs of a group."""

    name: str
    found: Mapping[str, Mapping[str, tuple[list[int], bool]]]
    """Value -> label of a row -> its seeds with this value, and whether these are all seeds of the row."""
    rows: int
    """Of the whole table."""

    @property
    def values(self) -> str:
        """Each value, and which rows and seeds have it."""
        alone = self.rows == 1
        return ", ".join(f"{value} ({_who(rows, alone)})" for value, rows in self.found.items())

    @property
    def sentence(self) -> str:
        """For the notes of a table."""
        labels = dict.fromkeys(label for rows in self.found.values() for label in rows)
        who = f"Seeds of {next(iter(labels))}" if self.rows == 1 else "Runs of this table"
        return f"{who} were computed in {len(self.found)} environments: {self.values}."


def _who(rows: Mapping[str, tuple[list[int], bool]], alone: bool) -> str:
    parts = []
    for label, (seeds, all_of_it) in list(rows.items())[:MOST_ROWS]:
        which = words.seeds(seeds)
        parts.append(which if alone else label if all_of_it else f"{label} {which}")
    left = len(rows) - len(parts)
    return "; ".join([*parts, *([f"{left} more rows"] if left else [])])


def differences(group: Group) -> list[Difference]:
    """The fields in which the group's runs differ. A field that a record lacks is no difference."""
    labels = dict(zip(group.summary["id"], group.summary["label"], strict=True))
    n_seeds = group.runs.groupby("id").size()
    found = []
    for column, (name, say) in FIELDS.items():
        said = _said(group.runs, column, say)
        if said.nunique() < 2:
            continue
        values: dict[str, dict[str, tuple[list[int], bool]]] = {}
        runs = pd.DataFrame({"id": group.runs["id"], "seed": group.runs["seed"], "said": said}).dropna()
        for value, part in runs.groupby("said"):
            seeds = {str(run_id): sorted(each["seed"]) for run_id, each in part.groupby("id")}
            values[str(value)] = {
                labels[run_id]: (seeds[run_id], len(seeds[run_id]) == n_seeds[run_id])
                for run_id in labels
                if run_id in seeds
            }
        found.append(Difference(name, values, len(labels)))
    return found


def _said(runs: pd.DataFrame, column: str, say: Callable[[Any], str]) -> pd.Series:
    """A field of each run in words; None where the record does not have it."""
    if column not in runs and column not in OVERRIDES:
        return pd.Series(None, index=runs.index, dtype=object)
    if column == "environment.commit" and "code.model" in runs and runs["code.model"].notna().all():
        return pd.Series(None, index=runs.index, dtype=object)  # the code itself is on record
    values = runs[column] if column in runs else pd.Series(None, index=runs.index, dtype=object)
    unset = column in OVERRIDES and "environment.cpu_capability" in runs
    knows = runs["environment.cpu_capability"].notna() if unset else pd.Series(False, index=runs.index)
    said = [
        (f"{FIELDS[column][0]} not set" if known else None) if missing else say(value)
        for value, missing, known in zip(values, values.isna(), knows, strict=True)
    ]
    return pd.Series(said, index=runs.index, dtype=object)


def caption(found: Iterable[Difference]) -> str:
    """What a table's caption says of the differences; nothing where there are none."""
    names = words.listed([difference.name for difference in found])
    return f" Not all runs were computed in one environment: they differ in {names}." if names else ""


def of_rows(group: Group) -> list[str]:
    """For each row of the group's summary: its values of the fields that differ, each with its seeds."""
    found = differences(group)
    rows = []
    for label in group.summary["label"]:
        parts = []
        for difference in found:
            for value, having in difference.found.items():
                if label in having:
                    seeds, all_of_it = having[label]
                    parts.append(value if all_of_it else f"{value} ({words.seeds(seeds)})")
        rows.append(", ".join(parts))
    return rows


def refuse_mixed(groups: Iterable[Group]) -> None:
    """For ``--strict-environment``.

    Raises:
        MixedEnvironmentError: some group's runs were computed in several environments.
    """
    mixed = [
        f"{group.title}: {'; '.join(each.values for each in found)}"
        for group in groups
        if (found := differences(group))
    ]
    if mixed:
        raise MixedEnvironmentError(f"--strict-environment: several environments: {' | '.join(mixed)}")
