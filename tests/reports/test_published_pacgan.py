"""PacGAN's scores stand beside ours only where every field of the protocol agrees; deviations are named."""

from __future__ import annotations

import math
from pathlib import Path

import fake_runs
import pandas as pd
import pytest
from drawn import group_of

from bench.data.points import MIXTURES
from bench.scoring import per_channel, points
from bench.scoring.scores import MODE_KL, MODES, REVERSE_KL
from reports import published_pacgan as paper
from reports.published import OFF
from reports.tables import tables


def following(dataset: str, **changes: object) -> dict[str, object]:
    """A run under the published protocol, but for the changes."""
    run = {"model": "pacgan", "dataset": dataset, "steps": paper.PACGAN.updates[dataset], **paper.PROTOCOL}
    run |= {"protocol.n_fake": paper.SAMPLES[dataset], "hyperparameters.packing": 2}
    settings = paper.PACGAN.settings("pacgan", dataset)
    return run | {f"hyperparameters.{name}": value for name, value in settings.items()} | changes


@pytest.mark.parametrize("dataset", paper.TRIALS)
def test_every_field_counts(dataset: str) -> None:
    run = following(dataset)
    assert paper.compare(run) == []
    for name in set(run) - {"model", "dataset", "hyperparameters.packing", "hyperparameters.net"}:
        assert len(paper.compare(run | {name: 3})) == 1, name
        assert paper.compare(run | {name: None}), name
    for name, value in (("ema", 0.999), ("decay", "linear"), ("r1", 0.1), ("augment", "diff")):
        [difference] = paper.compare(run | {f"hyperparameters.{name}": value})
        assert str(difference) == f"{name} {value} (theirs: none)"
        assert paper.compare(run | {f"hyperparameters.{name}": OFF[f"hyperparameters.{name}"]}) == []


def test_a_row_is_that_of_the_net_and_the_packing() -> None:
    assert {
        **dict.fromkeys(MIXTURES, points.N_SAMPLES),
        "stacked-mnist": per_channel.N_SAMPLES,
    } == paper.SAMPLES
    half = following("stacked-mnist", **{"hyperparameters.net": "stacked_half"})
    assert paper.compare(half) == []
    row = paper.row(half)
    assert row is not None
    assert row.name == "PacGAN2, stacked_half, published"
    assert row.cells["per-channel", MODES.label] == ("840.7 ± 112.6", 840.7)  # 15.92 · √50
    assert row.cells["per-channel", MODE_KL.label] == ("1.00 ± 0.35", 1.0)
    base = paper.row(following("ring", **{"hyperparameters.packing": 1.0}))
    assert base is not None
    assert base.name == "GAN, published"
    assert base.cells["points", REVERSE_KL.label] == (f"0.45 ± {0.09 * math.sqrt(10):.2f}", 0.45)
    for other in ({"hyperparameters.packing": 5}, {"hyperparameters.net": "mlp"}, {"model": "nsgan"}):
        assert paper.row(following("ring", **other)) is None


def test_a_table_shows_it_beside_ours_with_what_our_code_does_otherwise(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, model="pacgan", images=False)
    group = group_of(tmp_path)
    [ours] = group.runs.to_dict("records")
    for steps, shown in ((400_000, True), (4_000, False)):
        extra = {name: value for name, value in following("ring").items() if name not in ("model", "dataset")}
        runs = pd.DataFrame([{**ours, **extra, "dataset": "ring", "steps": steps}])
        columns = [tables.Column("points", MODES.label, "higher"), tables.Column("", "Seeds")]
        given = FakeGroup(runs)
        rows, notes = tables._published(given, columns)  # type: ignore[arg-type]
        assert [row.name for row in rows] == (["PacGAN2, published"] if shown else [])
        [note] = notes
        if shown:
            assert rows[0].cells[0].text == "7.9 ± 0.3"
            assert "standard error over trials" in note
            assert "Our code differs in order of updates the discriminator, then the generator" in note
        else:
            assert "are not shown, since their protocol differs in steps 4000" in note


class FakeGroup:
    """The two parts of a group that the published rows are made from."""

    extractors = ("points",)

    def __init__(self, runs: pd.DataFrame) -> None:
        self.runs = runs
