"""The vanilla GAN against the article's parameter counts and a hand-written iteration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from baselines.gan import DataSpec, Gan
from baselines.training.step import to_float, to_uint8
from baselines.training.streams import Stream
from baselines.training.trainer import Trainer, build
from baselines.vanilla import vanilla

CPU = torch.device("cpu")
MNIST_SHAPE = DataSpec(1, 28, 28, 10)


def count(net: nn.Module) -> tuple[int, int]:
    trainable = sum(p.numel() for p in net.parameters())
    return trainable, trainable + sum(b.numel() for b in net.buffers())


def test_parameter_counts_are_those_of_the_article() -> None:
    nets = build(vanilla(MNIST_SHAPE), 0, CPU)
    assert count(nets["gen"]) == (1_489_936, 1_493_520)
    assert count(nets["disc"]) == (533_505, 533_505)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 7)])
def test_adapts_to_any_shape(shape: tuple[int, int, int]) -> None:
    nets = build(vanilla(DataSpec(*shape), latent_dim=7), 0, CPU)
    images = nets["gen"](torch.randn(4, 7))
    assert images.shape == (4, *shape)
    assert nets["disc"](images).shape == (4,)


def test_layers_and_defaults_are_keras() -> None:
    nets = build(vanilla(MNIST_SHAPE), 0, CPU)
    norms = [m for m in nets["gen"].modules() if isinstance(m, nn.BatchNorm1d)]
    assert [(m.num_features, m.eps, m.momentum) for m in norms] == [(n, 1e-3, 0.2) for n in (256, 512, 1024)]
    slopes = [m.negative_slope for net in nets.values() for m in net.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.2] * 5
    for net in nets.values():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
                weight = layer.weight.detach()
                assert weight.abs().max() <= bound
                assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.2)
                assert not layer.bias.any()
    adam = Trainer(vanilla(MNIST_SHAPE), torch.zeros(9, 1, 28, 28, dtype=torch.uint8), None, [0])
    for name in ("gen", "disc"):
        group = adam.optimizers[name].param_groups[0]
        assert (group["lr"], group["betas"], group["eps"]) == (2e-4, (0.5, 0.999), 1e-7)


class ReferenceAdam:
    """Kingma & Ba 2015, Algorithm 1, in float64."""

    def __init__(self, params: list[Tensor]) -> None:
        self.params, self.t = params, 0
        self.m = [torch.zeros_like(p) for p in params]
        self.v = [torch.zeros_like(p) for p in params]

    def step(self, grads: list[Tensor]) -> None:
        self.t += 1
        for p, m, v, grad in zip(self.params, self.m, self.v, grads, strict=True):
            m.copy_(0.5 * m + 0.5 * grad)
            v.copy_(0.999 * v + 0.001 * grad**2)
            m_hat, v_hat = m / (1 - 0.5**self.t), v / (1 - 0.999**self.t)
            p.data -= 2e-4 * m_hat / (v_hat.sqrt() + 1e-7)


def reference_iterations(gan: Gan, images: Tensor, seed: int, n: int) -> tuple[dict[str, nn.Module], list]:
    """The article's loop, written plainly, in float64: sigmoid, cross-entropy, targets 1 and 0."""
    nets = {name: net.double() for name, net in build(gan, seed, CPU).items()}
    gen, disc = nets["gen"], nets["disc"]
    adam = {name: ReferenceAdam(list(net.parameters())) for name, net in nets.items()}
    stream = Stream(
        seed, n_examples=len(images), batch_size=gan.batch_size, n_updates=3, noise=gan.noise, device=CPU
    )
    chunk = stream.chunk()
    logs = []
    for k in range(n):
        index, z = chunk["index"][k], chunk["z"][k].double()
        gen.eval()
        fake = gen(z[1]).detach()
        gen.train()
        losses, accuracies = [], []
        for x, target in ((images[index[0]].double() / 127.5 - 1, 1.0), (fake, 0.0)):
            p = torch.sigmoid(disc(x))
            loss = nn.functional.binary_cross_entropy(p, torch.full_like(p, target))
            accuracies.append(((p > 0.5) == bool(target)).double().mean().item())
            adam["disc"].step(list(torch.autograd.grad(loss, list(disc.parameters()))))
            losses.append(loss.item())
        p = torch.sigmoid(disc(gen(z[2])))
        loss = nn.functional.binary_cross_entropy(p, torch.ones_like(p))
        adam["gen"].step(list(torch.autograd.grad(loss, list(gen.parameters()))))
        logs.append((sum(losses) / 2, *accuracies, loss.item()))
    return nets, logs


@pytest.mark.parametrize("seeds", [[3], [1, 3]], ids=["solo", "stacked"])
def test_iterations_equal_a_hand_written_reference(seeds: list[int]) -> None:
    images = torch.randint(
        0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    gan = vanilla(DataSpec(1, 8, 8), g_widths=(16, 32), d_widths=(32, 16), batch_size=16)
    nets, logs = reference_iterations(gan, images, seed=3, n=5)
    trainer = Trainer(gan, images, None, seeds)
    trainer.advance(5)
    lane = seeds.index(3)
    history = trainer.history(lane)
    for name, column in zip(
        ("d_loss", "d_acc_real", "d_acc_fake", "g_loss"), zip(*logs, strict=True), strict=True
    ):
        torch.testing.assert_close(
            torch.tensor(history[name]).double(),
            torch.tensor(column, dtype=torch.float64),
            rtol=1e-4,
            atol=1e-5,
        )
    weights = trainer.weights(lane)
    for name, net in nets.items():
        for key, value in net.state_dict().items():
            # Adam's first steps are lr · sign(gradient): where that is nearly 0, rounding decides.
            error = (weights[name][key].double() - value).abs()
            assert error.mean() < 2e-6, (name, key)
            assert error.max() < 5 * 2e-4, (name, key)


def test_each_loss_moves_its_own_net_alone() -> None:
    images = torch.randint(
        0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    gan = vanilla(DataSpec(1, 8, 8), g_widths=(16,), d_widths=(16,), batch_size=16)
    for update in gan.updates:
        alone = Trainer(replace(gan, updates=(update,)), images, None, [0])
        before = {name: {k: v.clone() for k, v in held.items()} for name, held in alone.params.items()}
        alone.advance(1)
        for name, held in alone.params.items():
            moved = [not torch.equal(before[name][key], value) for key, value in held.items()]
            assert all(moved) if name == update.net else not any(moved), (update.loss.__name__, name)


def test_batchnorm_modes() -> None:
    """D's fakes use moving statistics and do not change them; G's step updates them."""
    images = torch.randint(
        0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    gan = vanilla(DataSpec(1, 8, 8), g_widths=(16,), d_widths=(16,), batch_size=16)
    for update, moves in zip(gan.updates, (False, False, True), strict=True):
        alone = Trainer(replace(gan, updates=(update,)), images, None, [0])
        alone.advance(1)
        assert bool(alone.buffers["gen"]["2.running_mean"].any()) is moves, update.loss.__name__


def test_pixels_are_scaled_as_the_article_does_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(pixels)
    assert floats[0] == -1
    assert floats[255] == 1
    torch.testing.assert_close(floats, pixels.float() / 127.5 - 1)
    assert torch.equal(to_uint8(floats), pixels)
