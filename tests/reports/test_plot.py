"""reports.history, reports.evals and reports.plot: what a notebook works with."""

from __future__ import annotations

import math
from pathlib import Path

import fake_runs
import pandas as pd
import pytest

import reports
from bench.errors import UsageError

RUN = ["id", "label", "model", "dataset", "seed"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two models, one of them a critic, one with a diverged run; scored along the way."""
    root = tmp_path_factory.mktemp("study")
    fake_runs.study(root, {"vanilla": 40, "wgan_gp": 20}, seeds=range(2), n_evals=4)
    fake_runs.run(root, model="vanilla", seed=2, status="diverged")
    return reports.load(root)


def test_history_is_one_long_frame(runs: pd.DataFrame) -> None:
    history = reports.history(runs)
    assert list(history) == [*RUN, "step", "d_loss", "d_acc_real", "d_acc_fake", "g_loss"]
    assert len(history) == 4 * 400 + 150
    critic = history[history["model"] == "wgan_gp"]
    assert critic["d_acc_real"].isna().all()
    assert critic["d_loss"].notna().all()
    folder = Path(runs.loc[(runs["model"] == "wgan_gp") & (runs["seed"] == 1), "folder"].item())
    written = pd.read_csv(folder / "history.csv")
    assert critic.loc[critic["seed"] == 1, "g_loss"].tolist() == written["g_loss"].tolist()


def test_evaluations_are_one_long_frame(runs: pd.DataFrame) -> None:
    evals = reports.evals(runs)
    assert list(evals)[:9] == [*RUN, "step", "scored_on", "train_s", "metrics.classifier.fid"]
    assert len(evals) == 4 * 4
    record = runs["record"].iloc[0]
    first = evals[(evals["id"] == record["id"]) & (evals["seed"] == record["seed"])]
    assert first["step"].tolist() == [100, 200, 300, 400]
    assert first["d_accuracy.fake"].tolist() == [each["d_accuracy"]["fake"] for each in record["evals"]]


def test_frames_of_nothing_and_of_what_cannot_be_used(tmp_path: Path) -> None:
    assert list(reports.history(reports.load(tmp_path))) == [*RUN, "step"]
    assert list(reports.evals(reports.load(tmp_path))) == [*RUN, "step", "scored_on", "train_s"]
    folder = fake_runs.run(tmp_path, n_evals=1, fields={"evals": [{"step": 5, "metrics": None}, "none", {}]})
    (folder / "history.csv").write_text("step,d_loss,g_loss\n1,inf,1e200\n2,0.5,x\n")
    runs = reports.load(tmp_path)
    assert reports.history(runs).empty
    (folder / "history.csv").write_text("step,d_loss,g_loss\n1,inf,1e200\n2,0.5,3\n")
    assert reports.history(runs)["g_loss"].tolist()[1:] == [3]
    assert math.isnan(reports.history(runs)["d_loss"][0])
    assert reports.evals(runs)["step"].tolist()[0] == 5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scores", {}),
        ("curves", {}),
        ("convergence", {"score": "kid_mean"}),
        ("precision_recall", {}),
        ("profile", {"extractor": "classifier"}),
        ("samples", {}),
        ("filmstrip", {}),
    ],
)
def test_figures_are_shown_and_saved(
    runs: pd.DataFrame, tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    figure = getattr(reports.plot, name)(runs, **options)
    figure.savefig(tmp_path / "figure.png", dpi=30)
    assert (tmp_path / "figure.png").stat().st_size > 1000
    if name in ("scores", "profile"):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_every_figure_is_described() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
    for name in reports.plot.__all__:
        assert f"`reports.plot.{name}" in page
        assert getattr(reports.plot, name).__doc__


def test_what_cannot_be_drawn(runs: pd.DataFrame, tmp_path: Path) -> None:
    fake_runs.run(tmp_path, fields={"protocol.n_fake": 100}, images=False)
    other = reports.load(tmp_path)
    with pytest.raises(UsageError, match="these runs are of 2 tables, choose those of one: generation on"):
        reports.plot.curves(pd.concat([runs, other], ignore_index=True))
    with pytest.raises(UsageError, match=r"there is nothing to draw: no samples\.png"):
        reports.plot.samples(other)
    with pytest.raises(UsageError, match="there are no runs to draw"):
        reports.plot.scores(runs[runs["model"] == "x"])
    with pytest.raises(UsageError, match=r"score: 'fd' is not a score; .*; did you mean 'fid'\?"):
        reports.plot.profile(runs, "fd")
    with pytest.raises(UsageError, match="score: 'psnr' is not a score of classifier"):
        reports.plot.convergence(runs, "psnr")
    with pytest.raises(UsageError, match="extractor: 'inception' is not allowed; classifier"):
        reports.plot.scores(runs, "inception")
