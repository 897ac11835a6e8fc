"""``bench.score`` as its user meets it: an outsider's samples in the tables, and refused requests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import outsider
import pandas as pd
import pytest
from image_folders import write
from PIL import Image

import reports
from bench import loading, score, verify
from bench.data import datasets
from bench.errors import UsageError
from bench.execution import elsewhere, rivals
from bench.plan import RunContext
from bench.scoring import sizes
from bench.store import files, records
from reports import build, groups, page

DIGITS = ("--dataset", "digits", "--offline", "--device", "cpu")
FAKES = 360
"""Samples of a draw here: as many as there are test images, a tenth of what a user must bring."""


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "FAKES_PER_REAL", 1)
        yield


@pytest.fixture(scope="module")
def files_of_seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Samples of an outsider's model, trained with three seeds."""
    folder = tmp_path_factory.mktemp("outsider")
    found = []
    for seed in (3, 7, 11):
        np.savez(folder / f"seed-{seed}.npz", *outsider.samples(seed, 2 * FAKES + 5))
        found.append(folder / f"seed-{seed}.npz")
    return found


def scored(out: Path, *words: object) -> int:
    return score.main([*map(str, words), *DIGITS, "--out", str(out)])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, files_of_seeds: list[Path]) -> Path:
    """A results folder with made-up runs of vanilla and dcgan, and with an outsider's samples."""
    out = tmp_path_factory.mktemp("table") / "results"
    context = RunContext(out=out, offline=True)
    here = dict(rivals.find("digits", None, 2, context).protocol)
    fields = {"protocol": here, "schema": records.SCHEMA}
    fake_runs.study(out, {"vanilla": 40, "dcgan": 20}, seeds=range(3), n_draws=2, fields=fields)
    words = ("--range", 0, 1, "--name", "VAE & co", "--seeds", 3, 7, 11)
    assert scored(out, *files_of_seeds, *words) == 0
    return out


@pytest.fixture
def results(table: Path, tmp_path: Path) -> Path:
    """A copy, to do harm to."""
    return Path(shutil.copytree(table, tmp_path / "results"))


def record(out: Path, seed: int = 3, name: str = "VAE-co") -> dict[str, Any]:
    (path,) = out.glob(f"runs/{name}-*/seed-{seed}/run.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_an_outsider_stands_beside_our_models_in_every_format(table: Path) -> None:
    report = build.build([table], table.parent / "report", quick=True)
    (group,) = report.groups
    assert set(group.summary["label"]) == {"vanilla", "dcgan", "VAE & co ‡"}
    pairs = pd.read_csv(table.parent / "report" / "comparisons.csv")
    (pair,) = pairs[(pairs["a"] == "VAE & co ‡") & (pairs["b"] == "vanilla")].to_dict("records")
    assert pair["p"] == pytest.approx(0.1)  # the least that three seeds against three can have
    assert (pair["n_a"], pair["n_b"]) == (3, 3)
    text = {
        name: (table.parent / "report" / name).read_text() for name in ("table.md", "table.tex", "table.csv")
    }
    html = (table.parent / "report" / "report.html").read_text()
    assert "| VAE & co ‡ |" in text["table.md"]
    assert "‡: samples that were made elsewhere" in text["table.md"]
    assert r"VAE \& co $^\ddagger$ &" in text["table.tex"]
    assert r"$^\ddagger$: samples that were made elsewhere" in text["table.tex"]
    assert "VAE & co ‡" in text["table.csv"]
    assert "VAE &amp; co ‡" in html
    assert "‡: samples that were made elsewhere" in html
    assert "trained for 400 generator updates (here) on digits" in text["table.md"]
    assert "On digits after 400 steps" in text["table.md"]


@pytest.mark.slow
def test_what_was_not_trained_here_has_no_cost_and_no_accuracy(table: Path) -> None:
    report = build.build([table], table.parent / "csv", ("csv",))
    (section,) = [table for table in report.tables if table.title.startswith("Scores")]
    row = next(row for row in section.rows if row.name == "VAE & co ‡")
    cells = {column.label: cell.text for column, cell in zip(section.columns, row.cells, strict=True)}
    assert cells["Seeds"] == "3"
    assert {cells[name] for name in ("Near ½", "Failures", "Time")} == {"—"}
    assert cells["Cond. acc."] != "—"  # it was asked for classes
    assert record(table)["cost"] == {}
    assert record(table)["d_accuracy"] == {}


@pytest.mark.slow
def test_the_record_says_which_samples_were_scored(table: Path, files_of_seeds: list[Path]) -> None:
    found = record(table)
    assert found["status"] == "finished"
    about = found["samples"]
    assert (about["file"], about["path"]) == ("seed-3.npz", str(files_of_seeds[0]))
    assert (about["n"], about["n_held"], about["labelled"]) == (2 * FAKES, 2 * FAKES + 5, True)
    assert about["reading"]["value_range"] == [0, 1]
    assert len(found["draws"]["classifier"]["fid"]) == 2
    assert found["metrics"]["classifier"]["fid"] == np.mean(found["draws"]["classifier"]["fid"])
    folder = next(table.glob("runs/VAE-co-*/seed-3"))
    assert {path.name for path in folder.iterdir()} == {
        *("run.json", "samples.png", "real.png", "neighbours.png")
    }
    with Image.open(folder / "samples.png") as grid:
        assert grid.size == (582, 582)  # ten by ten, a class per column


@pytest.mark.slow
def test_samples_are_scored_as_real_data_is(tmp_path: Path) -> None:
    """Training images as samples have the scores of the baseline's draws, up to the draw."""
    data = datasets.load("digits", data_root=tmp_path, offline=True)
    chosen = np.random.default_rng(0).permutation(len(data.train))[:FAKES]
    np.save(tmp_path / "real.npy", data.train.images[chosen])
    assert scored(tmp_path / "out", tmp_path / "real.npy", "--name", "real", "--draws", 1) == 0
    found = record(tmp_path / "out", 0, "real")
    fid, real = (found[section]["classifier"]["fid"] for section in ("metrics", "floor"))
    assert abs(fid - real) < 5 * found["floor_std"]["classifier"]["fid"]
    assert "cond_accuracy" not in found["metrics"]["classifier"]


@pytest.mark.slow
def test_the_same_samples_are_reused_and_others_never_replace_them(
    results: Path, files_of_seeds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = record(results)
    one = ("--range", 0, 1, "--name", "VAE & co", "--seeds", 3)
    assert scored(results, files_of_seeds[0], *one) == 0
    assert "on record as VAE & co, seed 3; reused" in capsys.readouterr().out
    with pytest.raises(
        UsageError, match=r"--name 'VAE & co': other samples of seed 3 are on record, from seed-3"
    ):
        scored(results, files_of_seeds[1], *one)
    assert record(results) == before
    assert scored(results, files_of_seeds[1], *one, "--fresh") == 0
    assert record(results)["samples"]["file"] == "seed-7.npz"
    (old,) = results.glob("runs/VAE-co-*/old-seed-3-1/run.json")
    assert json.loads(old.read_text()) == before


@pytest.mark.slow
def test_infinity_is_recorded_and_shown(
    results: Path, files_of_seeds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one = ("--range", 0, 1, "--name", "VAE & co", "--seeds", 3)
    assert scored(results, files_of_seeds[0], *one, "--infinity") == 0
    found, said = record(results), capsys.readouterr().out
    value = found["metrics"]["classifier"]["fid_infinity"]
    assert f"classifier: FID∞ {value:.4g} (FID " in said
    assert len(found["infinity"]["classifier"]["fid"]) == 15
    (group,) = groups.groups(reports.load(results))
    assert f"FID∞ (classifier), for comparing across N: VAE & co ‡ {value:.4g}." in (
        build.build([results], results / "csv", ("csv",)).tables[0].notes
    )
    assert "--infinity" in page.command(group, found["id"])


@pytest.mark.slow
def test_verify_scores_the_files_again(
    results: Path, files_of_seeds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = results.glob("runs/VAE-co-*/seed-3")
    verified = (str(folder), "--offline")
    assert verify.main(verified) == 0
    assert "identical to the bit: scores of the same samples" in capsys.readouterr().out
    held = record(results)
    held["metrics"]["classifier"]["fid"] += 1
    files.write_json(folder / "run.json", records.sealed(held))
    assert verify.main(verified) == 1
    assert "different: metrics.classifier.fid is" in capsys.readouterr().out
    held["samples"]["path"] = str(files_of_seeds[1])
    files.write_json(folder / "run.json", records.sealed(held))
    assert verify.main(verified) == 1
    assert "seed-7.npz holds other samples now than those that were scored" in capsys.readouterr().out
    held["samples"]["path"] = "/nowhere/gone.npz"
    files.write_json(folder / "run.json", records.sealed(held))
    assert verify.main(verified) == 1
    assert "cannot be recomputed here: /nowhere/gone.npz: there is no such file" in capsys.readouterr().out


@pytest.mark.slow
def test_a_generator_cannot_be_loaded(table: Path) -> None:
    (folder,) = table.glob("runs/VAE-co-*/seed-3")
    with pytest.raises(UsageError, match=r"samples that were made elsewhere \(seed-3.npz\)"):
        loading.load(folder)


@pytest.mark.slow
def test_the_page_has_the_command(table: Path) -> None:
    (group,) = groups.groups(reports.load(table))
    words = page.command(group, record(table)["id"])
    assert words == (
        "python -m bench.score seed-3.npz seed-7.npz seed-11.npz --name 'VAE & co' --dataset digits "
        "--seeds 3 7 11 --features classifier --draws 2 --range 0 1"
    )


# ------------------------------------------------------------------ requests that are refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "x", "--seeds", "1", "2"], "--seeds: 2 of them for 1 SAMPLES"),
        (["--name", "dcgan"], r"--name: 'dcgan' is the name of a model of .* 'dcgan \(their code\)'"),
        (["--name", "x" * 61], "--name: a printable name of at most 60 characters"),
        (["--name", "x", "--draws", "3"], r"725 images, .* scores 1,080 \(3 draws of 360\).*--draws 2"),
        (["--name", "x", "--layout", "nhwc"], "--layout: 'nhwc' is not allowed; .*did you mean 'NHWC'"),
        (["--name", "x", "--features", "clasifier"], "did you mean 'classifier'"),
    ],
)  # fmt: skip
def test_requests_that_are_refused(files_of_seeds: list[Path], tmp_path: Path, words: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        scored(tmp_path / "out", files_of_seeds[0], "--range", 0, 1, *words)
    assert "\n" not in str(caught.value)


def test_samples_that_are_refused(tmp_path: Path) -> None:
    white = np.full((FAKES, 8, 8), 255, np.uint8)
    for name, arrays, said in (
        ("few", [white[:350]], "few.npz: 350 images, and the protocol of digits scores 360: sample more$"),
        ("large", [white.repeat(2, 1)], "large.npz: its images are 8x16, and the data's 8x8"),
        (
            "class",
            [white, np.full(FAKES, 10)],
            "class.npz: it has the label 10, and the data set's labels are 0 to 9",
        ),
    ):
        np.savez(tmp_path / f"{name}.npz", *arrays)
        with pytest.raises(UsageError, match=said):
            scored(tmp_path / "out", tmp_path / f"{name}.npz", "--name", "x", "--draws", 1)
    np.savez(tmp_path / "same.npz", white)
    np.save(tmp_path / "same.npy", white)
    with pytest.raises(UsageError, match=r"same.npz and .*same.npy hold the same images"):
        scored(tmp_path / "out", tmp_path / "same.npz", tmp_path / "same.npy", "--name", "x", "--draws", 1)


def test_folders_of_images(tmp_path: Path) -> None:
    def refused(said: str, *words: str) -> None:
        with pytest.raises(UsageError, match=said):
            scored(tmp_path / "out", tmp_path / "of", "--name", "x", "--draws", 1, *words)

    (tmp_path / "of").mkdir()
    refused("there are no images in it")
    write(tmp_path / "of", "3/a.png", size=(8, 8))
    write(tmp_path / "of", "x/b.png", size=(8, 8))
    refused("its sub-folder 'x' is no class of digits, which are 0 to 9; --unlabelled ignores")
    refused("2 images, and the protocol of digits scores 360", "--unlabelled")
    refused("--key, --labels-key, --layout and --range are for arrays; this is a folder", "--range", "0", "1")
    write(tmp_path / "of", "x/a.png", size=(8, 9))
    refused("of: 'x/a.png': its images are 8x9, and the data's 8x8", "--unlabelled")
    write(tmp_path / "of", "x/c.JPG", size=(8, 8))
    refused("'x/c.JPG' is compressed with loss, as 1 of 4 files are", "--unlabelled")


def test_the_first_images_of_a_folder_are_of_all_classes(tmp_path: Path) -> None:
    from bench.data.arrays import Reading
    from bench.data.samples import read_samples

    for label in (0, 4, 9):
        for k in range(4):
            write(tmp_path, f"{label}/{k}.png", size=(8, 8), seed=10 * label + k)
    data = datasets.load("digits", data_root=tmp_path, offline=True)
    found = read_samples(tmp_path, Reading(), data, 6)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 4, 9, 0, 4, 9]
    assert found.n_held == 12


@pytest.mark.slow
def test_another_protocol_is_said(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = RunContext(out=results, offline=True)
    joined = rivals.find("digits", None, None, context)
    assert joined.notes == ["in one table with VAE & co, dcgan, vanilla"]
    assert joined.protocol["draws"] == 2
    (note,) = rivals.find("digits", None, 1, context).notes
    assert "in a table of its own, since the protocol of VAE & co, dcgan, vanilla differs: " in note
    assert "draws is 2 there and 1 here (--draws)" in note
    assert (
        rivals.find("digits", None, 1, RunContext(out=tmp_path, offline=True)).notes[0].startswith("no other")
    )


def test_the_number_of_samples_is_the_protocols() -> None:
    assert elsewhere.n_needed({"n_fake": 3_600, "draws": 3}) == 10_800
