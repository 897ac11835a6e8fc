"""Calling a network with given tensors in place of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from baselines.dcgan import dcgan
from baselines.gan import DataSpec
from baselines.training import step
from baselines.training.step import Bf16Net, BoundNet, call
from baselines.training.trainer import Trainer


class Tied(nn.Module):
    """Two layers share one weight; a third has its own, and statistics that training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.rest = nn.Sequential(nn.BatchNorm1d(4), parametrizations.orthogonal(nn.Linear(4, 3)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.second(self.first(x))
        return self.rest(hidden), hidden


def tensors_of(net: nn.Module, live: bool = False) -> dict[str, Tensor]:
    params = {name: value.detach().clone().requires_grad_(live) for name, value in net.named_parameters()}
    return params | {name: value.clone() for name, value in net.named_buffers()}


@pytest.mark.parametrize("training", [True, False])
def test_a_call_is_torchs_functional_call(training: bool) -> None:
    torch.manual_seed(0)
    net, donor, x = Tied().train(training), Tied(), torch.randn(5, 4)
    given, reference = tensors_of(donor), tensors_of(donor)
    untouched = tensors_of(net)
    for _ in range(2):
        assert all(map(torch.equal, call(net, given, (x,)), functional_call(net, reference, (x,))))
    assert "second.weight" not in given
    for name, value in given.items():
        assert torch.equal(value, reference[name]), name
    assert torch.equal(given["rest.0.running_mean"], tensors_of(donor)["rest.0.running_mean"]) is not training
    for name, value in tensors_of(net).items():
        assert torch.equal(value, untouched[name]), name


def test_gradients_reach_both_places_of_a_tied_weight() -> None:
    torch.manual_seed(0)
    net, x = Tied(), torch.randn(5, 4)
    given = tensors_of(net, live=True)
    (ours,) = torch.autograd.grad(call(net, given, (x,))[1].sum(), [given["first.weight"]])
    (plain,) = torch.autograd.grad(net(x)[1].sum(), [net.first.weight])
    assert torch.equal(ours, plain)


def test_a_call_that_fails_leaves_the_module_its_own() -> None:
    net = nn.Linear(4, 2)
    own = net.weight
    with pytest.raises(RuntimeError):
        call(net, tensors_of(net), (torch.zeros(5, 3),))
    assert net.weight is own


def test_bfloat16_networks_answer_in_float32_with_float32_gradients() -> None:
    torch.manual_seed(0)
    net, x = Tied(), torch.randn(5, 4)
    outputs: list[Any] = []
    for bound in (BoundNet, Bf16Net):
        given = tensors_of(net, live=True)
        _, hidden = bound(net, net, given)(x)
        outputs += [(hidden, *torch.autograd.grad(hidden.square().sum(), [given["first.weight"]]))]
    for exact, rounded in zip(*outputs, strict=True):
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        torch.testing.assert_close(exact, rounded, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["alone", "stack"])
def test_without_private_parts_of_modules_training_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...]
) -> None:
    images = torch.arange(40 * 64).remainder(256).to(torch.uint8).reshape(40, 1, 8, 8)
    gan = dcgan(DataSpec(1, 8, 8), width=16, batch_size=8)
    found = []
    for private in (True, False):
        monkeypatch.setattr(step, "PRIVATE", private)
        trainer = Trainer(gan, images, None, seeds)
        trainer.advance(3)
        found.append([trainer.state_dict(lane) for lane in range(len(seeds))])
    for ours, public in zip(*found, strict=True):
        for net, tensors in ours["weights"].items():
            for name, tensor in tensors.items():
                assert torch.equal(tensor, public["weights"][net][name]), (net, name)
