"""What a worker loads once for all its runs: data sets, and evaluators with their extractors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from bench.data import datasets
from bench.plan import RunContext
from bench.scoring.evaluator import Evaluator
from bench.scoring.extractors import load_extractor
from bench.scoring.own_scores import load_all


@lru_cache(maxsize=2)
def dataset(name: str, data_root: Path, offline: bool, holdout: bool) -> datasets.Dataset:
    """A data set with its splits."""
    return datasets.load(name, data_root=data_root, offline=offline, holdout=holdout)


_evaluators: dict[tuple[str, str, tuple[str, ...], tuple[str, ...], RunContext], Evaluator] = {}


def evaluator(
    data: datasets.Dataset,
    split: str,
    names: tuple[str, ...],
    scores: tuple[str, ...],
    context: RunContext,
) -> Evaluator:
    """The evaluator of a split with these extractors, and with a user's own scores."""
    key = (data.sha256, split, names, scores, context)
    if key not in _evaluators:
        extractors = {
            name: load_extractor(name, data, **context.for_extractors(context.device)) for name in names
        }
        device, own = torch.device(context.device), load_all(scores)
        _evaluators[key] = Evaluator(data, split, extractors, context.cache, device, own)
    return _evaluators[key]
