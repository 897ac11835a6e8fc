"""Published data sets from the network, which may be slow, silent or wrong; and what ``auto`` makes of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from data_checks import DIGITS, MNIST, flip, refused, within
from published_data import Published, serve, tree

from bench.data import torchvision_sets
from bench.data.datasets import load, resolve
from bench.plan import RunContext, Spec, plan

# torchvision unpacks CIFAR-10's archive, whose MD5 it has checked, in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    context = RunContext(data_root=mnist_root, offline=True)
    [job] = plan(Spec(["vanilla"], ["auto"], [0], steps=1), context, lines.append)
    assert job.dataset == "mnist"
    assert lines == [f"--dataset auto is MNIST here, from {mnist_root}"]
    assert len(decoded) == len(set(decoded)) == 4, "images and labels of two splits"


@pytest.mark.slow
def test_auto_is_mnist_where_it_can_be_downloaded(
    mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(mnist_root / "MNIST" / "raw", monkeypatch):
        assert resolve("auto", data_root=tmp_path, offline=False)[0] == "mnist"
    assert load("mnist", data_root=tmp_path, offline=True).sha256 == MNIST
