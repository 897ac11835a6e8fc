"""Random numbers of training: one stream per seed, drawn in chunks.

A stream depends only on its seed, not on the other seeds of the stack, the worker or the number of steps.
K iterations in a chunk, U updates in an iteration, B examples in a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from baselines.gan import Noise, Uniform

CHUNK = 2**20
"""About how many numbers are drawn at once. A chunk has at most 64 iterations."""


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose ("init", "train", …) of a run with this seed."""
    digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def draw(noise: Mapping[str, Noise], size: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """One draw of every declared noise: (*size, *shape) each."""
    out = {}
    for name, kind in noise.items():
        shape = (*size, *kind.shape)
        if isinstance(kind, Uniform):
            out[name] = torch.empty(shape, device=generator.device).uniform_(
                kind.low, kind.high, generator=generator
            )
        else:
            out[name] = torch.randn(shape, generator=generator, device=generator.device)
    return out


class Stream:
    """The batches and the noise that one seed trains on.

    ``state`` is the generator's state before the current chunk. With it and the position in the chunk, a
    stream continues exactly.
    """

    def __init__(
        self,
        seed: int,
        *,
        n_examples: int,
        batch_size: int,
        n_updates: int,
        noise: Mapping[str, Noise],
        device: torch.device,
        per_example: int = 1,
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(derive(seed, "train"))
        self.n_examples = n_examples
        self.noise = noise
        numbers = per_example + sum(torch.Size(kind.shape).numel() for kind in noise.values())
        n_iterations = min(64, max(1, CHUNK // (n_updates * batch_size * numbers)))
        self.size = (n_iterations, n_updates, batch_size)
        self.index_size = self.size if per_example == 1 else (*self.size, per_example)
        self.state = self.generator.get_state()

    def chunk(self) -> dict[str, Tensor]:
        """The next K iterations: ``index`` (K, U, B), with replacement, and each noise (K, U, B, *shape).

        ``index`` is (K, U, B, n) where an example is made of n images, each drawn on its own.
        """
        self.state = self.generator.get_state()
        index = torch.randint(
            self.n_examples, self.index_size, generator=self.generator, device=self.generator.device
        )
        return {"index": index} | draw(self.noise, self.size, self.generator)

    def rewind(self, state: Tensor) -> dict[str, Tensor]:
        """The chunk that was drawn from ``state``."""
        self.generator.set_state(state)
        return self.chunk()
