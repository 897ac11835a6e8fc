"""What ``bench.tune`` is made of: request -> study -> trials -> findings."""

SAMPLERS = ("tpe", "random", "cmaes", "grid", "qmc")
PRUNERS = ("median", "hyperband", "none")

FIRST_SEED = 1000
"""Of trials. The seeds below it are fresh: the winner is retrained on them."""
