"""The ``inception-v3-compat`` extractor: torch-fidelity's Inception v3, whose FIDs are the published kind."""

from __future__ import annotations

import hashlib
import io
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as source

from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.scoring.extractors import Extractor
from bench.store.files import write_atomic

OFFICIAL = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of the weights that torch-fidelity downloads. Their name ends in its first eight digits."""

NETWORK_S = 15.0
"""How long a server may stay silent."""

FLAG = "--features inception-v3-compat"


def extractor(dataset: Dataset, device: torch.device, given: Path | None, offline: bool) -> Extractor:
    """2048 pooled features and 1008 logits without bias, of weights that were given or are downloaded.

    Images of one channel become three equal ones. Weights that are not the official ones are used
    when they fit, and the record says so.
    """
    channels = dataset.shape[0]
    if channels not in (1, 3):
        raise UsageError(
            f"{FLAG}: takes images of 1 or 3 channels; those of {dataset.name!r} have {channels}"
        )
    data = _official(offline) if given is None else _given(given)
    try:
        # torch-fidelity unpickles whatever it gets: first show that these bytes hold nothing but tensors.
        torch.load(io.BytesIO(data), weights_only=True)
        net = source.FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=io.BytesIO(data),
        )
    except Exception as error:  # a file of another kind can fail in any way
        raise UsageError(
            f"--inception-weights: {given} does not hold torch-fidelity's Inception v3 "
            f"({type(error).__name__})"
        ) from error
    net.to(device, memory_format=torch.channels_last)  # two thirds of the time on a CPU

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = net(images.expand(-1, 3, -1, -1))
        return features, logits

    sha256 = hashlib.sha256(data).hexdigest()
    return Extractor(
        name="inception-v3-compat",
        sha256=sha256,
        info={"official": sha256 == OFFICIAL, "feature_dim": 2048},
        forward=forward,
        device=device,
        batch_size=_batch_size(device),
    )


def _batch_size(device: torch.device) -> int:
    """Images that surely fit: 32 MB of activations each, in a quarter of the GPU's memory.

    Of all its memory, not of what is free just now: rounding may depend on it, and a run must not.
    """
    if device.type == "cpu":
        return 32
    memory: int = torch.cuda.get_device_properties(device).total_memory
    return max(8, min(256, memory // 4 // 2**25))


def _given(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--inception-weights: {path} cannot be read ({error.strerror})") from error


def _official(offline: bool) -> bytes:
    """The official weights from where torch-fidelity keeps them; downloaded to there if need be."""
    url: str = source.URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    remedy = f"put the file from {url} there, or name it by --inception-weights"
    if path.exists():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != OFFICIAL:
            raise UsageError(f"{FLAG}: {path} is damaged; delete it, then {remedy}")
        return data
    if offline:
        raise UsageError(f"{FLAG}: {path} is missing, and --offline forbids to download it; {remedy}")
    try:
        with urlopen(url, timeout=NETWORK_S) as reply:
            data = bytes(reply.read())
    except (OSError, HTTPException) as error:
        raise UsageError(f"{FLAG}: {path} is missing and cannot be downloaded ({error}); {remedy}") from error
    if hashlib.sha256(data).hexdigest() != OFFICIAL:
        raise UsageError(f"{FLAG}: what the server sent is not the official file; {remedy}")
    write_atomic(path, lambda temporary: temporary.write_bytes(data))
    return data
