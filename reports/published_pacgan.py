"""PacGAN's scores, beside runs of ``--protocol pacgan2018`` that follow it in every field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.scoring.protocols import PROTOCOLS
from bench.scoring.scores import HIGH_QUALITY, MODE_KL, MODES, REVERSE_KL
from reports.published import Difference, Figure, options, whole

PACGAN = PROTOCOLS["pacgan2018"]

SOURCE = (
    "Lin et al. 2018, PacGAN, arXiv:1712.04086, tables 1 and 3 (their ± is the standard error over trials; "
    "here it is the deviation, that error times √trials)"
)

TRIALS: Mapping[str, int] = {"ring": 10, "grid": 10, "stacked-mnist": 50}

Pairs = tuple[tuple[float, float], ...]
"""(mean, standard error) of each score, as printed."""

POINTS = ("points", (MODES, HIGH_QUALITY, REVERSE_KL))
STACKED = ("per-channel", (MODES, MODE_KL))
"""Where our records have the scores, and the scores in the order of the papers' columns."""
DECIMALS = {MODES: 1, HIGH_QUALITY: 1, REVERSE_KL: 2, MODE_KL: 2}

TABLES: Mapping[tuple[str, str], Mapping[int, Pairs]] = {
    ("ring", "plane"): {
        1: ((6.3, 0.5), (98.2, 0.2), (0.45, 0.09)),
        2: ((7.9, 0.1), (95.6, 2.0), (0.07, 0.03)),
        3: ((7.8, 0.1), (97.7, 0.3), (0.10, 0.02)),
        4: ((7.8, 0.1), (95.9, 1.4), (0.07, 0.02)),
    },
    ("grid", "plane"): {
        1: ((17.3, 0.8), (94.8, 0.7), (0.70, 0.07)),
        2: ((23.8, 0.7), (91.3, 0.8), (0.13, 0.04)),
        3: ((24.6, 0.4), (94.2, 0.4), (0.06, 0.02)),
        4: ((24.8, 0.2), (93.6, 0.6), (0.04, 0.01)),
    },
    ("stacked-mnist", "stacked_quarter"): {
        1: ((78.5, 17.56), (5.21, 0.19)),
        2: ((484.5, 32.99), (2.61, 0.22)),
        3: ((601.3, 32.18), (2.00, 0.17)),
        4: ((667.4, 29.00), (1.81, 0.15)),
    },
    ("stacked-mnist", "stacked_half"): {
        1: ((487.7, 34.59), (2.24, 0.15)),
        2: ((840.7, 15.92), (1.00, 0.05)),
        3: ((866.6, 12.10), (0.90, 0.04)),
        4: ((820.2, 25.50), (1.15, 0.14)),
    },
}
"""(Data set, net) -> packing -> the scores. On points table 1, on stacked-mnist both columns of table 3."""

PROTOCOL: Mapping[str, Any] = {
    "protocol.scored_on": "test",
    "protocol.select": "final",
    "protocol.draws": 1,
    "protocol.precision": "float32",
}
"""How the paper trained and scored, in the columns of our records. Beside it stands the number of samples."""

SAMPLES: Mapping[str, int] = {"ring": 2_500, "grid": 2_500, "stacked-mnist": 25_600}

NOISE = Difference("z of a generator update", "fresh", "that of the discriminator update before")
ON_POINTS = (
    Difference("order of updates", "the discriminator, then the generator", "both at once"),
    Difference("batches", "packs drawn anew, with replacement", "100,000 fixed packs in shuffled order"),
    Difference("moving statistics", "of variances, at each of the m batches", "of deviations, once"),
    NOISE,
)
ON_STACKS = (
    Difference("judge of modes", "our classifier of MNIST", "another network"),
    Difference("moving statistics", "unbiased variances", "biased ones"),
    NOISE,
)


def row(run: Mapping[str, Any]) -> Figure | None:
    """The published scores of a run (a row of :func:`reports.load`): of its data set, net and packing."""
    dataset, packing = str(run.get("dataset")), whole(run.get("hyperparameters.packing"))
    found = TABLES.get((dataset, str(run.get("hyperparameters.net"))), {}).get(packing)
    if run.get("model") != "pacgan" or found is None:
        return None
    section, scores = STACKED if dataset == "stacked-mnist" else POINTS
    n = TRIALS[dataset]
    texts = {
        (section, score.label): (f"{mean:.{d}f} ± {error * math.sqrt(n):.{d}f}", mean)
        for score, (mean, error) in zip(scores, found, strict=True)
        for d in [DECIMALS[score]]
    }
    of_net = f", {run['hyperparameters.net']}" if dataset == "stacked-mnist" else ""
    name = f"GAN{of_net}, published" if packing == 1 else f"PacGAN{packing}{of_net}, published"
    return Figure(name, texts)


def compare(run: Mapping[str, Any]) -> list[Difference]:
    """In which fields a run differs from the published protocol. A field that the run lacks differs."""
    dataset = str(run.get("dataset"))
    present = {name: value for name, value in run.items() if value is not None and value == value}  # NaN
    fixed = PACGAN.settings("pacgan", dataset) | {"net": present.get("hyperparameters.net")}
    theirs = {
        **PROTOCOL,
        "protocol.n_fake": SAMPLES[dataset],
        **{f"hyperparameters.{name}": value for name, value in fixed.items()},
    }
    found = [
        Difference(name.rpartition(".")[2], present.get(name, "none"), value)
        for name, value in theirs.items()
        if present.get(name) != value
    ]
    found += [option for option in options(present) if f"hyperparameters.{option.name}" not in theirs]
    steps = whole(run.get("steps"))  # of as many discriminator updates: n_critic is 1
    if steps != PACGAN.updates[dataset]:
        found.append(Difference("steps", steps, PACGAN.updates[dataset]))
    return found


def deviations(run: Mapping[str, Any]) -> tuple[Difference, ...]:
    """How our code always differs from theirs (fjxmlzn/PacGAN, 2018)."""
    return ON_STACKS if run.get("dataset") == "stacked-mnist" else ON_POINTS
