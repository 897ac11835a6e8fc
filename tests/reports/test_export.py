"""reports.export: what other tools are given of runs. Each tool is tested where its package is installed."""

from __future__ import annotations

import json
from pathlib import Path

import fake_runs
import pytest

import reports
from bench.errors import UsageError
from reports import export, exports


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one run of which diverged."""
    root = tmp_path_factory.mktemp("exported") / "results"
    fake_runs.study(root, {"vanilla": 40, "dcgan": 20}, seeds=range(2), n_evals=4)
    fake_runs.run(root, model="dcgan", seed=2, status="diverged")
    return root


def exported(root: Path) -> dict[str, exports.Export]:
    return {run.name: run for run in exports.exports(reports.load(root), [root])}


def test_what_is_given(results: Path) -> None:
    runs = exported(results)
    assert len(runs) == 5
    run = runs["vanilla/digits/seed-1"]
    folder = next(results.glob("runs/vanilla-*/seed-1"))
    record = json.loads((folder / "run.json").read_text())
    assert run.key == f"{record['id']}-1"
    assert run.config["hyperparameters.g_widths"] == [256, 512, 1024]
    assert run.config["status"] == "finished"
    assert list(run.scalars) == list(range(1, 401))
    assert run.scalars[1].keys() == {"train/d_loss", "train/d_acc_real", "train/d_acc_fake", "train/g_loss"}
    assert run.scalars[200]["eval/classifier/fid"] == record["evals"][1]["metrics"]["classifier"]["fid"]
    assert run.scalars[200]["eval/d_accuracy/real"] == record["evals"][1]["d_accuracy"]["real"]
    assert run.scores["final/classifier/fid"] == record["metrics"]["classifier"]["fid"]
    assert [(step, path.name) for step, path in run.pictures.items()] == [
        *((100, "samples-000100.png"), (200, "samples-000200.png"), (300, "samples-000300.png")),
        (400, "samples.png"),
    ]
    ended = runs["dcgan/digits/seed-2"]
    assert (ended.config["status"], ended.scores, ended.pictures) == ("diverged", {}, {})
    assert max(ended.scalars) == 150


def test_nothing_of_the_machine_is_given(tmp_path: Path) -> None:
    host = {"environment.host": "some-machine", "environment.source": str(tmp_path)}
    fake_runs.run(tmp_path, dataset=f"folder:{tmp_path}/faces", fields=host, images=False)
    (run,) = exported(tmp_path).values()
    said = f"{run.name} {run.key} {dict(run.config)} {dict(run.scores)}"
    assert "some-machine" not in said
    assert str(tmp_path) not in said


def test_names_are_paths_and_each_is_there_once(tmp_path: Path) -> None:
    """The same model in two tables, and a label that is no name of a file."""
    for n in (100, 200):
        fake_runs.run(tmp_path, fields={"protocol.n_fake": n}, images=False)
    deep = fake_runs.run(tmp_path, model="dcgan", images=False)
    note = {"labels": {deep.parent.name: "../../deep: er"}}
    (tmp_path / "commands.jsonl").write_text(json.dumps(note) + "\n")
    first, second, third = sorted(exported(tmp_path))
    assert first == "deep-er/digits/seed-0"
    assert second.startswith("vanilla/digits-")
    assert third.startswith("vanilla/digits-")
    assert second != third


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tensorbord", "x"), r"--to: 'tensorbord' is not allowed; .*; did you mean 'tensorboard'\?"),
        (("wandb", " "), "--to wandb: '' is not allowed; name a project"),
        (("tensorboard", "."), "--to tensorboard: . is there and not empty; name a new folder"),
        (("trackio", "x"), "--to trackio: the package is not installed; pip install trackio"),
    ],
)
def test_what_is_refused(
    results: Path, words: tuple[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=said):
        export.main([str(results), "--to", *words])


def test_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    for folder, said in ((tmp_path, "no finished runs"), (tmp_path / "x", "no such folder")):
        with pytest.raises(UsageError, match=said):
            export.main([str(folder), "--to", "wandb", "x"])


def test_tensorboard(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert export.main([str(results), "--to", "tensorboard", str(tmp_path / "logs")]) == 0
    run = exported(results)["vanilla/digits/seed-1"]
    found = EventAccumulator(str(tmp_path / "logs" / run.name), size_guidance={"scalars": 0}).Reload()
    losses = found.Scalars("train/d_loss")
    assert [event.step for event in losses] == list(run.scalars)
    assert losses[7].value == pytest.approx(run.scalars[8]["train/d_loss"])
    assert found.Scalars("final/classifier/fid")[0].value == pytest.approx(run.scores["final/classifier/fid"])
    assert [event.step for event in found.Images("samples")] == [100, 200, 300, 400]
    assert "_hparams_/session_start_info" in found.summary_metadata
    assert len(list((tmp_path / "logs").glob("*/*/*/events.*"))) == 5


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["wandb", "trackio"])
def test_tools_with_projects(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio")}.items():
        monkeypatch.setenv(name, value)  # read when the tool is imported
    pytest.importorskip(tool, reason=f"{tool} is not installed")
    assert export.main([str(results), "--to", tool, "gans"]) == 0
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"train/d_loss" in written
    assert b"final/classifier/fid" in written
    assert len(list(tmp_path.rglob("*.png"))) == 16
