"""Train a classifier for as long as it gets better, and go on where a stopped training was.

The time scales with the data: there is a check after each pass over the images, or after 10 to 100 steps, and
the training ends when no check finds an improvement at any of the learning rates.

Letters beside tensors: N images, B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import printable
from bench.scoring import determinism
from bench.store import files

BATCH_SIZE = 128
RATES = (4e-3, 1e-3, 2.5e-4)
"""Learning rates. Each is used until ``PATIENCE`` checks in a row find no improvement; the next one goes on
from the best weights."""
PATIENCE = 3
GAIN = 2e-3
"""The least improvement of the loss, in nats. Else that of classes which are easily told apart would improve
for ever."""
CHECKS = (10, 100)
"""The fewest and the most steps between two checks."""
MOST_STEPS = 3000
CHECKED = 2000
"""Images of a check: held-out images, changed in several ways where there are fewer."""
SAVE_EVERY = 10.0
"""Seconds after which a check is followed by a checkpoint."""
REPORT_EVERY = 5.0
"""Seconds between two lines that report the progress."""

Change = Callable[[Tensor, torch.Generator], Tensor]
"""uint8 (B, C, H, W) -> what the network is given: changed at random, float32 (B, C, H, W)."""
Examples = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8, and their labels (N,)."""


@dataclass
class _State:
    """All that a training needs to go on."""

    net: nn.Module
    stream: torch.Generator
    optimizer: torch.optim.Optimizer = field(init=False)
    best: dict[str, Tensor] = field(init=False)
    loss: float = float("inf")
    """Of the best weights, at the checks."""
    step: int = 0
    level: int = 0
    """Which of the learning rates is used."""
    waited: int = 0
    """Checks without improvement."""

    def __post_init__(self) -> None:
        self.best = deepcopy(self.net.state_dict())
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.net.parameters(), lr=RATES[self.level], fused=True)

    @property
    def is_over(self) -> bool:
        return self.level == len(RATES) or self.step >= MOST_STEPS

    def judge(self, loss: float) -> None:
        """Note what a check found."""
        self.waited += 1
        if loss < self.loss - GAIN:
            self.loss, self.waited = loss, 0
            self.best = deepcopy(self.net.state_dict())
        if self.waited == PATIENCE:
            self.waited = 0
            self.level += 1
            if self.level < len(RATES):
                self.net.load_state_dict(self.best)
                self.optimizer = self._optimizer()

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        held = {name: getattr(self, name) for name in ("best", "loss", "step", "level", "waited")}
        states = {name: getattr(self, name).state_dict() for name in ("net", "optimizer")}
        torch.save({**held, **states, "stream": self.stream.get_state()}, buffer)
        files.write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one. A damaged one is set aside, with a line on stderr."""
        try:
            held: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
            self.level = held["level"]
            self.optimizer = self._optimizer()
            self.net.load_state_dict(held["net"])
            self.optimizer.load_state_dict(held["optimizer"])
            self.stream.set_state(held["stream"])
        except FileNotFoundError:
            return
        except OSError:
            raise
        except Exception as error:  # a damaged file can fail in any way
            why = type(error).__name__
            print(f"{printable(path)}: damaged ({why}); moved to {files.set_aside(path)}", file=sys.stderr)
            self.level = 0
            raise _DamagedError from error
        self.best, self.loss = held["best"], held["loss"]
        self.step, self.waited = held["step"], held["waited"]


class _DamagedError(Exception):
    """A checkpoint cannot be used."""


def fit(
    network: Callable[[], nn.Module],
    examples: Examples,
    held_out: Examples,
    change: Change,
    *,
    name: str,
    checkpoint: Path | None = None,
) -> tuple[dict[str, Tensor], int]:
    """The weights that were best on the held-out examples, and the number of steps that were trained.

    The weights are the same to the bit in every process of one machine, also where a stopped training goes
    on from its ``checkpoint``. That file is gone at the end.
    """
    with determinism.scoring():
        state = _begun(network, checkpoint, name)
        _train(state, examples, _to_check(held_out, change), change, name, checkpoint)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return {key: value.contiguous() for key, value in state.best.items()}, state.step


def _begun(network: Callable[[], nn.Module], checkpoint: Path | None, name: str) -> _State:
    def new() -> _State:
        torch.manual_seed(0)  # of this block; the caller's stream is put back
        return _State(network(), torch.Generator().manual_seed(0))

    state = new()
    if checkpoint is not None:
        try:
            state.load(checkpoint)
        except _DamagedError:
            state = new()
    if state.step:
        print(f"classifier of {name}: going on from step {state.step}", file=sys.stderr, flush=True)
    return state


def _to_check(held_out: Examples, change: Change) -> Examples:
    """What the network is given at every check, and the labels."""
    images, labels = held_out
    times = -(-min(CHECKED, 10 * len(labels)) // len(labels))
    images, labels = images.repeat(times, 1, 1, 1)[:CHECKED], labels.repeat(times)[:CHECKED]
    stream = torch.Generator().manual_seed(1)
    return torch.cat([change(part, stream) for part in torch.split(images, BATCH_SIZE)]), labels


def _train(
    state: _State, examples: Examples, check: Examples, change: Change, name: str, checkpoint: Path | None
) -> None:
    images, labels = examples
    every = min(max(len(labels) // BATCH_SIZE, CHECKS[0]), CHECKS[1])
    reported = saved = time.monotonic()
    while not state.is_over:
        chosen = torch.randint(len(labels), (BATCH_SIZE,), generator=state.stream)
        loss = F.cross_entropy(state.net(change(images[chosen], state.stream)), labels[chosen])
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.step += 1
        if state.step % every == 0:
            state.judge(_loss(state.net, *check))
            if checkpoint is not None and time.monotonic() - saved >= SAVE_EVERY and not state.is_over:
                state.save(checkpoint)
                saved = time.monotonic()
        if time.monotonic() - reported > REPORT_EVERY:
            rate = f"learning rate {min(state.level + 1, len(RATES))} of {len(RATES)}"
            print(f"classifier of {name}: step {state.step}, {rate}", file=sys.stderr, flush=True)
            reported = time.monotonic()


def _loss(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.inference_mode():
        parts = zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True)
        total = sum(F.cross_entropy(net(x), y, reduction="sum").item() for x, y in parts)
    net.train()
    return total / len(labels)
