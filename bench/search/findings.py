"""What a search found: tables, plots and the best configuration, written to the study's folder."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.trial import TrialState

from bench.search.objectives import DIRECTIONS
from bench.search.study import SETTLED, SharedStudy, Slot
from bench.store import files

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2_000


# ------------------------------------------------------------------ the trials


def table(slots: Sequence[Slot], objectives: Sequence[str]) -> pd.DataFrame:
    """One row per trial: its state, mean validation scores, hyperparameters and cost.

    A pruned trial's score is the last one it reported; one that diverged or failed has none.
    """
    import pandas as pd

    rows = []
    for slot in slots:
        trial = slot.last
        values = trial.values or [math.nan] * len(objectives)
        rows.append(
            {
                "trial": slot.number,
                "state": slot.state,
                **dict(zip(objectives, values, strict=True)),
                **trial.params,
                "iterations": trial.user_attrs.get("iterations", 0),
                "seconds": trial.user_attrs.get("seconds", 0.0),
                "attempts": len(slot.attempts),
                "reason": slot.reason,
            }
        )
    return pd.DataFrame(rows)


def best(slots: Sequence[Slot], objectives: Sequence[str]) -> list[Slot]:
    """The complete trials that no other is better than in every objective, best first objective first."""
    complete = [slot for slot in slots if slot.state == "complete"]
    if not complete:
        return []
    costs = np.array([_costs(slot, objectives) for slot in complete])
    front = [
        slot
        for slot, cost in zip(complete, costs, strict=True)
        if not ((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any()
    ]
    front.sort(key=lambda slot: (*_costs(slot, objectives), slot.number))
    return front[:1] if len(objectives) == 1 else front


def _costs(slot: Slot, objectives: Sequence[str]) -> tuple[float, ...]:
    """The objectives, turned so that less is better."""
    signs = [1 if DIRECTIONS[name] == "minimize" else -1 for name in objectives]
    return tuple(sign * value for sign, value in zip(signs, slot.last.values or (), strict=True))


# ------------------------------------------------------------------ the budget


def expected_best(values: ArrayLike, *, lower: bool) -> NDArray[np.float64]:
    """Expected best of n = 1 … N trials drawn with replacement from these N (Dodge et al. 2019).

    ``values`` (…, N) -> (…, N); ``lower``: the best is the lowest. With the values sorted best first, the
    i-th of N is the best of n draws with probability ((N - i + 1) / N)^n - ((N - i) / N)^n (their
    equation 2). For the trials of a random search this estimates what a search of n trials finds; those
    of an adaptive sampler are not exchangeable, and the curve only describes them.
    """
    x = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    if not lower:
        x = x[..., ::-1]
    size = x.shape[-1]
    n = np.arange(1, size + 1)[:, None]
    at_least = (np.arange(size, -1, -1) / size) ** n  # (n, N + 1): all draws are no better than the i-th
    return np.asarray(x @ (at_least[:, :-1] - at_least[:, 1:]).T)


def budget_curve(values: ArrayLike, *, lower: bool, seed: int = 0) -> pd.DataFrame:
    """Columns ``trials``, ``expected``, and ``low`` and ``high``: a 95 % percentile bootstrap band."""
    import pandas as pd

    x = np.asarray(values, dtype=np.float64)
    resampled = np.random.default_rng(seed).choice(x, size=(RESAMPLES, len(x)))
    low, high = np.percentile(expected_best(resampled, lower=lower), [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "trials": np.arange(1, len(x) + 1),
            "expected": expected_best(x, lower=lower),
            "low": low,
            "high": high,
        }
    )


def budget_values(slots: Sequence[Slot], *, lower: bool) -> list[float]:
    """The first objective of every trial: those that diverged or failed count as the worst of the others."""
    values = [slot.last.values[0] if slot.last.values else math.nan for slot in slots]
    known = [value for value in values if not math.isnan(value)]
    worst = (max if lower else min)(known, default=math.nan)
    return [worst if math.isnan(value) else value for value in values] if known else []


# ------------------------------------------------------------------ files


Look = Callable[[Any], None]
"""What gives a figure the look of all figures: reports have it, and commands bring it here."""


def write_all(shared: SharedStudy, folder: Path, objectives: Sequence[str], look: Look) -> list[str]:
    """Write tables and plots; returns what could not be drawn, and why."""
    slots = [slot for slot in shared.slots().values() if slot.state in SETTLED]
    rows = table(slots, objectives)
    files.write_atomic(folder / "trials.csv", lambda path: rows.to_csv(path, index=False))
    if len(objectives) > 1:
        front = table(best(slots, objectives), objectives)
        files.write_atomic(folder / "pareto.csv", lambda path: front.to_csv(path, index=False))
    left_out = draw(shared.load(), folder, objectives, look)
    lower = DIRECTIONS[objectives[0]] == "minimize"
    if values := budget_values(slots, lower=lower):
        curve = budget_curve(values, lower=lower)
        files.write_atomic(folder / "expected.csv", lambda path: curve.to_csv(path, index=False))
        draw_budget(curve, objectives[0], folder / "expected.png", look, sampler=shared.sampler)
    return left_out


def write_configuration(
    path: Path, content: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> None:
    """A file for ``bench.run --config``: top-level keys, and hyperparameters under ``[set.MODEL]``."""
    lines = [f"{key} = {_toml(value)}" for key, value in content.items()]
    for model, values in settings.items():
        if values:
            lines += ["", f"[set.{json.dumps(model)}]", *(f"{k} = {_toml(v)}" for k, v in values.items())]
    text = "\n".join(lines) + "\n"
    files.write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value).lower() if value is None else str(value))


# ------------------------------------------------------------------ plots


def draw(study: optuna.Study, folder: Path, objectives: Sequence[str], look: Look) -> list[str]:
    """Optuna's plots of a study as PNG; returns what could not be drawn, and why."""
    n_complete = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if n_complete < 2:
        return [f"plots: they need two complete trials, and there are {n_complete}"]
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    name = objectives[0]
    of_first: dict[str, Any] = {"target_name": name}
    if len(objectives) > 1:
        of_first["target"] = lambda trial: trial.values[0]
    figures: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, **of_first),
        "importances": lambda: plots.plot_param_importances(study, **of_first),
        "parallel": lambda: plots.plot_parallel_coordinate(study, **of_first),
        "slice": lambda: plots.plot_slice(study, **of_first),
        "edf": lambda: plots.plot_edf(study, **of_first),
    }
    if 2 <= len(objectives) <= 3:
        figures["pareto"] = lambda: plots.plot_pareto_front(study, target_names=list(objectives))
    left_out = []
    for stem, make in figures.items():
        with warnings.catch_warnings(), mpl.rc_context():  # they set a style for everybody
            warnings.simplefilter("ignore")  # Optuna's plots are experimental, and say so
            try:
                figure = np.asarray(make()).flat[0].figure
            except (ValueError, RuntimeError) as error:
                left_out.append(f"{stem}.png: {error}")
            else:
                if stem == "slice":
                    figure.set_size_inches(3.5 * len(figure.axes), 4)
                look(figure)
                _save(figure, folder / f"{stem}.png")
            plt.close("all")
    return left_out


def draw_budget(curve: pd.DataFrame, objective: str, path: Path, look: Look, *, sampler: str) -> None:
    """Expected best validation score against the number of trials, with its band."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    axes.fill_between(
        curve["trials"], curve["low"], curve["high"], alpha=0.25, linewidth=0, label="95 % band"
    )
    axes.plot(curve["trials"], curve["expected"], marker=".", label=f"expected best ({sampler} search)")
    axes.set(xlabel="trials", ylabel=f"best validation {objective}")
    axes.legend(frameon=False)
    axes.grid(visible=True)
    look(figure)
    _save(figure, path)
    plt.close(figure)


def _save(figure: Any, path: Path) -> None:
    files.write_atomic(
        path, lambda temporary: figure.savefig(temporary, dpi=200, bbox_inches="tight", format="png")
    )
