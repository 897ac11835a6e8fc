"""The end of a search: retrain the winner and the default on fresh seeds, score them on test, report.

Both are retrained by ``bench.run`` itself, on all of the training data, from files that stay beside the
study: ``best.toml`` and ``default.toml``.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import run
from bench.errors import printable
from bench.plan import RunContext, Spec, plan
from bench.scoring.scores import FID
from bench.search import findings
from bench.search.addresses import shown
from bench.search.objectives import DIRECTIONS, test_score
from bench.search.study import SETTLED, SharedStudy, Slot, ending_of
from bench.search.trial_source import Recipe
from bench.store import files, records
from bench.version import VERSION
from reports import winner
from reports.figures import canvas

DEFAULT_SEEDS = 5
"""In ``best.toml`` where nothing is retrained now."""


@dataclass(frozen=True)
class Retraining:
    """How the best and the default configuration are retrained."""

    n_seeds: int
    """0: they are not."""
    steps: int
    eval_every: int | None
    flags: Sequence[str]
    """Of ``bench.run``: where, and into which folders."""


def close(
    shared: SharedStudy,
    recipe: Recipe,
    request: Mapping[str, Any],
    context: RunContext,
    retraining: Retraining,
) -> int:
    """Retrain, compare and report; returns the exit code."""
    slots = list(shared.slots().values())
    best = findings.best(slots, recipe.objectives)
    code, comparison = 0, None
    if best:
        for file in _write_configurations(recipe, best[0].last.params, retraining):
            if retraining.n_seeds:
                words = ["--config", str(file), *retraining.flags]
                print(shlex.join(["python", "-m", "bench.run", *words]), flush=True)
                code = max(code, run.main(words))
            if code >= 128:
                return code
        if retraining.n_seeds:
            comparison = compare(recipe, best[0].last.params, retraining, context)
    summary = summarise(shared, recipe, request, best, comparison)
    for line in findings.write_all(shared, recipe.folder, recipe.objectives, canvas.adopt):
        print(printable(f"not drawn: {line}"))
    text = winner.markdown(summary, shared.space)
    files.write_atomic(recipe.folder / "summary.md", lambda path: path.write_text(text, encoding="utf-8"))
    files.write_json(recipe.folder / "summary.json", summary)
    for line in winner.ending(summary):
        print(line, flush=True)
    return code if best else 1


def _write_configurations(
    recipe: Recipe, params: Mapping[str, Any], retraining: Retraining
) -> tuple[Path, Path]:
    """``best.toml`` and ``default.toml``. They may be published: no absolute path is in them."""
    job = recipe.template
    content: dict[str, Any] = {
        "models": [job.model],
        "dataset": [_from_here(job.data)],
        "steps": retraining.steps,
        "seeds": retraining.n_seeds or DEFAULT_SEEDS,
        "features": list(job.protocol["extractors"]),
        "precision": job.protocol["precision"],
        **({"threads": job.protocol["threads"]} if "threads" in job.protocol else {}),
    }
    if retraining.eval_every is not None:
        content["eval-every"] = retraining.eval_every
    best, default = recipe.folder / "best.toml", recipe.folder / "default.toml"
    findings.write_configuration(best, content, {job.model: {**recipe.fixed, **params}})
    findings.write_configuration(default, content, {job.model: recipe.fixed})
    return best, default


def _from_here(data: str) -> str:
    """A data set's name; the path of a folder is made relative to the working folder."""
    kind, colon, path = data.partition(":")
    return f"{kind}:{os.path.relpath(path)}" if colon else data


# ------------------------------------------------------------------ the comparison


def compare(
    recipe: Recipe, params: Mapping[str, Any], retraining: Retraining, context: RunContext
) -> dict[str, Any]:
    """Test scores of the winner and of the default configuration over the same fresh seeds."""
    usual = () if recipe.template.protocol["dataset"].get("points") else (FID.name,)
    names = dict.fromkeys((*recipe.objectives, *usual))
    best, default = (
        {name: [test_score(record, name) for record in records] for name in names}
        for records in (
            _retrained(recipe, {**recipe.fixed, **params}, retraining, context),
            _retrained(recipe, recipe.fixed, retraining, context),
        )
    )
    return winner.compare(best, default, n_seeds=retraining.n_seeds, steps=retraining.steps)


def _retrained(
    recipe: Recipe, values: Mapping[str, Any], retraining: Retraining, context: RunContext
) -> list[records.Record]:
    """The records of the runs that finished."""
    job = recipe.template
    spec = Spec(
        models=[job.model],
        datasets=[job.data],
        seeds=range(retraining.n_seeds),
        steps=retraining.steps,
        eval_every=retraining.eval_every,
        features=list(job.protocol["extractors"]),
        precision=job.protocol["precision"],
        threads=job.protocol.get("threads", 1),
        hyperparameters={job.model: values},
    )
    found = [
        records.read_record(job.folder(context.out), job) for job in plan(spec, context, lambda line: None)
    ]
    return [record for record in found if record is not None and record["status"] == "finished"]


# ------------------------------------------------------------------ the summary


def summarise(
    shared: SharedStudy,
    recipe: Recipe,
    request: Mapping[str, Any],
    best: Sequence[Slot],
    comparison: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """All that a reader needs to judge and to repeat the search, as plain data."""
    slots = list(shared.slots().values())
    settled = [slot for slot in slots if slot.state in SETTLED]
    attempts = [trial for slot in slots for trial in slot.attempts]
    return {
        "study": shared.name,
        "objectives": {name: DIRECTIONS[name] for name in recipe.objectives},
        "trials": dict(Counter(slot.state for slot in settled)),
        "attempts lost": sum(trial.state.is_finished() and ending_of(trial) == "lost" for trial in attempts),
        "spent": {
            "trials": len(settled),
            "iterations": sum(slot.last.user_attrs.get("iterations", 0) for slot in settled),
            "seconds": round(sum(slot.last.user_attrs.get("seconds", 0.0) for slot in settled), 1),
        },
        "best": [
            {
                "trial": slot.number,
                "values": dict(zip(recipe.objectives, slot.last.values or (), strict=True)),
                "params": dict(slot.last.params),
            }
            for slot in best
        ],
        "first failure": next(
            (slot.reason for slot in settled if slot.state in ("diverged", "failed")), None
        ),
        "test": comparison,
        "storage": shown(shared.url) if shared.url else str(recipe.folder / "journal.log"),
        "request": dict(request),
        "versions": {
            "gan-bench": VERSION,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("optuna", "torch", "numpy", "scipy", "cmaes")},
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
