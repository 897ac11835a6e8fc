"""SNGAN: its networks at several sizes, spectral normalisation, and what labels do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.gan import DataSpec
from baselines.layers import SpectralNorm
from baselines.sngan import BatchNorm, Discriminator, First, Generator, Up, sngan
from baselines.sngan_projection import sngan_projection
from baselines.training.trainer import Trainer, build

CPU = torch.device("cpu")


def count(net: nn.Module) -> int:
    return sum(param.numel() for param in net.parameters())


def test_networks_for_cifar_have_the_published_layers() -> None:
    data = DataSpec(3, 32, 32, 10)
    gen, disc = Generator(128, 256, data), Discriminator(128, data)

    def conv(n_in: int, n_out: int, kernel: int = 3) -> int:
        return kernel * kernel * n_in * n_out + n_out

    up = 2 * conv(256, 256) + conv(256, 256, 1) + 2 * 2 * 256
    assert count(gen) == 129 * 4 * 4 * 256 + 3 * up + 2 * 256 + conv(256, 3)
    keep = 2 * conv(128, 128)
    first = conv(3, 128) + conv(128, 128) + conv(3, 128, 1)
    assert count(disc) == first + 3 * keep + conv(128, 128, 1) + 128
    assert count(Generator(128, 256, data, 10)) == count(gen) + 3 * 2 * 2 * 9 * 256
    assert count(Discriminator(128, data, 10)) == count(disc) + 10 * 128


@pytest.mark.parametrize(
    ("shape", "start", "last"),
    [((1, 8, 8), 4, 4), ((1, 28, 28), 7, 7), ((3, 32, 32), 4, 8), ((3, 64, 64), 4, 8), ((1, 48, 48), 6, 12)],
)
def test_blocks_follow_the_size_of_the_images(shape: tuple[int, int, int], start: int, last: int) -> None:
    data = DataSpec(*shape)
    gen, disc = Generator(5, 4, data), Discriminator(4, data)
    assert gen.start == (4, start, start)
    images = gen(torch.randn(2, 5))
    assert images.shape == (2, *shape)
    assert disc.blocks(images).shape == (2, 4, last, last)
    assert disc(images).shape == (2,)
    first = next(iter(disc.blocks))
    assert isinstance(first, First)


def test_every_layer_of_the_discriminator_is_normalised() -> None:
    disc = Discriminator(4, DataSpec(1, 8, 8, 3), 3)
    layers = [m for m in disc.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) == sum(isinstance(m, SpectralNorm) for m in disc.modules()) == 3 + 2 * 2 + 2
    for _ in range(60):
        disc(torch.randn(2, 1, 8, 8), torch.tensor([0, 2]))
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_a_block_is_a_residual_beside_a_shortcut() -> None:
    """Table 4: both are upsampled; the shortcut has a 1×1 convolution."""
    block, x = Up(3, 0).eval(), torch.randn(2, 3, 4, 4)
    grown = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    plain = nn.Conv2d(3, 3, 3, padding=1)
    plain.load_state_dict(block.conv1.state_dict())

    def normal(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x / (1 + 2e-5) ** 0.5)

    h = plain(normal(x).repeat_interleave(2, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(block(x, None), block.conv2(normal(h)) + block.shortcut(grown))


def test_labels_choose_scale_and_shift_in_g_and_a_vector_in_d() -> None:
    norm, x, label = BatchNorm(3, 4), torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 1, 2, 3])
    nn.init.normal_(norm.scale)
    nn.init.normal_(norm.shift)
    y, plain = norm(x, label), nn.functional.batch_norm(x, None, None, training=True, eps=2e-5)
    for i, k in enumerate(label):
        torch.testing.assert_close(
            y[i], plain[i] * norm.scale[k, :, None, None] + norm.shift[k, :, None, None]
        )
    disc = Discriminator(4, DataSpec(1, 8, 8, 4), 4).eval()
    images = torch.randn(5, 1, 8, 8)
    features = torch.relu(disc.blocks(images)).sum((2, 3))
    assert disc.classes is not None
    products = (features * disc.classes.weight[label]).sum(1)
    torch.testing.assert_close(disc(images, label), disc(images) + products)


def test_defaults_are_those_of_the_authors_code() -> None:
    for factory in (sngan, sngan_projection):
        gan = factory(DataSpec(3, 32, 32, 10))
        assert [update.net for update in gan.updates] == ["disc"] * 5 + ["gen"]
        assert (gan.optim["gen"].lr, gan.optim["disc"].betas, gan.batch_size) == (2e-4, (0.0, 0.9), 64)  # type: ignore[union-attr]
    nets = build(sngan(DataSpec(3, 32, 32), width=8), 0, CPU)
    assert nets["gen"].dense.out_features == 8 * 4 * 4
    assert nets["disc"].score.in_features == 4


@pytest.mark.slow
def test_conditional_samples_depend_on_their_label() -> None:
    data = DataSpec(1, 8, 8, 10)
    images = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    gan = sngan_projection(data, width=8, n_critic=1)
    trainer = Trainer(gan, images.to(torch.uint8), torch.arange(64) % 10, [0])
    trainer.advance(10)
    z = torch.randn(1, 128).expand(10, 128)
    with torch.no_grad():
        samples = gan.generate(trainer.nets(), {"label": torch.arange(10)}, {"z": z})
    assert torch.pdist(samples.flatten(1)).min() > 0
