"""Extractors: what they compute, where their weights come from, what is kept and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from threadpoolctl import threadpool_info
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as source

from bench import features
from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.errors import UsageError
from bench.plan import Place, Spec, agree
from bench.scoring import classifier, extractors, inception
from bench.scoring.arithmetic import scoring
from bench.scoring.extractors import Extractor, Features, load_extractor, real_features
from bench.store import cache


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=Path("unused"))


@pytest.fixture(scope="module")
def shipped(digits: Dataset) -> Extractor:
    return load_extractor("classifier", digits, cache=Path("unused"))


@pytest.fixture
def stripes() -> Dataset:
    """Two classes that a glance tells apart: 3x8x12, bright above or bright on the left."""
    rng = np.random.RandomState(0)

    def split(n: int) -> Images:
        labels = np.arange(n) % 2
        images = rng.randint(0, 100, (n, 3, 8, 12)).astype(np.uint8)
        images[labels == 0, :, :4] += 150
        images[labels == 1, :, :, :6] += 150
        return Images(images, labels.astype(np.int64))

    return Dataset("stripes", split(64), None, split(32), 2, sha256="5" * 64)


def pixels(n: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def close(one: Features, other: Features) -> bool:
    return torch.allclose(one.features, other.features, rtol=1e-4, atol=1e-5) and torch.allclose(
        one.logits, other.logits, rtol=1e-4, atol=1e-4
    )


# ---------------------------------------------------------------- the shipped classifiers


@pytest.mark.parametrize(("name", "accuracy"), [("digits", 0.98), ("mnist", 0.99)])
def test_shipped_weights_are_small_whole_and_tell_how_they_were_made(name: str, accuracy: float) -> None:
    weights = extractors.SHIPPED / f"{name}.safetensors"
    record = json.loads(weights.with_suffix(".json").read_text())
    assert weights.stat().st_size < 1_000_000
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["command"] == f"python -m bench.features train --dataset {name}"
    assert record["feature_dim"] == 64
    assert record["accuracy"] >= accuracy
    assert set(record["versions"]) == {"python", "torch", "numpy"}


def share_right(extractor: Extractor, images: Images) -> float:
    logits = extractor(torch.from_numpy(images.images)).logits
    assert images.labels is not None
    return float(np.mean(logits.argmax(dim=1).numpy() == images.labels))


def test_the_digits_classifier_is_as_accurate_as_recorded(digits: Dataset, shipped: Extractor) -> None:
    assert share_right(shipped, digits.test) == pytest.approx(shipped.info["accuracy"], abs=1 / 360)
    assert shipped.info["dataset_sha256"] == digits.sha256


def test_the_mnist_classifier_is_as_accurate_as_recorded(mnist_root: Path) -> None:
    mnist = datasets.load("mnist", data_root=mnist_root, offline=True)
    extractor = load_extractor("classifier", mnist, cache=Path("unused"))
    assert share_right(extractor, mnist.test) == pytest.approx(extractor.info["accuracy"], abs=3e-4)
    assert extractor.info["dataset_sha256"] == mnist.sha256


def test_features_are_what_the_last_layer_sees(shipped: Extractor, digits: Dataset) -> None:
    images = torch.from_numpy(digits.test.images)
    result = shipped(images)
    tensors, _ = cache.read(extractors.SHIPPED / "digits")
    assert result.features.shape == (360, 64)
    assert result.logits.shape == (360, 10)
    assert result.features.dtype == result.logits.dtype == torch.float32
    expected = result.features @ tensors["head.weight"].T + tensors["head.bias"]
    assert torch.allclose(result.logits, expected, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_features_do_not_depend_on_the_batch(shipped: Extractor, digits: Dataset, batch_size: int) -> None:
    images = torch.from_numpy(digits.test.images[:60])
    assert close(shipped(images), shipped(images, batch_size))
    assert close(shipped(images.flip(0)), Features(*(part.flip(0) for part in parts(shipped(images)))))


def parts(result: Features) -> tuple[Tensor, Tensor]:
    return result.features, result.logits


def test_a_damaged_shipped_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Dataset
) -> None:
    monkeypatch.setattr(classifier, "SHIPPED", tmp_path)
    with pytest.raises(UsageError, match="install it again"):
        load_extractor("classifier", digits, cache=tmp_path)
    for suffix in (".safetensors", ".json"):
        data = (extractors.SHIPPED / f"digits{suffix}").read_bytes()
        (tmp_path / f"digits{suffix}").write_bytes(data.replace(b"\x00", b"\x01", 1))
    with pytest.raises(UsageError, match="damaged"):
        load_extractor("classifier", digits, cache=tmp_path)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8), pixels(0, 1, 8, 8)]
)
def test_what_is_not_a_stack_of_uint8_images_is_refused(shipped: Extractor, images: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        shipped(images)


# ---------------------------------------------------------------- classifiers of other data


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 9, 17)])
def test_the_network_takes_any_shape(shape: tuple[int, int, int]) -> None:
    net = classifier.network(shape[0], 7).eval()
    assert net(classifier.scaled(pixels(2, *shape))).shape == (2, 7)


def test_training_is_deterministic_leaves_the_global_generator_alone_and_learns(stripes: Dataset) -> None:
    before = torch.get_rng_state()
    first = classifier.train(stripes, steps=30)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again = classifier.train(stripes, steps=30)
    assert all(torch.equal(first[name], again[name]) for name in first)
    net = classifier.network(3, 2)
    net.load_state_dict(first)
    logits = net.eval()(classifier.scaled(torch.from_numpy(stripes.test.images)))
    assert (logits.argmax(dim=1).numpy() == stripes.test.labels).all()


def test_a_classifier_learns_from_the_training_split_alone(stripes: Dataset) -> None:
    other = replace(stripes, test=Images(255 - stripes.test.images, stripes.test.labels))
    one, two = (classifier.train(data, steps=3) for data in (stripes, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings take 30 steps; lists the data sets that were trained on."""
    trained: list[str] = []
    train = classifier.train

    def train_quickly(dataset: Dataset) -> dict[str, Tensor]:
        trained.append(dataset.name)
        return train(dataset, steps=30)

    monkeypatch.setattr(classifier, "train", train_quickly)
    return trained


def test_other_data_trains_its_classifier_once(
    stripes: Dataset, tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_extractor("classifier", stripes, cache=tmp_path)
    assert "training a classifier of stripes" in capsys.readouterr().err
    second = load_extractor("classifier", stripes, cache=tmp_path)
    assert quick == ["stripes"]
    assert first.sha256 == second.sha256
    assert first.info["accuracy"] == 1
    images = torch.from_numpy(stripes.test.images)
    assert torch.equal(first(images).logits, second(images).logits)
    [entry] = (tmp_path / "classifiers").iterdir()
    assert entry.name.startswith(stripes.sha256[:16])
    assert first.sha256 == hashlib.sha256((entry / "tensors.safetensors").read_bytes()).hexdigest()


def test_a_copy_under_another_name_has_the_same_classifier(
    stripes: Dataset, tmp_path: Path, quick: list[str]
) -> None:
    first = load_extractor("classifier", replace(stripes, name="folder:/one"), cache=tmp_path)
    second = load_extractor("classifier", replace(stripes, name="folder:/two"), cache=tmp_path)
    assert first.sha256 == second.sha256
    assert len(quick) == 1


def test_a_dry_run_trains_nothing_and_says_so(stripes: Dataset, tmp_path: Path, quick: list[str]) -> None:
    def describe(dataset: Dataset, *, train: bool) -> dict[str, Any]:
        return extractors.describe("classifier", dataset, train=train, cache=tmp_path)

    assert describe(stripes, train=False) == {"sha256": extractors.TO_BE_TRAINED, "feature_dim": 64}
    assert not quick
    assert not any(tmp_path.iterdir())
    trained = describe(stripes, train=True)
    assert len(quick) == 1
    assert describe(stripes, train=False) == trained
    shipped = datasets.load("digits", data_root=tmp_path)
    assert describe(shipped, train=False)["sha256"] != extractors.TO_BE_TRAINED


def test_a_training_says_how_far_it_is(
    stripes: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "SAY_EVERY", -1.0)
    classifier.train(stripes, steps=2)
    assert capsys.readouterr().err == "".join(f"classifier of stripes: step {k} of 2\n" for k in range(2))


def test_other_pixels_need_another_classifier(stripes: Dataset, tmp_path: Path, quick: list[str]) -> None:
    load_extractor("classifier", stripes, cache=tmp_path)
    load_extractor("classifier", replace(stripes, sha256="6" * 64), cache=tmp_path)
    assert len(quick) == 2


def test_the_name_of_a_data_set_cannot_leave_the_cache(
    stripes: Dataset, tmp_path: Path, quick: list[str]
) -> None:
    load_extractor("classifier", replace(stripes, name="folder:../../x"), cache=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert [path.parent.name for path in (tmp_path / "cache").glob("*/*")] == ["classifiers"]


def test_a_damaged_classifier_is_set_aside_and_trained_again(
    stripes: Dataset, tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_extractor("classifier", stripes, cache=tmp_path)
    [entry] = (tmp_path / "classifiers").iterdir()
    flip_a_bit(entry / "tensors.safetensors")
    second = load_extractor("classifier", stripes, cache=tmp_path)
    assert len(quick) == 2
    assert first.sha256 == second.sha256
    assert "damaged" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "classifiers").iterdir()} == {
        entry.name,
        f"{entry.name}.damaged-0",
    }


def test_data_without_labels_has_no_classifier(stripes: Dataset, tmp_path: Path) -> None:
    bare = replace(stripes, name="folder:faces", train=Images(stripes.train.images, None), n_classes=0)
    expected = "--features classifier: .*'folder:faces' has no labels.*use --features inception-v3-compat"
    with pytest.raises(UsageError, match=expected):
        load_extractor("classifier", bare, cache=tmp_path)


def test_an_unknown_extractor_names_the_nearest(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--features: 'clasifier' is not one of .*mean 'classifier'"):
        load_extractor("clasifier", stripes, cache=tmp_path)


# ---------------------------------------------------------------- the training command


def test_the_command_writes_weights_and_record(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "weights.safetensors"
    assert features.main(["train", "--dataset", "digits", "--out", str(out)]) == 0
    assert quick == ["digits"]
    assert re.search(r"right about \d+\.\d\d% of 360 test images", capsys.readouterr().out)
    tensors, record = cache.read(out.with_suffix(""))
    assert record["dataset"] == "digits"
    assert record["shape"] == [1, 8, 8]
    classifier.network(1, 10).load_state_dict(tensors)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "train, --dataset"),
        ("trian --dataset digits", "train: 'trian' is not allowed; .*did you mean 'train'"),
        ("train --datset digits", "--dataset"),
        ("train --dataset digits --fast", "'--fast' is not a flag of bench.features"),
        ("train --dataset digit", "did you mean 'digits'"),
        ("train --dataset folder:nowhere", "there is no such folder"),
        ("train --dataset digits --out=", "--out: '' is not allowed"),
        ("train --dataset digits --out .", "--out: '.' is not allowed"),
        ("train --dataset folder:unlabelled --out x", "has no labels"),
        ("train --dataset folder:labelled", "--out: name a FILE"),
    ],
)
def test_the_command_refuses_in_one_line(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: list[str]
) -> None:
    for k in range(46):
        for path in (tmp_path / f"unlabelled/{k}.png", tmp_path / f"labelled/{k % 2}/{k}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), k).save(path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as error:
        features.main(words.split())
    assert "\n" not in str(error.value)
    assert not quick


def test_without_out_the_command_writes_into_a_checkout_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: list[str]
) -> None:
    monkeypatch.setattr(extractors, "SHIPPED", tmp_path / "bench" / "weights")
    with pytest.raises(UsageError, match="--out: name a FILE"):
        features.main(["train", "--dataset", "digits"])
    (tmp_path / "pyproject.toml").touch()
    assert features.main(["train", "--dataset", "digits"]) == 0
    assert {path.name for path in extractors.SHIPPED.iterdir()} == {"digits.json", "digits.safetensors"}


# ---------------------------------------------------------------- kept features


class Counted:
    """An extractor that counts the images it sees."""

    def __init__(self, sha256: str = "a" * 64) -> None:
        self.seen = 0
        self.extractor = Extractor("counted", sha256, {}, self.forward, torch.device("cpu"), 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        flat = images.flatten(1).float()
        return flat[:, :5], flat[:, 5:8]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def test_real_features_are_computed_once(tmp_path: Path) -> None:
    counted, images = Counted(), pixels(10, 1, 8, 8)
    first = real_features(counted.extractor, images, tmp_path)
    second = real_features(counted.extractor, images.clone(), tmp_path)
    assert counted.seen == 10
    direct = counted.extractor(images)
    for kept in (first, second):
        assert torch.equal(kept.features, direct.features)
        assert torch.equal(kept.logits, direct.logits)


def test_other_pixels_weights_or_shapes_are_other_features(tmp_path: Path) -> None:
    counted, images = Counted(), pixels(10, 1, 8, 8)
    real_features(counted.extractor, images, tmp_path)
    changed = images.clone()
    changed[3, 0, 0, 0] ^= 1
    real_features(counted.extractor, changed, tmp_path)
    real_features(counted.extractor, images.reshape(10, 1, 4, 16), tmp_path)
    assert counted.seen == 30
    other = Counted(sha256="b" * 64)
    real_features(other.extractor, images, tmp_path)
    assert other.seen == 10


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def rewrite_hash(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("tensors.safetensors", flip_a_bit),
        ("tensors.safetensors", truncate),
        ("tensors.safetensors", Path.unlink),
        ("tensors.json", truncate),
        ("tensors.json", rewrite_hash),
        ("tensors.json", Path.unlink),
        ("tensors.json", lambda path: path.write_text("[]")),
    ],
)
def test_damaged_features_are_set_aside_and_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, damage: Any
) -> None:
    counted, images = Counted(), pixels(10, 1, 8, 8)
    first = real_features(counted.extractor, images, tmp_path)
    [entry] = (tmp_path / "features").iterdir()
    damage(entry / file)
    second = real_features(counted.extractor, images, tmp_path)
    assert counted.seen == 20
    assert torch.equal(first.features, second.features)
    assert "computing it again" in capsys.readouterr().err
    assert entry.with_name(f"{entry.name}.damaged-0").is_dir()
    real_features(counted.extractor, images, tmp_path)
    assert counted.seen == 20


def test_the_first_of_two_writers_wins_and_nothing_is_left_over(tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    first, _ = cache.keep(folder, {"x": torch.zeros(3)}, {})
    second, _ = cache.keep(folder, {"x": torch.ones(3)}, {})
    assert torch.equal(first["x"], second["x"])
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: object) -> None:
        path.write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(cache, "write_json", full)
    with pytest.raises(OSError, match=r"No space left on device: .*tensors\.json"):
        cache.keep(tmp_path / "entry", {"x": torch.zeros(3)}, {})
    assert not any(tmp_path.iterdir())


RACER = """
import sys, torch
from pathlib import Path
from bench import tensorfiles
me = float(sys.argv[2])
for k in range(40):
    tensors, _ = cache.keep(Path(sys.argv[1]) / str(k), {"x": torch.full((1000,), me)}, {})
    print(tensors["x"].unique().item())
"""


def test_two_processes_at_once_agree_on_what_is_kept(tmp_path: Path) -> None:
    command = partial(subprocess.Popen, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    racers = [command([sys.executable, "-c", RACER, str(tmp_path), me]) for me in ("1", "2")]
    outputs = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert len(outputs[0]) == 40
    assert outputs[0] == outputs[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(40)))


# ---------------------------------------------------------------- Inception


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


def test_one_channel_becomes_three_equal_ones_in_any_batch(loaded: Extractor) -> None:
    images = pixels(3, 1, 8, 8)
    grey = loaded(images)
    assert close(grey, loaded(images.repeat(1, 3, 1, 1), 2))


def test_weights_that_are_not_the_official_ones_are_recorded_as_such(
    loaded: Extractor, random_inception: Path, digits: Dataset
) -> None:
    assert loaded.sha256 == hashlib.sha256(random_inception.read_bytes()).hexdigest()
    place = Place(inception_weights=random_inception)
    protocol = agree(Spec(["vanilla"], ["digits"], [0], features=["inception-v3-compat"]), digits, place)
    assert protocol["extractors"] == {
        "inception-v3-compat": {"sha256": loaded.sha256, "official": False, "feature_dim": 2048}
    }


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


def test_other_numbers_of_channels_are_refused(stripes: Dataset, tmp_path: Path) -> None:
    images = np.zeros((4, 2, 8, 8), dtype=np.uint8)
    with pytest.raises(UsageError, match="1 or 3 channels; those of 'stripes' have 2"):
        load_inception(replace(stripes, train=Images(images, None)))


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


def test_the_official_weights_are_downloaded_once_and_checked(
    home: Path, random_inception: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(random_inception.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "OFFICIAL", sha256)
    with serving(random_inception.parent) as url:
        monkeypatch.setattr(source, "URL_INCEPTION_V3", f"{url}/{random_inception.name}")
        extractor = load_inception(digits)
    assert extractor.sha256 == sha256
    assert extractor.info["official"]
    assert [path.name for path in home.iterdir()] == [random_inception.name]
    assert load_inception(digits, offline=True).sha256 == sha256
    truncate(home / random_inception.name)
    with pytest.raises(UsageError, match=r"random\.pth is damaged; delete it"):
        load_inception(digits)


def test_a_download_of_something_else_is_refused(
    home: Path, tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.pth").write_text("a captive portal")
    with serving(tmp_path) as url:
        monkeypatch.setattr(source, "URL_INCEPTION_V3", f"{url}/weights.pth")
        with pytest.raises(UsageError, match="not the official file"):
            load_inception(digits)
        monkeypatch.setattr(source, "URL_INCEPTION_V3", f"{url}/gone.pth")
        with pytest.raises(UsageError, match=r"cannot be downloaded .*404"):
            load_inception(digits)
    assert not home.exists()


def test_a_silent_server_is_not_waited_for(
    home: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "NETWORK_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(source, "URL_INCEPTION_V3", f"http://127.0.0.1:{port}/weights.pth")
        with pytest.raises(UsageError, match=r"cannot be downloaded .*timed out.*--inception-weights"):
            load_inception(digits)


def test_offline_says_where_the_weights_should_be(home: Path, digits: Dataset) -> None:
    with pytest.raises(UsageError, match=r"6726825d\.pth is missing, and --offline.*--inception-weights"):
        load_inception(digits, offline=True)


def test_the_official_hash_is_the_one_in_the_name_of_the_file() -> None:
    assert source.URL_INCEPTION_V3.endswith(f"-{inception.OFFICIAL[:8]}.pth")


# ---------------------------------------------------------------- threads

FRESH_PROCESS = """
import hashlib, json, sys
from pathlib import Path

import torch

from bench import classifier, datasets, metrics
from bench.features import Features, load_extractor

def digest(*tensors):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()

digits = datasets.load("digits", data_root=Path("nowhere"))
extractor = load_extractor("classifier", digits, cache=Path("nowhere"))
found = extractor(torch.from_numpy(digits.test.images))
rng = torch.Generator().manual_seed(0)
both = torch.randn(2, 64, 256, generator=rng)
real, fake = (Features(features, features[:, :10]) for features in both)
print(json.dumps({
    "threads": torch.get_num_threads(),
    "weights": digest(*classifier.train(digits, steps=3).values()),
    "features": digest(found.features, found.logits),
    "scores": metrics.score(real, fake, seed=0),
}))
"""


def test_threads_change_neither_classifiers_nor_features_nor_scores() -> None:
    """As users set them, and as workers and the planning process have them."""
    found = []
    for n in (1, 2):
        threads = {f"{name}_NUM_THREADS": str(n) for name in ("OMP", "OPENBLAS", "MKL")}
        done = subprocess.run(
            [sys.executable, "-c", FRESH_PROCESS],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **threads},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    one, two = found
    assert (one.pop("threads"), two.pop("threads")) == (1, 2)
    assert one == two


def test_scoring_is_in_true_float32_on_one_thread_and_puts_back_what_it_found() -> None:
    from baselines.training import settings

    backends = torch.backends
    before = settings.read()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(2)
        changed = settings.read()
        with suppress(KeyError), scoring():
            assert torch.get_num_threads() == 1
            assert torch.get_float32_matmul_precision() == "highest"
            assert (backends.cudnn.conv.fp32_precision, backends.cudnn.allow_tf32) == ("none", False)
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
            raise KeyError
        assert settings.read() == changed
    finally:
        settings.put(before)
