"""Published figures stand beside ours only where they were measured in the same way."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest
from drawn import cell, group_of

from reports import published
from reports.tables import tables


def lucic(**changes: object) -> dict[str, object]:
    """A run under the published protocol, but for the changes."""
    settings = published.LUCIC.settings(str(changes.get("model", "nsgan")))
    run = {"model": "nsgan", "dataset": "mnist", "steps": 15_625, **published.PROTOCOL}
    return run | {f"hyperparameters.{name}": value for name, value in settings.items()} | changes


def fields(**changes: object) -> list[published.Difference]:
    """The differences that flags can change; the others come last."""
    run = lucic(**changes)
    code = list(published.CODE[str(run["model"])])
    differences = published.compare(run)
    assert differences[-len(code) :] == code
    return differences[: -len(code)]


def test_the_published_protocol_matches_itself_alone() -> None:
    assert fields() == []
    for model in published.LUCIC.models:
        assert fields(model=model) == []
        named = [f"hyperparameters.{name}" for name in published.LUCIC.settings(model)]
        for name in (*published.PROTOCOL, *named):
            [difference] = fields(model=model, **{name: "something else"})
            assert difference.name == name.rpartition(".")[2]
            assert difference.ours == "something else"
    [difference] = fields(steps=1)
    assert str(difference) == "discriminator updates 1 (theirs: 15625)"


def test_published_training_is_as_long_in_discriminator_updates() -> None:
    n_critic = "hyperparameters.n_critic"
    assert fields(model="wgan", steps=3_125, **{n_critic: 5}) == []
    assert fields(steps=7_812.0, **{n_critic: 2.0}) == []  # whole iterations, in a column with gaps
    [difference] = fields(model="wgan", **{n_critic: 5})
    assert str(difference) == "discriminator updates 78125 (theirs: 15625)"
    for nothing in (None, "many", float("inf"), [1]):
        [difference] = fields(steps=nothing, **{n_critic: nothing})
        assert difference.ours == 0


def test_options_that_the_paper_does_not_have_are_named_where_they_are_on() -> None:
    on = {"r1": 1.0, "ema": 0.999, "decay": "linear", "augment": "diffaugment", "d_lr": 4e-4}
    for name, value in on.items():
        [difference] = fields(**{f"hyperparameters.{name}": value})
        assert str(difference) == f"{name} {value} (theirs: none)"
    off = {"r1": 0.0, "ema": float("nan"), "decay": "none", "augment": None, "d_lr": float("nan")}
    assert fields(**{f"hyperparameters.{name}": value for name, value in off.items()}) == []


def test_what_their_code_does_otherwise_is_named_for_each_model() -> None:
    assert published.CODE.keys() == published.LUCIC.models.keys() == {*published.FID["mnist"], "vae"}
    assert len({frozenset(found) for found in published.FID.values()}) == 1
    said = {model: [each.name for each in found] for model, found in published.CODE.items()}
    assert "slopes" in said["wgan_gp"]
    assert "slopes" in said["dragan"]
    assert "slopes" not in said["wgan"]


def test_a_published_figure_is_shown_only_beside_its_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"extractors": [published.EXTRACTOR], "dataset": "mnist", "images": False}
    fake_runs.study(tmp_path, {"nsgan": 7, "vanilla": 30, "began": 14, "vae": 24}, **run)
    table = tables.scores(group_of(tmp_path))
    assert "nsgan, published" not in [row.name for row in table.rows]
    [note] = [note for note in table.notes if "Lucic" in note]
    assert "n_fake 360 (theirs: 10000)" in note
    monkeypatch.setattr(published, "compare", lambda run: [])
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "nsgan, published", "FID").text == "6.8 ± 0.5"
    assert cell(table, "began, published", "FID").text == "13.1 ± 1.0"
    assert not {"vanilla, published", "vae, published"} & {row.name for row in table.rows}
