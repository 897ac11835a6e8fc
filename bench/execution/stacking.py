"""Which runs train together, as one stack.

On a CPU a stack does not pay: one seed per worker. Even with the small networks of points in the plane (two
layers of 128, batches of 64) five seeds in a stack cost 4.3 times one seed, 3.5 times with WGAN-GP; with
layers of 32 it is 3 and 2.4 times. On a GPU such small networks wait for the launches of kernels, which a
stack shares.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence

from bench.data.datasets import spec_of
from bench.store.jobs import Job, digest

TRIALS = 8
"""Of a search, that a worker with a GPU trains at once."""


def seeds_per_stack(jobs: Sequence[Job], n_workers: int, *, gpus: bool) -> int:
    """How many seeds of a configuration train together: on GPUs all, divided among the workers."""
    if not gpus:
        return 1
    most = max(Counter(job.run_id for job in jobs).values(), default=1)
    return -(-most // n_workers)


def n_stacks(jobs: Sequence[Job], size: int, alone: Collection[str] = ()) -> int:
    """How many stacks there are, if each has at most ``size`` seeds of one configuration.

    ``alone``: the configurations (run ids) whose seeds train one at a time.
    """
    seeds = Counter(job.run_id for job in jobs)
    return sum(n if run_id in alone else -(-n // size) for run_id, n in seeds.items())


def unstackable(jobs: Sequence[Job]) -> set[str]:
    """The configurations (run ids) whose model cannot be stacked; says so once for each."""
    return {job.run_id for job in {job.run_id: job for job in jobs}.values() if not _can_be_stacked(job)}


_reasons: dict[str, str | None] = {}
"""Digest of a configuration -> why its model cannot be stacked."""


def _can_be_stacked(job: Job) -> bool:
    from baselines import registry, stackable

    key = digest([job.model, dict(job.hyperparameters), job.protocol["dataset"]])
    if key not in _reasons:
        data = spec_of(job.protocol["dataset"])
        why = _reasons[key] = stackable.why_not(registry.get(job.model), data, job.hyperparameters)
        if why is not None:
            print(f"{job.model} cannot be stacked, so its seeds train one at a time: {why}", file=sys.stderr)
    return _reasons[key] is None


def trials_per_worker(wanted: int | None, total: int, n_workers: int, *, gpus: bool, timed: bool) -> int:
    """How many trials a worker trains at once: not so many that other workers would have none.

    ``timed``: the search minimises training time, which trials that train together do not have.
    """
    wanted = wanted or (TRIALS if gpus and not timed else 1)
    return max(1, min(wanted, -(-total // n_workers)))


def stackable_groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups of which each can be one stack, in order."""
    from baselines import registry
    from baselines.training import lanes

    def fit(a: Job, b: Job) -> bool:
        spec = spec_of(a.protocol["dataset"])
        together = lanes.stackable(registry.get(a.model), spec, a.hyperparameters, b.hyperparameters)
        return together and _can_be_stacked(a)

    found: list[list[Job]] = []
    for job in jobs:
        group = next((group for group in found if fit(group[0], job)), None)
        if group is None:
            found.append([job])
        else:
            group.append(job)
    return found
