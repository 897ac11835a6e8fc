"""The VAE: its bound and its step written by hand, its networks, its samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from baselines.gan import DataSpec
from baselines.stackable import SGD
from baselines.training.streams import Stream
from baselines.training.trainer import Trainer, build
from baselines.vae import divergence, vae

CPU = torch.device("cpu")
DIGITS = DataSpec(1, 8, 8)
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
B, N, LR = 6, 5, 1e-3


def bound(net: nn.Module, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """-log p(x|z) and the divergence, in mean over the batch: Bernoulli, pixel by pixel."""
    output = net.encoder(image)
    mean, deviation = output[:, :N], torch.log1p(torch.exp(output[:, N:])) + 1e-6
    p = 1 / (1 + torch.exp(-net.decoder(mean + deviation * noise)))
    x = (image + 1) / 2
    likelihood = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum() / B
    kl = 0.5 * (mean**2 + deviation**2 - torch.log(deviation**2) - 1).sum() / B
    return -likelihood, kl


def test_a_step_equals_one_written_by_hand_in_float64() -> None:
    gan = replace(vae(DIGITS, latent_dim=N, batch_size=B), optim={"gen": SGD(LR)})
    net = build(gan, 3, CPU)["gen"].double()
    drawn = Stream(3, n_examples=40, batch_size=B, n_updates=1, noise=gan.noise, device=CPU).chunk()
    image = IMAGES[drawn["index"][0, 0]].double() / 127.5 - 1
    reconstruction, kl = bound(net, image, drawn["z"][0, 0].double())
    params = list(net.parameters())
    grads = torch.autograd.grad(reconstruction + kl, params)
    with torch.no_grad():
        for param, grad in zip(params, grads, strict=True):
            param -= LR * grad

    for seeds in ([3], [1, 3]):
        trainer, lane = Trainer(gan, IMAGES, None, seeds), seeds.index(3)
        trainer.advance(1)
        logs = {key: values[0] for key, values in trainer.history(lane).items()}
        assert logs["reconstruction"] == pytest.approx(reconstruction.item(), rel=1e-5)
        assert logs["kl"] == pytest.approx(kl.item(), rel=1e-5)
        assert logs["g_loss"] == pytest.approx(reconstruction.item() + kl.item(), rel=1e-5)
        held = trainer.weights(lane)["gen"]
        for key, value in net.named_parameters():
            torch.testing.assert_close(held[key].double(), value.detach(), rtol=1e-4, atol=1e-6)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    mean, deviation = torch.tensor([[0.5, -2.0]]), torch.tensor([[0.1, 3.0]])
    q, p = torch.distributions.Normal(mean, deviation), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum(1)
    torch.testing.assert_close(divergence(mean, deviation), expected)
    assert divergence(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0


def test_logits_that_are_far_off_still_have_a_gradient() -> None:
    gan = vae(DIGITS, latent_dim=N)
    logits = torch.full((1, 1, 8, 8), -200.0, requires_grad=True)
    nets = {"gen": lambda z, image: (logits, torch.zeros(1, N), torch.ones(1, N))}
    loss, _ = gan.updates[0].loss(nets, {"image": torch.ones(1, 1, 8, 8)}, {"z": torch.zeros(1, N)})  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(64 * 200)
    assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.full_like(logits, -1.0))


def test_samples_are_the_means_of_the_pixels() -> None:
    gan = vae(DIGITS, latent_dim=N)
    trainer, z = Trainer(gan, IMAGES, None, [0]), torch.randn(3, N)
    decoder = trainer.modules["gen"][1].decoder  # with the first weights, in evaluation mode
    with torch.no_grad():
        sampled = gan.generate(trainer.nets(), {}, {"z": z})
        expected = 2 * torch.sigmoid(decoder(z)) - 1
    torch.testing.assert_close(sampled, expected)
    assert (gan.discriminate, len(gan.updates)) == (None, 1)


def test_infogan_networks_are_those_of_lucic_et_al() -> None:
    net = build(vae(DataSpec(1, 28, 28), net="infogan", encoder_norm="batch"), 0, CPU)["gen"]
    kinds = [type(m).__name__ for m in net.decoder]
    assert kinds == [
        *("Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Unflatten"),
        *("ConvTranspose2d", "BatchNorm2d", "ReLU", "ConvTranspose2d"),
    ]
    last = net.encoder[-1]
    assert (last.in_features, last.out_features) == (1024, 128)
    assert last.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.encoder) == 2
