"""The end of a search: retrain the winner and the default on fresh seeds, score them on test, report.

Both are retrained by ``bench.run`` itself, on all of the training data, from files that stay beside the
study: ``best.toml`` and ``default.toml``.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bench import run
from bench.errors import printable
from bench.plan import Place, Spec, plan
from bench.search import findings
from bench.search.addresses import shown
from bench.search.objectives import DIRECTIONS, test_score
from bench.search.space import Space
from bench.search.study import SETTLED, SharedStudy, Slot, ending_of
from bench.search.trials import Recipe
from bench.store import files, records
from bench.version import VERSION

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
    """Of ``bench.run``: where."""


def close(
    shared: SharedStudy,
    recipe: Recipe,
    request: Mapping[str, Any],
    place: Place,
    retraining: Retraining,
) -> int:
    """Retrain, compare and report; returns the exit code."""
    slots = list(shared.slots().values())
    best = findings.best(slots, recipe.objectives)
    code, comparison = 0, None
    if best:
        for file in _write_configurations(recipe, best[0].last.params, retraining, place):
            if retraining.n_seeds:
                print(f"python -m bench.run --config {file}", flush=True)
                code = max(code, run.main(["--config", str(file), *retraining.flags]))
            if code >= 128:
                return code
        if retraining.n_seeds:
            comparison = compare(recipe, best[0].last.params, retraining, place)
    summary = summarise(shared, recipe, request, best, comparison)
    for line in findings.write_all(shared, recipe.folder, recipe.objectives):
        print(printable(f"not drawn: {line}"))
    text = in_words(summary, shared.space)
    files.write_atomic(recipe.folder / "summary.md", lambda path: path.write_text(text, encoding="utf-8"))
    files.write_json(recipe.folder / "summary.json", summary)
    for line in ending(summary):
        print(line, flush=True)
    return code if best else 1


def _write_configurations(
    recipe: Recipe, params: Mapping[str, Any], retraining: Retraining, place: Place
) -> tuple[Path, Path]:
    """``best.toml`` and ``default.toml``."""
    job = recipe.template
    content: dict[str, Any] = {
        "models": [job.model],
        "dataset": [job.data],
        "steps": retraining.steps,
        "seeds": retraining.n_seeds or DEFAULT_SEEDS,
        "features": list(job.protocol["extractors"]),
        "precision": job.protocol["precision"],
        "out": str(place.out),
        "data-root": str(place.data_root),
    }
    if retraining.eval_every is not None:
        content["eval-every"] = retraining.eval_every
    best, default = recipe.folder / "best.toml", recipe.folder / "default.toml"
    findings.write_configuration(best, content, {job.model: {**recipe.fixed, **params}})
    findings.write_configuration(default, content, {job.model: recipe.fixed})
    return best, default


# ------------------------------------------------------------------ the comparison


def compare(
    recipe: Recipe, params: Mapping[str, Any], retraining: Retraining, place: Place
) -> dict[str, Any]:
    """Test scores of the winner and of the default configuration over the same fresh seeds."""
    best = _retrained(recipe, {**recipe.fixed, **params}, retraining, place)
    default = _retrained(recipe, recipe.fixed, retraining, place)
    n = retraining.n_seeds
    return {
        "seeds": list(range(n)),
        "steps": retraining.steps,
        "failed": {"best": n - len(best), "default": n - len(default)},
        "scores": {
            name: _compared(
                [test_score(r, name) for r in best], [test_score(r, name) for r in default], n, name
            )
            for name in dict.fromkeys((*recipe.objectives, "fid"))
        },
    }


def _retrained(
    recipe: Recipe, values: Mapping[str, Any], retraining: Retraining, place: Place
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
        hyperparameters={job.model: values},
    )
    records = [
        records.read_record(job.folder(place.out), job) for job in plan(spec, place, lambda line: None)
    ]
    return [record for record in records if record is not None and record["status"] == "finished"]


def _compared(best: list[float], default: list[float], n: int, name: str) -> dict[str, Any]:
    """Mean and spread of the runs that finished; the tests are of all ``n`` of each side.

    As in reports, a run that failed is worse than any score: without that, a configuration that diverges on
    its hard seeds would look better than it is. ``None`` where there is too little to say.
    """
    from reports import stats

    better: stats.Better = "lower" if DIRECTIONS[name] == "minimize" else "higher"
    worst = math.inf if better == "lower" else -math.inf
    ours, theirs = ([*values, *[worst] * (n - len(values))] for values in (best, default))
    return {
        "best": _side(best, n),
        "default": _side(default, n),
        "p": _finite(stats.permutation_p(ours, theirs)),
        "improvement": stats.improvement(ours, theirs, better=better),
    }


def _side(values: list[float], n: int) -> dict[str, Any]:
    mean = _finite(np.mean(values)) if values else None
    return {"mean": mean, "std": _std(values), "values": values, "failed": n - len(values)}


def _std(values: Sequence[float]) -> float | None:
    return _finite(np.std(values, ddof=1)) if len(values) > 1 else None


def _finite(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


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


def ending(summary: Mapping[str, Any]) -> list[str]:
    """What is said at the end, line by line."""
    spent, states = summary["spent"], summary["trials"]
    counted = ", ".join(f"{n} {state}" for state, n in states.items())
    cost = f"{spent['iterations']} iterations, {spent['seconds']:.0f} s of training and scoring"
    lines = [f"{summary['request']['model']} spent {spent['trials']} trials ({counted}), {cost}"]
    if not summary["best"]:
        lines.append(f"no trial was completed: {summary['first failure']}")
    for found in summary["best"]:
        values = ", ".join(f"{name} {value:.5g}" for name, value in found["values"].items())
        params = ", ".join(f"{name}={_short(value)}" for name, value in found["params"].items())
        lines.append(f"best on validation: trial {found['trial']}, {values}: {params}")
    if summary["test"] is not None:
        seeds, steps = summary["test"]["seeds"], summary["test"]["steps"]
        fresh = f"on test, fresh seeds {seeds[0]} to {seeds[-1]} of {steps} steps"
        lines.append(f"{fresh}, best against default configuration:")
        lines += [_comparison(name, scores) for name, scores in summary["test"]["scores"].items()]
    return lines


def _comparison(name: str, scores: Mapping[str, Any]) -> str:
    """``fid: 10.1 ± 0.4 against 14.2 ± 0.9 (lower is better), permutation p = 0.0079``."""
    sides = []
    for side in (scores["best"], scores["default"]):
        mean, std, failed = side["mean"], side["std"], side["failed"]
        decimals = max(0, 1 - math.floor(math.log10(std)) if std else 3)
        said = "no score" if mean is None else f"{mean:.{decimals}f}"
        said += "" if std is None else f" ± {std:.{decimals}f}"
        sides.append(said + (f" ({failed} of {failed + len(side['values'])} failed)" if failed else ""))
    direction = "lower" if DIRECTIONS[name] == "minimize" else "higher"
    line = f"  {name}: {sides[0]} against {sides[1]} ({direction} is better)"
    line += "" if scores["p"] is None else f", permutation p = {scores['p']:.2g}"
    if scores["best"]["failed"] or scores["default"]["failed"]:
        share = f"{scores['improvement']:.0%}"
        line += f"; a failed run is worse than any score, so that the best wins {share} of all pairs of runs"
    return line


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_words(summary: Mapping[str, Any], space: Space) -> str:
    """The summary as Markdown."""
    asked, spent = summary["request"], summary["spent"]
    data = asked["protocol"]["dataset"]
    extractors = asked["protocol"]["extractors"]
    rows = {
        "model": asked["model"],
        "searched": "; ".join(f"{name} {where}" for name, where in space.items()),
        "fixed": "; ".join(f"{name} {value}" for name, value in asked["fixed"].items()) or "nothing",
        "objective": "; ".join(f"{direction} {name}" for name, direction in summary["objectives"].items()),
        "sampler": f"{asked['sampler']}, seed {asked['sampler_seed']}; pruner {asked['pruner']}",
        "budget": f"{spent['trials']} trials × {len(asked['seeds'])} seeds × {asked['steps']} steps, "
        f"scored every {asked['eval_every']} on validation",
        "data": f"{data['name']}: {data['n_train']} to train, {data['n_val']} to validate, "
        f"{data['n_test']} to test; SHA-256 {data['sha256']}",
        "extractors": "; ".join(f"{name}, SHA-256 {held['sha256']}" for name, held in extractors.items()),
        "storage": summary["storage"],
        "versions": "; ".join(f"{name} {number}" for name, number in summary["versions"].items()),
    }
    lines = [f"# Search {summary['study']}", "", "```text", *ending(summary), "```", "", "| | |", "|---|---|"]
    cells = [(name, str(text).replace("|", "\\|")) for name, text in rows.items()]
    return "\n".join([*lines, *(f"| {name} | {text} |" for name, text in cells)]) + "\n"
