"""Reports of unusual numbers and names, in unusual folders and on unusual terminals: by the real commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import commands
import fake_runs
import pytest

import reports
from bench.store import records
from bench.store.jobs import digest
from reports import build, private, stats
from reports.tables import sheets, text

HERE = Path(__file__).resolve().parents[2]
BUILD = ("-m", "reports.build")
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def python(
    *words: str | bytes | Path, redirect: str = "", folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """``python …`` under a shell that redirects its streams."""
    command = ["bash", "-c", f'exec "$0" "$@" {redirect}', sys.executable, *words]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": ""} | variables,
        capture_output=True,
        check=False,
        timeout=300,
    )


def is_fine(done: subprocess.CompletedProcess[bytes]) -> None:
    """It came to its end and had nothing to say."""
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stderr == b""


# ---------------------------------------------------------------- numbers

ODD = [5e-324, 1e-310, 1e-300, 1e-9, 1.0, 1 + 1e-9, 1e15, 1e99]


@pytest.mark.slow
def test_no_number_ends_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "results"
    for seed, number in enumerate(ODD):
        fake_runs.run(root, model="near", seed=seed, fid=30 + seed, n_evals=2, n_draws=2)
        fields = {"metrics.classifier.fid": 30 + seed + 1e-9}
        fake_runs.run(root, model="nearer", seed=seed, fid=30 + seed, n_evals=2, fields=fields)
        metrics = dict.fromkeys(("fid", "kid_mean", "isc_mean", "precision", "recall"), number)
        evals = [{"step": k, "train_s": number, "metrics": {"classifier": metrics}} for k in (1, 2)]
        fields = {
            "metrics": {"classifier": metrics},
            "floor": {"classifier": metrics},
            "evals": evals,
            "cost": {"train_s": number, "device_s": number, "stack": number, "peak_memory_mb": number},
            "draws": {"classifier": {"fid": [number, number * 1.5]}},
        }
        folder = fake_runs.run(root, model="odd", seed=seed, fields=fields)
        lines = ["step,d_loss,g_loss", f"100,{number},inf", "200,1e308,-1e308", "400,nan,1e-320"]
        (folder / "history.csv").write_text("\n".join(lines) + "\n")
        fake_runs.run(
            root, model="same", seed=seed, fields={"metrics": {"classifier": dict.fromkeys(metrics, 1e99)}}
        )
    fake_runs.run(root, seed=0, fields={"metrics.classifier.fid": 1e300})
    assert build.main([str(root)]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("metrics.classifier.fid is not a number below 1e100")
    shown = (root / "report" / "table.md").read_text()
    assert max(map(len, re.findall(r"\| ([^|]*) ", shown))) < 60


def test_means_that_differ_by_next_to_nothing_need_a_number_of_seeds() -> None:
    a = [0.0, 1.0, 2.0]
    for difference in (1e-9, 1e-10, 1e-11):
        needed = stats.seeds_needed(a, [x + difference for x in a])
        assert 4 <= needed.low < 100
        assert needed.high == float("inf")
    assert stats.seeds_needed([1e99, -1e99], [5e-324, 0.0]).high == float("inf")


def test_intervals_are_the_same_in_any_unit() -> None:
    values = [3.0, 5.0, 4.0, 7.0, 5.5]
    interval = stats.mean_ci(values)
    for unit in (2.0**-1000, 2.0**1000):
        scaled = stats.mean_ci([value * unit for value in values])
        assert (scaled.low / unit, scaled.high / unit) == (interval.low, interval.high)


# ---------------------------------------------------------------- texts

NASTY = "a\ud800b\x1b[31mc\nd\te\u202ef\x9bg"


@pytest.mark.slow
def test_nothing_of_a_record_reaches_a_terminal_or_a_file_but_as_text(tmp_path: Path) -> None:
    root = tmp_path / "results\x1b[1m"
    fields: dict[str, Any] = {
        "reason": NASTY,
        "environment.torch": NASTY,
        "protocol.scored_on": NASTY,
        "code": {"model": {NASTY: NASTY}, "how": NASTY},
    }
    settings = {NASTY: NASTY, "list": [NASTY]}
    fake_runs.run(root, model=NASTY, fields=fields, hyperparameters=settings, status="failed")
    fake_runs.run(root, model=NASTY, seed=1, fields=fields, hyperparameters=settings)
    bad = fake_runs.run(root, model="bad", fields={"status": NASTY})
    folder = root / "runs" / "evil\x1b]0;taken\x07\nskipped: nothing" / "seed-0"
    bad.rename(folder.parent.mkdir() or folder)  # type: ignore[func-returns-value]
    (root / "runs" / "unfinished\x1b[2J" / "seed-0").mkdir(parents=True)
    study = root / "studies" / "s\x1b[2J"
    study.mkdir(parents=True)
    (study / "summary.json").write_text("[" * 100_000)
    done = python(*BUILD, root, "--trace")
    assert done.returncode == 0, done.stderr
    for written in (done.stdout, done.stderr):
        assert set(written) & set(range(32)) <= {ord("\n")}
        assert not {"\x9b", "\u202e"} & set(written.decode())
    skipped = done.stderr.decode().splitlines()
    assert len(skipped) == 3
    assert all(line.startswith("skipped ") for line in skipped)
    for path in (root / "report").glob("*.*"):
        if path.suffix not in {".png", ".pdf"}:
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", path.read_text(encoding="utf-8")), (
                path
            )


def test_a_key_that_is_escaped_to_another_is_one_column(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False, hyperparameters={"a\x1b": 1, "a\\x1b": 2})
    assert len(reports.load(tmp_path)) == 1
    assert build.main([str(tmp_path), "--format", "csv"]) == 0


# ---------------------------------------------------------------- terminals


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    fake_runs.study(root, {"vanilla": 40, "dcgän": 20}, seeds=range(2), images=False)
    fake_runs.run(root, status="failed", seed=5, images=False, fields={"reason": "é ± \U0001f600"})
    bad = fake_runs.run(root, model="brökèn", images=False)
    (bad / "run.json").write_text("{")
    return root


@pytest.mark.slow
def test_an_ascii_terminal(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "ö \U0001f600"
    done = python(*BUILD, results, "--out", out, "--trace", "--format", "csv", **ASCII)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    assert (out / "runs.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("redirect", [">&-", "<&- >&- 2>&-"])
def test_closed_streams(results: Path, tmp_path: Path, redirect: str) -> None:
    done = python(*BUILD, results, "--out", tmp_path, "--trace", "--format", "csv", redirect=redirect)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    assert b"skipped" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_terminal_that_takes_nothing(results: Path, tmp_path: Path) -> None:
    done = python(*BUILD, results, "--out", tmp_path, "--format", "csv", redirect=">/dev/full")
    assert done.returncode == 1
    [_, said] = done.stderr.decode().splitlines()
    assert said.startswith("error: No space left on device")
    done = python(*BUILD, results, "--out", tmp_path, "--format", "csv", redirect="> >(exit)")
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_a_table_in_ascii_is_aligned() -> None:
    columns = (text.Column("", "KID ×10³", "lower"), text.Column("", "Near ½"))
    rows = [
        text.Row(name, "model", (text.Cell(cell, 1.0, 1, True), text.Cell("—")))
        for name, cell in (("dcgän", "1 ± 2"), ("\U0001f600", "345"))
    ]
    shown = text.plain(text.Table("Ä", "", columns, tuple(rows)), encoding="ascii")
    assert shown.isascii()
    _, _, head, *lines = shown.splitlines()
    assert head.rstrip().endswith("KID x10^3 v  Near 1/2")
    assert len({len(line) for line in (head, *lines[:2])}) == 1
    assert text.plain(text.Table("Ä", "", columns, tuple(rows))) == text.plain(
        text.Table("Ä", "", columns, tuple(rows)), encoding="utf-8"
    )


# ---------------------------------------------------------------- folders

ODD_NAME = "\U0001f600 é " + os.fsdecode(b"not-utf8-\xff\xfe")


@pytest.mark.slow
def test_folders_of_any_name(tmp_path: Path) -> None:
    root = tmp_path / ODD_NAME / "results"
    fake_runs.study(root, {"vanilla": 40, "dcgan": 20}, seeds=range(2), n_evals=2)
    out = tmp_path / "out" / ODD_NAME
    places = (os.fsencode(root), "--out", os.fsencode(out))
    is_fine(python(*BUILD, *places, "--trace", "--with-machine", **ASCII))
    assert (out / "report.html").exists()
    assert "filmstrip-digits.png" in {path.name for path in out.iterdir()}


# ---------------------------------------------------------------- what is published


def marked(root: Path) -> None:
    """Runs whose records name a machine and paths wherever they can."""
    fields = {
        "environment.host": "marker-host.example.org",
        "protocol.dataset.name": "folder:/marker-path/faces",
        "environment.python": "/marker-path/bin/python",
    }
    options: dict[str, Any] = {"dataset": "folder:/marker-path/faces", "n_evals": 2}
    options["hyperparameters"] = {"weights": "/marker-path/w.pt", "several": ["/marker-path/v.pt"]}
    fake_runs.study(root, {"vanilla": 40, "dcgan": 20}, seeds=range(2), fields=fields, **options)
    reason = (
        f"OSError: '{root}/runs/x/samples.npz' and /marker-path/a:1 on marker-host, {os.uname().nodename}; "
        "file:///marker-path/b, folder:/marker-path/c; see https://example.org/page and/or 1/2"
    )
    fake_runs.run(root, seed=7, status="failed", fields=fields | {"reason": reason}, **options)
    code = {"model": {"/marker-path/m.py": "0" * 16}, "how": "bytecode"}
    fake_runs.run(root, seed=8, fields=fields | {"code": code}, **options)
    bad = fake_runs.run(root, seed=9, fields=fields | {"environment.host": "marker-host"}, **options)
    (bad / "run.json").write_text("{")
    study = root / "studies" / "one"
    study.mkdir(parents=True)
    request = {"model": "vanilla", "sampler": "random", "steps": 9, "seeds": [0], "objectives": ["fid"]}
    request["protocol"] = {"dataset": {"name": "folder:/marker-path/faces"}}
    (study / "summary.json").write_text(json.dumps({"request": request}))
    (study / "expected.csv").write_text("trials,expected,low,high\n1,9,8,10\n2,7,6,9\n")
    broken = root / "studies" / "two"
    broken.mkdir()
    (broken / "summary.json").write_text("{")


def holding(out: Path, *markers: str) -> set[str]:
    """The files that hold one of these; within PDFs and PNGs their metadata are plain."""
    every = [marker.encode() for marker in markers]
    return {path.name for path in out.iterdir() if any(marker in path.read_bytes() for marker in every)}


@pytest.mark.slow
def test_no_report_names_a_machine_or_where_on_it_runs_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "results"
    marked(root)
    monkeypatch.chdir(tmp_path)
    assert build.main([str(root), "--out", "out"]) == 0
    out = tmp_path / "out"
    assert holding(out, "marker-path", "marker-host", str(tmp_path)) == set()
    runs = (out / "runs.csv").read_text()
    assert f"on (a machine), {private.HIDDEN_HOST}" in runs
    assert "OSError: 'results/runs/x/samples.npz' and a:1 on" in runs
    assert "; b, folder:c; see https://example.org/page and/or 1/2" in runs
    assert "results/runs/vanilla-folder-faces-" in runs
    sha = digest("folder:/marker-path/faces") * 5
    assert f"generation on folder-faces-{sha[:8]}" in (out / "table.md").read_text()
    page = (out / "report.html").read_text()
    assert "--dataset folder:PATH" in page
    assert "vanilla.weights=w.pt" in page
    assert "results/studies/two/summary.json: not a search" in page


def test_a_results_folder_that_is_named_relatively_is_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked(tmp_path / "results")
    for here, root in (
        (tmp_path, "results"),
        (tmp_path / "results", "."),
        (tmp_path / "results" / "runs", ".."),
    ):
        monkeypatch.chdir(here)
        build.build([Path(root)], tmp_path / "out", ("csv",))
        assert holding(tmp_path / "out", "marker-path", "marker-host", str(tmp_path)) == set()
        assert "runs/vanilla-folder-faces-" in (tmp_path / "out" / "runs.csv").read_text()


@pytest.mark.slow
def test_with_machine_all_of_it_is_there(tmp_path: Path) -> None:
    root = tmp_path / "results"
    marked(root)
    words = (str(root), "--out", str(tmp_path / "out"), "--with-machine", "--format", "csv", "html")
    assert build.main(words) == 0
    for marker in ("marker-path", "marker-host.example.org", str(root)):
        assert {"runs.csv", "report.html"} <= holding(tmp_path / "out", marker)


def test_only_what_is_a_path_is_cut(tmp_path: Path) -> None:
    """Of two data sets with names that begin alike, and of keys that are the same once they are cut."""
    fake_runs.run(tmp_path, images=False, dataset="folder:/a")
    fake_runs.run(tmp_path, images=False, dataset="folder-abc-12345678")
    fake_runs.run(tmp_path, images=False, dataset="folder:", fields={"x /a/q": 1, "x /b/q": 2})
    build.build([tmp_path], tmp_path / "report", ("csv",))
    sha = digest("folder:/a")[:8]
    found = {row["dataset"]: row["folder"] for row in csv_dicts(tmp_path)}
    assert set(found) == {
        f"folder-a-{sha}",
        "folder-abc-12345678",
        f"folder--{digest('folder:')[:8]}",
    }
    name = tmp_path.name
    assert found[f"folder-a-{sha}"].startswith(f"{name}/runs/vanilla-folder-a-{sha}-")
    assert found["folder-abc-12345678"].startswith(f"{name}/runs/vanilla-folder-abc-12345678-")


def test_two_roots_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for seed, name in enumerate(("a/results", "b/results")):
        fake_runs.run(tmp_path / name, images=False, seed=seed)
    roots = [tmp_path / "a" / "results", tmp_path / "b" / "results"]
    build.build(roots, tmp_path / "out", ("csv",))
    text = (tmp_path / "out" / "runs.csv").read_text()
    assert ",results/runs/" in text
    assert ",results-2/runs/" in text


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "x;=1", "＝1", "-x"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path, formula: str) -> None:
    settings = {"text": formula, formula: 1, "negative": -1.5, "words": "-1.5e3"}
    fake_runs.run(tmp_path, model=formula, images=False, hyperparameters=settings, fid=20.0)
    fake_runs.run(tmp_path, model="b", images=False, status="failed", fields={"reason": formula})
    build.build([tmp_path], tmp_path / "report", ("csv",))
    for path in (tmp_path / "report").glob("*.csv"):
        for row in csv_rows(path):
            for cell in row:
                is_number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)
                assert is_number or not re.search(r"(^|;)\s*[=+\-@＝]", cell), (path, cell)
    [negative] = {row["hyperparameters.negative"] for row in csv_dicts(tmp_path) if row["model"] != "b"}
    assert negative == "-1.5"


def csv_rows(path: Path) -> Sequence[list[str]]:
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def csv_dicts(root: Path) -> list[dict[str, str]]:
    head, *rows = csv_rows(root / "report" / "runs.csv")
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_what_is_harmless_stays_as_it_is() -> None:
    for value in ("vanilla", "1.5", "-1.5", "+2e-5", "a-b", "[1, 2]", "lr=0.1", 3, -2.5, None, True):
        assert sheets.harmless(value) == value


# ---------------------------------------------------------------- bench.run


@pytest.mark.slow
def test_a_run_in_an_odd_folder_on_an_ascii_and_on_a_closed_terminal(tmp_path: Path) -> None:
    """Trained once, then reused: the table is printed, or not, and the report is written."""
    words = (
        *("--models", "vanilla", "--set", "vanilla.g_widths=16", "vanilla.d_widths=16"),
        *("--dataset", "digits", "--offline", "--device", "cpu", "--steps", "2", "--eval-every", "2"),
        *("--seeds", "2", "--draws", "1", "--workers", "1", "--out"),
    )
    command = ("-m", "bench.run", *words, os.fsencode(ODD_NAME))
    report = tmp_path / ODD_NAME / "report"
    shutil.copytree(commands.known(), tmp_path / ODD_NAME / "cache")
    done = python(*command, folder=tmp_path, **ASCII)
    is_fine(done)
    assert done.stdout.isascii()
    assert b" +- " in done.stdout
    (report / "table.md").unlink()
    done = python(*command, folder=tmp_path, redirect="<&- >&- 2>&-")
    is_fine(done)
    assert done.stdout == b""
    assert "over 2 training seeds" in (report / "table.md").read_text()

    [path, _] = sorted((tmp_path / ODD_NAME / "runs").glob("*/seed-*/run.json"))
    record = json.loads(path.read_text())
    record["environment"]["torch"] = "0.1"
    path.write_text(json.dumps(records.sealed(record)))
    kept = path.read_bytes()
    strict = commands.run(tmp_path, *words, ODD_NAME, "--strict-environment")
    assert strict.wait() == 1
    [line] = strict.err.splitlines()
    assert line.startswith(
        "error: --strict-environment: several environments: generation on digits: torch 0.1"
    )
    assert line.endswith("(seed 1); the runs are kept")
    assert "Scores:" not in strict.out
    assert path.read_bytes() == kept
    again = commands.run(tmp_path, *words, ODD_NAME)
    assert (again.wait(), again.err) == (0, "")
    assert "in one environment: they differ in torch" in (report / "table.md").read_text()
