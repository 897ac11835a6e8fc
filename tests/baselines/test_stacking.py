"""Stacks: other numbers in each lane, bfloat16, CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.dcgan import dcgan
from baselines.dragan import dragan
from baselines.gan import Adam, DataSpec, Gan, Optimizer, RMSprop
from baselines.hyperparameters import declared
from baselines.srgan import srgan
from baselines.training import capture
from baselines.training.lanes import may_differ, stackable
from baselines.training.trainer import Trainer
from baselines.vanilla import vanilla
from baselines.wgan_gp import wgan_gp

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


def with_(optimizer: Optimizer) -> Gan:
    return replace(GAN, optim={"gen": optimizer, "disc": optimizer})


# ---------------------------------------------------------------- lanes

LANES: list[tuple[Optimizer, Optimizer]] = [
    (Adam(1e-3, (0.5, 0.99)), Adam(1e-5, (0.9, 0.999), eps=1e-6)),
    (RMSprop(1e-3), RMSprop(1e-5, alpha=0.5)),
]


@pytest.mark.parametrize("optims", LANES, ids=["Adam", "RMSprop"])
def test_each_lane_trains_with_its_own_numbers(optims: tuple[Optimizer, Optimizer]) -> None:
    """The same as each seed alone with its optimizer, except for rounding."""
    stack = Trainer(GAN, IMAGES, None, (5, 5), lanes=[with_(optim) for optim in optims])
    stack.advance(3)
    for lane, optim in enumerate(optims):
        solo = Trainer(with_(optim), IMAGES, None, (5,))
        solo.advance(3)
        start = flat(Trainer(GAN, IMAGES, None, (5,)).weights())
        a, b = flat(stack.weights(lane)), flat(solo.weights())
        for key in a:
            gap, moved = (a[key] - b[key]).abs().mean(), (b[key] - start[key]).abs().mean()
            assert gap < 1e-6 + 1e-3 * moved, key


def test_a_lanes_state_goes_on_in_a_stack_and_alone() -> None:
    lanes = [with_(optim) for optim in LANES[0]]
    stack = Trainer(GAN, IMAGES, None, (5, 7), lanes=lanes)
    stack.advance(3)
    swapped = Trainer(GAN, IMAGES, None, (7, 5), lanes=lanes[::-1])
    swapped.load_state_dict([stack.state_dict(1), stack.state_dict(0)])
    alone = Trainer(lanes[1], IMAGES, None, (7,))
    alone.load_state_dict([stack.state_dict(1)])
    assert_same(alone.state_dict(), stack.state_dict(1))
    stack.advance(2)
    swapped.advance(2)
    assert_same(swapped.state_dict(0), stack.state_dict(1))
    assert_same(swapped.state_dict(1), stack.state_dict(0))


def test_lanes_with_equal_numbers_are_a_plain_stack() -> None:
    plain, lanes = (
        Trainer(GAN, IMAGES, None, (5, 7)),
        Trainer(GAN, IMAGES, None, (5, 7), lanes=[GAN] * 2),
    )
    for trainer in (plain, lanes):
        trainer.advance(3)
    for lane in (0, 1):
        assert_same(plain.state_dict(lane), lanes.state_dict(lane))


def test_lanes_share_one_kind_of_optimizer_and_there_is_one_for_each() -> None:
    with pytest.raises(ValueError, match="the same kind of optimizer"):
        Trainer(GAN, IMAGES, None, (5, 7), lanes=[with_(Adam(1e-3)), with_(RMSprop(1e-3))])
    with pytest.raises(ValueError, match="longer"):
        Trainer(GAN, IMAGES, None, (5, 7), lanes=[with_(Adam(1e-3))])


@pytest.mark.parametrize(
    ("factory", "name"), [(wgan_gp, "penalty"), (dragan, "penalty"), (srgan, "adversarial")]
)
def test_each_lane_has_its_own_weight_of_a_loss(factory: Any, name: str) -> None:
    small = {"n_blocks": 1, "width": 4} if factory is srgan else {}
    data = DataSpec(1, 8, 8)
    gans = [replace(factory(data, **small, **{name: value}), batch_size=8) for value in (0.001, 0.1)]
    stack = Trainer(gans[0], IMAGES, None, (5, 5), lanes=gans)
    logged = stack.advance(1)
    for lane, gan in enumerate(gans):
        alone = Trainer(gan, IMAGES, None, (5,)).advance(1)
        for key, values in alone.items():
            assert logged[key][:, lane] == pytest.approx(values[:, 0], rel=1e-4, abs=1e-6), key
    assert any(block[0, 0] != block[0, 1] for block in logged.values())


def test_only_numbers_of_optimizers_and_losses_may_differ() -> None:
    data = DataSpec(1, 8, 8)
    of = partial(may_differ, wgan_gp, data, {name: h.default for name, h in declared(wgan_gp).items()})
    assert of("lr", 1e-3)
    assert of("beta1", 0.5)
    assert of("penalty", 1.0)
    assert of("latent_dim", 100)
    assert not of("latent_dim", 64)
    assert not of("net", "conv")
    hyper = {name: h.default for name, h in declared(dcgan).items()}
    assert not may_differ(dcgan, data, hyper, "dropout", 0.1)
    assert stackable(dcgan, data, hyper, {**hyper, "lr": 1e-3, "beta2": 0.9})
    assert not stackable(dcgan, data, hyper, {**hyper, "lr": 1e-3, "dropout": 0.1})


# ---------------------------------------------------------------- bfloat16


@pytest.mark.parametrize("seeds", [(3,), (3, 4)], ids=["solo", "stacked"])
def test_bfloat16_trains_alike_but_not_the_same(seeds: tuple[int, ...]) -> None:
    exact, rounded = Trainer(GAN, IMAGES, None, seeds), Trainer(GAN, IMAGES, None, seeds, bf16=True)
    for trainer in (exact, rounded):
        trainer.advance(20)
    for key in ("d_loss", "g_loss"):
        gap = abs(exact.history()[key] - rounded.history()[key])
        assert 0 < gap.max() < 0.02, key
    assert {value.dtype for value in flat(rounded.weights()).values()} == {torch.float32}


# ---------------------------------------------------------------- CUDA graphs


def stacks() -> list[tuple[int, ...]]:
    return [(5,), (5, 7)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("seeds", stacks())
def test_a_graph_on_a_gpu_trains_as_the_loop_does(seeds: tuple[int, ...]) -> None:
    images = IMAGES.cuda()
    eager, graph = Trainer(GAN, images, None, seeds, capture=False), Trainer(GAN, images, None, seeds)
    for trainer in (eager, graph):
        trainer.advance(70)
    assert graph.captured
    assert not eager.captured
    for lane in range(len(seeds)):
        for key, values in eager.history(lane).items():
            torch.testing.assert_close(
                torch.tensor(graph.history(lane)[key]), torch.tensor(values), rtol=1e-3, atol=1e-3
            )


class Recorder:
    """Stands for the CUDA calls of :class:`Captured` where there is no GPU.

    Like a CUDA graph, recording leaves every tensor as it was, and a replay reads and writes the very
    tensors of the recording.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, trainer: Trainer) -> None:
        self.trainer, self.replayed = trainer, 0
        for name, stand_in in {
            "Stream": lambda: self,
            "CUDAGraph": lambda: self,
            "device": nullcontext,
            "stream": nullcontext,
            "current_stream": lambda device: self,
            "graph": self.recording,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        self.device = None
        trainer.capture = True
        trainer._graph = trainer._unrecorded()

    def wait_stream(self, other: object) -> None:
        assert other is self

    def tensors(self) -> list[Tensor]:
        states = [
            trainer_state for o in self.trainer.optimizers.values() for trainer_state in o.state.values()
        ]
        held = [*self.trainer.params.values(), *self.trainer.buffers.values(), *states]
        return [self.trainer._step, *(value.detach() for tensors in held for value in tensors.values())]

    @contextmanager
    def recording(self, graph: object, stream: object) -> Iterator[None]:
        assert graph is stream is self
        before = [tensor.clone() for tensor in self.tensors()]
        yield
        for tensor, value in zip(self.tensors(), before, strict=True):
            tensor.copy_(value)
        self.recorded = self.tensors()

    def replay(self) -> None:
        self.replayed += 1
        assert all(
            a is b or a.data_ptr() == b.data_ptr() for a, b in zip(self.recorded, self.tensors(), strict=True)
        )
        play = self.trainer._graph
        assert play is not None
        for (_, static), (_, value) in zip(play.results, play.function(play.arguments), strict=True):
            static.copy_(value)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", stacks())
def test_replays_train_as_the_loop_does(monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...]) -> None:
    eager, graph = (Trainer(GAN, IMAGES, None, seeds) for _ in range(2))
    recorder = Recorder(monkeypatch, graph)
    for n in (1, 1, 5, 70):
        eager.advance(n)
        graph.advance(n)
    assert graph.captured
    assert recorder.replayed == 77 - capture.WARM_UP
    for lane in range(len(seeds)):
        assert_same(eager.state_dict(lane), graph.state_dict(lane))


def test_a_loaded_state_is_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading puts the optimizers' state into new tensors, which the old recording does not use."""
    whole, graph = Trainer(GAN, IMAGES, None, (5,)), Trainer(GAN, IMAGES, None, (5,))
    Recorder(monkeypatch, graph)
    whole.advance(5)
    saved = whole.state_dict()
    whole.advance(10)
    graph.advance(8)
    graph.load_state_dict([saved])
    assert not graph.captured
    graph.advance(10)
    assert_same(whole.state_dict(), graph.state_dict())


def test_what_cannot_be_recorded_goes_on_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    eager, graph = Trainer(GAN, IMAGES, None, (5,)), Trainer(GAN, IMAGES, None, (5,))
    recorder = Recorder(monkeypatch, graph)

    @contextmanager
    def refusing(graph: object, stream: object) -> Iterator[None]:
        with recorder.recording(graph, stream):
            yield
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph.*not permitted when stream"):
        graph.advance(6)
    graph.advance(4)
    eager.advance(10)
    assert not graph.captured
    assert_same(eager.state_dict(), graph.state_dict())
