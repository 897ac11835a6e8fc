"""Small data sets in the formats in which their authors publish them, and a server for them."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import datasets
from bench.data.datasets import Dataset, Images


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """The IDX format: zero, zero, 8 for uint8, number of dimensions; big-endian sizes; the data."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Published:
    """A small data set as its authors publish it: a folder of files, and what they hold."""

    def __init__(self, name: str, files: Path, home: Path, train: Images, test: Images) -> None:
        self.name, self.files, self.home, self.train, self.test = name, files, home, train, test

    def put(self, root: Path) -> Path:
        """Put the published files where torchvision looks for them."""
        (root / self.home).mkdir(parents=True, exist_ok=True)
        for file in self.files.iterdir():
            shutil.copy(file, root / self.home)
        return root

    def matches(self, dataset: Dataset) -> bool:
        return dataset.sha256 == datasets._sha256(train=self.train, val=None, test=self.test)


def some_images(n: int, *shape: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 256, (n, *shape), np.uint8), rng.permutation(np.arange(n) % 10))


def python2_pickle(content: dict[str, Any]) -> bytes:
    """As the published batches are: protocol 2, NumPy's old module name, ints for the dtype's flags."""
    return (
        pickle.dumps(content, protocol=2)
        .replace(b"numpy._core", b"numpy.core")
        .replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    )


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def truncate(data: bytes) -> bytes:
    return data[:-7]


@contextmanager
def serve(files: Path | type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine in place of the authors'."""
    from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

    handler = partial(Quiet, directory=str(files)) if isinstance(files, Path) else files
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for source in (MNIST, FashionMNIST):
            monkeypatch.setattr(source, "mirrors", [url])
        monkeypatch.setattr(CIFAR10, "url", url + CIFAR10.filename)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()
