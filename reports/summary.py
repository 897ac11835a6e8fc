"""From one row per run to one row per configuration, in groups that may be compared.

A *configuration* is everything that can change a run's numbers but the seed (the record's ``id``). A
*group* holds the configurations of one task that were measured alike: the same protocol in every field.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import printable
from bench.store import records, results
from reports import stats, versions
from reports.stats import Better


@dataclass(frozen=True)
class Score:
    """How a score is shown: its name in records, its label, which way is better, and its unit."""

    key: str
    label: str
    better: Better | None
    scale: float = 1.0


SCORES = (
    Score("fid", "FID", "lower"),
    Score("kid_mean", "KID ×10³", "lower", 1e3),
    Score("isc_mean", "IS", "higher"),
    Score("precision", "Precision", "higher"),
    Score("recall", "Recall", "higher"),
    Score("modes", "Modes", "higher"),
    Score("mode_kl", "Mode KL", "lower"),
    Score("cond_accuracy", "Cond. acc.", "higher"),
    Score("class_fid", "Class FID", "lower"),
    Score("psnr", "PSNR (dB)", "higher"),
    Score("ssim", "SSIM", "higher"),
)
"""The scores that tables show, in order; a record's other scores are in the CSV files."""

STATISTICS = ("mean", "std", "median", "iqm", "ci_low", "ci_high", "n")
"""What :func:`summarise` says of each number: ``metrics.classifier.fid.mean`` and so on."""

STATUSES = ("finished", "diverged", "failed")

MEASURED = ("metrics.", "floor.", "best.step", "best.metrics.", "best.val.", "d_accuracy.", "cost.")
"""Columns that hold a run's results start so."""

NUMERIC = (*MEASURED, "parameters.")
"""Columns that hold nothing but numbers start so."""

SECTIONS = (
    "hyperparameters",
    "parameters",
    "protocol",
    "environment",
    "cost",
    "metrics",
    "floor",
    "d_accuracy",
    "code",
)
"""Keys of a record that hold objects: columns of their own only where those are empty."""

NEEDED: Mapping[str, type] = {
    "id": str,
    "model": str,
    "task": str,
    "dataset": str,
    "seed": int,
    "steps": int,
    "status": str,
}


# ---------------------------------------------------------------- one row per run


def load(roots: Path | str | Iterable[Path | str]) -> pd.DataFrame:
    """One row per run found in the results folder or folders, failed ones included.

    Columns are the record's keys joined by dots (``metrics.classifier.fid``), ``folder``, and
    ``protocol``: a short hash of all ``protocol.*`` columns. ``attrs["skipped"]`` lists, one line
    each with its path, the records that were left out: damaged, foreign, of another schema, or a
    second copy of a run, and those that are not written yet. The frame is empty where nothing was found.
    """
    several = [Path(root) for root in ([roots] if isinstance(roots, Path | str) else roots)]
    frame = results.load(several)
    skipped = list(frame.attrs.get("skipped", []))
    unfinished = (f for r in several for f in sorted((r / "runs").glob("*/seed-*")) if f.is_dir())
    skipped += [
        printable(f"{folder}: not finished")
        for folder in unfinished
        if not (os.path.lexists(folder / "run.json") or folder.is_symlink() or folder.parent.is_symlink())
    ]
    keep = np.ones(len(frame), dtype=bool)
    seen: dict[tuple[Hashable, Hashable], str] = {}
    for row, run in enumerate(frame.to_dict("records")):
        path = f"{run['folder']}/run.json"
        problem = _problem(run)
        if problem is None:
            first = seen.setdefault((run["id"], run["seed"]), path)
            if first != path:
                problem = f"the same run as {first}, which is used"
        if problem is not None:
            keep[row] = False
            skipped.append(printable(f"{path}: {problem}"))
    frame = frame[keep].reset_index(drop=True)
    if frame.empty:
        frame = pd.DataFrame(columns=[*NEEDED, "folder", "protocol"])
    if len(frame):
        gappy = [n for n in frame if str(n).startswith(NUMERIC) and frame[n].dtype == object]
        numbers = {
            str(name): [np.nan if _is_gap(value) else float(value) for value in frame[name]]
            for name in gappy
            if name != "d_accuracy.threshold"
        }
        # In one piece: pandas warns of frames in many.
        frame = frame.assign(**numbers).astype({"seed": int, "steps": int}).copy()
        fields = [name for name in frame.columns if str(name).startswith("protocol.")]
        plain = frame[fields].to_dict("records")
        frame["protocol"] = [records.digest(_present(row)) for row in plain]
    frame.attrs["skipped"] = [printable(line) for line in skipped]
    return frame


def _problem(run: Mapping[Hashable, Any]) -> str | None:
    """What keeps a record of the right schema from being read, or None."""
    for name, kind in NEEDED.items():
        value = run.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a column with gaps
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"no usable {name!r}"
        if isinstance(value, int) and abs(value) >= 2**63:
            return f"no usable {name!r}"
    if run["status"] not in STATUSES:
        return f"status {run['status']!r} is none of {', '.join(STATUSES)}"
    for key, value in run.items():
        if key in SECTIONS and not _is_gap(value):
            return f"{key} is not an object"
        if str(key).startswith(NUMERIC) and key != "d_accuracy.threshold" and not _is_number(value):
            return f"{key} is not a number below 1e100"
        if not _is_gap(value) and (wrong := versions.problem(str(key), value)):
            return wrong
        if str(key).startswith("draws.") and not _are_draws(value):
            return f"{key} is not a list of numbers"
    return None


def _are_draws(value: Any) -> bool:
    """Whether a score of several sample draws is a list of numbers, or a gap."""
    return _is_gap(value) or (isinstance(value, list) and bool(value) and all(map(_is_number, value)))


def _is_number(value: Any) -> bool:
    """Whether a result is a number that can be reckoned with, or a gap."""
    return _is_gap(value) or (isinstance(value, int | float) and abs(value) < 1e100)


def _is_gap(value: Any) -> bool:
    """Whether there is nothing: no such key in the record, null, or an empty object."""
    return value is None or value == {} or (isinstance(value, float) and np.isnan(value))


def _present(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """The entries of a row that its record has, as plain values: a frame fills gaps with NaN."""
    return {
        str(name): int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in row.items()
        if not _is_gap(value)
    }


# ---------------------------------------------------------------- one row per configuration


def summarise(runs: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """One row per configuration of the runs that :func:`load` gave.

    ``label`` is the model, with what sets it apart where a group has several configurations of it;
    ``n`` runs, ``failures`` among them (diverged or failed), their ``seeds``, ``missing_seeds`` (that
    another configuration of the group has), ``near_half`` (runs that met the criterion); for each
    number of the record ``<name>.<statistic>`` over the runs that have it, see :data:`STATISTICS`:
    ``n`` says how many have, ``ci_low`` and ``ci_high`` are :func:`reports.stats.mean_ci`. Where records
    hold ``draws``, ``<name>.training_std`` and ``.sampling_std`` part the two sources of the spread.
    """
    if runs.empty:
        return pd.DataFrame()
    measured = [
        str(name)
        for name in runs.columns
        if str(name).startswith(MEASURED) and pd.api.types.is_numeric_dtype(runs[name])
    ]
    labels = _labels(runs)
    expected: dict[Any, set[int]] = {
        keys: set(part["seed"]) for keys, part in runs.groupby(["task", "protocol"])
    }
    rows = []
    for keys, part in runs.groupby(["protocol", "task", "dataset", "model", "id"], sort=False):
        protocol, task, dataset, model, run_id = keys
        seeds = sorted(part["seed"])
        near_half = part["d_accuracy.near_half"] if "d_accuracy.near_half" in part else pd.Series(dtype=float)
        row: dict[str, Any] = {
            "protocol": protocol,
            "task": task,
            "dataset": dataset,
            "model": model,
            "id": run_id,
            "label": labels[str(run_id)],
            "steps": int(part["steps"].iloc[0]),
            "parameters": _parameters(part),
            "n": len(part),
            "failures": int((part["status"] != "finished").sum()),
            "seeds": seeds,
            "missing_seeds": sorted(expected[(task, protocol)] - set(seeds)),
            "near_half": int((near_half == 1).sum()),
        }
        rows.append(row | _statistics(part[measured], confidence, seed) | _sources(part))
    return pd.DataFrame(rows)


def _sources(part: pd.DataFrame) -> dict[str, float]:
    """Training and sampling spread of each score of which the runs have several sample draws."""
    found: dict[str, float] = {}
    for name in part:
        if str(name).startswith("draws."):
            split = stats.variance_components([draws for draws in part[name] if isinstance(draws, list)])
            score = f"metrics.{str(name).removeprefix('draws.')}"
            found |= {f"{score}.training_std": split.training, f"{score}.sampling_std": split.sampling}
    return found


def _statistics(part: pd.DataFrame, confidence: float, seed: int) -> dict[str, float]:
    values = part.to_numpy(dtype=float, na_value=np.nan)  # (runs, numbers)
    known = np.isfinite(values)
    found: dict[str, float] = {}
    # Numbers that the same runs have are resampled together: one bootstrap instead of dozens.
    patterns: dict[bytes, list[int]] = {}
    for column in range(values.shape[1]):
        patterns.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in patterns.values():
        rows = values[known[:, columns[0]]][:, columns].T  # (numbers, runs that have them)
        if not rows.shape[1]:
            continue
        intervals = stats.mean_cis(rows, confidence=confidence, seed=seed)
        for column, row, interval in zip(columns, rows, intervals, strict=True):
            name = part.columns[column]
            numbers = (
                float(row.mean()),
                stats.std(row),
                float(np.median(row)),
                stats.iqm(row),
                interval.low,
                interval.high,
                row.size,
            )
            found |= {f"{name}.{kind}": n for kind, n in zip(STATISTICS, numbers, strict=True)}
    return found


def _parameters(part: pd.DataFrame) -> float:
    """Trainable parameters over all nets; NaN where the record does not say."""
    counts = [
        name for name in part if str(name).startswith("parameters.") and str(name).endswith(".trainable")
    ]
    return float(part[counts].iloc[0].astype(float).sum(min_count=1))


def _labels(runs: pd.DataFrame) -> dict[str, str]:
    """A name for each id: the model, what differs between a group's configurations of it, the steps where
    they differ within the group, and the version of its code where there are several; see ``versions``."""
    settings = [name for name in runs.columns if str(name).startswith("hyperparameters.")]
    labels: dict[str, str] = {}
    for _, group in runs.groupby(["task", "protocol"]):
        lengths = ["steps"] if group["steps"].nunique() > 1 else []
        for model, part in group.groupby("model"):
            one_each = part.drop_duplicates("id")
            texts = {name: _brief_texts(one_each[name]) for name in ["steps", *settings]}
            differing = [name for name in settings if len(set(texts[name])) > 1]
            code = {run_id: version.name for version in versions.versions(part) for run_id in version.ids}
            apart = {}
            for k, run_id in enumerate(one_each["id"]):
                parts = [
                    f"{str(name).removeprefix('hyperparameters.')}={texts[name][k]}"
                    for name in [*lengths, *differing]
                ]
                apart[str(run_id)] = ", ".join(filter(None, [*parts, code[str(run_id)]]))
            for run_id, text in apart.items():
                if list(apart.values()).count(text) > 1:
                    text = ", ".join(filter(None, [text, run_id]))
                labels[run_id] = f"{model} ({text})" if text else str(model)
    return labels


def _brief_texts(values: Iterable[Any]) -> list[str]:
    """Values as text, numbers with four digits where those tell them apart."""
    values = list(values)
    exact = [_text(value) for value in values]
    brief = [f"{v:.4g}" if isinstance(v, float) and not v.is_integer() else _text(v) for v in values]
    return brief if len(set(brief)) == len(set(exact)) else exact


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


# ---------------------------------------------------------------- what may be compared


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

    @property
    def extractors(self) -> list[str]:
        """What the images were scored with: for super-resolution that first, else in the records' order."""
        names = [str(name).split(".") for name in self.runs.columns]
        found = dict.fromkeys(name[1] for name in names if name[0] == "metrics" and len(name) == 3)
        return sorted(found, key=lambda name: name != self.task)  # what the task is about comes first

    @property
    def title(self) -> str:
        """Task, data set and, where another group shares them, what sets this one apart."""
        names = {"code": "scoring code"}
        apart = ", ".join(f"{names.get(name, name)} {_short(value)}" for name, value in self.apart.items())
        return f"{self.task} on {self.dataset}" + (f" ({apart})" if apart else "")

    def best(self, n: int) -> Group:
        """The group with its first n configurations only."""
        summary = self.summary.head(n)
        return replace(self, summary=summary, runs=self.runs[self.runs["id"].isin(summary["id"])])

    def scores(self, extractor: str) -> list[Score]:
        """The known scores that any of the group's runs has under this extractor."""
        return [
            score
            for score in SCORES
            if f"metrics.{extractor}.{score.key}.mean" in self.summary
            and self.summary[f"metrics.{extractor}.{score.key}.mean"].notna().any()
        ]

    @cached_property
    def _parts(self) -> dict[str, pd.DataFrame]:
        return {str(run_id): part for run_id, part in self.runs.sort_values("seed").groupby("id")}

    def of(self, run_id: str) -> pd.DataFrame:
        """The runs of one configuration, by seed."""
        return self._parts[run_id]

    def values(self, run_id: str, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """A configuration's numbers of this name, one per run that has it."""
        column = self.of(run_id)[name].to_numpy(dtype=np.float64)
        return np.asarray(column[np.isfinite(column)])

    def outcomes(self, run_id: str, name: str, score: Score) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Like :meth:`values`, and an infinity of the worse sign for each run that failed or diverged."""
        failed = int((self.of(run_id)["status"] != "finished").sum())
        worst = np.inf if score.better == "lower" else -np.inf
        return np.concatenate([self.values(run_id, name), np.full(failed, worst)])


def groups(runs: pd.DataFrame) -> list[Group]:
    """The runs of :func:`load`, apart by task and protocol; larger groups first."""
    if runs.empty:
        return []
    runs = runs.copy()
    runs.attrs = {}  # pandas copies them deeply at every step
    summary = summarise(runs)
    parts = [part for _, part in runs.groupby(["task", "protocol"], sort=False)]
    parts.sort(key=lambda part: (part["task"].iloc[0], -len(part)))
    protocols = [_protocol(part) for part in parts]
    found = []
    for k, (part, protocol) in enumerate(zip(parts, protocols, strict=True)):
        task, dataset = part["task"].iloc[0], part["dataset"].iloc[0]
        alike = [
            other
            for other, its_part in zip(protocols, parts, strict=True)
            if (its_part["task"].iloc[0], its_part["dataset"].iloc[0]) == (task, dataset)
        ]
        fields = dict.fromkeys(name for other in alike for name in other)
        apart = {
            name: protocol.get(name, "none")
            for name in fields
            if any(other.get(name) != protocol.get(name) for other in alike)
            and not (name not in protocol and IDENTITIES.get(name) in protocol)
        }
        mine = summary[(summary["task"] == task) & (summary["protocol"] == part["protocol"].iloc[0])]
        group = Group(k + 1, task, dataset, protocol, part.dropna(axis=1, how="all"), mine, apart)
        found.append(_sorted(group))
    return [replace(group, remarks=_remarks(group, found)) for group in found]


IDENTITIES = {"version": "code", "code": "version"}
"""Fields that say which code took the scores: a record has one of them, by its schema."""


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
            remarks.append(f"Scoring code {ours} of this table and {its} of another differ in {files}.")
    return tuple(dict.fromkeys(remarks))


def _scoring(group: Group) -> Mapping[str, str]:
    """The files of a group's scoring code; nothing where its records do not say."""
    known = group.runs[versions.SCORING].dropna() if versions.SCORING in group.runs else ()
    return next((files for files in known if isinstance(files, dict)), {})


def _protocol(part: pd.DataFrame) -> dict[str, Any]:
    first = part[[name for name in part if str(name).startswith("protocol.")]].to_dict("records")[0]
    return {name.removeprefix("protocol."): value for name, value in _present(first).items()}


def _sorted(group: Group) -> Group:
    """The group with its summary ordered by its first score, best first, those without it last."""
    for extractor in group.extractors:
        for score in group.scores(extractor):
            ordered = group.summary.sort_values(
                [f"metrics.{extractor}.{score.key}.mean", "label"], ascending=[score.better == "lower", True]
            )
            return replace(group, summary=ordered.reset_index(drop=True))
    return replace(group, summary=group.summary.sort_values("label").reset_index(drop=True))


def _short(value: Any) -> str:
    """A protocol value for a title: hashes cut to 8 digits."""
    text = _text(value)
    return text[:8] if len(text) >= 32 and set(text) <= set("0123456789abcdef") else text


def protocol_sentence(group: Group) -> str:
    """How the group's figures came about, in a sentence that can stand in a paper."""
    p = group.protocol
    seeds = sorted(set(group.runs["seed"]))
    steps = sorted(set(group.runs["steps"]))
    length = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    precision = p.get("precision", "float32")
    rounded = "" if precision == "float32" else f" in {precision}"
    trained = (
        f"Mean ± standard deviation over {len(seeds)} training seed{'s' if len(seeds) > 1 else ''} "
        f"({ranges(seeds)}), trained for {length} generator updates on {group.dataset}{rounded} "
        f"(data {_short(p.get('dataset.sha256', 'unknown'))})."
    )
    n_fake, n_real = (_whole(p.get(name)) for name in ("n_fake", "n_real"))
    split = p.get("scored_on", "unknown")
    if group.task == "super-resolution":
        return f"{trained} Scored on {n_real} images of the {split} split, at the final step."
    features = " and ".join(
        f"{name} (weights {_short(p.get(f'extractors.{name}.sha256', 'unknown'))})"
        for name in group.extractors
    )
    best = ", FID also at the step that is best on validation" if p.get("select") == "best" else ""
    return (
        f"{trained} {n_fake} samples per run against {n_real} images of the {split} split, with the "
        f"features of {features or 'no extractor'}, at the final step{best}."
    )


def _whole(n: Any) -> str:
    return f"{n:,}" if isinstance(n, int) else "an unknown number of"


def ranges(numbers: Iterable[int]) -> str:
    """Sorted integers, runs of them shortened: 0, 1, 2, 5 -> ``0-2, 5``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(
        str(p[0]) if len(p) == 1 else f"{p[0]}{'-' if len(p) > 2 else ', '}{p[-1]}" for p in parts
    )
