"""Samplers and pruners by name.

Random, grid and quasi-random search are points of the unit cube by number: a trial's configuration
depends on its slot and the seed alone, whichever process runs it and whatever ran before. (Optuna's own
grid and QMC samplers may hand one point to two processes.) TPE and CMA-ES are Optuna's, seeded by slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from bench.search import space as spaces
from bench.search.space import Space


class Given(optuna.samplers.BaseSampler):
    """Proposes one configuration that is already known."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing: each value is asked for alone."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: each value is asked for alone."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of this name."""
        return self.values[param_name]


def sampler(
    name: str, space: Space, *, seed: int, slot: int, pruner: str = "none"
) -> optuna.samplers.BaseSampler:
    """The sampler that proposes the configuration of one slot."""
    own_seed = int(np.random.SeedSequence([seed, slot]).generate_state(1)[0])
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=own_seed, constant_liar=True)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=own_seed, warn_independent_sampling=False, consider_pruned_trials=pruner == "median"
        )
    if name == "grid":
        configurations = spaces.grid(space)
        order = np.random.default_rng(seed).permutation(len(configurations))
        return Given(configurations[order[slot]])
    return Given(spaces.at(space, point(name, len(space), seed=seed, slot=slot)))


def point(name: str, n_dims: int, *, seed: int, slot: int) -> NDArray[np.float64]:
    """Point number ``slot`` of the unit cube: ``random``, or ``qmc`` from a scrambled Sobol sequence."""
    if name == "random":
        return np.random.default_rng([seed, slot]).random(n_dims)
    from scipy.stats.qmc import Sobol

    sequence = Sobol(n_dims, scramble=True, rng=np.random.default_rng(seed))
    if slot:
        sequence.fast_forward(slot)
    found: NDArray[np.float64] = sequence.random()[0]
    return found


def pruner(name: str, *, steps: int, eval_every: int) -> optuna.pruners.BasePruner:
    """The pruner; reports come at every evaluation, and none is judged in the first fifth of training."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=steps // 5)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=eval_every, max_resource=steps)
    return optuna.pruners.NopPruner()
