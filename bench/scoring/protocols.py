"""Published protocols for ``--protocol``. They are followed as far as this harness can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import UsageError


@dataclass(frozen=True)
class Protocol:
    """The settings that a paper fixed. The values that it searched over are left to ``--set``."""

    paper: str
    models: Mapping[str, Mapping[str, Any]]
    """Model -> hyperparameters that the paper fixed for this model alone."""
    hyperparameters: Mapping[str, Any]
    """Hyperparameters that the paper fixed for every model."""
    updates: Mapping[str, int]
    """Data set -> number of updates of the discriminator."""
    features: tuple[str, ...]
    """``auto``: those of the data set."""
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Data set -> hyperparameters that the paper fixed for this data set alone."""
    draws: int | None = None
    """Draws of samples that the paper scored at the last step; None: as many as without a protocol."""

    def settings(self, model: str, dataset: str = "") -> dict[str, Any]:
        """All hyperparameters that the paper fixed for a model on a data set."""
        return {**self.hyperparameters, **self.datasets.get(dataset, {}), **self.models.get(model, {})}

    def steps(self, dataset: str, n_critic: int) -> int:
        """The length of the paper's training in iterations.

        An iteration has ``n_critic`` updates of the discriminator and one of the generator.
        """
        return max(1, self.updates[dataset] // max(1, n_critic))  # an n_critic below 1 is refused later


ON_POINTS = {
    "net": "plane",
    "latent_dim": 2,
    "batch_size": 100,
    "lr": 1e-4,
    "d_lr": 1e-4,
    "beta1": 0.8,
    "beta2": 0.999,
}
"""PacGAN's settings of both mixtures."""

PROTOCOLS: Mapping[str, Protocol] = {
    "lucic2018": Protocol(
        paper="Lucic et al., Are GANs Created Equal?, arXiv:1711.10337",
        models={
            "mmgan": {},
            "nsgan": {},
            "lsgan": {"sigmoid": True},
            "wgan": {"optimizer": "adam"},
            "wgan_gp": {},
            "dragan": {},
        },
        # β2 is TensorFlow's default. The paper searched over learning rate, β1, n_critic, norm, clip and
        # penalty.
        hyperparameters={
            "net": "infogan",
            "prior": "uniform",
            "latent_dim": 64,
            "batch_size": 64,
            "beta2": 0.999,
        },
        # 20 and 100 epochs of 50,000 images in batches of 64. Their code (google/compare_gan) counts
        # discriminator updates, and updates the generator at every disc_iters-th.
        updates={"mnist": 15_625, "fashion-mnist": 15_625, "cifar10": 78_125},
        features=("inception-v3-compat",),
    ),
    "pacgan2018": Protocol(
        paper="Lin et al., PacGAN: The power of two samples in GANs, arXiv:1712.04086",
        # The paper compares packings: packing=1 is its base GAN.
        models={"pacgan": {}},
        hyperparameters={"prior": "normal", "n_critic": 1},
        # Batches are counted in packs. β2 on points is that of the library. On stacked-mnist the net is
        # stacked_quarter or stacked_half: the discriminators of the two columns of table 3.
        datasets={
            "ring": ON_POINTS,
            "grid": ON_POINTS,
            "stacked-mnist": {
                "net": "stacked_quarter",
                "latent_dim": 256,
                "batch_size": 128,
                "lr": 1e-4,
                "d_lr": 2e-4,
                "beta1": 0.5,
                "beta2": 0.99,
            },
        },
        # On points 400 epochs of 100,000 packs in batches of 100: in their code an epoch has so many packs
        # whatever the packing is. Stacked MNIST is drawn on the fly.
        updates={"ring": 400_000, "grid": 400_000, "stacked-mnist": 500_000},
        features=("auto",),
        draws=1,
    ),
}


def follow(name: str, models: list[str], datasets: list[str]) -> Protocol:
    """The protocol of this name.

    Raises:
        UsageError: the paper did not measure one of these models or data sets.
    """
    protocol = PROTOCOLS[name]
    for flag, given, known in (
        ("--models", models, tuple(protocol.models)),
        ("--dataset", datasets, tuple(protocol.updates)),
    ):
        for value in given:
            if value not in known:
                raise UsageError(
                    f"{flag}: {value!r} is not part of --protocol {name}; {', '.join(known)} are"
                )
    return protocol
