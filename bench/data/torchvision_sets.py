"""Published data sets, by torchvision, which knows their addresses and MD5 sums.

This file adds three things: it also finds damage where torchvision does not look, it never leaves
half-written files, and it waits for no server for long.
"""

from __future__ import annotations

import shutil
import socket
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.torchvision_import import import_torchvision

CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10"}
"""Our name -> torchvision's class."""

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (N, C, H, W) and labels (N,)."""

NETWORK_S = 10.0
"""Seconds without an answer after which a server counts as unreachable."""


def provide(name: str, root: Path, *, offline: bool) -> None:
    """Make sure that the files of a data set lie in ``root``, undamaged. Nothing is decoded.

    Missing files are unpacked and, unless ``offline``, downloaded.

    Raises:
        UsageError: a file is damaged, or it is missing and cannot be downloaded.
    """
    (_provide_cifar if name == "cifar10" else _provide_mnist)(_source(name), root, offline)


def read_torchvision(name: str, root: Path, *, offline: bool) -> tuple[Part, Part]:
    """(train, test) as the authors split them. The files are provided first, as by :func:`provide`."""
    provide(name, root, offline=offline)
    return (_read_cifar if name == "cifar10" else _read_mnist)(_source(name), root)


def _source(name: str) -> Any:
    """torchvision's class."""
    import_torchvision()
    from torchvision import datasets

    return getattr(datasets, CLASSES[name])


def _provide_mnist(source: Any, root: Path, offline: bool) -> None:
    """MNIST and its look-alikes: four packed files, whose MD5 torchvision knows, and these unpacked."""
    raw = f"{source.__name__}/raw"
    packed = {f"{raw}/{file}": md5 for file, md5 in source.resources}
    unpacked = [path.removesuffix(".gz") for path in packed]
    _fetch(source, root, packed, [*packed, *unpacked], offline)
    for (path, md5), content in zip(packed.items(), unpacked, strict=True):
        _check(root / path, md5)
        # torchvision does not check unpacked files. A packed file ends in the CRC-32 of its content.
        crc = int.from_bytes((root / path).read_bytes()[-8:-4], "little")
        if zlib.crc32((root / content).read_bytes()) != crc:
            raise UsageError(f"{root / content} is damaged; delete it, and it will be unpacked again")


def _read_mnist(source: Any, root: Path) -> tuple[Part, Part]:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    raw = root / source.__name__ / "raw"

    def part(prefix: str) -> Part:
        images = read_image_file(str(raw / f"{prefix}-images-idx3-ubyte")).numpy()
        labels = read_label_file(str(raw / f"{prefix}-labels-idx1-ubyte")).numpy()
        return images[:, None], labels

    return part("train"), part("t10k")


def _provide_cifar(source: Any, root: Path, offline: bool) -> None:
    """CIFAR-10: one archive. torchvision knows the MD5 of the archive and of each file in it."""
    files = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    unpacked = {f"{source.base_folder}/{file}": md5 for file, md5 in files}
    _fetch(source, root, {source.filename: source.tgz_md5}, unpacked, offline)
    for path, md5 in unpacked.items():
        _check(root / path, md5)


def _read_cifar(source: Any, root: Path) -> tuple[Part, Part]:
    def part(train: bool) -> Part:
        data = source(root, train=train)
        return np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)), np.array(data.targets, np.int64)

    return part(True), part(False)


def _check(path: Path, md5: str) -> None:
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, md5):
        raise UsageError(
            f"{path} is damaged (its MD5 sum is not {md5}); delete it, or put the original there"
        )


def _fetch(source: Any, root: Path, packed: Mapping[str, str], wanted: Iterable[str], offline: bool) -> None:
    """Let torchvision download and unpack the files that ``root`` lacks.

    This happens in a temporary folder, from which whole files are renamed into place. So an interruption
    leaves no half-written file, and several processes may do it at the same time.
    """
    wanted = [path for path in wanted if not (root / path).exists()]
    if not wanted:
        return
    present = [path for path in packed if (root / path).exists()]
    for path in present:
        _check(root / path, packed[path])
    absent = [root / path for path in packed if path not in present]
    if absent and offline:
        raise UsageError(f"{absent[0]} is missing; put it there, or drop --offline to download it")
    if absent and not (source := _reachable(source)):
        raise UsageError(f"{absent[0]} is missing, and no server that has it answers; put it there yourself")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root, prefix=".fetch-") as folder, _patience():
            for path in present:
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, Path(folder) / path)
            source(folder, download=True)
            for path in wanted:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).replace(root / path)
    except (OSError, HTTPException, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UsageError(
            f"cannot download or unpack into {root}: {why}; try again, or choose a --data-root with room"
        ) from error


def _reachable(source: Any) -> Any:
    """The torchvision class with only those mirrors that answer; ``None`` where no server answers."""
    if not hasattr(source, "mirrors"):
        return source if _answering([source.url]) else None
    file = source.resources[0][0]
    mirrors = [url.removesuffix(file) for url in _answering([mirror + file for mirror in source.mirrors])]
    return type(source.__name__, (source,), {"mirrors": mirrors}) if mirrors else None


def _answering(urls: list[str]) -> list[str]:
    """The addresses that answer in time. Each is asked in a thread: a name look-up has no time limit."""
    from torchvision.datasets.utils import USER_AGENT

    answered = set()

    def ask(url: str) -> None:
        request = Request(url, headers={"User-Agent": USER_AGENT})
        with suppress(OSError, HTTPException), urlopen(request, timeout=NETWORK_S):
            answered.add(url)

    threads = [Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + NETWORK_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [url for url in urls if url in answered]


@contextmanager
def _patience() -> Iterator[None]:
    """Within the block, connections fail after ``NETWORK_S`` without data. torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
