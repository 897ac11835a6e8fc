"""The comparison models: networks against their counts, defaults against their papers, refusals.

B examples, C channels, H height, W width.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import family, infogan, registry
from baselines.dcgan import dcgan
from baselines.gan import Adam, DataSpec, Gan, RMSprop, Uniform
from baselines.layers import Dropout, SpectralNorm
from baselines.training.trainer import Trainer, build

CPU = torch.device("cpu")
DIGITS, MNIST, CIFAR = DataSpec(1, 8, 8, 10), DataSpec(1, 28, 28, 10), DataSpec(3, 32, 32, 10)


def count(net: nn.Module) -> tuple[int, int]:
    """Trainable parameters; with moving statistics, as Keras counts them."""
    trainable = sum(p.numel() for p in net.parameters())
    return trainable, trainable + sum(b.numel() for b in net.buffers() if b.is_floating_point())


# ---------------------------------------------------------------- networks against their counts


def dense(n_in: int, n_out: int) -> int:
    return n_in * n_out + n_out


def conv(n_in: int, n_out: int, kernel: int = 3) -> int:
    return kernel * kernel * n_in * n_out + n_out


def test_dcgan_counts_are_those_of_its_keras_code() -> None:
    nets = build(dcgan(MNIST), 0, CPU)
    norms = 2 * (128 + 128 + 64)  # scale and shift; as many moving statistics
    gen = dense(100, 6272) + conv(128, 128) + conv(128, 64) + conv(64, 1) + norms
    assert count(nets["gen"]) == (gen, gen + norms)
    norms = 2 * (64 + 128 + 256)
    disc = conv(1, 32) + conv(32, 64) + conv(64, 128) + conv(128, 256) + dense(4096, 1) + norms
    assert count(nets["disc"]) == (disc, disc + norms)
    assert disc + norms == 393_729  # as Keras prints it


@pytest.mark.parametrize(
    ("data", "strides"), [(DIGITS, [2, 1, 1, 1]), (MNIST, [2, 2, 2, 1]), (CIFAR, [2, 2, 2, 1])]
)
def test_dcgan_discriminator_halves_down_to_four_pixels(data: DataSpec, strides: list[int]) -> None:
    disc = build(dcgan(data), 0, CPU)["disc"]
    layers = [m for m in disc.modules() if isinstance(m, nn.Conv2d)]
    assert [m.stride[0] for m in layers] == strides
    x = torch.zeros(2, *data.shape)
    for layer in layers:
        x = x.new_zeros(2, layer.in_channels, *x.shape[2:])
        x = layer(x)
    assert x.shape[2:] == (4, 4)


def test_cgan_counts() -> None:
    hidden = 2 * dense(512, 512) + dense(512, 1)
    nets = build(registry.get("cgan")(MNIST), 0, CPU)
    assert count(nets["gen"])[1] == 1_493_520 + 10 * 256  # vanilla's, and a weight per class
    assert count(nets["disc"])[0] == dense(784 + 10, 512) + hidden
    nets = build(registry.get("cgan")(MNIST, condition="multiply"), 0, CPU)
    assert count(nets["gen"])[1] == 1_493_520 + 10 * 100  # vanilla's, and the embedding
    assert count(nets["disc"])[0] == 10 * 784 + dense(784, 512) + hidden


def test_acgan_counts() -> None:
    plain = count(build(dcgan(MNIST), 0, CPU)["gen"])[0]
    multiplied = build(registry.get("acgan")(MNIST, condition="multiply"), 0, CPU)
    assert count(multiplied["gen"])[0] == plain + 10 * 100
    nets = build(registry.get("acgan")(MNIST), 0, CPU)
    assert count(nets["gen"])[0] == plain + 10 * 7 * 7 * 128
    norms = 2 * (32 + 64 + 128)
    disc = (
        conv(1, 16) + conv(16, 32) + conv(32, 64) + conv(64, 128) + dense(2048, 1) + dense(2048, 10) + norms
    )
    assert count(nets["disc"])[0] == disc


def test_infogan_networks_have_the_published_layers() -> None:
    gen, disc = infogan.generator(64, MNIST), infogan.discriminator(MNIST, norm=True)
    flat = 128 * 7 * 7
    norms = 2 * (1024 + flat + 64)
    assert count(gen)[0] == dense(64, 1024) + dense(1024, flat) + conv(128, 64, 4) + conv(64, 1, 4) + norms
    norms = 2 * (128 + 1024)
    assert count(disc)[0] == conv(1, 64, 4) + conv(64, 128, 4) + dense(flat, 1024) + dense(1024, 1) + norms
    assert count(infogan.discriminator(MNIST, norm=False))[0] == count(disc)[0] - norms
    for net in (gen, disc):
        for layer in net:
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
            if isinstance(layer, nn.Conv2d):  # a normal distribution cut off at two deviations
                assert layer.weight.std().item() == pytest.approx(0.0176, rel=0.1)
                assert layer.weight.abs().max() <= 0.04


def test_infogan_networks_see_images_between_0_and_1() -> None:
    """Inside the discriminator black is 0, as its padding is."""
    first = infogan.discriminator(MNIST, norm=False)[:2]
    assert isinstance(first[1], nn.Conv2d)
    assert torch.equal(first(torch.full((1, 1, 28, 28), -1.0)), torch.zeros(1, 64, 14, 14))
    weight = first[1].weight.sum((1, 2, 3))
    assert torch.allclose(first(torch.ones(1, 1, 28, 28))[0, :, 5, 5], weight, atol=1e-6)


@pytest.mark.slow
def test_spectral_norm_bounds_every_layer_of_the_hinge_discriminator() -> None:
    for net in ("mlp", "conv", "infogan"):
        gan = registry.get("hinge")(DIGITS, net=net)
        disc = gan.build()["disc"]
        layers = [m for m in disc.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert layers
        for _ in range(60):
            disc(torch.randn(4, 1, 8, 8))
        for layer in layers:
            assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("net", "norm", "batch_norms", "spectral_norms"),
    [
        ("mlp", "own", 0, 0),
        ("conv", "own", 3, 0),
        ("infogan", "own", 2, 0),
        ("mlp", "batch", 1, 0),
        ("conv", "none", 0, 0),
        ("infogan", "none", 0, 0),
        ("mlp", "spectral", 0, 3),
        ("conv", "spectral", 0, 5),
        ("infogan", "spectral", 0, 4),
    ],
)
def test_normalisation_of_the_discriminator(
    net: Any, norm: Any, batch_norms: int, spectral_norms: int
) -> None:
    disc = family.discriminator(net, norm, DIGITS)
    kinds = [type(m) for m in disc.modules()]
    assert sum(issubclass(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds) == batch_norms
    assert kinds.count(SpectralNorm) == spectral_norms
    assert disc(torch.randn(3, 1, 8, 8)).shape == (3,)
    assert Dropout not in kinds or all(m.p == 0 for m in disc.modules() if isinstance(m, Dropout))


# ---------------------------------------------------------------- defaults and training


def test_defaults_are_the_papers() -> None:
    gan = registry.get("wgan")(MNIST)
    assert [update.net for update in gan.updates] == ["disc"] * 5 + ["gen"]
    assert (gan.optim["disc"], gan.batch_size, gan.threshold) == (RMSprop(5e-5), 64, None)
    gan = registry.get("wgan_gp")(MNIST)
    assert [update.net for update in gan.updates] == ["disc"] * 5 + ["gen"]
    assert (gan.optim["disc"], gan.batch_size, gan.threshold) == (Adam(1e-4, (0.0, 0.9)), 64, None)
    for name, threshold in (("hinge", 0.0), ("lsgan", 0.5), ("dcgan", 0.0), ("dragan", 0.0)):
        gan = registry.get(name)(MNIST)
        optim = gan.optim["gen"]
        assert isinstance(optim, Adam)
        assert (optim.lr, optim.betas, gan.threshold) == (2e-4, (0.5, 0.999), threshold)


def test_hyperparameters_reach_the_model() -> None:
    gan = registry.get("nsgan")(DIGITS, prior="uniform", latent_dim=64, n_critic=3, lr=1e-3)
    assert gan.noise == {"z": Uniform((64,), -1.0, 1.0)}
    assert [update.net for update in gan.updates] == ["disc"] * 3 + ["gen"]
    assert gan.optim["gen"] == Adam(1e-3, (0.5, 0.999))
    assert registry.get("wgan")(DIGITS, optimizer="adam", beta1=0.3).optim["disc"] == Adam(5e-5, (0.3, 0.999))


def digits_like(n: int = 64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 8, 8), generator=rng)
    return images.to(torch.uint8), torch.arange(n) % 10


def test_wgan_clips_the_critic_after_every_step() -> None:
    gan: Gan = registry.get("wgan")(DIGITS, clip=0.003, n_critic=1)
    trainer = Trainer(gan, *digits_like(), [0])
    trainer.advance(1)
    largest = [value.abs().max().item() for value in trainer.params["disc"].values()]
    assert max(largest) == pytest.approx(0.003)
    assert max(value.abs().max().item() for value in trainer.params["gen"].values()) > 0.003


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_conditional_samples_depend_on_their_label(name: str) -> None:
    gan = registry.get(name)(DIGITS)
    trainer = Trainer(gan, *digits_like(), [0])
    trainer.advance(20)
    z = torch.randn(1, 100).expand(10, 100)
    with torch.no_grad():
        images = gan.generate(trainer.nets(), {"label": torch.arange(10)}, {"z": z})
    distances = torch.pdist(images.flatten(1))
    assert distances.min() > 0


@pytest.mark.parametrize("condition", ["concat", "multiply"])
def test_cgan_judges_an_image_by_its_label(condition: str) -> None:
    gan = registry.get("cgan")(DIGITS, condition=condition)
    trainer = Trainer(gan, *digits_like(), [0])
    trainer.advance(5)
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(10, 1, 8, 8)
    scores = gan.discriminate(trainer.nets(), {"image": image, "label": torch.arange(10)})
    assert len(set(scores.tolist())) == 10


@pytest.mark.slow
def test_acgan_classifies_what_it_learns() -> None:
    """Images that show their class: D's class accuracy on them rises to one."""
    labels = torch.arange(64) % 10
    images = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    for i, label in enumerate(labels):
        images[i, 0, label % 8, :] = 255 if label < 8 else 120
    trainer = Trainer(registry.get("acgan")(DIGITS, dropout=0.0), images, labels, [0])
    trainer.advance(25)
    accuracy = trainer.history()["class_acc_real"]
    assert accuracy[0] < 0.4
    assert accuracy[-5:].mean() > 0.9


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "data", "hyper", "message"),
    [
        ("cgan", DataSpec(1, 8, 8), {}, "labels"),
        ("acgan", DataSpec(1, 8, 8), {}, "labels"),
        ("dcgan", DataSpec(1, 10, 8), {}, "images 8 wide and 10 high do not fit"),
        ("acgan", DataSpec(1, 8, 30, 10), {}, "multiples of 4"),
        ("nsgan", DataSpec(1, 9, 9), {"net": "conv"}, "multiples of 4"),
        ("nsgan", DataSpec(1, 9, 9), {"net": "infogan"}, "multiples of 4"),
        ("srgan", DataSpec(1, 18, 18), {}, "multiples of 4"),
        ("nsgan", DIGITS, {"n_critic": 0}, "n_critic=0 must be at least 1"),
        ("nsgan", DIGITS, {"latent_dim": 0}, "latent_dim=0"),
        ("nsgan", DIGITS, {"lr": -1.0}, "lr=-1.0 must be above 0"),
        ("nsgan", DIGITS, {"lr": math.nan}, "lr=nan must be above 0"),
        ("nsgan", DIGITS, {"beta1": 1.0}, "beta1=1.0"),
        ("nsgan", DIGITS, {"batch_size": 1}, "batch_size=1 must be at least 2"),
        ("wgan", DIGITS, {"clip": 0.0}, "clip=0.0"),
        ("wgan_gp", DIGITS, {"penalty": -1.0}, "penalty=-1.0"),
        ("dragan", DIGITS, {"penalty": -1.0}, "penalty=-1.0"),
        ("dcgan", DIGITS, {"dropout": 1.0}, "dropout=1.0"),
        ("dcgan", DIGITS, {"width": 1}, "width=1"),
        ("acgan", DIGITS, {"width": 3}, "width=3"),
        ("cgan", DIGITS, {"d_widths": ()}, "d_widths=()"),
        ("vae", DataSpec(1, 9, 9), {"net": "conv"}, "multiples of 4"),
        ("vae", DataSpec(2, 1, 1, points=True), {}, "points in the plane"),
        ("sngan", DataSpec(2, 1, 1, points=True), {}, "points in the plane"),
        ("sngan", DataSpec(1, 9, 8), {}, "images 8 wide and 9 high do not fit: both must be multiples of 2"),
        ("sngan", DataSpec(1, 6, 6), {}, "images 6 wide and 6 high do not fit: both must be at least 8"),
        ("sngan", DIGITS, {"width": 1}, "width=1"),
        ("sngan_projection", DataSpec(1, 8, 8), {}, "labels"),
        ("began", DIGITS, {"code_dim": 0}, "code_dim=0"),
        ("began", DataSpec(1, 9, 9), {"net": "infogan"}, "multiples of 4"),
        ("infogan_mi", DIGITS, {"n_codes": 1}, "n_codes=1"),
        ("pacgan", DIGITS, {"packing": 0}, "packing=0"),
        ("pacgan", DIGITS, {"net": "plane"}, "net=plane is for points in the plane"),
        ("pacgan", DIGITS, {"net": "stacked_half"}, "net=stacked_half is for images of 28x28"),
        ("srgan", DIGITS, {"warmup_steps": -1}, "warmup_steps=-1"),
        ("srgan", DIGITS, {"content": "vgg19"}, "16 pixels"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    name: str, data: DataSpec, hyper: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        registry.get(name)(data, **hyper)
    assert "\n" not in str(caught.value)


def test_dropout_refuses_a_probability_of_one() -> None:
    with pytest.raises(ValueError, match="p=1"):
        Dropout(1.0)


def test_every_built_in_model_is_registered_with_a_card() -> None:
    for name in registry.OURS:
        card = registry.card(registry.get(name))
        assert "arXiv:" in card.paper
        assert 2014 <= card.year <= 2024
        assert card.needs == ({"label"} if name in {"cgan", "acgan", "sngan_projection"} else frozenset())
        assert card.task == ("super-resolution" if name == "srgan" else "generation")
