"""Published data sets: small files in the real formats, and damaged ones."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_checks import flip, refused, well_formed
from published_data import Published, serve, tree, truncate

from bench.data.datasets import load

# torchvision unpacks CIFAR-10's archive, whose MD5 it has checked, in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")


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
