"""The report's command line: what it writes, what it refuses, and in how many words."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import commands
import fake_runs
import pandas as pd
import pytest

import reports
from bench import run
from bench.errors import UsageError
from bench.plan import RunContext
from bench.store import records
from bench.store import results as stored
from reports import build, compare
from reports.build import main


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two models."""
    root = tmp_path_factory.mktemp("results")
    fake_runs.study(root, {"vanilla": 40, "dcgan": 20}, seeds=range(3), n_evals=2)
    return root


@pytest.mark.slow
def test_one_command_gives_all_of_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(results), "--out", str(tmp_path)]) == 0
    written = {path.name for path in tmp_path.iterdir()} - {"files.json"}
    tables = {
        "table.md",
        "table.tex",
        "table.csv",
        "comparisons.csv",
        "runs.csv",
        "target.csv",
        "report.html",
    }
    figures = {"curves", "scores", "convergence", "progress", "precision_recall", "profile", "samples"}
    figures |= {"filmstrip"}
    assert written == tables | {f"{name}-digits.{kind}" for name in figures for kind in ("png", "pdf")}
    verdict, *files = capsys.readouterr().out.splitlines()
    assert verdict.startswith("On digits after 400 steps ")
    assert sorted(files) == sorted(str(tmp_path / name) for name in written)
    assert (tmp_path / "report.html").read_text().count(verdict) == 1


@pytest.fixture(scope="module")
def quick_report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the main job, and its page."""
    out = tmp_path_factory.mktemp("report")
    build.build([results], out, ("markdown", "csv", "html"), quick=True)
    return out


@pytest.mark.slow
def test_the_quick_report_of_the_main_job(quick_report: Path) -> None:
    written = {path.name for path in quick_report.iterdir()}
    assert written == {
        *("table.md", "table.csv", "comparisons.csv", "runs.csv", "target.csv", "files.json", "report.html"),
        *("curves-digits.png", "scores-digits.png", "samples-digits.png"),
    }


@pytest.mark.slow
def test_pictures_that_the_markdown_names_exist(quick_report: Path) -> None:
    text = (quick_report / "table.md").read_text()
    assert text.count("![") == 3
    assert all(
        (quick_report / name).exists()
        for name in ("curves-digits.png", "scores-digits.png", "samples-digits.png")
        if name in text
    )


def captions(root: Path, out: Path, *, quick: bool = True) -> dict[str, str]:
    """Name of each figure -> its caption."""
    report = build.build([root], out, ("markdown",), quick=quick)
    return {picture.path.stem: picture.caption for picture in report.pictures}


@pytest.mark.slow
def test_captions_name_the_protocol(results: Path, tmp_path: Path) -> None:
    said = captions(results, tmp_path, quick=False)
    protocol = "3 seeds (0-2), 400 steps, 360 samples against 360 images of the test split."
    for name in ("scores", "convergence", "progress", "precision_recall", "profile"):
        assert said[f"{name}-digits"].endswith(protocol), name
    for name in ("curves", "samples", "filmstrip"):
        assert said[f"{name}-digits"].endswith("3 seeds (0-2), 400 steps."), name
    assert said["samples-digits"].startswith("Samples of seed 0, generation")
    text = (tmp_path / "table.md").read_text()
    assert all(f"\n*{caption}*\n" in text for caption in said.values())


@pytest.mark.slow
def test_intervals_are_named_where_there_are_any(results: Path, tmp_path: Path) -> None:
    assert "interval" not in captions(results, tmp_path / "three")["scores-digits"]
    fake_runs.study(tmp_path / "runs", {"vanilla": 40}, seeds=range(6), images=False)
    scores = captions(tmp_path / "runs", tmp_path / "six")["scores-digits"]
    assert "95 % t interval over 6 seeds; dashed: training images." in scores
    fake_runs.study(tmp_path / "runs", {"dcgan": 40}, seeds=range(2), images=False)
    scores = captions(tmp_path / "runs", tmp_path / "two")["scores-digits"]
    assert "interval over 6 seeds, none of fewer than 5;" in scores


@pytest.mark.slow
def test_captions_say_what_columns_of_samples_are(tmp_path: Path) -> None:
    fake_runs.run(tmp_path / "runs", model="cgan", conditional=True, seed=2)
    fake_runs.run(tmp_path / "runs", model="vanilla", seed=1)
    fake_runs.run(tmp_path / "runs", model="srgan", task="super-resolution")
    said = captions(tmp_path / "runs", tmp_path)
    assert said["samples-digits"].startswith(
        "Samples of seeds 1, 2, each model's first, columns of cgan: classes in order, generation"
    )
    assert said["samples-digits-2"].startswith(
        "Samples of seed 0, columns: low res, bicubic, model, original, super"
    )
    assert "dashed: bicubic" in said["scores-digits-2"]
    assert "dashed: training images" in said["scores-digits"]


@pytest.mark.slow
def test_short_names_are_explained_once(tmp_path: Path) -> None:
    for widths in ([1, 2, 3], [4, 5, 6]):
        fake_runs.run(tmp_path / "runs", hyperparameters={"g_widths": widths, "lr": widths[0] / 1e5})
    build.build([tmp_path / "runs"], tmp_path, ("markdown", "html"), quick=True)
    page = (tmp_path / "report.html").read_text()
    text = (tmp_path / "table.md").read_text()
    for k in (1, 2):
        assert page.count(f"<b>vanilla #{k}</b>: vanilla (g_widths=[") == 1
        assert text.count(f"- vanilla #{k}: vanilla (g_widths=") == 1


@pytest.mark.slow
def test_figures_stand_below_their_tables(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)
    fake_runs.run(tmp_path, dataset="mnist", images=False)
    build.build([tmp_path], tmp_path / "report", ("markdown",), quick=True)
    text = (tmp_path / "report" / "table.md").read_text()
    order = [
        "## Scores: generation on digits",
        "(scores-digits.png)",
        "## Scores: generation on mnist",
        "(scores-mnist.png)",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_csv_figures_agree_with_a_recount_from_the_raw_files(results: Path, tmp_path: Path) -> None:
    build.build([results], tmp_path, ("csv",), quick=True)
    frame = pd.read_csv(tmp_path / "table.csv").set_index("model")
    fids: dict[str, list[float]] = {}
    for path in results.glob("runs/*/*/run.json"):
        record = json.loads(path.read_text())
        fids.setdefault(record["model"], []).append(record["metrics"]["classifier"]["fid"])
    for model, values in fids.items():
        assert frame.loc[model, "metrics.classifier.fid.mean"] == pytest.approx(sum(values) / 3)
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert sorted(runs["metrics.classifier.fid"]) == pytest.approx(
        sorted(fid for values in fids.values() for fid in values)
    )


def test_default_place_is_the_first_results_folder(tmp_path: Path) -> None:
    fake_runs.run(tmp_path / "a", images=False)
    fake_runs.run(tmp_path / "b", images=False, seed=1)
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--format", "csv"]) == 0
    assert len(pd.read_csv(tmp_path / "a" / "report" / "runs.csv")) == 2


@pytest.mark.slow
def test_building_twice_gives_the_same_bytes(results: Path, quick_report: Path, tmp_path: Path) -> None:
    build.build([results], tmp_path, ("markdown", "csv", "html"), quick=True)
    for path in quick_report.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_trace_names_the_records_behind_each_row(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(results), "--out", str(tmp_path), "--format", "csv", "--trace"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    for path in results.glob("runs/*/*/run.json"):
        at = lines.index(f"      {path} (finished)")
        record = json.loads(path.read_text())
        scores = record["metrics"]["classifier"]
        assert lines[at - 1].startswith(f"    seed {record['seed']}: FID {scores['fid']:.6g}, KID ")
        assert f"Recall {scores['recall']:.6g}" in lines[at - 1]
    assert out.index("  dcgan") < out.index("  vanilla")


@pytest.mark.slow
def test_searches_beside_runs_are_drawn(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)
    folder = tmp_path / "studies" / "one"
    folder.mkdir(parents=True)
    request = {"model": "vanilla", "sampler": "random", "steps": 9, "seeds": [0], "objectives": ["fid"]}
    request["protocol"] = {"dataset": {"name": "digits"}}
    (folder / "summary.json").write_text(json.dumps({"request": request}))
    (folder / "expected.csv").write_text("trials,expected,low,high\n1,9,8,10\n2,7,6,9\n")
    build.build([tmp_path], tmp_path / "report", ("html",))
    assert (tmp_path / "report" / "budget-digits.png").exists()
    assert '<h2 id="searches">' in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.slow
def test_mixed_protocols_get_tables_of_their_own(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fake_runs.study(tmp_path, {"dcgan": 40}, seeds=range(2), images=False, fields={"protocol.n_fake": 100})
    report = build.build([tmp_path], tmp_path / "report", ("markdown", "csv"), quick=True)
    assert len(report.groups) == 2
    text = (tmp_path / "report" / "table.md").read_text()
    assert "## Scores: generation on digits (n_fake 360)" in text
    assert "## Scores: generation on digits (n_fake 100)" in text
    frame = pd.read_csv(tmp_path / "report" / "table.csv")
    assert frame["protocol"].nunique() == frame["table"].nunique() == 2


# ---------------------------------------------------------------- what is refused, and how


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_an_empty_folder_says_what_to_run_first(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reports.build", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    advice = "run `python -m bench.run --models vanilla --seeds 5` first"
    assert done.stderr == f"error: {tmp_path}: no finished runs; {advice}\n"


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        main([str(tmp_path / "nowhere")])
    fake_runs.run(tmp_path, images=False)
    with pytest.raises(UsageError, match="nowhere: no such folder"):  # half a report would be none
        main([str(tmp_path), str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="--out: '' is not allowed"):
        main([str(tmp_path), "--out", ""])


def test_nothing_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = fake_runs.run(tmp_path, images=False)
    (bad / "run.json").write_text("{")
    assert main([str(tmp_path)]) == 1
    line = said(capsys)
    assert str(bad) in line
    assert "not JSON" in line


def test_broken_records_are_named_and_the_rest_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs.run(tmp_path, seed=0, images=False)
    bad = fake_runs.run(tmp_path, seed=1, images=False)
    (bad / "run.json").write_text("{")
    assert main([str(tmp_path), "--format", "csv"]) == 0
    assert said(capsys).startswith(f"skipped {bad}/run.json: not JSON")


def test_runs_that_are_not_finished_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_runs.run(tmp_path, seed=0, images=False)
    going = fake_runs.run(tmp_path, seed=1, images=False)
    (going / "run.json").unlink()
    assert main([str(tmp_path), "--format", "csv"]) == 0
    assert said(capsys) == f"skipped {going}: not finished"


def test_a_baseline_that_was_not_run(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        main([str(results), "--out", str(tmp_path), "--baseline", "vanila"])
    assert str(refused.value) == (
        "--baseline 'vanila': no runs of it; one of dcgan, vanilla; did you mean 'vanilla'?"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "pdf"], "markdown, latex, csv, html"),
        (["--formats", "csv"], "did you mean '--format'?"),
    ],
)
def test_wrong_flags(results: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        main([str(results), *arguments])
    assert words in str(refused.value)


def test_a_place_that_cannot_be_written(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert main([str(results), "--out", str(blocked), "--format", "csv"]) == 1
    assert str(blocked) in said(capsys)


def test_help_is_fast_and_imports_neither_pandas_nor_torch() -> None:
    code = (
        "import sys\n"
        "from reports.build import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('pandas', 'torch', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - start < 10  # a second on an idle machine


@pytest.mark.slow
def test_reports_never_import_torch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom reports.build import build\n"
        f"build([Path({str(results)!r})], Path({str(tmp_path)!r}), ('html',), quick=True)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True)


def test_csv_of_nothing_is_still_a_csv(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)  # one model: nothing to compare
    build.build([tmp_path], tmp_path / "report", ("csv",), quick=True)
    text = (tmp_path / "report" / "comparisons.csv").read_text()
    assert list(pd.read_csv(io.StringIO(text)).columns) == ["table", *compare.COMPARED]


# ---------------------------------------------------------------- how it is called


@pytest.mark.slow
def test_ctrl_c_while_it_is_still_importing_ends_it_without_a_word(tmp_path: Path) -> None:
    """As every command of this project: an import that takes long stands for all of them."""
    (tmp_path / "argparse.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(100)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(build.__file__).parents[1])])
    command = commands.launch(tmp_path, "reports.build", "results", terminal=True, PYTHONPATH=path)
    commands.wait_for(lambda: "importing" in command.printed)
    command.interrupt()
    assert command.wait(seconds=20) == 130
    assert command.printed.replace("^C", "").split() == ["importing"]


@pytest.mark.slow
def test_runs_that_are_loaded_are_not_loaded_again(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = reports.load(results)
    build.build([results], tmp_path / "a", ("markdown", "csv", "html"), quick=True)

    def refuse(roots: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(stored, "load", refuse)
    monkeypatch.setattr(records, "read_record", refuse)
    build.build([results], tmp_path / "b", ("markdown", "csv", "html"), runs=runs, quick=True)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.slow
def test_the_closing_of_a_command_loads_the_runs_once(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = []
    load = stored.load
    monkeypatch.setattr(stored, "load", lambda roots: loaded.append(roots) or load(roots))
    assert run._close([], RunContext(results)) == 0
    assert capsys.readouterr().out == f"report: {results / 'report' / 'report.html'}\n"
    assert len(loaded) == 1
