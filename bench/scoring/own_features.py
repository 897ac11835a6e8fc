"""A user's own extractor: ``module:function``, or the name of an entry point in ``gan_bench.features``.

The function is given a :class:`~baselines.gan.DataSpec` and returns a ``torch.nn.Module``: uint8 images
(B, C, H, W) -> features (B, D), or a pair of features and class logits (B, K). Its parameters and buffers
hold all numbers that it computes with. Their hash and that of its code are its identity, so scores of an
edited extractor never share a table with those of the old one. ``python -m bench.conformance features``
checks it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.datasets import Dataset
from bench.errors import UsageError, one_line
from bench.identity import outside
from bench.scoring.features import Extractor
from bench.scoring.inception import batch_size


def extractor(name: str, dataset: Dataset, device: torch.device) -> Extractor:
    """The user's extractor for a data set.

    Raises:
        UsageError: there is none, it cannot be made, or it gives something else than features.
    """
    found = outside.find("--features", name)
    try:
        net = found.function(dataset.spec)
    except Exception as error:  # it may raise anything
        raise UsageError(f"--features: {name} cannot be made: {one_line(error)}") from error
    if not isinstance(net, nn.Module):
        raise UsageError(f"--features: {name} returns {type(net).__name__}, not a torch.nn.Module")
    net.to(device).eval().requires_grad_(False)

    def forward(images: Tensor) -> tuple[Tensor, Tensor | None]:
        return split(name, net(images), len(images))

    images = torch.zeros(2, *dataset.shape, dtype=torch.uint8, device=device)
    try:
        with torch.inference_mode():
            features, logits = forward(images)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"--features: {name} fails on {dataset.name}: {one_line(error)}") from error
    info = {"feature_dim": features.shape[1]} | ({} if logits is not None else {"logits": False})
    return Extractor(name, content_sha256(found.digest, net), info, forward, device, batch_size(device))


def split(name: str, output: Any, n: int) -> tuple[Tensor, Tensor | None]:
    """What the module returned for ``n`` images, as features (n, D) and logits (n, K) or None.

    Raises:
        UsageError: it is something else.
    """
    features, logits = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    found: Any
    for what, found in {"features": features, **({} if logits is None else {"logits": logits})}.items():
        is_tensor = isinstance(found, Tensor)
        if not is_tensor or found.ndim != 2 or len(found) != n or not found.is_floating_point():
            kind = f"{found.dtype} {tuple(found.shape)}" if is_tensor else type(found).__name__
            raise UsageError(f"--features: {name} gives {what} {kind} for {n} images, not floats ({n}, D)")
    return features, logits


def content_sha256(code: str, net: nn.Module) -> str:
    """The hash of an extractor's code and of its parameters and buffers."""
    sha = hashlib.sha256(code.encode())
    for key, value in [*net.named_parameters(), *net.named_buffers()]:
        array = value.detach().cpu().contiguous()
        sha.update(f"\n{key} {array.dtype} {tuple(array.shape)}\n".encode())
        sha.update(array.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()
