"""R3GAN, and options of training: R1, a learning rate of its own for D.

What is checked is one step of the trainer against the same step in float64, written plainly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import conformance, registry
from baselines.conformance import SGD
from baselines.gan import Adam, DataSpec, Gan, RMSprop
from baselines.hyperparameters import declared
from baselines.training.lanes import may_differ
from baselines.training.trainer import Trainer, build

DATA = DataSpec(1, 8, 8)
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
LR = 0.05
SMALL = {"latent_dim": 4, "batch_size": 6}


def model(name: str, **hyper: Any) -> Gan:
    """A small model that plain gradient descent trains."""
    gan = registry.get(name)(DATA, **SMALL, **hyper)
    return replace(gan, optim={net: SGD(LR) for net in gan.optim})


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""D, real images and generated ones -> the loss."""


def assert_step(gan: Gan, d: Loss, g: Loss) -> dict[str, float]:
    """Compare one iteration, an update of D and one of G, with the same in float64; returns its logs."""
    trainer = Trainer(gan, IMAGES, None, [0])
    stream = trainer.streams[0]
    drawn = {name: value[0] for name, value in stream.rewind(stream.state).items()}
    nets = {name: net.double() for name, net in build(gan, 0, IMAGES.device).items()}
    for k, (name, loss) in enumerate((("disc", d), ("gen", g))):
        real = IMAGES[drawn["index"][k]].double() / 127.5 - 1
        value = loss(nets["disc"], real, nets["gen"](drawn["z"][k].double()))
        params = list(nets[name].parameters())
        grads = torch.autograd.grad(value, params)
        with torch.no_grad():
            for param, grad in zip(params, grads, strict=True):
                param.sub_(LR * grad)
    logged = trainer.advance(1)
    for name, net in nets.items():
        for key, expected in net.named_parameters():
            found = trainer.params[name][key].double()
            assert torch.allclose(found, expected, atol=1e-6, rtol=1e-4), f"{name}.{key}"
    return {key: float(values[0, 0]) for key, values in logged.items()}


def slopes(disc: nn.Module, x: Tensor) -> Tensor:
    """‖∇ₓ D(x)‖² of each example (B,), by PyTorch's own double backward."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(disc(x).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def d_nsgan(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-disc(real)).mean() + F.softplus(disc(fake)).mean()


def g_nsgan(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-disc(fake)).mean()


# ---------------------------------------------------------------- R1


def test_r1_is_half_gamma_times_the_mean_squared_slope_at_real_images() -> None:
    def d(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return d_nsgan(disc, real, fake) + 7.0 / 2 * slopes(disc, real).mean()

    logged = assert_step(model("nsgan", r1=7.0), d, g_nsgan)
    assert logged["r1"] > 0
    assert logged["d_loss"] > 7.0 / 2 * logged["r1"]


def test_r1_of_zero_is_not_computed() -> None:
    gan = registry.get("nsgan")(DATA)
    assert gan.updates[0].loss is registry.get("nsgan")(DATA, r1=0.0).updates[0].loss
    assert "r1" not in assert_step(model("nsgan"), d_nsgan, g_nsgan)


def test_r1_is_refused_with_batch_norm_in_the_discriminator() -> None:
    for hyper in ({"net": "conv"}, {"disc_norm": "batch"}):
        with pytest.raises(ValueError, match="BatchNorm in the discriminator mixes the examples"):
            registry.get("nsgan")(DATA, r1=1.0, **hyper)
    registry.get("nsgan")(DATA, r1=1.0, net="conv", disc_norm="none")
    with pytest.raises(ValueError, match=r"r1=-1\.0 must be at least 0"):
        registry.get("nsgan")(DATA, r1=-1.0)


def test_seeds_of_a_stack_may_differ_in_r1_but_not_in_having_it() -> None:
    factory = registry.get("wgan_gp")
    of = partial(may_differ, factory, DATA, {name: h.default for name, h in declared(factory).items()})
    assert not of("r1", 1.0)
    of = partial(of.func, factory, DATA, {**of.args[2], "r1": 2.0})
    assert of("r1", 1.0)
    assert of("penalty", 1.0)
    assert not of("r1", 0.0)


# ---------------------------------------------------------------- R3GAN


def test_r3gan_compares_pairs_and_has_both_penalties() -> None:
    def d(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        pairs = F.softplus(-(disc(real) - disc(fake))).mean()
        return pairs + 3.0 / 2 * (slopes(disc, real) + slopes(disc, fake)).mean()

    def g(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-(disc(fake) - disc(real))).mean()

    logged = assert_step(model("r3gan", gamma=3.0), d, g)
    assert logged["r1"] > 0
    assert logged["r2"] > 0
    assert "r1" not in declared(registry.get("r3gan")), "it is part of the loss"


# ---------------------------------------------------------------- a learning rate of D's own


def test_the_discriminator_may_have_a_learning_rate_of_its_own() -> None:
    nsgan, wgan = registry.get("nsgan"), registry.get("wgan")
    assert nsgan(DATA, lr=1e-4).optim["disc"] == Adam(1e-4, (0.5, 0.999))
    both = nsgan(DATA, lr=1e-4, d_lr=4e-4).optim
    assert both == {"gen": Adam(1e-4, (0.5, 0.999)), "disc": Adam(4e-4, (0.5, 0.999))}
    assert wgan(DATA, d_lr=1e-3).optim == {"gen": RMSprop(5e-5), "disc": RMSprop(1e-3)}
    with pytest.raises(ValueError, match=r"d_lr=0\.0 must be above 0"):
        nsgan(DATA, d_lr=0.0)


# ---------------------------------------------------------------- each conforms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("hinge", {"r1": 1.0, "d_lr": 1e-4}),  # spectral normalisation inside the penalty
        ("wgan_gp", {"r1": 1.0}),  # two penalties
    ],
    ids=str,
)
def test_models_with_options_conform(name: str, hyper: dict[str, Any]) -> None:
    assert conformance.check(registry.get(name), DATA, latent_dim=8, **hyper) == []
