"""From made-up run folders to tables."""

from __future__ import annotations

import json
import math
from pathlib import Path

import fake_runs
import pandas as pd
import pytest
from drawn import cell, group_of

import reports
from reports import compare, groups, stats, words
from reports.tables import cells, tables
from reports.tables import text as to_text


def test_cells_and_marks_by_hand(tmp_path: Path) -> None:
    for model, fids in {"a": [10, 12, 14, 16], "b": [11, 13, 15, 17], "c": [50, 52, 54, 57]}.items():
        for seed, fid in enumerate(fids):
            fake_runs.run(tmp_path, model=model, seed=seed, fid=float(fid), images=False)
    table = tables.scores(group_of(tmp_path))
    assert [row.name for row in table.rows] == ["training images", "a", "b", "c"]
    assert cell(table, "a", "FID").text == "13.0 ± 2.6"
    # 2/70 = 0.029 is 0.086 over three pairs: with four seeds nothing can pass, so nothing is marked.
    assert not any(c.rank or c.tied for row in table.rows for c in row.cells)
    assert any("corrected for 3 pairs, can be below 0.086" in note for note in table.notes)
    assert any("That takes 5 seeds per model" in note for note in table.notes)
    assert [note for note in table.notes if "4 seeds hardly say how much a model varies" in note]
    for model, fids in {"a": [11], "b": [12], "c": [51]}.items():
        fake_runs.run(tmp_path, model=model, seed=4, fid=float(fids[0]), images=False)
    table = tables.scores(group_of(tmp_path))
    assert [cell(table, name, "FID").tied for name in "abc"] == [False, True, False]
    assert [cell(table, name, "FID").rank for name in "abc"] == [1, 2, 0]
    assert [cell(table, name, "Seeds").text for name in "abc"] == ["5", "5", "5"]


def test_a_model_whose_runs_fail_is_not_the_best(tmp_path: Path) -> None:
    """Its surviving seeds are better than all of the other's: neither ranked nor better in the tests."""
    fake_runs.study(tmp_path, {"solid": 26}, seeds=range(6), spread=0.5, images=False)
    fake_runs.study(tmp_path, {"shaky": 20}, seeds=range(3), spread=0.5, images=False)
    fake_runs.study(tmp_path, {"shaky": 20}, seeds=range(3, 6), images=False, status="diverged")
    group = group_of(tmp_path)
    table = tables.scores(group)
    assert [row.name for row in table.rows] == [
        "training images",
        "solid",
        "shaky",
    ]  # though its mean is better
    assert cell(table, "shaky", "FID").rank == 0
    assert any("shaky" in note and "not ranked" in note for note in table.notes)
    (pair,) = compare.comparisons(group, "solid").query("baseline").to_dict("records")
    assert (pair["a"], pair["improvement"]) == ("shaky", 0.5)
    assert pair["p_holm"] > 0.05
    assert pair["mean_a"] < 22


def test_cautions(tmp_path: Path) -> None:
    wide = {"protocol.extractors.classifier.feature_dim": 512}
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, fields=wide)
    fake_runs.study(tmp_path, {"cgan": 30}, images=False, fields=wide, conditional=True)
    notes = tables.scores(group_of(tmp_path)).notes
    assert [note for note in notes if note.startswith("cgan: asked for classes")]
    assert [note for note in notes if "360 images in the 512 dimensions" in note]


def test_few_real_images_are_biased_however_many_samples_there_are(tmp_path: Path) -> None:
    sizes = {"protocol.extractors.classifier.feature_dim": 512, "protocol.n_fake": 3600}
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False, fields=sizes)
    assert any("360 images in the 512 dimensions" in note for note in tables.scores(group_of(tmp_path)).notes)


def test_cost_is_compute_and_time_on_the_wall_is_beside_it(tmp_path: Path) -> None:
    """Records of earlier versions know the time on the wall alone; their rows stay."""
    fake_runs.run(tmp_path, model="old", images=False)
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "old", "Time").text == "9.5 s"
    new = {"cost.compute_s": 120.0, "cost.train_compute_s": 90.0}
    fake_runs.run(tmp_path, model="new", images=False, fields=new)
    table, second = (make(group_of(tmp_path)) for make in (tables.scores, tables.training))
    assert (cell(table, "new", "Cost").text, cell(table, "old", "Cost").text) == ("2.0 min", "—")
    assert "Time" not in {column.label for column in table.columns}
    shown = [cell(second, "new", label).value for label in ("compute (s)", "of it training (s)", "wall (s)")]
    assert shown == [120.0, 90.0, 9.5]


def test_separated_models_are_not_marked(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 80}, spread=1.0, images=False)
    assert not cell(tables.scores(group_of(tmp_path)), "b", "FID").tied


def test_higher_is_better_where_it_is(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 80}, spread=1.0, images=False)
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "a", "IS").rank == cell(table, "a", "Precision").rank == 1
    assert {c.label: c.better for c in table.columns}["Recall"] == "higher"


def test_one_seed_has_no_spread_and_no_mark(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 80}, seeds=[0], images=False)
    table = tables.scores(group_of(tmp_path))
    assert "±" not in cell(table, "a", "FID").text
    assert not any(c.tied for row in table.rows for c in row.cells)
    assert not any(c.rank for row in table.rows for c in row.cells)
    assert any(note == "One seed, so in no test and without a mark: a, b." for note in table.notes)


def test_one_model_of_two_seeds_has_its_caution(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20}, seeds=range(2), images=False)
    (note,) = (n for n in tables.scores(group_of(tmp_path)).notes if "hardly" in n)
    assert note.startswith("2 seeds hardly say")
    assert "32 times as large" in note


def test_one_number_of_pairs_in_notes_marks_and_comparisons(tmp_path: Path) -> None:
    """A model with one seed is in no test: it counts neither in the notes nor in the corrected p."""
    fake_runs.study(tmp_path, {"vanilla": 60, "a": 20, "b": 21}, spread=1.0, images=False)
    fake_runs.study(tmp_path, {"lone": 10}, seeds=[0], images=False)
    group = group_of(tmp_path)
    table = tables.scores(group)
    assert [row.name for row in table.rows][1] == "lone"
    assert all(c.rank == 0 and not c.tied for c in table.rows[1].cells)
    assert any("corrected for all 3 pairs of the column" in note for note in table.notes)
    assert "Mean ± standard deviation over 1 to 5 training seeds (0-4)" in table.caption
    found = compare.comparisons(group)
    assert set(found["pairs"]) == {3}
    tested = found[found["p"].notna()]
    assert len(tested) == 3
    assert tested["p_holm"].max() == pytest.approx(stats.holm(tested["p"].to_numpy()).max())
    (lone,) = found[found["a"] == "lone"].to_dict("records")
    assert (lone["n_a"], lone["n_b"], lone["b"]) == (1, 5, "vanilla")
    assert math.isnan(lone["p_holm"])


def test_very_large_numbers_have_an_exponent(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 3.2e8}, seeds=[0], images=False)
    assert cell(tables.scores(group_of(tmp_path)), "a", "FID").text == "3.2e+08"


def test_equal_models_are_not_ranked(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 21}, images=False)
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "a", "Modes").text == "10 ± 0"
    assert cell(table, "a", "Modes").rank == cell(table, "b", "Modes").rank == 0


def test_training_images_stand_above_the_models(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    real = tables.scores(group_of(tmp_path)).rows[0]
    assert (real.name, real.kind) == ("training images", "reference")
    assert real.cells[0].value == fake_runs.FLOOR_FID["classifier"]
    assert real.cells[0].text == "2.00", "records from before they were scored in several draws"


def test_training_images_have_a_spread_where_they_were_scored_in_several_draws(tmp_path: Path) -> None:
    std = {"floor_std": {"classifier": {"fid": 0.021, "modes": 0.0}}}
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, fields=std)
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "training images", "FID").text == "2.000 ± 0.021"
    assert "deviation over draws" in table.caption
    assert cell(table, "training images", "Modes").text == "10 ± 0"
    assert "±" not in cell(table, "training images", "IS").text


def test_memorisation_has_a_table_of_its_own_beside_copies_and_held_out_images(tmp_path: Path) -> None:
    fields = {
        "metrics.classifier.authpct": 61.5,
        "metrics.classifier.coverage": 0.7,
        "metrics.classifier.c_t": -0.25,
        "floor": {"classifier": {"fid": 2.0, "authpct": 0.0, "coverage": 0.9, "c_t": -60.0}},
        "floor_std": {"classifier": {"fid": 0.1, "authpct": 0.0, "coverage": 0.01, "c_t": 1.0}},
        "halves": {"classifier": {"fid": 3.0, "authpct": 62.0, "c_t": 0.3}},
        "halves_std": {"classifier": {"fid": 0.2, "authpct": 1.0, "c_t": 0.5}},
        "protocol.n_real": 360,
        "protocol.n_train": 1437,
    }
    fake_runs.study(tmp_path, {"a": 20, "b": 30}, images=False, fields=fields)
    group = group_of(tmp_path)
    table = tables.memorisation(group)
    assert table is not None
    assert [row.name for row in table.rows] == ["training images", "held-out halves", "a", "b"]
    assert [column.head for column in table.columns] == ["Coverage", "AuthPct", "C_T"]
    assert cell(table, "training images", "AuthPct").value == 0
    assert cell(table, "held-out halves", "C_T").text.startswith("0.30")
    assert cell(table, "held-out halves", "Coverage").text == "—"
    assert not any(each.rank for row in table.rows for each in row.cells), "no column is ranked"
    assert "all 1,437 training images" in table.caption
    assert "against the other, 180 images each" in table.caption
    assert any("no Coverage, which depends on the number of samples" in note for note in table.notes)
    main = tables.scores(group)
    assert "AuthPct" not in [column.label for column in main.columns]
    assert [row.name for row in main.rows[:2]] == ["training images", "held-out halves"]
    assert cell(main, "held-out halves", "FID").value == 3
    assert all(len(line) <= 80 for line in to_text.plain(table, 80).splitlines() if "  " in line)


def test_records_without_memorisation_have_no_table_of_it(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20}, images=False)
    assert tables.memorisation(group_of(tmp_path)) is None


def test_critics_do_not_stand_in_the_column_of_the_criterion(tmp_path: Path) -> None:
    """They are judged on a few evaluations, with a threshold chosen for them: a note says so."""
    fake_runs.study(tmp_path, {"vanilla": 40, "wgan_gp": 30}, images=False)
    group = group_of(tmp_path)
    table = tables.scores(group)
    assert cell(table, "vanilla", "Near ½").text == "5/5"
    assert cell(table, "wgan_gp", "Near ½").text == to_text.NOTHING
    [note] = [note for note in table.notes if note.startswith("wgan_gp: a critic")]
    assert "5 of 5 runs" in note
    assert cell(tables.training(group), "wgan_gp", "Near ½ since step").text == to_text.NOTHING
    assert cell(tables.training(group), "vanilla", "Near ½ since step").text != to_text.NOTHING


def test_a_model_without_a_discriminator_does_not_either(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    fake_runs.study(tmp_path, {"vae": 30}, images=False, fields={"d_accuracy": {}})
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "vanilla", "Near ½").text == "5/5"
    assert cell(table, "vae", "Near ½").text == to_text.NOTHING
    assert not [note for note in table.notes if note.startswith("vae: a critic")]


def test_optional_columns_appear_where_somebody_has_them(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    assert "Cond. acc." not in [c.label for c in tables.scores(group_of(tmp_path)).columns]
    fake_runs.study(tmp_path, {"cgan": 30}, seeds=range(2), images=False, conditional=True)
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "vanilla", "Cond. acc.").text == to_text.NOTHING
    assert 0 < cell(table, "cgan", "Cond. acc.").value < 1


def test_each_extractor_has_its_columns(tmp_path: Path) -> None:
    both = ("classifier", "inception-v3-compat")
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, extractors=both)
    spans = to_text.spans(tables.scores(group_of(tmp_path)))
    assert [name for name, _ in spans] == [*both, ""]


def test_super_resolution_has_bicubic_as_the_row_to_beat(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a-worse": 60, "srgan": 20}, images=False, task="super-resolution")
    table = tables.scores(group_of(tmp_path))
    assert [row.name for row in table.rows] == ["bicubic", "srgan", "a-worse"]  # more dB first
    assert cell(table, "bicubic", "PSNR (dB)").value == pytest.approx(24.1)


def test_a_group_without_best_steps_has_no_column_of_them(tmp_path: Path) -> None:
    """Another group of the same report has."""
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, select="best", n_evals=4)
    for group in groups.groups(reports.load(tmp_path)):
        labels = [column.label for column in tables.scores(group).columns]
        assert ("FID at best step" in labels) == (group.protocol["select"] == "best")


def test_best_step_beside_the_final_one(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, select="best", n_evals=4)
    group = group_of(tmp_path)
    table = tables.scores(group)
    assert cell(table, "vanilla", "FID at best step").value < cell(table, "vanilla", "FID").value
    assert cell(tables.training(group), "vanilla", "Best step").value == 300


def test_the_second_table(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "wgan_gp": 30}, images=False)
    table = tables.training(group_of(tmp_path))
    assert cell(table, "vanilla", "Trainable").text == "920,641"
    assert cell(table, "wgan_gp", "real").text == to_text.NOTHING  # no training accuracy without a threshold
    assert [note for note in table.notes if note.startswith("wgan_gp: no natural threshold")]
    heads = [name for name, _ in to_text.spans(table)]
    assert heads == ["", "D acc. in training, %", "D acc. held out, %", "", "Mean cost"]


def test_sources_of_spread_where_there_are_several_draws(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    assert tables.sources(group_of(tmp_path)) is None
    folders = fake_runs.study(tmp_path / "more", {"vanilla": 40}, images=False, n_draws=4)
    fake_runs.run(tmp_path / "more", dataset="mnist", images=False)
    found = {group.dataset: tables.sources(group) for group in groups.groups(reports.load(tmp_path / "more"))}
    assert found["mnist"] is None
    table = found["digits"]
    assert table is not None
    draws = [json.loads((f / "run.json").read_text())["draws"]["classifier"]["fid"] for f in folders]
    split = stats.variance_components(draws)
    assert cell(table, "vanilla", "FID, training").value == pytest.approx(split.training)
    assert cell(table, "vanilla", "FID, sampling").value == pytest.approx(split.sampling)
    bad = fake_runs.run(tmp_path / "bad", images=False, fields={"draws": {"classifier": {"fid": ["low"]}}})
    assert reports.load(tmp_path / "bad").attrs["skipped"] == [
        f"{bad}/run.json: draws.classifier.fid is not a list of numbers"
    ]


def test_comparisons_with_the_baseline_and_of_all_pairs(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 60, "a": 20, "b": 21}, spread=1.0, images=False)
    group = group_of(tmp_path)
    found = compare.comparisons(group)
    against = found[found["baseline"]].set_index("a")
    assert list(against["b"]) == ["vanilla", "vanilla"]
    assert against.loc["a", "p"] == pytest.approx(2 / 252)
    assert against.loc["a", "p_holm"] == pytest.approx(6 / 252)  # of all three pairs
    assert math.isnan(against.loc["a", "seeds_low"])  # told apart: nothing to advise
    assert against.loc["a", "improvement"] == 1.0
    (close,) = found[~found["baseline"]].to_dict("records")
    assert 5 <= close["seeds_low"] <= close["seeds_high"]
    table = tables.pairs(group, found, baseline=True)
    assert table is not None
    assert [cell(table, "a", f"Seeds {side}").text for side in "AB"] == ["5", "5"]
    assert not compare.comparisons(group, "nobody")["baseline"].any()


def test_of_too_many_pairs_only_those_with_the_best_and_the_baseline_are_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {f"m{k}": 20.0 + 5 * k for k in range(4)} | {"vanilla": 60.0}
    fake_runs.study(tmp_path, models, seeds=range(6), spread=0.5, images=False)
    group = group_of(tmp_path)
    monkeypatch.setattr(compare, "MOST_PAIRS", 9)
    found = compare.comparisons(group)
    assert len(found) == 7
    assert set(found["pairs"]) == {10}
    assert list(found["p_holm"]) == pytest.approx([10 * 2 / 924] * 7)


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        ([9.54, 119, math.nan], ["9.5 s", "119.0 s", "—"]),
        ([125, 9000], ["2.1 min", "150.0 min"]),
        ([9000], ["2.5 h"]),
        ([math.nan], ["—"]),
    ],
)
def test_durations_are_for_people_in_one_unit(seconds: list[float], texts: list[str]) -> None:
    assert [cell.text for cell in cells.durations(pd.Series(seconds))] == texts


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2, 5], "0-2, 5"), ([3], "3"), ([1, 2], "1, 2"), ([4, 0, 2], "0, 2, 4")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert words.ranges(numbers) == text
