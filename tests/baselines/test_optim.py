"""Optimizers: what models declare is made, and the lean Adam is PyTorch's own."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.gan import Adam, RMSprop
from baselines.training.optim import FusedAdam, make_optimizer

GROUPS: list[dict[str, Any]] = [
    {"lr": 1e-2, "betas": (0.5, 0.9), "eps": 1e-7},
    {"lr": 3e-3, "betas": (0.9, 0.999), "eps": 1e-4, "weight_decay": 0.1},
]


def start() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randn(shape, generator=generator, requires_grad=True) for shape in ((3, 4), (5,), ())]
        for _ in GROUPS
    ]


def made(kind: Any, groups: list[list[Tensor]], **options: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = kind(
        [settings | {"params": params} for settings, params in zip(GROUPS, groups, strict=True)], **options
    )
    return optimizer


def stepped(optimizer: torch.optim.Optimizer, n: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_pytorchs_adam(fused: bool) -> None:
    """Bit for bit if PyTorch's is fused too, else up to rounding."""
    ours, theirs = start(), start()
    stepped(made(FusedAdam, ours, fused=True), 20)
    stepped(made(torch.optim.Adam, theirs, fused=fused, foreach=False), 20)
    for a, b in zip(chain(*ours), chain(*theirs), strict=True):
        assert not fused or torch.equal(a, b)
        torch.testing.assert_close(a, b)


def test_its_state_is_that_of_pytorchs_adam() -> None:
    ours, theirs = start(), start()
    before, after = made(FusedAdam, ours, fused=True), made(torch.optim.Adam, theirs, fused=True)
    stepped(before, 3)
    with torch.no_grad():
        for a, b in zip(chain(*ours), chain(*theirs), strict=True):
            b.copy_(a)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after.load_state_dict(torch.load(file, weights_only=True))
    stepped(before, 3, seed=2)
    stepped(after, 3, seed=2)
    for a, b in zip(chain(*ours), chain(*theirs), strict=True):
        assert torch.equal(a, b)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="beta"):
        make_optimizer(Adam(1e-3, (1.5, 0.9)), [torch.zeros(1)])


@dataclass(frozen=True)
class Descent(Adam):
    """An Adam by its type; its own ``make`` decides."""

    def make(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, self.lr)


def test_declared_optimizers_are_made() -> None:
    params = [torch.zeros(1, requires_grad=True)]
    assert isinstance(make_optimizer(Adam(1e-3), params), FusedAdam)
    assert isinstance(make_optimizer(RMSprop(1e-3), params), torch.optim.RMSprop)
    assert isinstance(make_optimizer(Descent(1e-3), params), torch.optim.SGD)
    with pytest.raises(TypeError, match=r"0\.1 is not an optimizer"):
        make_optimizer(0.1, params)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_interface_imports_no_implementation() -> None:
    code = (
        "import sys, baselines.gan; print(*(name for name in sys.modules if name.startswith('baselines.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["baselines.gan"]


@pytest.mark.slow
def test_a_worker_does_not_load_the_compiler() -> None:
    """The compiler would take a second and 150 MB in every process."""
    code = (
        "import sys, torch; from baselines.training.optim import FusedAdam\n"
        "w = torch.ones(3, requires_grad=True)\n"
        "optimizer = FusedAdam([w], fused=True); w.sum().backward(); optimizer.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("missing", ["_fused_adam_", "_foreach_add_"])
def test_without_private_kernels_pytorchs_own_step_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    ours, theirs = start()[0], start()[0]
    lean = make_optimizer(Adam(1e-2, (0.5, 0.9)), ours)
    monkeypatch.delattr(torch, missing)
    plain = make_optimizer(Adam(1e-2, (0.5, 0.9)), theirs)
    assert isinstance(lean, FusedAdam)
    assert type(plain) is torch.optim.Adam
    monkeypatch.undo()
    for optimizer in (lean, plain):
        stepped(optimizer, 5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
