"""bench.load, bench.sample and --save-samples: from finished runs back to their generators."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import with_known
from PIL import Image

import bench
import reports
from baselines.gan import Normal, Uniform
from bench import interpolation, run, sample
from bench.errors import UsageError
from bench.store import files, records
from reports import build

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    *("--models", "vanilla", "cgan", "srgan", "--seed-list", "3", "--steps", "4", "--eval-every", "2"),
    *("--set", "vanilla.g_widths=16", "vanilla.d_widths=16", "srgan.n_blocks=1", "srgan.width=8"),
    *("--dataset", "digits", "--offline", "--device", "cpu", "--workers", "0", "--draws", "1"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run of three models, and more samples of each than are scored at once."""
    out = tmp_path_factory.mktemp("finished") / "results"
    with_known(out.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build", lambda *arguments, **options: None)
        assert run.main([*WORDS, "--save-samples", "4000", "--out", str(out)]) == 0
    return out


def folder(results: Path, model: str) -> Path:
    return next(results.glob(f"runs/{model}-*/seed-3"))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run of vanilla, to do harm to."""
    own = folder(finished, "vanilla")
    return Path(shutil.copytree(own, tmp_path / own.parent.name / own.name))


def change(run_folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a record and make its checksum right."""
    record = json.loads((run_folder / "run.json").read_text())
    edit(record)
    files.write_json(run_folder / "run.json", records.sealed(record))


@pytest.mark.parametrize("model", ["vanilla", "cgan", "srgan"])
def test_samples_are_those_of_the_harness(finished: Path, model: str) -> None:
    loaded = bench.load(folder(finished, model))
    with np.load(folder(finished, model) / "samples.npz") as held:
        images, labels = held["arr_0"], held.get("arr_1")
    assert len(images) == (360 if model == "srgan" else 4000)
    assert (loaded.sample(len(images)) == images).all()
    assert (loaded.sample(7) == images[:7]).all()
    found = loaded.labels(len(images))
    assert (found is None) == (labels is None) == (model != "cgan")
    if labels is not None:
        assert (found == labels).all()
        assert (loaded.sample(labels=labels[:50]) == images[:50]).all()


def test_seeds_and_labels_change_samples(finished: Path) -> None:
    loaded = bench.load(str(folder(finished, "cgan")))
    of_seven = loaded.sample(20, labels=7)
    assert (loaded.sample(20, seed=3, labels=7) == of_seven).all()  # the run's own seed
    assert not (loaded.sample(20, seed=4, labels=7) == of_seven).all()
    assert not (loaded.sample(20, labels=1) == of_seven).all()
    assert loaded.sample(labels=range(10)).shape == (10, 8, 8, 1)
    assert loaded.sample().shape == (64, 8, 8, 1)


def test_given_images_are_restored(finished: Path) -> None:
    loaded = bench.load(folder(finished, "srgan"))
    originals = loaded._evaluator.images[:5].permute(0, 2, 3, 1).numpy()
    assert (loaded.sample(images=originals) == loaded.sample(5)).all()
    with pytest.raises(
        UsageError, match=r"images: uint8 \(2, 4, 4, 1\) is not allowed; uint8 \(n, 8, 8, 1\)"
    ):
        loaded.sample(images=np.zeros((2, 4, 4, 1), np.uint8))
    with pytest.raises(UsageError, match="n: 361 is not allowed; there are 360 images to restore"):
        loaded.sample(361)


def test_sampling_leaves_the_process_as_it_was(finished: Path) -> None:
    before = torch.get_num_threads(), torch.get_rng_state(), random.getstate(), np.random.get_state()[2]
    bench.load(folder(finished, "vanilla")).sample(3)
    after = torch.get_num_threads(), torch.get_rng_state(), random.getstate(), np.random.get_state()[2]
    assert before[0] == after[0]
    assert before[1].equal(after[1])
    assert before[2:] == after[2:]


def test_history_and_evaluations_are_frames(finished: Path) -> None:
    loaded = bench.load(folder(finished, "vanilla"))
    assert list(loaded.history) == ["step", "d_loss", "d_acc_real", "d_acc_fake", "g_loss"]
    assert loaded.history["step"].tolist() == [1, 2, 3, 4]
    fids = [entry["metrics"]["classifier"]["fid"] for entry in loaded.record["evals"]]
    assert loaded.evals["metrics.classifier.fid"].tolist() == fids
    assert loaded.evals["step"].tolist() == [2, 4]
    every = reports.evals(reports.load(finished))
    assert every[every["model"] == "vanilla"]["metrics.classifier.fid"].tolist() == fids
    assert repr(loaded) == "<vanilla on digits, seed 3, 4 steps, on cpu>"


# ------------------------------------------------------------------ interpolation


def test_paths_between_noise_vectors() -> None:
    """A quarter circle; the same vector and the opposite one; a straight line for uniform noise."""
    a, b = (
        torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]]),
        torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]]),
    )
    half = interpolation.spherical(a, b, 0.5)
    assert half.tolist() == [pytest.approx([0.5**0.5] * 2), [2.0, 0.0], [0.0, 0.0]]
    noise = {"z": Normal((2,)), "u": Uniform((2,))}
    points = [{"z": a, "u": a}, {"z": b, "u": b}]
    path = list(interpolation.closed_path(noise, points, 2))
    assert [at["z"][0].tolist() for at in path[::2]] == [[1.0, 0.0], [0.0, 1.0]]
    assert path[1]["z"].allclose(half)
    assert path[3]["z"].allclose(half)  # and back
    assert path[1]["u"][0].tolist() == [0.5, 0.5]


def test_a_film_begins_with_the_samples(finished: Path) -> None:
    loaded = bench.load(folder(finished, "cgan"))
    film = loaded.interpolate(6, points=2, frames=3, labels=5)
    assert film.shape == (6, 6, 8, 8, 1)
    apart = np.abs(film[0].astype(int) - loaded.sample(6, labels=5))
    assert apart.max() <= 1  # a batch of another size
    with pytest.raises(UsageError, match="srgan has no noise, so there is nothing to interpolate"):
        bench.load(folder(finished, "srgan")).interpolate(4)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("model", "arguments", "said"),
    [
        ("vanilla", {"n": 0}, "n: 0 is not allowed"),
        ("vanilla", {"labels": 3}, "labels: vanilla is not conditional, so it takes none"),
        ("vanilla", {"images": np.zeros((1, 8, 8, 1), np.uint8)}, "images: vanilla makes images from noise"),
        ("cgan", {"labels": [1, 10]}, "labels: 10 is not a class of digits; 0 to 9"),
        ("cgan", {"n": 3, "labels": [1, 2]}, "labels: one whole number, or one for each of 3 images"),
        ("cgan", {"n": 3, "labels": 0.5}, "labels: one whole number"),
    ],
)
def test_arguments_that_do_not_fit(finished: Path, model: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bench.load(folder(finished, model)).sample(**arguments)


def _lose_weights(own: Path) -> None:
    (own / "checkpoint.pt").unlink()


def _damage_weights(own: Path) -> None:
    (own / "checkpoint.pt").write_bytes((own / "checkpoint.pt").read_bytes()[:-100])


def _other_weights(own: Path) -> None:
    torch.save({"weights": {"gen": {}}}, own / "checkpoint.pt")


def _unfinish(own: Path) -> None:
    (own / "run.json").unlink()


def _change_code(own: Path) -> None:
    change(own, lambda record: record["code"]["model"].update({"baselines/vanilla.py": "0" * 16}))


def _change_noise(own: Path) -> None:
    change(own, lambda record: record["code"]["training"].pop("baselines/training/streams.py"))


def _diverge(own: Path) -> None:
    change(own, lambda record: record.update(status="diverged", reason="a loss is not finite at step 3"))


def _be_old(own: Path) -> None:
    change(own, lambda record: record.pop("code"))


def _edit(own: Path) -> None:
    (own / "run.json").write_text((own / "run.json").read_text().replace('"steps": 4', '"steps": 5'))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_lose_weights, r"checkpoint\.pt: the final weights are missing or unreadable"),
        (_damage_weights, r"checkpoint\.pt: the final weights are missing or unreadable"),
        (_other_weights, r"checkpoint\.pt does not hold the weights of vanilla"),
        (_unfinish, "the run is not finished"),
        (_change_code, r"code changed since: baselines/vanilla\.py"),
        (_change_noise, r"code changed since: baselines/training/streams\.py"),
        (_diverge, "the run diverged: a loss is not finite at step 3"),
        (_be_old, "its record does not name the code that computed it"),
        (_edit, "its checksum does not match: damaged or edited"),
        (lambda own: change(own, lambda record: record.update(seed=4)), "is the record of seed 4"),
    ],
)
def test_no_run_that_can_be_sampled(copied: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(copied)
    with pytest.raises(UsageError, match=said) as raised:
        bench.load(copied)
    assert "\n" not in str(raised.value)


def test_no_run_at_all(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"this holds 3 runs; name one of them, such as .*/cgan-.*/seed-3"):
        bench.load(finished)
    with pytest.raises(UsageError, match="there is no such folder"):
        bench.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"there is no run\.json in it"):
        bench.load(tmp_path)


def test_other_data_than_it_was_trained_on(finished: Path, tmp_path: Path) -> None:
    """Only drawn labels, and images to restore, need the data."""
    own = folder(finished, "cgan")
    again = Path(shutil.copytree(own, tmp_path / own.parent.name / own.name))
    change(again, lambda record: record["protocol"]["dataset"].update(sha256="0" * 64))
    loaded = bench.load(again)
    assert loaded.sample(2, labels=1).shape == (2, 8, 8, 1)
    with pytest.raises(UsageError, match="data set 'digits' has changed since"):
        loaded.sample(2)


# ------------------------------------------------------------------ the command


def sampled(own: Path, *words: object) -> int:
    return sample.main([str(own), *map(str, words)])


def test_arrays_grids_films_and_folders(finished: Path, tmp_path: Path) -> None:
    own = folder(finished, "cgan")
    loaded = bench.load(own)
    labels: Sequence[object] = ("--labels", 1, 2)
    assert sampled(own, "--n", 6, "--out", tmp_path / "a.npz", *labels) == 0
    with np.load(tmp_path / "a.npz") as held:
        assert (held["arr_0"] == loaded.sample(labels=[1, 2] * 3)).all()
        assert held["arr_1"].tolist() == [1, 2] * 3
    assert sampled(own, "--n", 6, "--out", tmp_path / "grid.png", *labels) == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size[1] > grid.size[0] > 500  # a column for each label
    assert sampled(own, "--n", 4, "--seed", 9, "--out", tmp_path / "film.gif") == 0
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 48  # type: ignore[attr-defined]
    assert sampled(own, "--n", 3, "--out", tmp_path / "images", *labels) == 0
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.glob("images/*/*"))] == [
        *("images/1/000000.png", "images/1/000002.png", "images/2/000001.png"),
    ]
    with Image.open(tmp_path / "images/2/000001.png") as image:
        assert (np.asarray(image) == loaded.sample(labels=[1, 2])[1, :, :, 0]).all()


def test_files_are_not_overwritten_by_mistake(finished: Path, tmp_path: Path) -> None:
    own = folder(finished, "vanilla")
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(UsageError, match=r"--out: .*a\.npz is there; --force replaces it"):
        sampled(own, "--out", tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "mine"
    assert sampled(own, "--out", tmp_path / "a.npz", "--n", 2, "--force") == 0
    with np.load(tmp_path / "a.npz") as held:
        assert list(held) == ["arr_0"]
    with pytest.raises(UsageError, match="is there and not empty; name a new folder"):
        sampled(own, "--out", tmp_path, "--force")
    with pytest.raises(UsageError, match=r"--out: '\.pgn' is not allowed; .*; did you mean '\.png'\?"):
        sampled(own, "--out", tmp_path / "a.pgn")


@pytest.mark.slow
def test_the_command_line_is_light() -> None:
    code = (
        "import sys, bench\n"
        "from bench import sample\n"
        "sample.parser().format_help()\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = [sys.executable, "-m", "bench.sample", "nowhere", "--out", "x.jpg"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --out: '.jpg' is not allowed; ")


# ------------------------------------------------------------------ --save-samples of finished runs


@pytest.mark.slow
def test_finished_runs_are_sampled_from_their_weights(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", lambda *arguments, **options: None)
    out = Path(shutil.copytree(finished, tmp_path / "results"))
    held = {path: path.read_bytes() for path in out.glob("runs/*/seed-3/samples.npz")}
    assert len(held) == 3
    for path in held:
        path.unlink()
    capsys.readouterr()
    assert run.main([*WORDS, "--save-samples", "4000", "--out", str(out)]) == 0
    assert "3 runs, 3 reused, 0 to compute" in capsys.readouterr().out
    for path, before in held.items():
        assert path.read_bytes() == before
    (folder(out, "cgan") / "checkpoint.pt").unlink()
    assert run.main([*WORDS, "--save-samples", "4001", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert (
        "checkpoint.pt: the final weights are missing or unreadable; --fresh computes the run again" in said
    )
    with np.load(folder(out, "vanilla") / "samples.npz") as more:
        assert len(more["arr_0"]) == 4001
