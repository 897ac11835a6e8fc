"""A user's own extractors and data sets: the check of each, and runs on them."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import own_parts
import pytest
from commands import SMALL, quick_scores

from bench import conformance, run
from bench.data import datasets
from bench.errors import UsageError
from bench.identity import outside
from bench.scoring import extractors
from bench.scoring.scores import IS
from bench.search import objectives
from bench.store.records import read_record
from reports import build, groups, load


@pytest.fixture(autouse=True)
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own_parts.write(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("grid", 0, "3x32x32: fine"),
        ("with_classes", 0, "1x28x28: fine"),
        ("only_grey", 0, "3x32x32: not for these images"),
        ("unseeded", 1, "a second copy has other parameters or buffers"),
        ("mixed", 1, "the features of an image depend on the batch that it comes in"),
        ("spoiling", 1, "it changes the images that it is given"),
        ("infinite", 1, "the features of noise are not all finite"),
        ("constant", 1, "the features of 12 different images are all equal"),
        ("flat", 1, "gives features torch.float32 (2,) for 2 images, not floats (2, D)"),
        ("a_function", 1, "returns function, not a torch.nn.Module"),
        ("failing", 1, "cannot be made: KeyError: 'weights'"),
    ],
)
def test_the_check_of_extractors_says_what_is_wrong(
    name: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance.main(["features", f"own.nets:{name}"]) == code
    shown = capsys.readouterr().out
    assert said in shown
    assert ("problem(s)" in shown) == bool(code)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("whole", 0, "120 training and 30 test images, 1x8x8, 3 classes: fine"),
        ("halves", 0, "100 training and 50 test images, 1x8x8, 3 classes: fine"),
        ("pictures", 0, "48 training and 12 test images, 3x8x8, no labels: fine"),
        ("overlapping", 1, "50 of 50 test images are training images, too"),
        ("without_a_class", 1, "its test split has no image of class 2"),
        ("unseeded", 1, "loaded a second time it has other images, labels or splits"),
        ("floats", 1, "is float32, not uint8 from 0 to 255; of torchvision's transforms take PILToTensor"),
        ("channels_last", 1, "has shape (8, 8, 3), not (1, H, W) or (3, H, W)"),
        ("few", 1, "it has 20 images; at least 46 are needed"),
        ("gaps", 1, "no image has label 1; labels count classes from 0, without gaps"),
        ("negative", 1, "not a whole number from 0 on"),
        ("unlike", 1, "item 50 is (1, 9, 9), item 0 is (1, 8, 8); all must be alike"),
        ("partly_labelled", 1, "of the items 0 and 50 one has a label and the other has none"),
        ("two_sizes", 1, "its splits have images of shapes (1, 8, 8) and (1, 9, 9)"),
        ("a_number", 1, "it returns int, not a torch Dataset with a length"),
        ("failing", 1, "it fails: OSError: no disk"),
    ],
)
def test_the_check_of_data_sets_says_what_is_wrong(
    name: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance.main(["dataset", f"own.data:{name}"]) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("mean_gap", 0, "Mean gap, lower is better: fine"),
        ("unseeded", 1, "for the same samples: seed what is drawn"),
        ("first", 1, "for the same samples in another order"),
        ("of_logits", 1, "of samples, and without logits: own.scores:of_logits fails: AttributeError"),
        ("ratio", 1, "of samples that are all equal, and without logits: own.scores:ratio gives inf"),
        ("tensor", 1, "not a finite number"),
        ("spoiling", 1, "it changes the features that it is given"),
    ],
)
def test_the_check_of_scores_says_what_is_wrong(
    name: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance.main(["score", f"own.scores:{name}"]) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("features nowhere:net", "--features: 'nowhere:net': cannot import 'nowhere'"),
        ("features own.nets:nothing", "--features: .* 'own.nets' has no 'nothing'"),
        ("features own.nets:NUMBER", "--features: 'own.nets:NUMBER' is not a function, but int"),
        ("dataset grid", "--dataset: 'grid' is not module:function, and no installed package registers it"),
        ("score own.scores:undeclared", "--scores: own.scores:undeclared is not declared: decorate it with"),
        ("score own.scores:fid", "--scores: own.scores:fid has the name of another score, 'fid'"),
        ("datset own.data:whole", "did you mean 'dataset'"),
    ],
)
def test_the_command_refuses_in_one_line(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        conformance.main(words.split())
    assert "\n" not in str(error.value)


def test_the_identity_of_an_extractor_is_its_code_and_its_numbers(written: Path) -> None:
    digits = datasets.load("digits", data_root=Path("unused"))

    def described() -> dict[str, object]:
        return extractors.describe("own.nets:grid", digits, train=True, cache=Path("unused"))

    def edited(old: str, new: str) -> dict[str, object]:
        (written / "own" / "nets.py").write_text(own_parts.FEATURES.replace(old, new))
        own_parts.forget()
        return described()

    first = described()
    assert first.keys() == {"sha256", "feature_dim", "logits"}
    assert first["feature_dim"] == 16
    assert edited("on a grid of 4x4 places", "in sixteen places") == first, "prose changes nothing"
    assert edited(".mean(dim=1, keepdim=True)", ".amax(dim=1, keepdim=True)")["sha256"] != first["sha256"]


def test_entry_points_give_names(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "gan_bench.features": EntryPoint("grid", "own.nets:grid", "gan_bench.features"),
        "gan_bench.datasets": EntryPoint("whole", "own.data:whole", "gan_bench.datasets"),
    }
    monkeypatch.setattr(outside, "entry_points", lambda group: [points[group]])
    assert extractors.named("grid") == "grid"
    dataset = datasets.load("whole", data_root=Path("unused"))
    assert dataset.name == "whole"
    found = extractors.describe("grid", dataset, train=True, cache=Path("unused"))
    assert found["logits"] is False
    with pytest.raises(UsageError, match="did you mean 'whole'"):
        datasets.load("whol", data_root=Path("unused"))


@pytest.mark.slow
def test_a_run_on_both(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the flags to the table: scores without logits, the extractor and the data set in the record."""
    quick_scores(monkeypatch)
    monkeypatch.setattr(build, "build", lambda *_, **__: None)  # the table is enough
    words = [
        *SMALL[:-5],
        *("--dataset", "own.data:whole", "--features", "own.nets:grid", "own.nets:with_classes"),
        *(
            "--scores",
            "own.scores:mean_gap",
            "--steps",
            "4",
            "--eval-every",
            "4",
            "--seeds",
            "2",
            "--draws",
            "1",
            "--workers",
            "0",
            "--out",
            "out",
        ),
    ]
    assert run.main(words) == 0
    first = read_record(next((written / "out" / "runs").glob("*/seed-0")))
    assert first is not None
    metrics = first["metrics"]
    assert {"fid", "kid_mean", "precision"} <= metrics["own.nets:grid"].keys()
    assert "isc_mean" not in metrics["own.nets:grid"]
    assert "isc_mean" in metrics["own.nets:with_classes"]
    assert first["protocol"]["extractors"]["own.nets:grid"]["logits"] is False
    assert first["dataset"] == "own.data:whole"
    (group,) = groups.groups(load([written / "out"]))
    assert group.extractors == ["own.nets:grid", "own.nets:with_classes"]
    assert IS not in group.scores("own.nets:grid")
    assert IS in group.scores("own.nets:with_classes")
    gap = group.scores("own.nets:grid")[-1]
    assert (gap.name, gap.label, gap.better) == ("mean_gap", "Mean gap", "lower")
    assert first["metrics"]["own.nets:grid"]["mean_gap"] > first["floor"]["own.nets:grid"]["mean_gap"] > 0
    assert "training images" in group.references("own.nets:grid", gap)
    assert "FID (own.nets:grid)" in capsys.readouterr().out
    assert run.main(words) == 0
    assert "2 reused, 0 to compute" in capsys.readouterr().out
    path = written / "own" / "scores.py"
    path.write_text(own_parts.SCORES.replace(".norm()", ".norm(p=1)"))
    own_parts.forget()
    assert run.main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "2 to compute, 0 reused" in shown
    assert "vanilla: the code of mean_gap changed since" in shown


def test_unknown_names_get_the_nearest_one() -> None:
    for words, message in (
        ("--features vgg61", "'vgg61' is not allowed; .* did you mean 'vgg16'"),
        ("--features fd-dinov", "did you mean 'fd-dinov2'"),
        ("--weights vgg61=x", "did you mean 'vgg16'"),
        ("--weights vgg16", "write NAME=FILE"),
        ("--dataset owndatawhole", "or module:function"),
    ):
        with pytest.raises(UsageError, match=message):
            run.main(["--models", "vanilla", *words.split()])


def test_objectives_that_no_extractor_gives_are_refused() -> None:
    without = {"vgg16": {"sha256": "0", "logits": False}}
    for name, message in (
        ("isc_mean", "'isc_mean' needs class logits, which vgg16 has not; add --features classifier"),
        ("modes", "'modes' needs --features classifier"),
    ):
        with pytest.raises(UsageError, match=message):
            objectives.refuse_features(["fid", name], without)
        objectives.refuse_features(["fid", name], {**without, "classifier": {"sha256": "1"}})
    objectives.refuse_features(["isc_mean"], {"inception-v3-compat": {"sha256": "2", "official": True}})
