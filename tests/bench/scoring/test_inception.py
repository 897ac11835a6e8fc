"""The Inception extractor: what it computes, and where its weights come from."""

from __future__ import annotations

import hashlib
import pickle
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extractor_checks import close, pixels, stripes, truncate
from torch_fidelity import feature_extractor_inceptionv3 as source

from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.errors import UsageError
from bench.scoring import extractors, inception
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Extractor, Features


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=Path("unused"))


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of the right names and shapes, as torch-fidelity's module itself starts them."""
    cls = source.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(source, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(cls, "load_state_dict", lambda *_: None)
        net = cls("random", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def loaded(random_inception: Path, digits: Dataset) -> Extractor:
    return load_extractor(
        "inception-v3-compat", digits, cache=Path("unused"), inception_weights=random_inception
    )


@pytest.mark.slow
def test_inception_is_torch_fidelitys(loaded: Extractor, random_inception: Path) -> None:
    theirs = source.FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=random_inception
    )
    images = pixels(3, 3, 20, 20)
    expected = Features(*theirs(images))
    result = loaded(images)
    assert result.features.shape == (3, 2048)
    assert result.logits.shape == (3, 1008)
    assert expected.features.std() > 0
    assert torch.allclose(result.features, expected.features, rtol=1e-3, atol=1e-5)
    assert torch.allclose(result.logits, expected.logits, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_one_channel_becomes_three_equal_ones_in_any_batch(loaded: Extractor) -> None:
    images = pixels(3, 1, 8, 8)
    grey = loaded(images)
    assert close(grey, loaded(images.repeat(1, 3, 1, 1), 2))


def test_weights_that_are_not_the_official_ones_are_recorded_as_such(
    loaded: Extractor, random_inception: Path, digits: Dataset
) -> None:
    assert loaded.sha256 == hashlib.sha256(random_inception.read_bytes()).hexdigest()
    described = extractors.describe(
        "inception-v3-compat", digits, train=True, cache=Path("unused"), inception_weights=random_inception
    )
    assert described == {"sha256": loaded.sha256, "official": False, "feature_dim": 2048}


def load_inception(dataset: Dataset, given: Path | None = None, offline: bool = False) -> Extractor:
    return load_extractor(
        "inception-v3-compat", dataset, cache=Path("unused"), inception_weights=given, offline=offline
    )


class Malice:
    """Unpickling this makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_files_that_are_not_its_weights_are_refused_in_one_line(tmp_path: Path, digits: Dataset) -> None:
    trace = tmp_path / "executed"
    files = {name: tmp_path / name for name in ("missing", "text", "tensor", "other", "malice", "folder")}
    files["text"].write_text("not weights")
    torch.save(torch.zeros(3), files["tensor"])
    torch.save({"conv.weight": torch.zeros(3)}, files["other"])
    files["malice"].write_bytes(pickle.dumps(Malice(trace), protocol=2))
    files["folder"].mkdir()
    for path in files.values():
        with pytest.raises(UsageError, match=f"^--inception-weights: {re.escape(str(path))} [^\n]*$"):
            load_inception(digits, path)
    assert not trace.exists()


def test_other_numbers_of_channels_are_refused() -> None:
    images = np.zeros((4, 2, 8, 8), dtype=np.uint8)
    with pytest.raises(UsageError, match="1 or 3 channels; those of 'stripes' have 2"):
        load_inception(replace(stripes(), train=Images(images, None), test=Images(images, None)))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of torch, and no proxy in the way of this machine's own ports."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.slow
def test_the_official_weights_are_downloaded_once_and_checked(
    home: Path, random_inception: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(random_inception.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "OFFICIAL", sha256)
    with serving(random_inception.parent) as url:
        monkeypatch.setattr(inception, "URL", f"{url}/{random_inception.name}")
        extractor = load_inception(digits)
    assert extractor.sha256 == sha256
    assert extractor.info["official"]
    assert [path.name for path in home.iterdir()] == [random_inception.name]
    assert load_inception(digits, offline=True).sha256 == sha256
    truncate(home / random_inception.name)
    with pytest.raises(UsageError, match=r"random\.pth is damaged; delete it"):
        load_inception(digits)


@pytest.mark.slow
def test_a_download_of_something_else_is_refused(
    home: Path, tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.pth").write_text("a captive portal")
    with serving(tmp_path) as url:
        monkeypatch.setattr(inception, "URL", f"{url}/weights.pth")
        with pytest.raises(UsageError, match="not the official file"):
            load_inception(digits)
        monkeypatch.setattr(inception, "URL", f"{url}/gone.pth")
        with pytest.raises(UsageError, match=r"cannot be downloaded .*404"):
            load_inception(digits)
    assert not home.exists()


def test_a_silent_server_is_not_waited_for(
    home: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "NETWORK_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(inception, "URL", f"http://127.0.0.1:{port}/weights.pth")
        with pytest.raises(UsageError, match=r"cannot be downloaded .*timed out.*--inception-weights"):
            load_inception(digits)


def test_offline_says_where_the_weights_should_be(home: Path, digits: Dataset) -> None:
    with pytest.raises(UsageError, match=r"6726825d\.pth is missing, and --offline.*--inception-weights"):
        load_inception(digits, offline=True)


def test_the_official_hash_is_the_one_in_the_name_of_the_file() -> None:
    assert inception.URL.endswith(f"-{inception.OFFICIAL[:8]}.pth")


def test_the_official_file_is_the_one_that_torch_fidelity_downloads() -> None:
    assert source.URL_INCEPTION_V3 == inception.URL
