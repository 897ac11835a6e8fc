"""The comparison models: layers and losses against their definitions, networks against their counts.

B examples, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call

from baselines import dragan, family, hinge, infogan, lsgan, mmgan, nsgan, registry, srgan, wgan, wgan_gp
from baselines.conformance import Plain
from baselines.dcgan import dcgan
from baselines.gan import Adam, DataSpec, Gan, Loss, Nets, RMSprop, Uniform
from baselines.layers import Dropout, SpectralNorm, UpConv2d, spectral_norm
from baselines.training.trainer import Trainer, build
from bench.scoring.superresolution import bicubic

CPU = torch.device("cpu")
DIGITS, MNIST, CIFAR = DataSpec(1, 8, 8, 10), DataSpec(1, 28, 28, 10), DataSpec(3, 32, 32, 10)


def stack(tensors: dict[str, Tensor], n: int = 2) -> dict[str, Tensor]:
    return {key: torch.stack([value.detach().clone()] * n) for key, value in tensors.items()}


def count(net: nn.Module) -> tuple[int, int]:
    """Trainable parameters; with moving statistics, as Keras counts them."""
    trainable = sum(p.numel() for p in net.parameters())
    return trainable, trainable + sum(b.numel() for b in net.buffers() if b.is_floating_point())


# ---------------------------------------------------------------- dropout


def masks(p: float, n: int, calls: int, seed: int = 0) -> Tensor:
    """(calls, n): 1 where an element is kept."""
    torch.manual_seed(seed)
    layer = Dropout(p)
    return torch.stack([(layer(torch.ones(n)) > 0).float() for _ in range(calls)])


@pytest.mark.parametrize("p", [0.1, 0.25, 0.4])
def test_dropout_keeps_the_right_share_and_the_mean(p: float) -> None:
    kept = masks(p, 1000, 1000)
    n = kept.numel()
    assert kept.sum().item() == pytest.approx((1 - p) * n, abs=4 * math.sqrt(n * p * (1 - p)))
    layer = Dropout(p)
    values = layer(torch.ones(1000))
    assert sorted(set(values.tolist())) == [0.0, pytest.approx(1 / (1 - p))]


@pytest.mark.parametrize(
    ("axis", "shift"), [(0, 1), (0, 2), (1, 1), (1, 2), (1, 32), (1, 64)], ids=lambda v: str(v)
)
def test_dropout_masks_are_independent_between_calls_and_units(axis: int, shift: int) -> None:
    kept = masks(0.4, 1024, 512)
    a, b = kept, kept.roll(shift, axis)
    table = [[((a == i) & (b == j)).sum().item() for j in (0, 1)] for i in (0, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_dropout_units_and_calls_keep_alike() -> None:
    kept = masks(0.25, 400, 2000)
    for sums, n in ((kept.sum(0), 2000), (kept.sum(1), 400)):  # each unit, each call
        chi2 = ((sums - 0.75 * n) ** 2 / (n * 0.75 * 0.25)).sum().item()
        assert 1e-4 < stats.chi2.sf(chi2, len(sums)) < 1 - 1e-4


def test_dropout_masks_are_independent_between_seeds() -> None:
    a, b = masks(0.4, 1000, 100, seed=1), masks(0.4, 1000, 100, seed=2)
    table = [[((a == i) & (b == j)).sum().item() for j in (0, 1)] for i in (0, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_dropout_in_a_stack_is_dropout_alone() -> None:
    torch.manual_seed(0)
    layers = [Dropout(0.3), Dropout(0.3)]
    states = torch.stack([layer.state for layer in layers])
    x = torch.randn(2, 5, 7)
    for _ in range(3):
        alone = torch.stack([layer(x[i]) for i, layer in enumerate(layers)])
        stacked = torch.vmap(lambda state, x: functional_call(layers[0], {"state": state}, (x,)))(states, x)
        assert torch.equal(alone, stacked)
    assert not torch.equal(alone[0] == 0, alone[1] == 0)


def test_dropout_goes_on_from_its_state_and_rests_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.ones(100)
    layer(x)
    other = Dropout(0.5)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), other(x))
    before = layer.state.clone()
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(layer.state, before)


def test_dropout_passes_the_gradient_of_what_it_keeps() -> None:
    x = torch.ones(50, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


# ---------------------------------------------------------------- upsampling, spectral norm


def test_up_convolution_is_upsampling_and_convolution() -> None:
    torch.manual_seed(0)
    layer = UpConv2d(3, 4).double()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    reference = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    result = layer(x)
    assert torch.allclose(result, reference, atol=1e-12)
    weights = torch.randn_like(reference)
    inputs = (x, *layer.parameters())
    for a, b in zip(
        torch.autograd.grad((result * weights).sum(), inputs),
        torch.autograd.grad((reference * weights).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 6, 3)], ids=["linear", "conv"])
def test_spectral_norm_is_the_largest_singular_value(layer: nn.Linear | nn.Conv2d) -> None:
    weight = layer.weight.detach().clone()
    net = spectral_norm(nn.Sequential(layer))
    x = torch.randn(2, 3, 8, 8) if isinstance(layer, nn.Conv2d) else torch.randn(2, 7)
    for _ in range(300):
        net(x)
    expected = weight / torch.linalg.svdvals(weight.flatten(1))[0]
    assert torch.allclose(layer.weight, expected, atol=1e-5)


def test_spectral_norm_makes_one_power_iteration_in_training_alone() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 6)
    norm = SpectralNorm(weight)
    u = norm.u.clone()
    v = weight.T @ u / (weight.T @ u).norm()
    expected = weight @ v / (weight @ v).norm()
    norm.eval()(weight)
    assert torch.equal(norm.u, u)
    norm.train()(weight)
    assert torch.allclose(norm.u, expected, atol=1e-6)


def test_spectral_norm_is_differentiated_through_the_weight_alone() -> None:
    """Miyato et al. 2018, equation 10: d(W/σ) = (G - <G, W/σ> u vᵀ) / σ for an upstream gradient G."""
    torch.manual_seed(0)
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    norm = SpectralNorm(weight).double().eval()
    upstream = torch.randn(4, 6, dtype=torch.float64)
    (grad,) = torch.autograd.grad((norm(weight) * upstream).sum(), weight)
    w = weight.detach()
    v = F.normalize(w.T @ norm.u, dim=0)
    u = F.normalize(w @ v, dim=0)
    sigma = u @ w @ v
    expected = (upstream - (upstream * w / sigma).sum() * torch.outer(u, v)) / sigma
    assert torch.allclose(grad, expected, atol=1e-12)


def test_spectral_norm_is_float32_within_a_bfloat16_network() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 20, requires_grad=True)
    norms = [SpectralNorm(weight)]
    norms.append(copy.deepcopy(norms[0]))
    exact = norms[0](weight)
    with torch.autocast("cpu", torch.bfloat16):
        within = norms[1](weight)
    assert within.dtype == torch.float32
    assert torch.equal(within, exact)
    assert torch.equal(norms[0].u, norms[1].u)
    grads = [torch.autograd.grad(normed.square().sum(), weight)[0] for normed in (exact, within)]
    assert torch.equal(*grads)


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


# ---------------------------------------------------------------- losses on known scores


class Scores:
    """A discriminator that gives the scores it was told, real ones first."""

    def __init__(self, *scores: Tensor) -> None:
        self.scores = list(scores)

    def __call__(self, images: Tensor, *rest: Tensor) -> Tensor:
        return self.scores.pop(0)

    eval = __call__


def evaluate(loss: Loss, *scores: Tensor) -> tuple[float, dict[str, float]]:
    gen = Plain(nn.Identity())
    nets: Any = {"gen": gen, "disc": Scores(*scores)}
    value, logs = loss(nets, {"image": torch.zeros(3)}, {"z": torch.zeros(3)})
    return value.item(), {key: log.item() for key, log in logs.items()}


REAL, FAKE = torch.tensor([2.0, -1.0, 0.7]), torch.tensor([0.3, -2.0, -0.1])
R, FK = REAL.double().numpy(), FAKE.double().numpy()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("module", "d", "g"),
    [
        (nsgan, -np.log(sigmoid(R)).mean() - np.log(1 - sigmoid(FK)).mean(), -np.log(sigmoid(FK)).mean()),
        (mmgan, -np.log(sigmoid(R)).mean() - np.log(1 - sigmoid(FK)).mean(), np.log(1 - sigmoid(FK)).mean()),
        (lsgan, 0.5 * ((R - 1) ** 2).mean() + 0.5 * (FK**2).mean(), 0.5 * ((FK - 1) ** 2).mean()),
        (wgan, FK.mean() - R.mean(), -FK.mean()),
        (hinge, np.maximum(0, 1 - R).mean() + np.maximum(0, 1 + FK).mean(), -FK.mean()),
    ],
    ids=["nsgan", "mmgan", "lsgan", "wgan", "hinge"],
)
def test_losses_are_their_equations(module: Any, d: float, g: float) -> None:
    value, logs = evaluate(module.d, REAL, FAKE)
    assert value == pytest.approx(d, rel=1e-6)
    assert logs["d_loss"] == value
    if module is not wgan:
        threshold = 0.5 if module is lsgan else 0.0
        assert logs["d_acc_real"] == pytest.approx((threshold < R).mean())
        assert logs["d_acc_fake"] == pytest.approx((threshold >= FK).mean())
    value, logs = evaluate(module.g, FAKE)
    assert value == pytest.approx(g, rel=1e-6)
    assert logs == {"g_loss": value}


def test_lsgan_may_compare_the_sigmoids_of_its_scores() -> None:
    gan = registry.get("lsgan")(DIGITS, sigmoid=True)
    real, fake = sigmoid(R), sigmoid(FK)
    value, logs = evaluate(gan.updates[0].loss, REAL, FAKE)
    assert value == pytest.approx(0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean(), rel=1e-6)
    assert gan.threshold == 0
    assert logs["d_acc_real"] == pytest.approx((R > 0).mean())
    assert logs["d_acc_fake"] == pytest.approx((FK <= 0).mean())
    value, _ = evaluate(gan.updates[1].loss, FAKE)
    assert value == pytest.approx(0.5 * ((fake - 1) ** 2).mean(), rel=1e-6)


# ---------------------------------------------------------------- gradient penalties


def smooth_nets() -> tuple[Nets, nn.Module]:
    """A small generator and a smooth discriminator in float64, so that finite differences are exact."""
    torch.manual_seed(0)
    gen = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Unflatten(1, (1, 2, 2))).double()
    disc = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    return {"gen": Plain(gen), "disc": Plain(disc)}, disc


def penalty_inputs() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(6, *shape, dtype=torch.float64, generator=rng)

    batch = {"image": 2 * uniform(1, 2, 2) - 1}
    return batch, {"z": uniform(3), "mix": uniform(1, 1, 1), "noise": uniform(1, 2, 2)}


@pytest.mark.parametrize("module", [wgan_gp, dragan], ids=["wgan_gp", "dragan"])
def test_penalised_losses_are_differentiated_rightly(module: Any) -> None:
    nets, disc = smooth_nets()
    batch, draw = penalty_inputs()

    def loss() -> Tensor:
        value: Tensor = module.d(nets, batch, draw, penalty=10.0)[0]
        return value

    params = list(disc.parameters())
    grads = torch.autograd.grad(loss(), params)
    for param, grad in zip(params, grads, strict=True):
        for i in range(param.numel()):
            value = param.data.view(-1)[i].item()
            sides = []
            for step in (1e-5, -1e-5):
                param.data.view(-1)[i] = value + step
                sides.append(loss().item())
            param.data.view(-1)[i] = value
            assert grad.view(-1)[i].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7, rel=1e-7)


def test_wgan_gp_critic_loss_is_the_papers() -> None:
    """Gulrajani et al. 2017, equation 3, with PyTorch's own double backward."""
    nets, disc = smooth_nets()
    batch, draw = penalty_inputs()
    real, fake, epsilon = batch["image"], nets["gen"](draw["z"]).detach(), draw["mix"]
    between = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(disc(between).sum(), between)
    norm = slope.pow(2).sum((1, 2, 3)).sqrt()
    expected = disc(fake).mean() - disc(real).mean() + 10 * ((norm - 1) ** 2).mean()
    loss, logs = wgan_gp.d(nets, batch, draw, penalty=10.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert logs["slope"].item() == pytest.approx(norm.mean().item(), rel=1e-12)


def test_gradient_norm_of_a_linear_score_is_its_weight() -> None:
    weight = torch.randn(1, 3, 3)
    norm = wgan_gp.gradient_norm(lambda x: (x * weight).sum((1, 2, 3)), torch.randn(5, 1, 3, 3))
    assert torch.allclose(norm, weight.norm().expand(5))


def test_dragan_penalty_looks_near_the_data_alone() -> None:
    """x̂ lies between x and x + std/2, whatever the fakes are; D enters as a probability."""
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.sum((1, 2, 3))

    batch, draw = penalty_inputs()
    nets: Any = {"gen": smooth_nets()[0]["gen"], "disc": Plain(Spy())}
    _, logs = dragan.d(nets, batch, draw, penalty=10.0)
    image = batch["image"]
    near = image + draw["mix"] * 0.5 * image.std() * draw["noise"]
    probability = torch.sigmoid(near.sum((1, 2, 3)))
    expected = (probability * (1 - probability) * 2).mean()  # ‖∇ sigmoid(Σx)‖ over four pixels
    assert logs["slope"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert any(torch.equal(x, image) for x in seen)


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
    """A black border counts as the padding does: as nothing."""
    first = infogan.discriminator(MNIST, norm=False)[:2]
    assert isinstance(first[1], nn.Conv2d)
    assert torch.equal(first(torch.full((1, 1, 28, 28), -1.0)), torch.zeros(1, 64, 14, 14))
    weight = first[1].weight.sum((1, 2, 3))
    assert torch.allclose(first(torch.ones(1, 1, 28, 28))[0, :, 5, 5], weight, atol=1e-6)


def test_srgan_has_the_papers_layers() -> None:
    gen = srgan.generator(4, 16, 64, CIFAR)
    block = 2 * conv(64, 64) + 2 * 2 * 64 + 1
    head, tail = conv(3, 64, 9) + 1, conv(64, 3, 9)
    assert count(gen)[0] == head + 16 * block + conv(64, 64) + 128 + 2 * (conv(64, 256) + 1) + tail
    widths = [m.out_channels for m in srgan.discriminator(64, CIFAR) if isinstance(m, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]


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
    image = torch.rand(1, 1, 8, 8).expand(10, 1, 8, 8)
    scores = gan.discriminate(trainer.nets(), {"image": image, "label": torch.arange(10)})
    assert len(set(scores.tolist())) == 10


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


# ---------------------------------------------------------------- super-resolution


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


# ---------------------------------------------------------------- a loss of one's own


def test_every_built_in_model_is_registered_with_a_card() -> None:
    for name in registry.OURS:
        card = registry.card(registry.get(name))
        assert "arXiv:" in card.paper
        assert 2014 <= card.year <= 2020
        assert card.needs == ({"label"} if name in {"cgan", "acgan"} else frozenset())
        assert card.task == ("super-resolution" if name == "srgan" else "generation")
