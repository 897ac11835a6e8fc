"""``--list``: the models, data sets and features to choose from."""

from __future__ import annotations

import textwrap

from baselines import registry
from baselines.hyperparameters import declared
from baselines.options import with_options
from bench.data import datasets
from bench.identity import outside
from bench.scoring.extractors import AUTO, NAMES, USUAL_NAMES


def print_list() -> None:
    """Print the models (year, paper, task, needs, hyperparameters with ranges), data sets and features."""
    print("models")
    for name in registry.names():
        factory = registry.plain(name)
        card = registry.card(factory)
        needs = f"; needs {', '.join(sorted(card.needs))}s" if card.needs else ""
        print(f"  {name}  [{card.year}] {card.paper}  ({card.task}{needs})")
        for parameter in declared(factory).values():
            print(f"      {parameter.describe()}")
    print("  every model also has")
    for option in declared(with_options(lambda data: NotImplemented)).values():
        print(f"      {option.describe()}")
    print("data sets")
    own = "  ".join((*datasets.NAMES, *outside.names("--dataset")))
    print(f"  auto  {own}  folder:PATH  array:FILE  module:function")
    print("features")
    features = "  ".join((AUTO, *NAMES, *outside.names("--features"), "module:function"))
    print(textwrap.fill(features, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
    for usual, name in USUAL_NAMES.items():
        print(f"  {usual}: FID on {name}")
