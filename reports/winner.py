"""The end of a search: its winner against the default configuration, and the search in words.

Plain data in, plain data or text out. ``bench.tune`` retrains both configurations on fresh seeds and writes
what these functions return.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.scoring.scores import OBJECTIVES
from reports import stats

Values = Mapping[str, Sequence[float]]
"""Score -> its values in the runs that finished."""


def compare(best: Values, default: Values, *, n_seeds: int, steps: int) -> dict[str, Any]:
    """The winner's test scores against those of the default configuration, as ``summary.json`` holds them.

    Both were trained for ``steps`` on seeds 0 to ``n_seeds - 1``; runs without a value failed.
    """
    finished = {"best": best, "default": default}
    return {
        "seeds": list(range(n_seeds)),
        "steps": steps,
        "failed": {who: n_seeds - max(map(len, values.values())) for who, values in finished.items()},
        "scores": {name: compared(best[name], default[name], n_seeds, name) for name in best},
    }


def compared(best: Sequence[float], default: Sequence[float], n_seeds: int, name: str) -> dict[str, Any]:
    """One score: mean and spread of the finished runs, and tests over all ``n_seeds`` runs of each side.

    As in all reports, a failed run is worse than any score. Otherwise a configuration that diverges on its
    hard seeds would look better than it is. ``None`` stands where there are too few runs.
    """
    better = OBJECTIVES[name].better or "higher"
    worst = math.inf if better == "lower" else -math.inf
    ours, theirs = ([*values, *[worst] * (n_seeds - len(values))] for values in (best, default))
    return {
        "best": _side(best, n_seeds),
        "default": _side(default, n_seeds),
        "p": _finite(stats.permutation_p(ours, theirs)),
        "improvement": stats.improvement(ours, theirs, better=better),
    }


def _side(values: Sequence[float], n_seeds: int) -> dict[str, Any]:
    return {
        "mean": _finite(np.mean(values)) if values else None,
        "std": _finite(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
        "failed": n_seeds - len(values),
    }


def _finite(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def ending(summary: Mapping[str, Any]) -> list[str]:
    """The lines that a search prints at its end; ``summary``: what ``summary.json`` holds."""
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
        lines += [comparison(name, scores) for name, scores in summary["test"]["scores"].items()]
    return lines


def comparison(name: str, scores: Mapping[str, Any]) -> str:
    """``fid: 10.1 ± 0.4 against 14.2 ± 0.9 (lower is better), permutation p = 0.0079``."""
    line = f"  {name}: {_side_in_words(scores['best'])} against {_side_in_words(scores['default'])}"
    line += f" ({OBJECTIVES[name].better} is better)"
    line += "" if scores["p"] is None else f", permutation p = {scores['p']:.2g}"
    if scores["best"]["failed"] or scores["default"]["failed"]:
        wins = f"{scores['improvement']:.0%}"
        line += f"; a failed run is worse than any score, so that the best wins {wins} of all pairs of runs"
    return line


def _side_in_words(side: Mapping[str, Any]) -> str:
    """``10.1 ± 0.4 (1 of 5 failed)``."""
    mean, std, failed = side["mean"], side["std"], side["failed"]
    decimals = max(0, 1 - math.floor(math.log10(std)) if std else 3)
    words = "no score" if mean is None else f"{mean:.{decimals}f}"
    words += "" if std is None else f" ± {std:.{decimals}f}"
    return words + (f" ({failed} of {failed + len(side['values'])} failed)" if failed else "")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(summary: Mapping[str, Any], space: Mapping[str, object]) -> str:
    """The summary as Markdown; ``space``: hyperparameter -> its range, which is shown as text."""
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
