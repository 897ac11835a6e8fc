"""bench.verify: what it says of runs that are what they say they are, and of those that are not."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from commands import SMALL, quick_scores
from PIL import Image

from bench import run, verify
from bench.execution.worker import work
from bench.scoring import classifier, evaluator, fitting, references
from bench.store import archive, files, records
from reports import pack

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("--steps", "20", "--eval-every", "10", "--workers", "0", "--draws", "2")


def quick(patch: pytest.MonkeyPatch) -> None:
    """Scores of few samples, and of few draws of real images, which are computed again with each check."""
    quick_scores(patch)
    patch.setattr(evaluator, "BASELINE_DRAWS", 2)
    patch.setattr(references, "BASELINE_DRAWS", 2)


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two finished runs."""
    out = tmp_path_factory.mktemp("runs") / "results"
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        assert run.main([*SMALL, *STEPS, "--seeds", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture
def results(two_seeds: Path, tmp_path: Path) -> Path:
    """A copy, to do harm to."""
    return Path(shutil.copytree(two_seeds, tmp_path / "results"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker process: seconds each."""
    quick(monkeypatch)

    def supervise(source: Any, context: Any, slots: Any, interrupt: Any, **more: Any) -> None:
        work(source, context, interrupt.is_set)

    monkeypatch.setattr(verify, "supervise", supervise)


def seed(results: Path, k: int = 0) -> Path:
    return next(results.glob(f"runs/*/seed-{k}"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a record and make its checksum right."""
    record = json.loads((folder / "run.json").read_text())
    edit(record)
    files.write_json(folder / "run.json", records.sealed(record))


def change_history(folder: Path, edit: Callable[[str], str]) -> None:
    """Edit a history and make its checksum in the record right."""
    text = edit((folder / "history.csv").read_text())
    (folder / "history.csv").write_text(text)
    sha = hashlib.sha256(text.encode()).hexdigest()
    change(folder, lambda record: record.update(history_sha256=sha))


def verified(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = verify.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


@pytest.mark.slow
def test_the_command_as_a_reviewer_runs_it(tmp_path: Path) -> None:
    """On what the command of the user left: neither scores as these tests do."""
    done = commands.run(tmp_path, *SMALL, *STEPS, "--seeds", "2", before=commands.without_report)
    assert done.wait() == 0, done.err
    results = tmp_path / "results"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    said = subprocess.run(
        [sys.executable, "-m", "bench.verify", str(results), "--runs", "all", "--workers", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    assert [line.endswith("/seed-0: identical to the bit") for line in said.stdout.splitlines()].count(
        True
    ) == 1
    assert said.stdout.endswith("/seed-1: identical to the bit\n2 runs: 2 identical\n")
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_an_edited_score_is_found(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(seed(results), lambda record: record["metrics"]["classifier"].update(fid=1.5))
    for more in ((), ("--scores-only",)):
        code, said = verified(capsys, results, "--runs", "all", *more)
        assert code == 1
        assert "/seed-0: different: metrics.classifier.fid is 1.5 on record, " in said
        assert "/seed-1: identical to the bit" in said
        assert "2 runs: 1 different, 1 identical" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda r: r["evals"][0]["metrics"]["classifier"].update(recall=1.0),
            "evals.10.metrics.classifier.recall",
        ),
        (lambda r: r["draws"]["classifier"].update(fid=[1.0, 2.0]), "draws.classifier.fid"),
        (lambda r: r["floor"]["classifier"].update(fid=0.1), "floor.classifier.fid"),
        (lambda r: r["d_accuracy"].update(near_half=True, near_half_since=1), "d_accuracy.near_half"),
        (lambda r: r["parameters"]["gen"].update(total=1), "parameters.gen.total"),
        (lambda r: r.update(seed=7), "is the record of"),
        (lambda r: r.update(steps=21), "its id does not follow from its content"),
        (lambda r: r["hyperparameters"].update(lr=1e-3), "its id does not follow from its content"),
    ],
)
def test_whatever_is_edited_is_found(
    results: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    change(seed(results), edit)
    code, out = verified(capsys, seed(results))
    assert code == 1
    assert said in out


def test_an_edited_history_is_found_with_its_step(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (seed(results) / "history.csv").read_text().splitlines()
    cells = rows[7].split(",")
    change_history(seed(results), lambda text: text.replace(rows[7], ",".join([*cells[:-1], "0.5"])))
    code, said = verified(capsys, seed(results))
    assert code == 1
    assert (
        f"different: history differs from step 7: {rows[0].split(',')[-1]} is 0.5 on record, {cells[-1]}"
        in said
    )


@pytest.mark.slow
def test_other_weights_are_found(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = seed(results) / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["weights"]["gen"]["0.bias"][3] += 1e-6
    torch.save(state, path)
    code, said = verified(capsys, seed(results))
    assert code == 1
    assert "different: the final weights differ in gen.0.bias" in said
    shutil.copyfile(seed(results, 1) / "checkpoint.pt", path)
    code, said = verified(capsys, seed(results), "--scores-only")
    assert code == 1
    assert "from the stored weights" in said
    path.unlink()
    assert (
        "checkpoint.pt, its final weights, is missing" in verified(capsys, seed(results), "--scores-only")[1]
    )


@pytest.mark.slow
def test_another_environment_explains_rounding_and_no_more(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of a machine whose last digits differ, as far as training amplifies them."""
    folder = seed(results)
    rows = (folder / "history.csv").read_text().splitlines()
    first, last = rows[1].split(","), rows[-1].split(",")
    first[1], last[1] = f"{float(first[1]) * (1 + 1e-5):.6g}", f"{float(last[1]) * 1.1:.6g}"
    text = "\n".join([rows[0], ",".join(first), *rows[2:-1], ",".join(last)]) + "\n"
    change_history(folder, lambda _: text)
    code, said = verified(capsys, folder)
    assert (code, "different: history differs from step 1: " in said) == (1, True), (
        "the environment is the same"
    )
    change(folder, lambda record: record["environment"].update(torch="2.11.0"))
    code, said = verified(capsys, folder)
    assert code == 0
    assert (
        f"same within rounding: torch 2.11.0 there, {version('torch')} here; history differs from step 1"
        in said
    )
    assert "; fid (classifier) " in said
    change(folder, lambda record: record["metrics"]["classifier"].update(fid=1.5))
    code, said = verified(capsys, folder)
    assert code == 1, "scores that are not those of the weights are no rounding"
    assert "metrics.classifier.fid is 1.5 on record" in said
    change_history(folder, lambda text: text.replace(",".join(first), ",".join([first[0], "9", *first[2:]])))
    assert "different: history differs from step 1: " in verified(capsys, folder)[1], "nor is the first step"


def test_what_cannot_be_recomputed_is_said_and_why(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = seed(results)
    change(folder, lambda record: record["code"]["model"].update({"baselines/vanilla.py": "0" * 16}))
    code, said = verified(capsys, folder)
    assert code == 1, "nothing was verified"
    assert "cannot be recomputed here: code changed: baselines/vanilla.py" in said
    code, said = verified(capsys, folder, seed(results, 1))
    assert code == 0, "the other one was"
    change(seed(results, 1), lambda record: record.update(model="gone:gan"))
    gone = results / "runs" / f"gone-gan-{folder.parent.name.removeprefix('vanilla-')}" / "seed-1"
    shutil.copytree(seed(results, 1), gone)
    assert "'gone:gan': cannot import 'gone'" in verified(capsys, gone)[1]


def test_training_code_does_not_matter_to_scores_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(
        seed(results),
        lambda record: record["code"]["training"].update({"bench/execution/training.py": "0" * 16}),
    )
    assert "code changed: bench/execution/training.py" in verified(capsys, seed(results))[1]
    assert verified(capsys, seed(results), "--scores-only")[0] == 0


@pytest.mark.slow
def test_a_folder_of_images_and_its_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classifier that was trained on first use is taken along; a changed image is named."""
    images = tmp_path / "images"
    noise = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    for k, image in enumerate(noise):
        (images / str(k % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / str(k % 2) / f"{k}.png")
    monkeypatch.setattr(fitting, "MOST_STEPS", 3)
    fit = classifier.fit
    small = ("--models", "vanilla", *SMALL[2:6], "--dataset", f"folder:{images}", "--device", "cpu")
    out = tmp_path / "results"
    assert run.main([*small, *STEPS, "--seeds", "1", "--out", str(out)]) == 0
    monkeypatch.setattr(classifier, "fit", lambda *given: pytest.fail("trained again"))
    assert verified(capsys, out)[0] == 0
    noise[0, 0, 0] ^= 255
    Image.fromarray(noise[0]).save(images / "0" / "0.png")
    monkeypatch.setattr(classifier, "fit", fit)
    code, said = verified(capsys, out)
    assert code == 1
    assert "cannot be recomputed here: data, weights or protocol changed: dataset." in said
    shutil.rmtree(images)
    assert "there is no such folder" in verified(capsys, out)[1]


def test_runs_are_picked_and_a_wrong_path_is_one_line(results: Path, tmp_path: Path) -> None:
    assert len(verify._chosen([results], 1)) == 1
    assert len(verify._chosen([results], None)) == 2
    assert {verify._chosen([results], 1)[0].name for _ in range(60)} == {"seed-0", "seed-1"}
    with pytest.raises(verify.UsageError, match="no finished runs in it"):
        verify._chosen([tmp_path / "nowhere"], 3)


@pytest.mark.slow
def test_an_archive_is_verified_as_a_folder_is(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without weights by its history and scores; with weights, and for scores alone, as everywhere."""
    plain, whole = tmp_path / "study.zip", tmp_path / "weights.zip"
    assert pack.main([str(results), "--out", str(plain)]) == 0
    assert pack.main([str(results), "--out", str(whole), "--weights"]) == 0
    code, said = verified(capsys, plain, "--runs", "1")
    assert code == 0
    assert re.search(rf"{plain}/runs/\S+/seed-\d: identical to the bit: history and scores; there are", said)
    code, said = verified(capsys, plain, "--scores-only")
    assert code == 1  # nothing could be recomputed
    assert said.count("the archive holds no weights; reports.pack has --weights") == 2
    code, said = verified(capsys, whole, "--scores-only")
    assert (code, said.count("identical to the bit: scores of the stored weights")) == (0, 2)


def test_an_archive_that_was_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.zip"
    archive.write(path, {"runs/a/seed-0/run.json": b"{}"})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("runs/a/seed-1/run.json", "{}")
    assert verify.main([str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: 'runs/a/seed-1/run.json' does not match its checksum")
    assert said.count("\n") == 1
