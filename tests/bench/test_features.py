"""The command that trains the classifiers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from extractor_checks import train_quickly
from PIL import Image

from bench import features
from bench.errors import UsageError
from bench.scoring import classifier
from bench.store import cache


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings take 30 steps; lists the data sets that were trained on."""
    return train_quickly(monkeypatch)


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
    monkeypatch.setattr(classifier, "SHIPPED", tmp_path / "bench" / "scoring" / "weights")
    with pytest.raises(UsageError, match="--out: name a FILE"):
        features.main(["train", "--dataset", "digits"])
    (tmp_path / "pyproject.toml").touch()
    assert features.main(["train", "--dataset", "digits"]) == 0
    assert {path.name for path in classifier.SHIPPED.iterdir()} == {"digits.json", "digits.safetensors"}
