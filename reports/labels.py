"""The name of each configuration: its model, and what sets it apart from the others of that model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench.store.rows import flat
from reports import elsewhere, versions
from reports.words import shown

PREFIX = "hyperparameters."
ABSENT = object()
"""In place of a hyperparameter that a configuration does not have; it may have null."""


def labels(runs: pd.DataFrame) -> dict[str, str]:
    """A name for each configuration (id) of these runs.

    It is the label that ``bench.run --label`` gave it, or else the model. The model is followed by the
    hyperparameters that differ between a group's configurations of it, the number of steps where that differs
    within the group, and the version of the code where there are several; a label only where a group has it
    twice. Samples that were made elsewhere have a mark behind their name.
    """
    settings = [name for name in map(str, runs.columns) if name.startswith(PREFIX)]
    found: dict[str, str] = {}
    for _, group in runs.groupby(["task", "protocol"]):
        lengths = elsewhere.trained(group)["steps"].nunique() > 1
        models: dict[str, str] = {}
        apart: dict[str, str] = {}
        for model, part in group.groupby("model"):
            one_each = part.drop_duplicates("id")
            ids = [str(run_id) for run_id in one_each["id"]]
            code = {run_id: version.name for version in versions.versions(part) for run_id in version.ids}
            texts = [
                ", ".join(filter(None, [*parts, code[run_id]]))
                for run_id, parts in zip(ids, _parts(one_each, settings, lengths), strict=True)
            ]
            often = Counter(texts)
            for run_id, text in zip(ids, texts, strict=True):
                models[run_id] = str(model)
                apart[run_id] = text if often[text] == 1 else ", ".join(filter(None, [text, run_id]))
        found |= _named(models, apart, _given(group))
        for run_id in dict.fromkeys(group.loc[elsewhere.is_elsewhere(group), "id"]):
            found[run_id] += f" {elsewhere.MARK}"
    return found


def _given(group: pd.DataFrame) -> dict[str, str]:
    """Configuration -> the label that it was given, where there is one."""
    if "label" not in group:
        return {}
    pairs = zip(group["id"], group["label"], strict=True)
    return {str(run_id): label for run_id, label in pairs if isinstance(label, str)}


def _named(models: Mapping[str, str], apart: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Configuration -> its name, from its model, what sets it apart and its label; each name once."""
    found = {
        run_id: f"{models[run_id]} ({text})" if text else models[run_id] for run_id, text in apart.items()
    }
    found |= given
    often = Counter(found.values())
    for run_id, label in given.items():
        if often[label] > 1:
            found[run_id] = f"{label} ({apart[run_id] or models[run_id]})"
    return found


def _parts(configurations: pd.DataFrame, settings: list[str], lengths: bool) -> list[list[str]]:
    """For each configuration ``lr=0.001`` and so on, of what differs between them."""
    rows = [flat(record.get("hyperparameters") or {}, PREFIX) for record in configurations["record"]]
    texts = {name: _brief([row.get(name, ABSENT) for row in rows]) for name in settings}
    # A hyperparameter that earlier code did not have sets nothing apart by its absence: the code's name does.
    differing = {name: column for name, column in texts.items() if len(set(column) - {""}) > 1}
    lengths = lengths and not elsewhere.is_elsewhere(configurations).any()
    steps = {"steps": _brief(configurations["steps"].tolist())} if lengths else {}
    return [
        [
            f"{name.removeprefix(PREFIX)}={column[k]}"
            for name, column in {**steps, **differing}.items()
            if column[k]
        ]
        for k in range(len(rows))
    ]


def _brief(values: Iterable[Any]) -> list[str]:
    """Values as text, numbers with four digits where those tell them apart; nothing for what is absent."""
    values = list(values)
    exact = ["" if value is ABSENT else shown(value) for value in values]
    brief = [
        f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else text
        for value, text in zip(values, exact, strict=True)
    ]
    return brief if len(set(brief)) == len(set(exact)) else exact
