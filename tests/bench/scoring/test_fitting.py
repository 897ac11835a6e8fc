"""Training a classifier of a user's own data: as long as it gets better, and on from where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from extractor_checks import stripes
from torch import Tensor

from bench.scoring import classifier, fitting


@pytest.fixture(name="quick")
def saved_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint at each check, and at most 40 steps."""
    monkeypatch.setattr(fitting, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(fitting, "MOST_STEPS", 40)
    monkeypatch.setattr(fitting, "PATIENCE", 1)


def stop_at(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Ctrl-C when the n-th batch is made ready."""
    made, augmented = 0, classifier.augmented

    def counted(images: Tensor, stream: torch.Generator) -> Tensor:
        nonlocal made
        made += 1
        if made == n:
            raise KeyboardInterrupt
        return augmented(images, stream)

    monkeypatch.setattr(classifier, "augmented", counted)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_bits(
    quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, checkpoint = stripes(), tmp_path / "new" / "partial.pt"
    whole, steps = classifier.fit(data)
    with monkeypatch.context() as here:
        stop_at(here, 35)
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(data, checkpoint)
    assert checkpoint.exists()
    torch.manual_seed(1)
    again, steps_again = classifier.fit(data, checkpoint)
    assert "classifier of stripes: going on from step " in capsys.readouterr().err
    assert steps_again == steps
    assert same(whole, again)
    assert not checkpoint.exists(), "it is of no more use"


def test_a_damaged_checkpoint_is_set_aside(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "MOST_STEPS", 10)
    data, checkpoint = stripes(), tmp_path / "partial.pt"
    whole, _ = classifier.fit(data)
    checkpoint.write_bytes(b"PK\x03\x04 no checkpoint")
    again, _ = classifier.fit(data, checkpoint)
    assert "partial.pt: damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["partial.pt.damaged-0"]
    assert same(whole, again)


@pytest.mark.slow
def test_a_training_stops_when_nothing_gets_better(capsys: pytest.CaptureFixture[str]) -> None:
    data = stripes()
    tensors, steps = classifier.fit(data)
    assert steps < fitting.MOST_STEPS / 5
    assert classifier.record_of(data, tensors, steps, "")["accuracy"] == 1


def test_it_says_how_far_it_is(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "REPORT_EVERY", -1.0)
    monkeypatch.setattr(fitting, "MOST_STEPS", 2)
    classifier.fit(stripes())
    assert capsys.readouterr().err.splitlines() == [
        f"classifier of stripes: step {k}, learning rate 1 of 3" for k in (1, 2)
    ]


def test_large_images_are_averaged_down() -> None:
    images = torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    images[:, :, ::2] = 255
    smaller = classifier.small(images)
    assert smaller.shape == (2, 3, 32, 48)
    assert (smaller == 128).all()
    assert classifier.small(images[..., :63, :]).shape == (2, 3, 63, 96)
