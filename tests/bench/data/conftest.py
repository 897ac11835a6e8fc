"""Data sets for the tests of this folder."""

from __future__ import annotations

import errno
import gzip
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import targets
from image_folders import write
from published_data import Published, idx, md5, python2_pickle, some_images

from bench.data.datasets import Images


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Fifty grey images without classes."""
    root = tmp_path / "pictures"
    for k in range(50):
        write(root, f"{k:02d}.png", seed=k)
    return root


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    from torchvision.datasets import FashionMNIST

    files = tmp_path / "fashion"
    files.mkdir()
    train, test = some_images(60, 1, 28, 28, seed=1), some_images(20, 1, 28, 28, seed=2)
    resources = []
    for prefix, part in (("train", train), ("t10k", test)):
        for kind, array in (
            ("images-idx3", part.images[:, 0]),
            ("labels-idx1", targets(part).astype(np.uint8)),
        ):
            packed = gzip.compress(idx(array))
            (files / f"{prefix}-{kind}-ubyte.gz").write_bytes(packed)
            resources.append((f"{prefix}-{kind}-ubyte.gz", md5(packed)))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    return Published("fashion-mnist", files, Path("FashionMNIST/raw"), train, test)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    from torchvision.datasets import CIFAR10

    files = tmp_path / "cifar"
    files.mkdir()
    train, test = some_images(50, 3, 32, 32, seed=3), some_images(20, 3, 32, 32, seed=4)

    def batch(part: Images) -> bytes:
        return python2_pickle({"data": part.images.reshape(len(part), -1), "labels": targets(part).tolist()})

    batches = {f"data_batch_{k + 1}": batch(train[np.arange(10 * k, 10 * k + 10)]) for k in range(5)}
    batches["test_batch"] = batch(test)
    batches["batches.meta"] = python2_pickle({"label_names": [str(k) for k in range(10)]})
    with tarfile.open(files / CIFAR10.filename, "w:gz") as archive:
        for name, data in batches.items():
            entry = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    sums = {name: md5(data) for name, data in batches.items()}
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5((files / CIFAR10.filename).read_bytes()))
    monkeypatch.setattr(
        CIFAR10, "train_list", [[f"data_batch_{k + 1}", sums[f"data_batch_{k + 1}"]] for k in range(5)]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    return Published("cifar10", files, Path(), train, test)


@pytest.fixture(params=["fashion", "cifar"])
def published(request: pytest.FixtureRequest) -> Published:
    data: Published = request.getfixturevalue(request.param)
    return data


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", cut)
    monkeypatch.setattr(socket.socket, "connect", cut)


@pytest.fixture
def silent_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that never answers."""
    end = threading.Event()

    def wait(*args: Any, **kwargs: Any) -> None:
        end.wait(30)
        raise OSError("no name")

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    yield
    end.set()
