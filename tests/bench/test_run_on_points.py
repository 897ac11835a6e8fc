"""Points in the plane as a user meets them: one command, its files, and what other commands make of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bench
import reports
from bench import run, sample, score, tune, verify
from bench.errors import UsageError
from bench.scoring import film
from reports.figures import points

MODELS = ("vanilla", "wgan_gp")
WORDS = ("--dataset", "ring", "--steps", "8", "--eval-every", "4", "--offline", "--device", "cpu")
SMALL = ("--set", "vanilla.g_widths=16,16", "wgan_gp.batch_size=16")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run of two models, and its report."""
    out = tmp_path_factory.mktemp("points") / "results"
    words = ("--models", *MODELS, *WORDS, *SMALL, "--workers", "0", "--seed-list", "3")
    assert run.main([*words, "--save-samples", "3000", "--out", str(out)]) == 0
    return out


def folder(results: Path, model: str) -> Path:
    return next(results.glob(f"runs/{model}-ring-*/seed-3"))


def record(results: Path, model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(results, model) / "run.json").read_text())
    return found


@pytest.mark.slow
def test_the_record_holds_the_scores_of_points_and_small_networks(results: Path) -> None:
    vanilla, wgan_gp = (record(results, model) for model in MODELS)
    for found in (vanilla, wgan_gp):
        assert found["metrics"].keys() == found["floor"].keys() == {"points"}
        assert list(found["metrics"]["points"]) == ["reverse_kl", "modes", "high_quality"]
        assert found["floor"]["points"]["modes"] == 8
        assert len(found["draws"]["points"]["reverse_kl"]) == 3
        assert found["protocol"]["extractors"] == {}
        assert found["protocol"]["n_fake"] == 2500
    held = vanilla["hyperparameters"]
    assert (held["latent_dim"], held["g_widths"], held["d_widths"]) == (2, [16, 16], [128, 128])
    assert wgan_gp["hyperparameters"]["latent_dim"] == 2


@pytest.mark.slow
def test_samples_are_coordinates_and_the_film_has_the_first_of_each_evaluation(results: Path) -> None:
    own = folder(results, "vanilla")
    assert not list(own.glob("*.png"))
    with np.load(own / "points.npz") as held:
        assert held["steps"].tolist() == [4, 8]
        last = held["samples"][-1]
    with np.load(own / "samples.npz") as held:
        samples = held["arr_0"]
    assert samples.shape == (3000, 2)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples[: len(last)], last)
    assert abs(samples).max() > 1  # no tanh, and not cut off
    loaded = bench.load(own).sample(3000)
    np.testing.assert_array_equal(loaded, samples)


@pytest.mark.slow
def test_the_report_shows_points(results: Path) -> None:
    report = results / "report"
    page, table = ((report / name).read_text() for name in ("report.html", "table.md"))
    assert "training points" in table
    assert "2,500 samples per run, mean of 3 draws" in table
    assert "images" not in table.partition("\n- ")[0]
    assert "--features" not in page
    assert len(re.findall(r'<img src="data:image/gif;base64,', page)) == 1
    with Image.open(report / "film-ring.gif") as gif:
        assert getattr(gif, "n_frames", 1) == 2
    assert {"samples-ring.png", "samples_along-ring.png"} <= {path.name for path in report.iterdir()}
    verdict = reports.load(results)
    assert {"metrics.points.reverse_kl", "metrics.points.high_quality"} <= set(verdict)


@pytest.mark.slow
def test_stored_weights_have_the_recorded_scores(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(folder(results, "wgan_gp")), "--scores-only", "--device", "cpu"]) == 0
    assert "identical" in capsys.readouterr().out


def test_a_film_goes_on_from_an_earlier_step_and_a_damaged_one_is_begun_anew(tmp_path: Path) -> None:
    import torch

    for step in (1, 2, 3):
        film.add(tmp_path, "grid", step, torch.full((1000, 2, 1, 1), float(step)))
    film.add(tmp_path, "grid", 2, torch.zeros(1000, 2, 1, 1))
    with np.load(tmp_path / "points.npz") as held:
        assert held["steps"].tolist() == [1, 2]
        assert held["samples"][:, 0, 0].tolist() == [1, 0]
    (tmp_path / "points.npz").write_bytes(b"PK damaged")
    film.add(tmp_path, "grid", 4, torch.zeros(1000, 2, 1, 1))
    with np.load(tmp_path / "points.npz") as held:
        assert held["steps"].tolist() == [4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "dcgan"], "--models: dcgan cannot be built on ring: it needs images"),
        (["--models", "srgan"], "--models: srgan cannot be built on ring: it needs images"),
        (["--models", "nsgan", "--set", "nsgan.net=conv"], "--set: nsgan cannot be built on ring: it needs"),
        (["--models", "cgan"], "needs labels and data set 'ring' has none; take one of digits, mnist, "),
        (["--models", "nsgan", "--features", "generic"], "--features: 'generic' is not for ring"),
        (["--models", "nsgan", "--scores", "own:score"], "--scores: ring is points"),
    ],
)
def test_what_needs_images_is_refused_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        run.main([*words, *WORDS, "--workers", "0", "--out", str(tmp_path)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_other_commands_refuse_what_is_for_images(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--out: grid.png is for images"):
        sample.main([str(folder(results, "vanilla")), "--out", str(tmp_path / "grid.png")])
    np.save(tmp_path / "x.npy", np.zeros((9, 2), np.float32))
    words = ("--name", "theirs", "--dataset", "ring", "--out", str(tmp_path / "out"))
    with pytest.raises(UsageError, match="--dataset: ring is points in the plane"):
        score.main([str(tmp_path / "x.npy"), *words])
    with pytest.raises(UsageError, match="points in the plane have no 'fid', but reverse_kl, modes"):
        tune.main(["--models", "nsgan", "--dataset", "ring", "--dry-run"])


@pytest.mark.slow
def test_a_search_may_optimise_the_scores_of_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--models", "nsgan", "--dataset", "grid", "--objective", "reverse_kl", "--trials", "2")
    assert tune.main([*words, "--dry-run", "--out", str(tmp_path)]) == 0
    assert "validation reverse_kl" in capsys.readouterr().out
    with pytest.raises(UsageError, match="'reverse_kl' needs points in the plane"):
        tune.main([*words, "--dataset", "digits", "--dry-run", "--features", "generic"])


def test_figures_leave_out_what_they_cannot_read(tmp_path: Path) -> None:
    good = {"steps": np.array([1]), "samples": np.zeros((1, 5, 2)), "centres": np.zeros((3, 2)), "sigma": 1.0}
    for bad in ({"samples": np.zeros((1, 5, 3))}, {"steps": np.array(["a"])}, {"centres": np.zeros((0, 2))}):
        run_folder = tmp_path / "seed-0"
        run_folder.mkdir(exist_ok=True)
        np.savez(run_folder / "points.npz", **{**good, **bad})  # type: ignore[arg-type]
        assert points.read(run_folder / "points.npz", 0) is None
    np.savez(run_folder / "points.npz", **good)  # type: ignore[arg-type]
    assert points.read(run_folder / "points.npz", 0) is not None


@pytest.mark.slow
def test_frames_of_points_can_be_loaded(results: Path) -> None:
    evals = reports.evals(reports.load(results))
    assert isinstance(evals, pd.DataFrame)
    assert set(evals["step"]) == {4, 8}
