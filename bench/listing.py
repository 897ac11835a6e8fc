"""``--list``: the models, data sets and features to choose from."""

from __future__ import annotations

from baselines import registry
from baselines.hyperparameters import declared
from bench.data import datasets
from bench.scoring.extractors import AUTO, NAMES


def print_list() -> None:
    """Print the models (year, paper, task, needs, hyperparameters with ranges), data sets and features."""
    print("models")
    for name in registry.names():
        factory = registry.get(name)
        card = registry.card(factory)
        needs = f"; needs {', '.join(sorted(card.needs))}s" if card.needs else ""
        print(f"  {name}  [{card.year}] {card.paper}  ({card.task}{needs})")
        for parameter in declared(factory).values():
            print(f"      {parameter.describe()}")
    print("data sets")
    print(f"  auto  {'  '.join(datasets.NAMES)}  folder:PATH  array:FILE")
    print("features")
    print(f"  {AUTO}  {'  '.join(NAMES)}")
