"""Published protocols that ``--protocol`` follows as far as this harness can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError


@dataclass(frozen=True)
class Protocol:
    """What a paper fixed: models, hyperparameters of each, steps by data set, features."""

    paper: str
    models: tuple[str, ...]
    hyperparameters: Mapping[str, Any]
    steps: Mapping[str, int]
    features: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    "lucic2018": Protocol(
        paper="Lucic et al., Are GANs Created Equal?, arXiv:1711.10337",
        models=("mmgan", "nsgan", "lsgan", "wgan", "wgan_gp", "dragan"),
        hyperparameters={"net": "infogan", "prior": "uniform", "latent_dim": 64, "batch_size": 64},
        # 20 and 100 epochs of 50,000 images in batches of 64, as in their code (google/compare_gan).
        steps={"mnist": 15_625, "fashion-mnist": 15_625, "cifar10": 78_125},
        features=("inception-v3-compat",),
    )
}


def follow(name: str, models: list[str], datasets: list[str]) -> Protocol:
    """The protocol of this name, for models and data sets that it covers.

    Raises:
        UsageError: a model or data set that the paper did not measure.
    """
    protocol = PROTOCOLS[name]
    for flag, given, known in (
        ("--models", models, protocol.models),
        ("--dataset", datasets, tuple(protocol.steps)),
    ):
        for value in given:
            if value not in known:
                raise UsageError(
                    f"{flag}: {value!r} is not part of --protocol {name}; {', '.join(known)} are"
                )
    return protocol
