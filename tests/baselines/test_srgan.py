"""Super-resolution: scale, resampling, losses and layers.

B examples, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import srgan
from baselines.gan import DataSpec, Gan, Nets
from baselines.probe import Plain
from baselines.training.trainer import Trainer, build
from bench.scoring.superresolution import bicubic

CPU = torch.device("cpu")
DIGITS, MNIST, CIFAR = DataSpec(1, 8, 8, 10), DataSpec(1, 28, 28, 10), DataSpec(3, 32, 32, 10)


def count(net: nn.Module) -> tuple[int, int]:
    """Trainable parameters; with moving statistics, as Keras counts them."""
    trainable = sum(p.numel() for p in net.parameters())
    return trainable, trainable + sum(b.numel() for b in net.buffers() if b.is_floating_point())


def conv(n_in: int, n_out: int, kernel: int = 3) -> int:
    return kernel * kernel * n_in * n_out + n_out


def test_srgan_has_the_papers_layers() -> None:
    gen = srgan.generator(4, 16, 64, CIFAR)
    block = 2 * conv(64, 64) + 2 * 2 * 64 + 1
    head, tail = conv(3, 64, 9) + 1, conv(64, 3, 9)
    assert count(gen)[0] == head + 16 * block + conv(64, 64) + 128 + 2 * (conv(64, 256) + 1) + tail
    widths = [m.out_channels for m in srgan.discriminator(64, CIFAR) if isinstance(m, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]


@pytest.mark.parametrize(("size", "scale"), [(8, 2), (12, 2), (16, 4), (28, 4), (32, 4)])
def test_scale_follows_the_image(size: int, scale: int) -> None:
    data = DataSpec(1, size, size)
    assert srgan.scale_for(data) == scale
    low = srgan.downsample(torch.zeros(2, 1, size, size), scale)
    assert low.shape == (2, 1, size // scale, size // scale)
    assert bicubic(low, scale).shape == (2, 1, size, size)


def test_resampling_keeps_constants_and_the_range() -> None:
    for value in (-1.0, 0.25, 1.0):
        image = torch.full((1, 1, 28, 28), value)
        low = srgan.downsample(image, 4)
        assert torch.allclose(low, torch.full_like(low, value), atol=1e-5)
        assert torch.allclose(bicubic(low, 4), image, atol=1e-5)
    noise = torch.randint(0, 2, (8, 1, 28, 28)) * 2.0 - 1  # overshoots without a clamp
    for image in (srgan.downsample(noise, 2), bicubic(noise, 4)):
        assert image.abs().max() == 1


def test_downsampling_averages() -> None:
    """Antialiased: a checkerboard becomes grey, where plain subsampling would keep one colour."""
    board = (torch.arange(28).view(28, 1) + torch.arange(28)) % 2 * 2.0 - 1
    low = srgan.downsample(board.expand(1, 1, 28, 28), 4)
    assert low[0, 0, 1:-1, 1:-1].abs().max() < 0.05


def small_srgan(**hyper: Any) -> Gan:
    return srgan.srgan(DIGITS, n_blocks=1, width=4, **hyper)


@pytest.mark.parametrize(("hyper", "scale"), [({}, 2), ({"scale": 4}, 4)], ids=str)
def test_srgan_says_what_its_generator_is_given(hyper: dict[str, Any], scale: int) -> None:
    image, low_resolution = torch.rand(2, 1, 8, 8), small_srgan(**hyper).low_resolution
    assert low_resolution is not None
    assert torch.equal(low_resolution({"image": image}), srgan.downsample(image, scale))


def g_loss(gan: Gan, step: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """G's logs, and what they should be made of: the pixel loss and the adversarial loss."""
    modules = build(gan, 0, CPU)
    nets: Nets = {name: Plain(copy.deepcopy(net)) for name, net in modules.items()}
    image = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loss, logs = gan.updates[1].loss(nets, {"image": image, "step": torch.tensor(step)}, {})
    assert logs["g_loss"] is loss
    restored = modules["gen"].train()(srgan.downsample(image, 2))
    logit = modules["disc"].train()(restored)
    return dict(logs), ((restored - image) ** 2).mean(), F.softplus(-logit).mean()


def test_srgan_loss_is_content_and_a_little_adversary() -> None:
    logs, pixel, adversary = g_loss(small_srgan(adversarial=0.01), 0)
    assert logs["pixel_loss"].item() == pytest.approx(pixel.item(), rel=1e-5)
    assert logs["g_loss"].item() == pytest.approx((pixel + 0.01 * adversary).item(), rel=1e-5)


@pytest.mark.parametrize(("step", "warm"), [(0, True), (2, True), (3, False), (9, False)])
def test_srgan_warms_up_on_pixels(step: int, warm: bool) -> None:
    logs, pixel, adversary = g_loss(small_srgan(adversarial=1.0, warmup_steps=3), step)
    expected = pixel if warm else pixel + adversary
    assert logs["g_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
def test_srgan_learns_to_beat_bicubic_on_sharp_images() -> None:
    """Images of vertical edges: bicubic interpolation blurs them, the generator learns them."""
    images = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    for i in range(64):
        images[i, :, :, 1 + i % 7 :] = 255
    gan = srgan.srgan(DIGITS, n_blocks=1, width=8, lr=5e-3)
    trainer = Trainer(gan, images, None, [0])
    trainer.advance(120)
    image = images[:14].float() / 127.5 - 1
    with torch.no_grad():
        restored = gan.generate(trainer.nets(), {"image": image}, {})
    enlarged = bicubic(srgan.downsample(image, 2), 2)
    assert ((restored - image) ** 2).mean() < 0.5 * ((enlarged - image) ** 2).mean()


@pytest.fixture
def fake_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's VGG19 with small random weights instead of a download."""
    from torchvision.models.vgg import VGG19_Weights, cfgs, make_layers

    torch.manual_seed(0)
    state = {f"features.{key}": value for key, value in make_layers(cfgs["E"]).state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(1)
    monkeypatch.setattr(VGG19_Weights, "get_state_dict", lambda *a, **k: state)
    srgan.vgg19.cache_clear()


@pytest.mark.usefixtures("fake_vgg")
def test_vgg_content_compares_features() -> None:
    image = torch.rand(2, 1, 16, 16) * 2 - 1
    features = srgan.vgg19()(image)
    assert features.shape == (2, 512, 1, 1)
    assert (features >= 0).all()  # after the activation
    assert srgan.vgg19_loss(image, image).item() == 0
    other = image.clone().requires_grad_()
    loss = srgan.vgg19_loss(other + 0.3, image)
    (grad,) = torch.autograd.grad(loss, other)
    expected = ((srgan.vgg19()(image + 0.3) - features) ** 2).mean() / 12.75**2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert grad.abs().sum() > 0
    assert not any(p.requires_grad for p in srgan.vgg19().parameters())
    colour = srgan.vgg19()(image.expand(2, 3, 16, 16))
    assert torch.allclose(features, colour)
    gan = srgan.srgan(DataSpec(1, 16, 16), content="vgg19", n_blocks=1, width=4, batch_size=2)
    trainer = Trainer(gan, torch.randint(0, 256, (8, 1, 16, 16)).to(torch.uint8), None, [0, 1])
    trainer.advance(1)
    assert np.isfinite(trainer.history()["g_loss"]).all()
    srgan.vgg19.cache_clear()


def test_missing_vgg_weights_are_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    srgan.vgg19.cache_clear()
    with pytest.raises(ValueError, match="content=vgg19") as caught:
        srgan.srgan(MNIST, content="vgg19")
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "content=pixel" in message
