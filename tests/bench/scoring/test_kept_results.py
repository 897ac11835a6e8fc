"""What is kept in the cache: features of real images, and their scores."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import quick_scores
from extractor_checks import flip_a_bit, pixels, truncate
from torch import Tensor

from bench.data import datasets
from bench.data.datasets import Dataset
from bench.scoring import metrics
from bench.scoring.evaluator import Evaluator
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Extractor, Features, cache_key, real_features
from bench.scoring.neighbours import Neighbours
from bench.store import cache


class Counted:
    """An extractor that counts the images it sees."""

    def __init__(self, sha256: str = "a" * 64) -> None:
        self.seen = 0
        self.extractor = Extractor("counted", sha256, {}, self.forward, torch.device("cpu"), 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        flat = images.flatten(1).float()
        return flat[:, :5], flat[:, 5:8]


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


# ---------------------------------------------------------------- scores of real images


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=Path("unused"))


@pytest.fixture
def evaluator(digits: Dataset, tmp_path: Path) -> Evaluator:
    return of_classifier(digits, tmp_path)


def of_classifier(dataset: Dataset, folder: Path, split: str = "test") -> Evaluator:
    """As each run, or each worker, makes its own."""
    extractor = load_extractor("classifier", dataset, cache=folder)
    return Evaluator(dataset, split, {"classifier": extractor}, folder, torch.device("cpu"))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of every scoring: as many as there are real ones, a tenth of the usual."""
    quick_scores(monkeypatch)
    found: list[int] = []
    score = metrics.score

    def counted(real: Features, fake: Features, *, seed: int) -> dict[str, float]:
        found.append(len(fake))
        return score(real, fake, seed=seed)

    monkeypatch.setattr(metrics, "score", counted)
    return found


def test_real_images_are_scored_once_and_the_scores_are_kept_to_the_bit(
    evaluator: Evaluator, digits: Dataset, tmp_path: Path, scored: list[int]
) -> None:
    first = evaluator.real_data_baseline()
    assert scored == [360] * 5
    again = of_classifier(digits, tmp_path).real_data_baseline()
    assert scored == [360] * 5, "another run scores nothing"
    assert digits.test.labels is not None
    neighbours = Neighbours(digits, torch.device("cpu"))
    for k in (0, 4):
        images, features = evaluator._real_draw(evaluator.extractors["classifier"], k)
        expected = metrics.score(evaluator.real["classifier"], features, seed=0)
        for judge, classes in {"": features.logits.argmax(1), "_knn": neighbours(images)}.items():
            expected |= metrics.mode_coverage(classes, digits.test.labels, 10, judge)
        expected |= evaluator.memorisation("classifier", features)
        assert {name: values[k] for name, values in first["classifier"].items()} == expected
    assert json.dumps(first) == json.dumps(again), "values and their order"


def test_other_data_splits_or_weights_have_scores_of_their_own(
    evaluator: Evaluator, digits: Dataset, tmp_path: Path, scored: list[int]
) -> None:
    evaluator.real_data_baseline()
    of_classifier(replace(digits, sha256="6" * 64), tmp_path).real_data_baseline()
    holdout = datasets.load("digits", data_root=tmp_path, holdout=True)
    for split in ("test", "val"):
        of_classifier(holdout, tmp_path, split).real_data_baseline()
    other = of_classifier(digits, tmp_path)
    other.extractors = {"classifier": replace(other.extractors["classifier"], sha256="c" * 64)}
    other.real_data_baseline()
    assert len(scored) == 5 * 5


def test_another_instruction_set_or_library_has_results_of_its_own(
    evaluator: Evaluator, digits: Dataset, tmp_path: Path, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator.real_data_baseline()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    of_classifier(digits, tmp_path).real_data_baseline()
    monkeypatch.setattr(torch, "__version__", "9.9")
    of_classifier(digits, tmp_path).real_data_baseline()
    assert len(scored) == 3 * 5
    assert len([*(tmp_path / "features").iterdir()]) == 2 * 3, "those of the split, and of training images"
    assert len([*(tmp_path / "training").iterdir()]) == 3


def test_results_of_another_gpu_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = replace(Counted().extractor, device=torch.device("cuda:1"))
    keys = {cache_key(Counted().extractor)}
    for name in ("A100", "H100"):
        monkeypatch.setattr(torch.cuda, "get_device_name", {torch.device("cuda:1"): name}.__getitem__)
        keys.add(cache_key(on_gpu))
    assert len(keys) == 3


def test_damaged_scores_of_real_images_are_set_aside_and_computed_again(
    evaluator: Evaluator, tmp_path: Path, scored: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluator.real_data_baseline()
    [entry] = (tmp_path / "baselines").iterdir()
    text = (entry / "tensors.json").read_text()
    (entry / "tensors.json").write_text(text.replace('"recall"', '"recal"'))
    assert evaluator.real_data_baseline() == first
    assert len(scored) == 2 * 5
    assert "computing it again" in capsys.readouterr().err
    assert entry.with_name(f"{entry.name}.damaged-0").is_dir()


# ---------------------------------------------------------------- several processes


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
from bench.store import cache
me = float(sys.argv[2])
for k in range(40):
    tensors, _ = cache.keep(Path(sys.argv[1]) / str(k), {"x": torch.full((1000,), me)}, {})
    print(tensors["x"].unique().item())
"""


@pytest.mark.slow
def test_two_processes_at_once_agree_on_what_is_kept(tmp_path: Path) -> None:
    command = partial(subprocess.Popen, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    racers = [command([sys.executable, "-c", RACER, str(tmp_path), me]) for me in ("1", "2")]
    outputs = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert len(outputs[0]) == 40
    assert outputs[0] == outputs[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(40)))
