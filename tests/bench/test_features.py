"""The command that trains the classifiers, and measures what their scores see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from extractor_checks import train_quickly
from PIL import Image

from bench import features
from bench.errors import UsageError
from bench.scoring import classifier, kept, sizes
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
    assert re.search(r"right about \d+\.\d\d% of its test images", capsys.readouterr().out)
    tensors, record = cache.read(out.with_suffix(""))
    assert record["dataset"] == "digits"
    assert record["shape"] == [1, 8, 8]
    classifier.network((1, 8, 8), 10).load_state_dict(tensors)


@pytest.mark.slow
def test_the_table_of_what_the_scores_see(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sizes, "KID_SUBSETS", 2)  # time
    assert features.main(["sensitivity", "--dataset", "digits"]) == 0
    head, empty, *table = capsys.readouterr().out.splitlines()
    assert head.startswith("3,600 images of digits, changed, against the 360 test images.")
    assert "the other half, 719 images" in head
    assert not empty
    columns = table[0].strip("| ").split(" | ")
    assert columns[:2] == ["change", "FID"]
    assert {"Modes", "kNN modes", "Mode KL", "kNN mode KL"} <= set(columns)
    rows = {row.split(" | ")[0].strip("| "): row.strip("| ").split(" | ") for row in table[2:]}
    assert {"nothing", "noise, σ = 32", "shift, 1 pixel", "100 images, repeated"} <= rows.keys()
    for name, modes in (("nothing", "10"), ("noise, σ = 32", "10"), ("without class 0", "9")):
        assert rows[name][columns.index("Modes")] == rows[name][columns.index("kNN modes")] == modes
    assert all(len(row) == len(columns) for row in rows.values())
    fresh, half, copies = (
        {column: float(rows[name][columns.index(column)]) for column in ("AuthPct", "C_T")}
        for name in ("nothing", "50 % copies of training images", "all copies of training images")
    )
    assert copies["AuthPct"] == 0 < half["AuthPct"] < fresh["AuthPct"]
    assert copies["C_T"] < half["C_T"] < fresh["C_T"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", r"train\|sensitivity"),
        ("trian --dataset digits", "'trian' is not allowed; .*did you mean 'train'"),
        ("sensitivity --dataset digits --out x", "--out: only train writes files"),
        ("sensitivity --dataset folder:unlabelled", "has no labels"),
        ("train --datset digits", "--dataset"),
        ("train --dataset digits --fast", "'--fast' is not a flag of bench.features"),
        ("train", "--dataset: name one"),
        ("train --features generic --dataset digits", "--dataset: --features generic is trained on drawings"),
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
    monkeypatch.setattr(kept, "SHIPPED", tmp_path / "bench" / "scoring" / "weights")
    with pytest.raises(UsageError, match="--out: name a FILE"):
        features.main(["train", "--dataset", "digits"])
    (tmp_path / "pyproject.toml").touch()
    assert features.main(["train", "--dataset", "digits"]) == 0
    assert {path.name for path in kept.SHIPPED.iterdir()} == {"digits.json", "digits.safetensors"}
