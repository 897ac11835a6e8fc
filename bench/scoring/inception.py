"""The ``inception-v3-compat`` extractor: torch-fidelity's Inception v3, on which published FIDs are
computed."""

from __future__ import annotations

import hashlib
import io
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor
from torch_fidelity import FeatureExtractorInceptionV3

from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.scoring.features import Extractor
from bench.store.files import write_atomic

RELEASES = "https://github.com/toshas/torch-fidelity/releases/download"
URL = f"{RELEASES}/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
"""The official weights: those that torch-fidelity downloads."""

OFFICIAL = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Their SHA-256."""

NETWORK_S = 15.0
"""Seconds without an answer after which a download fails."""

FLAG = "--features inception-v3-compat"


def extractor(
    dataset: Dataset,
    device: torch.device,
    given: Path | None,
    offline: bool,
    flag: str = "--inception-weights",
) -> Extractor:
    """2048 pooled features, and 1008 logits without bias.

    The weights are the ``given`` file, or else the official ones, which are downloaded if need be. Other
    weights than the official ones are used if they fit, and the record says so. Grey images become three
    equal channels. ``flag`` is what named the file.

    Raises:
        UsageError: the images have neither 1 nor 3 channels, or there are no weights to use.
    """
    channels = dataset.shape[0]
    if channels not in (1, 3):
        raise UsageError(
            f"{FLAG}: takes images of 1 or 3 channels; those of {dataset.name!r} have {channels}"
        )
    data = _official(offline) if given is None else _given(given, flag)
    try:
        # torch-fidelity unpickles any file, which can execute code. So check first that it holds only
        # tensors.
        torch.load(io.BytesIO(data), weights_only=True)
        net = FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=io.BytesIO(data),
        )
    except Exception as error:  # a file of another kind can fail in any way
        raise UsageError(
            f"{flag}: {given} does not hold torch-fidelity's Inception v3 ({type(error).__name__})"
        ) from error
    net.to(device, memory_format=torch.channels_last)  # on a CPU it takes a third less time

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
        batch_size=batch_size(device),
    )


def batch_size(device: torch.device) -> int:
    """How many images fit into a quarter of the GPU's memory, at 32 MB of activations for each.

    This counts all of the memory, not what is free now: the batch size can change rounding, and a run must
    not depend on what else uses the GPU.
    """
    if device.type == "cpu":
        return 32
    memory: int = torch.cuda.get_device_properties(device).total_memory
    return max(8, min(256, memory // 4 // 2**25))


def _given(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{flag}: {path} cannot be read ({error.strerror})") from error


def _official(offline: bool) -> bytes:
    """The official weights. They lie where torch-fidelity keeps them, and are downloaded if need be."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    remedy = f"put the file from {URL} there, or name it by --inception-weights"
    if path.exists():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != OFFICIAL:
            raise UsageError(f"{FLAG}: {path} is damaged; delete it, then {remedy}")
        return data
    if offline:
        raise UsageError(f"{FLAG}: {path} is missing, and --offline forbids downloads; {remedy}")
    try:
        with urlopen(URL, timeout=NETWORK_S) as reply:
            data = bytes(reply.read())
    except (OSError, HTTPException) as error:
        raise UsageError(f"{FLAG}: {path} is missing and cannot be downloaded ({error}); {remedy}") from error
    if hashlib.sha256(data).hexdigest() != OFFICIAL:
        raise UsageError(f"{FLAG}: the server sent something that is not the official file; {remedy}")
    write_atomic(path, lambda temporary: temporary.write_bytes(data))
    return data
