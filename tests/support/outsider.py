"""A generative model that knows nothing of this harness: a small variational autoencoder of the digits.

python outsider.py SEED N OUT.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


def samples(seed: int, n: int, steps: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Train with a seed, and sample: images (n, 8, 8), 0 to 1, and the classes (n,) that were asked for."""
    torch.manual_seed(seed)
    images, classes = load_digits(return_X_y=True)
    data = torch.from_numpy(images).float() / 16
    asked = nn.functional.one_hot(torch.from_numpy(classes), 10).float()
    encode = nn.Sequential(nn.Linear(74, 64), nn.ReLU(), nn.Linear(64, 16))
    decode = nn.Sequential(nn.Linear(18, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
    adam = torch.optim.Adam([*encode.parameters(), *decode.parameters()], 3e-3)
    for _ in range(steps):
        rows = torch.randint(len(data), (128,))
        mean, log_std = encode(torch.cat([data[rows], asked[rows]], 1)).chunk(2, 1)
        z = mean + torch.randn_like(mean) * log_std.exp()
        error = (decode(torch.cat([z, asked[rows]], 1)) - data[rows]).square().sum(1)
        divergence = (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(1) / 2
        adam.zero_grad()
        (5 * error + divergence).mean().backward()
        adam.step()
    wanted = torch.randint(10, (n,))
    with torch.no_grad():
        z = torch.cat([torch.randn(n, 8), nn.functional.one_hot(wanted, 10).float()], 1)
        return decode(z).reshape(n, 8, 8).numpy(), wanted.numpy()


if __name__ == "__main__":
    np.savez(sys.argv[3], *samples(int(sys.argv[1]), int(sys.argv[2])))
