"""Groups: runs that may stand in one table.

A *group* holds the configurations of one task that were measured in the same way: their protocols agree in
every field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.scoring.scores import MEMORISATION, SCORES, Score
from bench.store.rows import flat
from reports import elsewhere, versions
from reports.summary import summarise
from reports.words import short, span

TRAINING = "training images"
"""The reference of training images in place of samples."""

HALVES = "held-out halves"
"""That of one half of the split against the other."""


@dataclass(frozen=True)
class Group:
    """Runs that may stand in one table, and their summary (best first)."""

    number: int
    task: str
    dataset: str
    protocol: Mapping[str, Any]
    """Dotted name -> value, every field the same for all runs."""
    runs: pd.DataFrame
    summary: pd.DataFrame
    apart: Mapping[str, Any] = field(default_factory=dict)
    """The fields in which other groups of the same task and dataset differ, with this group's values."""
    remarks: tuple[str, ...] = ()
    """The files in which the scoring code of those other groups differs."""

    @cached_property
    def elsewhere(self) -> frozenset[str]:
        """The configurations (id) that are samples from elsewhere: no model was trained here."""
        return frozenset(self.runs.loc[elsewhere.is_elsewhere(self.runs), "id"])

    @property
    def steps(self) -> str:
        """For how many steps models were trained here: ``200 to 1,000``; nothing where none was."""
        each = elsewhere.trained(self.runs)["steps"]
        return span(each) if len(each) else ""

    @property
    def extractors(self) -> list[str]:
        """The extractors of the scores, in the order of the records; super-resolution's own scores first."""
        names = [
            str(name).removeprefix("metrics.") for name in self.runs.columns if str(name)[:8] == "metrics."
        ]
        found = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
        return sorted(found, key=lambda name: name != self.task)

    @property
    def title(self) -> str:
        """Task, data set and, where another group shares them, what sets this one apart."""
        names = {"code": "scoring code"}
        apart = ", ".join(f"{names.get(name, name)} {short(value)}" for name, value in self.apart.items())
        return f"{self.task} on {self.dataset}" + (f" ({apart})" if apart else "")

    @property
    def of_points(self) -> bool:
        """Whether the data are points in the plane."""
        return bool(self.protocol.get("dataset.points"))

    @property
    def training(self) -> str:
        """What the reference of training data is called: training images or training points."""
        return "training points" if self.of_points else TRAINING

    def best(self, n: int) -> Group:
        """The group with its first n configurations only."""
        summary = self.summary.head(n)
        return replace(self, summary=summary, runs=self.runs[self.runs["id"].isin(summary["id"])])

    def scores(self, extractor: str) -> list[Score]:
        """The scores of the main table that any of the group's runs has under this extractor."""
        return [score for score in (*SCORES, *self.own_scores) if self.has(score.column(extractor))]

    @property
    def own_scores(self) -> list[Score]:
        """The user's own scores, as the protocol describes them."""
        found = [name.split(".") for name in self.protocol if name.startswith("scores.")]
        names = dict.fromkeys(name for _, name, _ in found)
        said = {n: (self.protocol[f"scores.{n}.label"], self.protocol[f"scores.{n}.better"]) for n in names}
        return [Score(name, label, better) for name, (label, better) in said.items()]

    def memorisation(self, extractor: str) -> list[Score]:
        """The scores of memorisation that any of the group's runs has under this extractor."""
        return [score for score in MEMORISATION if self.has(score.column(extractor))]

    def has(self, name: str) -> bool:
        """Whether any configuration has a mean in this column."""
        mean = f"{name}.mean"
        return mean in self.summary and bool(self.summary[mean].notna().any())

    def references(self, extractor: str, score: Score) -> dict[str, float]:
        """What figures show beside a score, training images or "bicubic" -> its value there, in its unit."""
        known = self.reference_rows(extractor, score)
        return {who: value for who, (value, _) in known.items() if who != HALVES}

    def reference_rows(self, extractor: str, score: Score) -> dict[str, tuple[float, float]]:
        """What a table shows above a score -> its value there and the deviation over draws, in its unit.

        The deviation is NaN where it is not recorded; a reference without a value is left out.
        """
        names = {
            self.training: (score.baseline(extractor), score.baseline_std(extractor)),
            HALVES: (score.halves(extractor), score.halves_std(extractor)),
            "bicubic": (score.bicubic(extractor), ""),
        }
        found = {
            who: (self._mean(f"{name}.mean") * score.factor, self._mean(f"{std}.mean") * score.factor)
            for who, (name, std) in names.items()
        }
        return {who: pair for who, pair in found.items() if not math.isnan(pair[0])}

    def _mean(self, name: str) -> float:
        """The mean over configurations of what should be the same for all of them; NaN where none has it."""
        return float(self.summary[name].mean()) if name in self.summary else math.nan

    @cached_property
    def _parts(self) -> dict[str, pd.DataFrame]:
        return {str(run_id): part for run_id, part in self.runs.sort_values("seed").groupby("id")}

    def of(self, run_id: str) -> pd.DataFrame:
        """The runs of one configuration, by seed."""
        return self._parts[run_id]

    def values(self, run_id: str, name: str) -> NDArray[np.float64]:
        """A configuration's numbers in this column (n,), one per run that has it."""
        column = self.of(run_id)[name].to_numpy(dtype=np.float64)
        return np.asarray(column[np.isfinite(column)])

    def outcomes(self, run_id: str, name: str, score: Score) -> NDArray[np.float64]:
        """Like :meth:`values`, and an infinity of the worse sign for each run that failed or diverged."""
        failed = int((self.of(run_id)["status"] != "finished").sum())
        worst = np.inf if score.better == "lower" else -np.inf
        return np.concatenate([self.values(run_id, name), np.full(failed, worst)])


def groups(runs: pd.DataFrame) -> list[Group]:
    """The runs of :func:`reports.load`, split by task and protocol; larger groups first."""
    if runs.empty:
        return []
    runs = runs.copy()
    runs.attrs = {}  # pandas copies them deeply at every step
    summary = summarise(runs)
    parts = [part for _, part in runs.groupby(["task", "protocol"], sort=False)]
    parts.sort(key=lambda part: (part["task"].iloc[0], -len(part)))
    names = [(part["task"].iloc[0], part["dataset"].iloc[0]) for part in parts]
    protocols = [_protocol(part) for part in parts]
    found = []
    for k, (part, name, protocol) in enumerate(zip(parts, names, protocols, strict=True)):
        rivals = [other for other, its in zip(protocols, names, strict=True) if its == name]
        mine = summary[(summary["task"] == name[0]) & (summary["protocol"] == part["protocol"].iloc[0])]
        part = part.dropna(axis=1, how="all")
        found.append(_sorted(Group(k + 1, *name, protocol, part, mine, _apart(protocol, rivals))))
    return [replace(group, remarks=_remarks(group, found)) for group in found]


def _protocol(part: pd.DataFrame) -> dict[str, Any]:
    fields = flat(part["record"].iloc[0].get("protocol") or {})
    return {name: value for name, value in fields.items() if value is not None}


IDENTITIES = {"version": "code", "code": "version"}
"""Fields that say which code computed the scores: a record has one of them, depending on its schema."""


USUAL: Mapping[str, Any] = {"threads": 1}
"""Values of fields that a protocol names only where they differ."""


def _apart(protocol: Mapping[str, Any], rivals: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields in which a protocol differs from any of these, with its own values."""
    rivals = list(rivals)
    fields = dict.fromkeys(name for other in rivals for name in other)
    return {
        name: protocol.get(name, USUAL.get(name, "none"))
        for name in fields
        if any(other.get(name) != protocol.get(name) for other in rivals)
        and not (name not in protocol and IDENTITIES.get(name) in protocol)
    }


def _remarks(group: Group, every: Iterable[Group]) -> tuple[str, ...]:
    """The files in which the scoring code of groups of the same task and data set differs from this one's."""
    remarks = []
    mine = _scoring(group)
    for other in every:
        theirs = _scoring(other)
        same_data = (other.task, other.dataset) == (group.task, group.dataset)
        if same_data and mine and theirs and mine != theirs:
            files = versions.files_that_differ(mine, theirs)
            ours, its = (each.protocol.get("code", "unknown") for each in (group, other))
            remarks.append(
                f"The scoring code of this table ({ours}) and of another ({its}) differ in {files}."
            )
    return tuple(dict.fromkeys(remarks))


def _scoring(group: Group) -> Mapping[str, str]:
    """The files of a group's scoring code; empty where its records do not say."""
    known = group.runs[versions.SCORING].dropna() if versions.SCORING in group.runs else ()
    return next(iter(known), {})


def _sorted(group: Group) -> Group:
    """The group with its summary ordered by its first score, best first.

    Below stand those with failed runs, by the fraction that failed, never by the mean of what survived.
    """
    summary = group.summary
    keys = pd.DataFrame({"failed": summary["failures"] / summary["n"], "label": summary["label"]})
    for name, score in [(s.column(e), s) for e in group.extractors for s in group.scores(e)][:1]:
        means = summary[f"{name}.mean"].astype(float)
        keys["unscored"] = means.isna()
        keys["mean"] = (means if score.better == "lower" else -means).where(summary["failures"] == 0)
    order = keys.sort_values([name for name in ("failed", "unscored", "mean", "label") if name in keys]).index
    return replace(group, summary=summary.loc[order].reset_index(drop=True))
