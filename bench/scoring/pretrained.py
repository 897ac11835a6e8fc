"""The extractors ``vgg16``, ``clip-*`` and ``dinov2-*``: torch-fidelity's networks on published weights.

They have features and no classes, so scores that need class logits do not exist on them. Files of weights are
read without executing anything that they hold.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.scoring import fidelity
from bench.scoring.features import Extractor
from bench.scoring.inception import NETWORK_S, batch_size
from bench.store.files import write_atomic

HEADER = 2**27
"""The most bytes of a safetensors file before its numbers."""


def extractor(
    name: str, dataset: Dataset, device: torch.device, given: Path | None, offline: bool
) -> Extractor:
    """The features on which torch-fidelity computes FID: ``fc2_relu``, ``clip`` or ``dinov2``.

    The weights are the ``given`` file, or else the published ones, which are downloaded if need be. Weights
    that have the network's shape but another hash than the published ones are used, and the record says so.
    Grey images become three equal channels.

    Raises:
        UsageError: the images have neither 1 nor 3 channels, or there are no weights to use.
    """
    if (channels := dataset.shape[0]) not in (1, 3):
        raise UsageError(
            f"--features {name}: takes images of 1 or 3 channels; those of {dataset.name!r} have {channels}"
        )
    path = _published_file(name, offline) if given is None else given
    says = f"--features {name}: {path}" if given is None else f"--weights {name}: {path}"
    _, known = fidelity.published(name)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            is_published = bool(known) and sha256.startswith(known)
            file.seek(0)
            state = read_weights(file, trusted=is_published)
    except OSError as error:
        raise UsageError(f"{says} cannot be read ({error.strerror})") from error
    except UntrustedError as error:
        raise UsageError(
            f"{says} is TorchScript, which is code, and its SHA-256 {sha256[:16]}… is not the published one, "
            f"{known[:16]}…; save its state_dict as safetensors or by torch.save"
        ) from error
    except Exception as error:  # a file of another kind can fail in any way
        raise UsageError(f"{says} holds no weights ({type(error).__name__})") from error
    try:
        net = fidelity.network(name, state).to(device)
    except (ValueError, KeyError, RuntimeError, AttributeError) as error:
        why = str(error).split("\n")[0] if isinstance(error, ValueError) else type(error).__name__
        raise UsageError(f"{says} does not hold the weights of {name} ({why})") from error

    def forward(images: Tensor) -> tuple[Tensor, None]:
        (features,) = net(images.expand(-1, 3, -1, -1))
        return features, None

    made = Extractor(name, sha256, {}, forward, device, batch_size(device))
    dim = made(torch.zeros(1, *dataset.shape, dtype=torch.uint8)).features.shape[1]
    info = {"feature_dim": dim, "logits": False} | ({"official": is_published} if known else {})
    return Extractor(name, sha256, info, forward, device, batch_size(device))


class UntrustedError(Exception):
    """A file of weights would have to be executed."""


def read_weights(file: BinaryIO, *, trusted: bool) -> Mapping[str, Tensor]:
    """The tensors by name in a file of safetensors, of ``torch.save`` or, if it is trusted, of TorchScript.

    Raises:
        UntrustedError: it is TorchScript, and not trusted.
        Exception: of any kind, where it is something else.
    """
    length = int.from_bytes(file.read(8), "little")
    is_safetensors = length < HEADER and file.read(1) == b"{"
    file.seek(0)
    if is_safetensors:
        return load_safetensors(file.read())
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            is_script = any(name.endswith("/constants.pkl") for name in archive.namelist())
        file.seek(0)
        if is_script:
            if not trusted:
                raise UntrustedError
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch plans to give TorchScript up; the files are such
                script = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
            found: Mapping[str, Tensor] = script.state_dict()
            return found
    file.seek(0)
    state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TypeError("not a mapping of names to tensors")
    return state


def _published_file(name: str, offline: bool) -> Path:
    """The published weights. They lie where torch-fidelity keeps them, and are downloaded if need be."""
    flag = f"--features {name}"
    url, known = fidelity.published(name)
    file = f"{name}-{known}.pt" if name.startswith("clip-") else url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    remedy = f"put the file from {url} there, or name it by --weights {name}=FILE"
    if path.exists():
        with path.open("rb") as present:
            if not hashlib.file_digest(present, "sha256").hexdigest().startswith(known):
                raise UsageError(f"{flag}: {path} is damaged; delete it, then {remedy}")
        return path
    if offline:
        raise UsageError(f"{flag}: {path} is missing, and --offline forbids downloads; {remedy}")

    def download(temporary: Path) -> None:
        with urlopen(url, timeout=NETWORK_S) as reply, temporary.open("w+b") as copy:
            shutil.copyfileobj(reply, copy)
            copy.seek(0)
            if not hashlib.file_digest(copy, "sha256").hexdigest().startswith(known):
                raise UsageError(f"{flag}: the server sent something that is not the file; {remedy}")

    try:
        write_atomic(path, download)
    except (OSError, HTTPException) as error:
        raise UsageError(f"{flag}: {path} is missing and cannot be downloaded ({error}); {remedy}") from error
    return path
