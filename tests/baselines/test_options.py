"""R3GAN, and options of training: R1, a learning rate of D's own, DiffAugment, averages of G's weights,
learning rates that fall.

What is checked is one step of the trainer against the same step in float64, written plainly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import conformance, registry
from baselines.augment import diffaugment
from baselines.gan import Adam, DataSpec, Decay, Gan, RMSprop, Update, card
from baselines.hyperparameters import declared
from baselines.options import with_options
from baselines.stackable import SGD
from baselines.training.decay import Schedule, factor
from baselines.training.lanes import may_differ
from baselines.training.optim import make_optimizer
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


# ---------------------------------------------------------------- DiffAugment


def by_hand(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One image (C, H, W), float64, changed as the paper's code changes it: pixel by pixel."""
    c, h, w = x.shape
    if c == 3:
        x = x + (u[0] - 0.5)
        x = (x - x.mean(0)) * (2 * u[1]) + x.mean(0)
        x = (x - x.mean()) * (u[2] + 0.5) + x.mean()
    found = np.zeros_like(x)
    most = [int(side * 0.125 + 0.5) for side in (h, w)]
    down, right = (int(u[3 + k] * (2 * most[k] + 1)) - most[k] for k in (0, 1))
    size = [int(side * 0.5 + 0.5) for side in (h, w)]
    top, left = (int(u[5 + k] * ((h, w)[k] + 1 - size[k] % 2)) - size[k] // 2 for k in (0, 1))
    for i in range(h):
        for j in range(w):
            inside = 0 <= i - down < h and 0 <= j - right < w
            cut = top <= i < top + size[0] and left <= j < left + size[1]
            found[:, i, j] = x[:, i - down, j - right] if inside and not cut else 0
    return found


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14)], ids=str)
def test_diffaugment_moves_cuts_and_colours(shape: tuple[int, int, int]) -> None:
    rng = np.random.RandomState(0)
    x, u = rng.uniform(-1, 1, (40, *shape)), rng.uniform(0, 1, (40, 7))
    found = diffaugment(torch.from_numpy(x), torch.from_numpy(u), coloured=shape[0] == 3)
    for k in range(40):
        assert np.allclose(found[k].numpy(), by_hand(x[k], u[k]), atol=1e-12), k


def test_d_sees_changed_real_and_generated_images_and_so_does_its_penalty() -> None:
    trainer = Trainer(model("nsgan", augment="diffaugment", r1=2.0), IMAGES, None, [0])
    stream = trainer.streams[0]
    numbers = stream.rewind(stream.state)["augment"][0].double()  # (update, B, set, 7)

    def changed(x: Tensor, update: int, k: int) -> Tensor:
        return diffaugment(x, numbers[update, :, k], coloured=False)

    def d(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        x = real.requires_grad_()
        scores = disc(changed(x, 0, 0))
        (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
        penalty = gradient.flatten(1).square().sum(1).mean()
        fake_score = disc(changed(fake, 0, 1))
        return F.softplus(-scores).mean() + F.softplus(fake_score).mean() + penalty

    def g(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-disc(changed(fake, 1, 0))).mean()

    assert_step(model("nsgan", augment="diffaugment", r1=2.0), d, g)


def test_images_too_small_to_be_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4×4 pixels; these are 1 wide and 1 high"):
        registry.get("nsgan")(DataSpec(2, 1, 1), augment="diffaugment")


# ---------------------------------------------------------------- averages of the generator's weights


def test_the_average_is_taken_after_each_update_of_the_generator() -> None:
    trainer = Trainer(registry.get("wgan")(DATA, **SMALL, ema=0.9), IMAGES, None, [0])
    expected = {key: value.detach().double() for key, value in trainer.params["gen"].items()}
    for _ in range(3):
        trainer.advance(1)
        for key, value in trainer.params["gen"].items():
            expected[key] = 0.9 * expected[key] + 0.1 * value.detach().double()
    averaged, trained = trainer.weights(averaged=True), trainer.weights()
    for key, value in expected.items():
        assert torch.allclose(averaged["gen"][key].double(), value, atol=1e-7)
        assert not torch.equal(averaged["gen"][key], trained["gen"][key])
    for key, buffer in trainer.buffers["gen"].items():
        assert torch.equal(averaged["gen"][key], buffer), "moving statistics have no average"
    assert all(torch.equal(averaged["disc"][key], value) for key, value in trained["disc"].items())


def test_training_is_the_same_with_an_average() -> None:
    with_it, without = (
        Trainer(registry.get("nsgan")(DATA, **SMALL, ema=ema), IMAGES, None, [0]) for ema in (0.9, 0.0)
    )
    for trainer in (with_it, without):
        trainer.advance(2)
    for net, held in without.weights().items():
        assert all(torch.equal(with_it.weights()[net][key], value) for key, value in held.items())
    assert without.state_dict()["average"] == {}
    assert not without.averages()


def test_seeds_of_a_stack_may_differ_in_their_averages() -> None:
    gans = [model("nsgan", ema=ema) for ema in (0.9, 0.0, 0.5)]
    stack = Trainer(gans[0], IMAGES, None, (5, 5, 5), lanes=gans)
    stack.advance(2)
    assert [stack.averages(lane) for lane in range(3)] == [True, False, True]
    for lane, gan in enumerate(gans):
        alone = Trainer(gan, IMAGES, None, (5,))
        alone.advance(2)
        found = stack.weights(lane, averaged=True)["gen"]
        for key, value in alone.weights(averaged=True)["gen"].items():
            assert torch.allclose(found[key], value, atol=1e-5), (lane, key)
    saved = [stack.state_dict(lane) for lane in range(3)]
    again = Trainer(gans[0], IMAGES, None, (5, 5, 5), lanes=gans)
    again.load_state_dict(saved)
    for trainer in (stack, again):
        trainer.advance(2)
    for lane in range(3):
        for key, value in stack.weights(lane, averaged=True)["gen"].items():
            assert torch.equal(again.weights(lane, averaged=True)["gen"][key], value)
    factory = registry.get("nsgan")
    hyper = {name: h.default for name, h in declared(factory).items()}
    assert may_differ(factory, DATA, hyper, "ema", 0.99)


def test_what_is_averaged_is_what_generate_uses_and_training_updates() -> None:
    gan = registry.get("nsgan")(DATA, **SMALL, ema=0.9)
    other = replace(  # other names, and a frozen network on the way
        gan,
        build=lambda: {"decoder": gan.build()["gen"], "disc": gan.build()["disc"], "frozen": nn.Identity()},
        updates=(Update("decoder", lambda nets, batch, draw: (nets["decoder"](draw["z"]).mean(), {})),),
        generate=lambda nets, batch, draw: nets["frozen"].eval(nets["decoder"].eval(draw["z"])),
        optim={"decoder": Adam(1e-3)},
    )
    trainer = Trainer(other, IMAGES, None, [0])
    trainer.advance(1)
    assert list(trainer.averaged()) == ["decoder"]


def test_a_generator_that_reads_images_of_several_others_is_averaged_too() -> None:
    gan = registry.get("srgan")(DataSpec(3, 8, 8), n_blocks=1, width=4, batch_size=4, ema=0.9)
    assert list(Trainer(gan, IMAGES, None, [0, 1], per_example=3).averaged()) == ["gen"]


def test_every_model_has_the_options() -> None:
    for name in registry.OURS:
        assert declared(registry.get(name))["ema"].default == 0.0
        assert declared(registry.get(name))["ema"].search is None
    with pytest.raises(ValueError, match=r"ema=1\.0 must be at least 0 and below 1"):
        registry.get("vanilla")(DATA, ema=1.0)

    @card(paper="one that has its own", year=2026)
    def own(data: DataSpec, *, ema: float = 0.5, **rest: Any) -> Gan:
        return replace(registry.get("nsgan")(data), ema=ema / 2)

    factory = with_options(own)
    assert declared(factory)["ema"].default == 0.5
    assert factory(DATA).ema == 0.25


# ---------------------------------------------------------------- learning rates that fall


def test_rates_fall_from_whole_to_zero() -> None:
    steps = np.arange(9)
    found = {decay: [factor(decay, k, 8) for k in steps] for decay in get_args(Decay)}
    assert found["none"] == [1.0] * 9
    assert found["linear"] == pytest.approx(1 - steps / 8)
    assert found["cosine"] == pytest.approx((1 + np.cos(np.pi * steps / 8)) / 2)


@pytest.mark.parametrize(("name", "d_lr"), [("nsgan", 1e-2), ("wgan", 1e-3)])  # Adam, RMSprop
def test_each_iteration_has_its_own_rate(name: str, d_lr: float) -> None:
    factory = registry.get(name)
    decayed = Trainer(factory(DATA, **SMALL, d_lr=d_lr, decay="linear"), IMAGES, None, [0], steps=4)
    by_hand = Trainer(factory(DATA, **SMALL, d_lr=d_lr), IMAGES, None, [0])
    groups = {name: optimizer.param_groups[0] for name, optimizer in by_hand.optimizers.items()}
    rates = {name: group["lr"] for name, group in groups.items()}
    assert rates["disc"] == d_lr
    decayed.advance(3)
    for k in range(3):
        for name, group in groups.items():
            group["lr"] = rates[name] * (1 - k / 4)
        by_hand.advance(1)
    for net, held in by_hand.weights().items():
        assert all(torch.equal(decayed.weights()[net][key], value) for key, value in held.items())
    again = Trainer(decayed.gan, IMAGES, None, [0], steps=4)  # resumed, it goes on with the rate of its step
    again.load_state_dict([decayed.state_dict()])
    for trainer in (decayed, again):
        trainer.advance(3)
    for net, held in decayed.params.items():
        assert all(torch.equal(again.params[net][key], value) for key, value in held.items())


def test_lanes_with_rates_of_their_own_fall_together() -> None:
    gans = [registry.get("nsgan")(DATA, **SMALL, lr=lr, decay="cosine") for lr in (1e-3, 1e-2)]
    stack = Trainer(gans[0], IMAGES, None, (5, 7), lanes=gans, steps=2)
    stack.advance(2)
    found = [group["lr"] for group in stack.optimizers["gen"].param_groups]
    assert found == pytest.approx([0.5e-3, 0.5e-2])


@pytest.mark.parametrize("optim", [Adam(0.1), RMSprop(0.1)], ids=["adam", "rmsprop"])
def test_a_rate_in_a_tensor_as_on_a_gpu_is_the_same_rate(optim: Adam | RMSprop) -> None:
    moved = []
    for as_tensors in (False, True):
        param = torch.zeros(3, requires_grad=True)
        optimizer = make_optimizer(optim, [param])
        schedule = Schedule("linear", 4, [optimizer], as_tensors=as_tensors)
        for step in range(4):
            schedule.set(step)
            param.grad = torch.tensor([1.0, -2.0, 3.0])
            optimizer.step()
        moved.append(param.detach())
    assert moved[0].abs().min() > 0.1
    assert torch.allclose(*moved, rtol=1e-6)


def test_a_rate_cannot_fall_over_an_unknown_length() -> None:
    with pytest.raises(ValueError, match="decay=linear needs the planned number of iterations"):
        Trainer(registry.get("nsgan")(DATA, decay="linear"), IMAGES, None, [0])


# ---------------------------------------------------------------- each conforms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("hinge", {"r1": 1.0, "d_lr": 1e-4, "decay": "cosine"}),  # spectral normalisation inside the penalty
        ("wgan_gp", {"r1": 1.0, "ema": 0.9, "augment": "diffaugment"}),  # two penalties
    ],
    ids=str,
)
def test_models_with_options_conform(name: str, hyper: dict[str, Any]) -> None:
    assert conformance.check(registry.get(name), DATA, latent_dim=8, **hyper) == []
