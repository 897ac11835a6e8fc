"""Published data sets: small files in the real formats, damaged files, bad networks."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import multiprocessing
import os
import pickle
import resource
import shutil
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import DIGITS, MNIST, flip, refused, targets, well_formed, within

from bench.data import datasets, torchvision_sets
from bench.data.datasets import Dataset, Images, load, resolve
from bench.plan import Place, Spec, plan

# torchvision unpacks CIFAR-10's archive, whose MD5 it has checked, in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")

# ---------------------------------------------------------------- small files in the real formats


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


def python2_pickle(content: dict[str, Any]) -> bytes:
    """As the published batches are: protocol 2, NumPy's old module name, ints for the dtype's flags."""
    return (
        pickle.dumps(content, protocol=2)
        .replace(b"numpy._core", b"numpy.core")
        .replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    )


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


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_published_files_are_unpacked_and_read_without_a_network(
    published: Published, tmp_path: Path, no_network: None, capfd: pytest.CaptureFixture[str]
) -> None:
    root = published.put(tmp_path / "data")
    for _ in range(2):  # unpacks, then finds it unpacked
        dataset = load(published.name, data_root=root)
        well_formed(dataset)
        assert dataset.n_classes == 10
        assert published.matches(dataset)
    assert capfd.readouterr() == ("", "")
    assert not list(root.glob(".*"))


def test_kmnist_is_read_as_well(fashion: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import KMNIST, FashionMNIST

    monkeypatch.setattr(KMNIST, "resources", FashionMNIST.resources)
    fashion.home = Path("KMNIST/raw")
    assert fashion.matches(load("kmnist", data_root=fashion.put(tmp_path / "data"), offline=True))


def test_cifar_needs_the_archive_only_once(cifar: Published, tmp_path: Path) -> None:
    root = cifar.put(tmp_path / "data")
    load("cifar10", data_root=root, offline=True)
    (root / "cifar-10-python.tar.gz").unlink()
    assert cifar.matches(load("cifar10", data_root=root, offline=True))


def truncate(data: bytes) -> bytes:
    return data[:-7]


def empty(data: bytes) -> bytes:
    return b""


def header(data: bytes) -> bytes:
    """The same length, but it claims other sizes."""
    return data[:7] + bytes([data[7] ^ 1]) + data[8:]


@pytest.mark.parametrize("damage", [flip, truncate, empty])
@pytest.mark.parametrize("offline", [True, False])
def test_damaged_downloads_are_refused_by_name_and_kept(
    published: Published, tmp_path: Path, damage: Callable[[bytes], bytes], offline: bool, no_network: None
) -> None:
    root = published.put(tmp_path / "data")
    for file in sorted((root / published.home).iterdir()):
        good = file.read_bytes()
        file.write_bytes(damage(good))
        line = refused(published.name, root, offline=offline)
        assert f"{file} is damaged" in line
        assert "delete it" in line
        assert file.read_bytes() == damage(good)
        file.write_bytes(good)
    assert published.matches(load(published.name, data_root=root, offline=offline))


@pytest.mark.parametrize("damage", [flip, truncate, empty, header])
def test_damaged_unpacked_files_are_refused_by_name(
    published: Published, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    root = published.put(tmp_path / "data")
    archives = tree(root)
    load(published.name, data_root=root, offline=True)
    unpacked = [name for name in tree(root) if name not in archives]
    assert len(unpacked) == (4 if published.name == "fashion-mnist" else 7)
    for file in (root / name for name in unpacked):
        good = file.read_bytes()
        file.write_bytes(damage(good))
        assert f"{file} is damaged" in refused(published.name, root)
        file.unlink()  # as the line says
        assert published.matches(load(published.name, data_root=root, offline=True))
        assert file.read_bytes() == good


def test_a_damaged_pickle_is_never_unpickled(cifar: Published, tmp_path: Path) -> None:
    root = cifar.put(tmp_path / "data")
    load("cifar10", data_root=root, offline=True)
    trap = tmp_path / "sprung"
    code = f"cos\nmkdir\n(V{trap}\ntR."
    pickle.loads(code.encode())
    trap.rmdir()
    (root / "cifar-10-batches-py" / "data_batch_3").write_bytes(code.encode())
    assert "data_batch_3 is damaged" in refused("cifar10", root)
    assert not trap.exists()


def test_torchvisions_unchecked_legacy_files_are_not_trusted(fashion: Published, tmp_path: Path) -> None:
    import torch

    root = fashion.put(tmp_path / "data")
    (root / "FashionMNIST" / "processed").mkdir()
    fake = (torch.zeros(60, 28, 28, dtype=torch.uint8), torch.zeros(60, dtype=torch.int64))
    for part in ("training.pt", "test.pt"):
        torch.save(fake, root / "FashionMNIST" / "processed" / part)
    assert fashion.matches(load("fashion-mnist", data_root=root, offline=True))


def test_damage_to_the_real_mnist_is_found(mnist_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(mnist_root, root)
    load("mnist", data_root=root, offline=True)
    for name, damage in (("t10k-images-idx3-ubyte", flip), ("t10k-labels-idx1-ubyte.gz", truncate)):
        file = root / "MNIST" / "raw" / name
        good = file.read_bytes()
        file.write_bytes(damage(good))
        assert f"{file} is damaged" in refused("mnist", root)
        file.write_bytes(good)


def test_missing_files_offline(published: Published, tmp_path: Path, no_network: None) -> None:
    line = refused(published.name, tmp_path / "data")
    assert "is missing; put it there, or drop --offline" in line
    assert str(tmp_path / "data" / published.home) in line
    assert not (tmp_path / "data").exists()


def test_one_missing_file_is_the_one_named(fashion: Published, tmp_path: Path) -> None:
    root = fashion.put(tmp_path / "data")
    load("fashion-mnist", data_root=root, offline=True)
    (root / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    assert "t10k-labels-idx1-ubyte.gz is missing" in refused("fashion-mnist", root)


def test_an_interrupted_unpacking_leaves_nothing_behind(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import utils

    root = published.put(tmp_path / "data")
    before = tree(root)
    extract, calls = utils.extract_archive, []

    def interrupted(source: str, target: str, *rest: Any) -> None:
        calls.append(source)
        extract(source, target, *rest)
        for file in Path(target).rglob("*"):
            if file.is_file():
                file.write_bytes(truncate(file.read_bytes()))
        raise KeyboardInterrupt

    monkeypatch.setattr(utils, "extract_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(published.name, data_root=root, offline=True)
    assert len(calls) == 1
    assert tree(root) == before
    monkeypatch.setattr(utils, "extract_archive", extract)
    assert published.matches(load(published.name, data_root=root, offline=True))


def test_a_full_disk_is_said_in_one_line(published: Published, tmp_path: Path) -> None:
    root = published.put(tmp_path / "data")
    before = tree(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # a write beyond it fails
    try:
        line = refused(published.name, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot download or unpack into {root}: " in line
    assert os.strerror(errno.EFBIG) in line
    assert tree(root) == before


def test_a_folder_that_cannot_be_written(
    fashion: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with serve(fashion.files, monkeypatch):
        assert os.strerror(errno.ENOTDIR) in refused(
            "fashion-mnist", tmp_path / "file" / "data", offline=False
        )
        assert os.strerror(errno.ENOENT) in refused("fashion-mnist", Path("/proc/data"), offline=False)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_several_processes_at_once_do_not_spoil_each_others_files(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forks = multiprocessing.get_context("fork")
    start = forks.Barrier(4)

    def one() -> None:
        start.wait(10)
        assert published.matches(load(published.name, data_root=tmp_path / "data"))

    with serve(published.files, monkeypatch):
        processes = [forks.Process(target=one) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(20)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert not list((tmp_path / "data").glob(".*"))


# ---------------------------------------------------------------- the network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", cut)
    monkeypatch.setattr(socket.socket, "connect", cut)


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


def test_a_download(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "data"
    with serve(published.files, monkeypatch):
        assert published.matches(load(published.name, data_root=root))
    assert capfd.readouterr().out == ""
    assert not list(root.glob(".*"))
    assert socket.getdefaulttimeout() is None
    assert published.matches(load(published.name, data_root=root, offline=True))


def test_only_what_is_missing_is_downloaded(
    fashion: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fashion.put(tmp_path / "data")
    (root / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    (fashion.files / "t10k-images-idx3-ubyte.gz").write_bytes(b"changed on the server")
    with serve(fashion.files, monkeypatch):
        assert fashion.matches(load("fashion-mnist", data_root=root))


def test_a_download_with_other_content_is_refused(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in published.files.iterdir():
        file.write_bytes(flip(file.read_bytes()))
    with serve(published.files, monkeypatch):
        line = refused(published.name, tmp_path / "data", offline=False)
    assert "cannot download or unpack" in line
    assert tree(tmp_path / "data") == {}


def test_a_dead_mirror_is_passed_over(
    fashion: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(torchvision_sets, "NETWORK_S", 1.0)
    with serve(fashion.files, monkeypatch) as url, socket.create_server(("127.0.0.1", 0)) as dead:
        dead_url = f"http://127.0.0.1:{dead.getsockname()[1]}/"  # takes connections and never says a word
        monkeypatch.setattr(FashionMNIST, "mirrors", [dead_url, url])
        with within(3.5):  # it is asked once, not for each of the four files
            assert fashion.matches(load("fashion-mnist", data_root=tmp_path / "data"))


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


def test_a_name_server_that_never_answers(
    published: Published, tmp_path: Path, silent_names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_sets, "NETWORK_S", 0.3)
    with within(10):
        assert "no server that has it answers" in refused(published.name, tmp_path / "data", offline=False)


def test_a_server_that_never_answers(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10, FashionMNIST

    monkeypatch.setattr(torchvision_sets, "NETWORK_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as dead, within(10):
        url = f"http://127.0.0.1:{dead.getsockname()[1]}/"
        monkeypatch.setattr(FashionMNIST, "mirrors", [url])
        monkeypatch.setattr(CIFAR10, "url", url)
        assert "no server that has it answers" in refused(published.name, tmp_path / "data", offline=False)


def test_a_server_that_falls_silent_midway(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()

    class Stalling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
            self.wfile.flush()
            end.wait(30)

        def log_message(self, *args: Any) -> None: ...

    monkeypatch.setattr(torchvision_sets, "NETWORK_S", 1.0)
    with serve(Stalling, monkeypatch):
        try:
            with within(10):
                line = refused(published.name, tmp_path / "data", offline=False)
        finally:
            end.set()
    assert "cannot download or unpack" in line
    assert "timed out" in line
    assert tree(tmp_path / "data") == {}


def test_auto_is_digits_without_a_network_and_says_why(tmp_path: Path, no_network: None) -> None:
    name, why = resolve("auto", data_root=tmp_path, offline=False)
    assert name == "digits"
    assert why is not None
    assert "MNIST is not available" in why
    assert "no server that has it answers" in why
    assert load("auto", data_root=tmp_path).sha256 == DIGITS


def test_auto_does_not_hang(tmp_path: Path, silent_names: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_sets, "NETWORK_S", 0.3)
    with within(10):
        assert resolve("auto", data_root=tmp_path, offline=False)[0] == "digits"


def test_auto_does_not_touch_the_network_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(urls: list[str]) -> list[str]:
        raise AssertionError("asked the network")

    monkeypatch.setattr(torchvision_sets, "_answering", ask)
    name, why = resolve("auto", data_root=tmp_path, offline=True)
    assert name == "digits"
    assert why is not None
    assert "--offline" in why


def test_auto_decodes_mnist_once(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import mnist

    decoded: list[str] = []
    for kind in ("image", "label"):
        read = getattr(mnist, f"read_{kind}_file")

        def counted(path: str, read: Callable[[str], Any] = read) -> Any:
            decoded.append(Path(path).name)
            return read(path)

        monkeypatch.setattr(mnist, f"read_{kind}_file", counted)
    lines: list[str] = []
    place = Place(data_root=mnist_root, offline=True)
    [job] = plan(Spec(["vanilla"], ["auto"], [0], steps=1), place, lines.append)
    assert job.dataset == "mnist"
    assert lines == [f"--dataset auto is MNIST here, from {mnist_root}"]
    assert len(decoded) == len(set(decoded)) == 4, "images and labels of two splits"


def test_auto_is_mnist_where_it_can_be_downloaded(
    mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(mnist_root / "MNIST" / "raw", monkeypatch):
        assert resolve("auto", data_root=tmp_path, offline=False)[0] == "mnist"
    assert load("mnist", data_root=tmp_path, offline=True).sha256 == MNIST
