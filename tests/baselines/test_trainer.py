"""The trainer: one random stream per seed, exact resumption, seeds that do not depend on each other."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.gan import Adam, DataSpec, Gan, Normal, RMSprop, Uniform, Update
from baselines.training.streams import Stream, derive
from baselines.training.trainer import Trainer
from baselines.vanilla import vanilla

IMAGES = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
GAN = vanilla(DataSpec(1, 8, 8), g_widths=(16, 32), d_widths=(32, 16), batch_size=16)


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(state, dict):
        return {prefix: state}
    return {k: v for key, value in state.items() for k, v in flat(value, f"{prefix}/{key}").items()}


def assert_same(one: Any, other: Any) -> None:
    a, b = flat(one), flat(other)
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]) if isinstance(value, Tensor) else value == b[key], key


def trained(n: int, seeds: tuple[int, ...] = (0,), gan: Gan = GAN) -> Trainer:
    trainer = Trainer(gan, IMAGES, None, seeds)
    trainer.advance(n)
    return trainer


def test_same_seed_twice_is_identical_whatever_the_global_generator() -> None:
    torch.manual_seed(1)
    one = trained(70).state_dict()
    torch.manual_seed(2)
    other = trained(70).state_dict()
    assert_same(one, other)


def test_seeds_differ() -> None:
    assert not torch.equal(trained(1).params["gen"]["0.weight"], trained(1, (1,)).params["gen"]["0.weight"])


def test_slices_do_not_matter() -> None:
    whole, sliced = trained(70), Trainer(GAN, IMAGES, None, [0])
    for n in (1, 2, 61, 6):
        sliced.advance(n)
    assert_same(whole.state_dict(), sliced.state_dict())


@pytest.mark.parametrize("at", [1, 63, 64, 65])
def test_going_on_from_a_saved_state_is_exact(at: int) -> None:
    """Within a chunk, at its end, and after it; through a file that loads without running code."""
    whole = trained(80).state_dict()
    file = io.BytesIO()
    torch.save(trained(at).state_dict(), file)
    file.seek(0)
    resumed = Trainer(GAN, IMAGES, None, [0])
    resumed.load_state_dict([torch.load(file, weights_only=True)])
    resumed.advance(80 - at)
    assert_same(whole, resumed.state_dict())


def test_a_stack_equals_its_seeds_alone_but_for_rounding() -> None:
    stack = trained(3, (5, 7, 9))
    for lane, seed in enumerate((5, 7, 9)):
        solo = trained(3, (seed,))
        a, b = flat(stack.weights(lane)), flat(solo.weights())
        for key in a:
            error = (a[key] - b[key]).abs()
            assert error.mean() < 1e-6, key
        for key, values in solo.history().items():
            torch.testing.assert_close(
                torch.tensor(stack.history(lane)[key]), torch.tensor(values), rtol=1e-4, atol=1e-5
            )


def test_streams_do_not_depend_on_stack_mates() -> None:
    draws = [trained(1, seeds)._chunk["z"] for seeds in ((5,), (5, 7), (7, 5))]
    assert torch.equal(draws[0], draws[1][:, :, 0])
    assert torch.equal(draws[0], draws[2][:, :, 1])


def test_a_state_moves_between_stacks() -> None:
    """A run that was checkpointed in one stack continues alone, or in another stack."""
    stack = trained(3, (5, 7))
    mixed = Trainer(GAN, IMAGES, None, [7, 5])
    mixed.load_state_dict([stack.state_dict(1), stack.state_dict(0)])
    assert_same(mixed.state_dict(0), stack.state_dict(1))
    alone = Trainer(GAN, IMAGES, None, [7])
    alone.load_state_dict([stack.state_dict(1)])
    assert_same(alone.state_dict(), stack.state_dict(1))


def test_states_of_different_steps_do_not_stack() -> None:
    trainer = Trainer(GAN, IMAGES, None, [0, 1])
    states = [trained(1).state_dict(), trained(2, (1,)).state_dict()]
    with pytest.raises(ValueError, match="same step"):
        trainer.load_state_dict(states)


def test_other_optimizers_resume_exactly_too() -> None:
    gan = replace(GAN, optim={"gen": RMSprop(1e-3), "disc": Adam(1e-3)})
    saved = trained(4, (0, 1), gan)
    resumed = Trainer(gan, IMAGES, None, [0, 1])
    resumed.load_state_dict([saved.state_dict(0), saved.state_dict(1)])
    saved.advance(3)
    resumed.advance(3)
    for lane in (0, 1):
        assert_same(saved.state_dict(lane), resumed.state_dict(lane))


def test_several_critic_steps_are_several_entries() -> None:
    d, _, g = GAN.updates
    three = trained(2, gan=replace(GAN, updates=(d, d, d, g)))
    steps = {name: next(iter(o.state.values()))["step"].item() for name, o in three.optimizers.items()}
    assert steps == {"disc": 6, "gen": 2}
    assert {key: len(values) for key, values in three.history().items()} == {
        "d_loss": 2,
        "d_acc_real": 2,
        "g_loss": 2,
    }


def test_logs_of_one_name_are_averaged_within_an_iteration() -> None:
    def constant(value: float) -> Any:
        def loss(nets: Any, batch: Any, draw: Any) -> tuple[Tensor, dict[str, Tensor]]:
            zero = nets["disc"](batch["image"]).sum() * 0
            return zero, {"d_loss": zero + value}

        return loss

    gan = replace(GAN, updates=(Update("disc", constant(1.0)), Update("disc", constant(4.0))))
    assert trained(3, gan=gan).history()["d_loss"].tolist() == [2.5] * 3


def test_projection_is_applied_after_each_step() -> None:
    clipped = replace(GAN, updates=(replace(GAN.updates[0], project=lambda p: p.clamp_(-0.01, 0.01)),))
    trainer = trained(2, gan=clipped)
    assert max(p.abs().max().item() for p in trainer.params["disc"].values()) <= 0.01
    assert max(p.abs().max().item() for p in trainer.params["gen"].values()) > 0.01


def test_a_batch_is_uniform_over_the_data_and_noise_is_as_declared() -> None:
    stream = Stream(
        0,
        n_examples=90,
        batch_size=64,
        n_updates=2,
        device=torch.device("cpu"),
        noise={"z": Normal((20,)), "u": Uniform((5,), -1.0, 1.0)},
    )
    chunk = stream.chunk()
    assert chunk["index"].shape == (64, 2, 64)
    counts = torch.bincount(chunk["index"].flatten(), minlength=90).double()
    expected = counts.sum() / 90
    assert ((counts - expected) ** 2 / expected).sum() < 140  # chi², 89 degrees of freedom: p < 0.001
    assert chunk["z"].shape == (64, 2, 64, 20)
    assert chunk["z"].mean().abs() < 0.01
    assert (chunk["z"].std() - 1).abs() < 0.01
    assert chunk["u"].min() >= -1
    assert chunk["u"].max() <= 1
    assert (chunk["u"].std() - 1 / 3**0.5).abs() < 0.01


def test_purposes_and_seeds_have_streams_of_their_own() -> None:
    derived = {derive(seed, purpose) for seed in range(100) for purpose in ("init", "train", "eval")}
    assert len(derived) == 300
    assert all(0 <= value < 2**63 for value in derived)
