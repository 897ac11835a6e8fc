"""PacGAN: packs, the published networks, and one iteration written by hand.

B packs, m images in a pack.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import conformance
from baselines.gan import DataSpec
from baselines.nsgan import nsgan
from baselines.pacgan import pacgan
from baselines.stackable import SGD
from baselines.training.streams import Stream
from baselines.training.trainer import Trainer, build

CPU = torch.device("cpu")
DIGITS, POINTS, STACKED = DataSpec(1, 8, 8), DataSpec(2, 1, 1, points=True), DataSpec(3, 28, 28)
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
B, M, LR = 4, 3, 0.1


def packs(images: list[Tensor]) -> Tensor:
    """The first m of them side by side, then the next m, and so on; flat."""
    return torch.stack([torch.cat(images[i : i + M]).flatten() for i in range(0, len(images), M)])


def probability(disc: nn.Module, flat: Tensor) -> Tensor:
    """D's two hidden layers, written out."""
    layers = [layer for layer in disc.modules() if isinstance(layer, nn.Linear)]
    for layer in layers[:-1]:
        flat = flat @ layer.weight.T + layer.bias
        flat = torch.where(flat > 0, flat, 0.2 * flat)
    return 1 / (1 + torch.exp(-(flat @ layers[-1].weight.T + layers[-1].bias)))


def descend(net: nn.Module, loss: Tensor) -> None:
    params = list(net.parameters())
    with torch.no_grad():
        for param, grad in zip(params, torch.autograd.grad(loss, params), strict=True):
            param -= LR * grad


def test_an_iteration_equals_one_written_by_hand_in_float64() -> None:
    gan = pacgan(DIGITS, packing=M, batch_size=B, latent_dim=5)
    gan = replace(gan, optim={"gen": SGD(LR), "disc": SGD(LR)})
    assert gan.batch_size == B * M
    nets = {name: net.double() for name, net in build(gan, 3, CPU).items()}
    gen, disc = nets["gen"], nets["disc"]
    drawn = Stream(3, n_examples=40, batch_size=B * M, n_updates=2, noise=gan.noise, device=CPU).chunk()
    index, z = drawn["index"][0], drawn["z"][0].double()

    def fakes(update: int) -> list[Tensor]:
        batches = [gen.net(z[update][k::M]) for k in range(M)]  # a batch for each place in a pack
        return [batches[k][i] for i in range(B) for k in range(M)]

    real = packs([IMAGES[i].double() / 127.5 - 1 for i in index[0]])
    d_loss = -probability(disc, real).log().mean()
    d_loss = d_loss - (1 - probability(disc, packs([fake.detach() for fake in fakes(0)]))).log().mean()
    descend(disc, d_loss)
    g_loss = -probability(disc, packs(fakes(1))).log().mean()
    descend(gen, g_loss)

    for seeds in ([3], [1, 3]):
        trainer = Trainer(gan, IMAGES, None, seeds)
        trainer.advance(1)
        logs = trainer.history(seeds.index(3))
        assert (logs["d_loss"][0], logs["g_loss"][0]) == pytest.approx(
            (d_loss.item(), g_loss.item()), rel=1e-5
        )
        for name, net in nets.items():
            held = trainer.weights(seeds.index(3))[name]
            for key, value in [*net.named_parameters(), *net.named_buffers()]:
                torch.testing.assert_close(held[key].double(), value.detach(), rtol=1e-4, atol=1e-6)


def test_one_image_in_a_pack_is_the_base_gan() -> None:
    base, packed = nsgan(DIGITS, batch_size=8), pacgan(DIGITS, packing=1, batch_size=8)
    history, other = (Trainer(gan, IMAGES, None, [0]).advance(3) for gan in (base, packed))
    assert {key: values.tolist() for key, values in history.items()} == {
        key: values.tolist() for key, values in other.items()
    }


def test_each_image_is_judged_with_those_that_follow_it() -> None:
    gan = pacgan(DIGITS, packing=M, batch_size=B)
    nets = Trainer(gan, IMAGES, None, [0]).nets()
    images = IMAGES[:5].float() / 127.5 - 1
    assert gan.discriminate is not None
    judged = gan.discriminate(nets, {"image": images})
    expected = [nets["disc"].eval(images[[i, (i + 1) % 5, (i + 2) % 5]]) for i in range(5)]
    torch.testing.assert_close(judged, torch.cat(expected))


def count(net: nn.Module) -> int:
    return sum(param.numel() for param in net.parameters())


def test_published_networks_have_the_published_layers() -> None:
    nets = build(pacgan(POINTS, net="plane", latent_dim=2, packing=M), 0, CPU)
    norms = 4 * 2 * 400
    assert count(nets["gen"]) == 2 * 400 + 3 * 400 * 400 + norms + 400 * 2 + 2
    assert count(nets["disc"]) == (2 * M + 1) * 1000 + 2 * 201 * 1000 + 201
    for layer in (m for net in nets.values() for m in net.modules() if isinstance(m, nn.Linear)):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
    x = torch.randn(7, 2 * M, 1, 1)
    maxout = nets["disc"].net[1]
    pieces = x.flatten(1) @ maxout.linear.weight.T + maxout.linear.bias
    torch.testing.assert_close(maxout(x.flatten(1)), pieces.view(7, 200, 5).max(2).values)
    for net, (a, b, c) in (("stacked_quarter", (2, 4, 8)), ("stacked_half", (4, 8, 16))):
        nets = build(pacgan(STACKED, net=net, latent_dim=256), 0, CPU)
        gen = 257 * 1024 + 9 * (64 * 32 + 32 * 16 + 16 * 8 + 8 * 3) + 32 + 16 + 8 + 3 + 2 * (64 + 32 + 16 + 8)
        assert count(nets["gen"]) == gen
        norms = 2 * (a + b + c)
        assert count(nets["disc"]) == 9 * (6 * a + a * b + b * c) + a + b + c + norms + 16 * c + 1
        images = nets["gen"](torch.randn(4, 256))
        assert images.shape == (4, 3, 28, 28)
        assert nets["disc"](images).shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "hyper"),
    [
        (POINTS, {"net": "plane", "latent_dim": 2, "packing": 2}),
        (STACKED, {"net": "stacked_quarter", "packing": 3, "batch_size": 4, "latent_dim": 8}),
    ],
    ids=["plane", "stacked"],
)
def test_published_networks_conform(data: DataSpec, hyper: dict[str, Any]) -> None:
    assert conformance.check(pacgan, data, **hyper) == []
