"""BEGAN: its weight k, its autoencoders, and iterations written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from baselines.began import Balance, autoencoder, began
from baselines.gan import DataSpec
from baselines.stackable import SGD
from baselines.training.streams import Stream
from baselines.training.trainer import Trainer, build

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LR, GAMMA, RATE, STEPS = 0.5, 2.0, 0.3, 4


def mean_error(disc: nn.Module, images: Tensor) -> Tensor:
    return (images - disc(images)).abs().sum() / images.numel()


def descend(net: nn.Module, loss: Tensor) -> None:
    params = list(net.parameters())
    with torch.no_grad():
        for param, grad in zip(params, torch.autograd.grad(loss, params), strict=True):
            param -= LR * grad


def test_iterations_equal_those_written_by_hand_in_float64() -> None:
    gan = began(DataSpec(1, 8, 8), gamma=GAMMA, k_rate=RATE, batch_size=6, latent_dim=16)
    gan = replace(gan, optim={"gen": SGD(LR), "disc": SGD(LR)})
    nets = {name: net.double() for name, net in build(gan, 3, CPU).items()}
    gen, disc = nets["gen"], nets["disc"]
    drawn = Stream(3, n_examples=40, batch_size=6, n_updates=2, noise=gan.noise, device=CPU).chunk()
    k, expected = 0.0, []
    for step in range(STEPS):
        real = mean_error(disc, IMAGES[drawn["index"][step, 0]].double() / 127.5 - 1)
        fake = mean_error(disc, gen(drawn["z"][step, 0].double()).detach())
        d_loss, measure = real - k * fake, real.item() + abs(GAMMA * real.item() - fake.item())
        descend(disc, d_loss)
        g_loss = mean_error(disc, gen(drawn["z"][step, 1].double()))
        descend(gen, g_loss)
        expected.append((d_loss.item(), g_loss.item(), k, measure))
        k = min(max(k + RATE * (GAMMA * real.item() - fake.item()), 0.0), 1.0)
    assert 0 < k < 1
    assert expected[1][2] > 0

    for seeds in ([3], [1, 3]):
        trainer, lane = Trainer(gan, IMAGES, None, seeds), seeds.index(3)
        trainer.advance(STEPS)
        logs = trainer.history(lane)
        for i, name in enumerate(("d_loss", "g_loss", "k", "measure")):
            assert logs[name].tolist() == pytest.approx([row[i] for row in expected], rel=1e-4, abs=1e-6), (
                name
            )
        assert trainer.weights(lane)["balance"]["k"].item() == pytest.approx(k, rel=1e-4)


def test_k_stays_within_0_and_1_and_moves_in_training_alone() -> None:
    balance = Balance()
    found = [balance(torch.tensor(step)).item() for step in (0.75, 0.75, -0.25, -5.0, 0.5)]
    assert found == [0.0, 0.75, 1.0, 0.75, 0.0]
    balance.eval()(torch.tensor(0.25))
    assert balance.k.item() == 0.5


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_autoencoders_lead_through_a_code(shape: tuple[int, int, int]) -> None:
    data = DataSpec(*shape)
    images = torch.rand(3, *shape) * 2 - 1
    for net in ("mlp", "conv", "infogan"):
        disc = autoencoder(net, 16, data, norm=True)
        assert disc(images).shape == images.shape
        assert 16 in [m.out_features for m in disc.modules() if isinstance(m, nn.Linear)]
    flat = 128 * (shape[1] // 4) * (shape[2] // 4)
    lucic = autoencoder("infogan", 64, data, norm=False)
    convs = 16 * (64 * shape[0] + 64 * 128 + 128 * 64 + 64 * shape[0]) + 64 + 128 + 64 + shape[0]
    assert sum(p.numel() for p in lucic.parameters()) == convs + (flat * 64 + 64) + (64 * flat + flat)


def test_what_is_rebuilt_well_counts_as_real() -> None:
    gan = began(DataSpec(1, 8, 8))
    nets = Trainer(gan, IMAGES, None, [0]).nets()
    assert gan.discriminate is not None
    assert gan.threshold is None
    images = IMAGES[:5].float() / 127.5 - 1
    scores = gan.discriminate(nets, {"image": images})
    expected = [-(x - nets["disc"].eval(x[None])[0]).abs().mean().item() for x in images]
    assert scores.tolist() == pytest.approx(expected, rel=1e-5)
