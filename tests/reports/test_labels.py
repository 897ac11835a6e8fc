"""The names of rows: models, what sets their configurations apart, and the labels that a command gave."""

from __future__ import annotations

import json
from pathlib import Path

import fake_runs
import pytest

import reports
from bench import run
from bench.errors import UsageError
from reports import build


def command(root: Path, **labels: str) -> None:
    """Note a command that gave these labels to the configurations of models."""
    named = {path.name: label for model, label in labels.items() for path in root.glob(f"runs/{model}-*")}
    with (root / "commands.jsonl").open("a") as file:
        file.write(json.dumps({"command": ["…"], "runs": sorted(named), "labels": named}) + "\n")


def names(root: Path) -> set[str]:
    return set(reports.summarise(reports.load(root))["label"])


@pytest.mark.slow
def test_a_label_is_the_name_in_every_format(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "dcgan": 20}, seeds=range(2), images=False)
    command(tmp_path, vanilla="baseline & co")
    assert names(tmp_path) == {"baseline & co", "dcgan"}
    out = tmp_path / "report"
    build.build([tmp_path], out, quick=True)
    assert "baseline & co" in (out / "table.md").read_text()
    assert "baseline \\& co" in (out / "table.tex").read_text()
    assert "baseline &amp; co" in (out / "report.html").read_text()
    assert "baseline & co" in (out / "table.csv").read_text()


def test_the_latest_label_counts(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "dcgan": 20}, seeds=range(2), images=False)
    command(tmp_path, vanilla="first", dcgan="deep")
    command(tmp_path, vanilla="second")
    with (tmp_path / "commands.jsonl").open("a") as file:
        file.write('{"command": [], "labels": ["no object"]}\n[1]\nno json\n{"labels": {"x": 3}}\n')
    assert names(tmp_path) == {"second", "deep"}


def test_names_are_told_apart(tmp_path: Path) -> None:
    """Two configurations with one label, one without, and a model that is called like another one's label."""
    for rate in (1e-3, 1e-4):
        fake_runs.run(tmp_path, hyperparameters={"lr": rate}, images=False)
    command(tmp_path, vanilla="baseline")
    fake_runs.run(tmp_path, hyperparameters={"lr": 1e-5}, images=False)
    fake_runs.run(tmp_path, model="dcgan", images=False)
    fake_runs.run(tmp_path, model="mmgan", images=False)
    command(tmp_path, mmgan="dcgan")
    assert names(tmp_path) == {
        *("baseline (lr=0.001)", "baseline (lr=0.0001)", "vanilla (lr=1e-05)", "dcgan", "dcgan (mmgan)"),
    }


def test_a_hyperparameter_that_earlier_code_did_not_have_sets_nothing_apart(tmp_path: Path) -> None:
    for new in ({}, {"ema": 0.0}, {"ema": 0.0, "beta1": 0.5}, {"ema": 0.0, "beta1": 0.9}):
        fake_runs.run(tmp_path, hyperparameters={"lr": 1e-3, **new}, images=False)
    found = names(tmp_path)
    assert sum("beta1=0.5" in name for name in found) == sum("beta1=0.9" in name for name in found) == 1
    assert not any("ema" in name for name in found)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vanila=x"], r"--label: 'vanila' is not among --models vanilla dcgan; did you mean 'vanilla'\?"),
        (["vanilla=x", "dcgan=x"], "--label: 'x' is given to two models"),
        (["vanilla=x", "vanilla=y"], "--label: 'vanilla' is named twice"),
        (["vanilla"], "--label: 'vanilla' is not allowed; write MODEL=NAME"),
        (["vanilla=" + "x" * 61], "a printable name of at most 60 characters"),
    ],
)
def test_labels_that_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run.main(["--models", "vanilla", "dcgan", "--label", *words])


@pytest.mark.slow
def test_a_label_is_given_to_runs_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", lambda *arguments, **options: None)
    words = (
        *("--models", "vanilla", "--seed-list", "0", "--steps", "2", "--draws", "1", "--workers", "0"),
        *("--set", "vanilla.g_widths=16", "vanilla.d_widths=16", "--dataset", "digits", "--offline"),
        *("--device", "cpu", "--out", str(tmp_path)),
    )
    assert run.main([*words, "--label", "vanilla=first name"]) == 0
    assert "\nfirst name" in capsys.readouterr().out
    assert run.main([*words, "--label", "vanilla=other name"]) == 0
    said = capsys.readouterr().out
    assert "1 reused, 0 to compute" in said
    assert "\nother name" in said
    assert run.main(list(words)) == 0  # who says nothing changes nothing
    assert "\nother name" in capsys.readouterr().out
