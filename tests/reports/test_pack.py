"""A study as one file: what is in it, and what is not."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import fake_runs
import pytest

import reports
from bench.errors import UsageError
from bench.store import archive
from bench.store.records import read_record
from reports import pack

HOST = {"environment.host": "secret-host", "reason": "no file /home/me/faces/1.png on secret-host"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, a run that failed, a search, a classifier, logs, weights, and a damaged record."""
    root = tmp_path_factory.mktemp("work") / "results"
    for folder in fake_runs.study(root, {"vanilla": 40, "dcgan": 20}, seeds=range(2), fields=HOST):
        (folder / "checkpoint.pt").write_bytes(b"weights")
        (folder / "error.log").write_text("/home/me/faces")
    fake_runs.run(root, seed=2, status="failed", fields=HOST)
    (fake_runs.run(root, model="broken") / "run.json").write_text("{")
    study = root / "studies" / "one"
    study.mkdir(parents=True)
    (study / "best.toml").write_text('models = ["vanilla"]\n')
    (study / "journal.log").write_text("secret-host")
    (root / "cache" / "classifiers").mkdir(parents=True)
    (root / "cache" / "classifiers" / "of.safetensors").write_bytes(b"c")
    (root / "commands.jsonl").write_text('{"command": ["--data-root", "/home/me/data"]}\n')
    return root


@pytest.mark.slow
def test_a_study_is_packed_without_names_of_machines(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.zip"
    assert pack.main([str(results), "--out", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{path}: 5 runs, ")
    assert "run.json: not a record" in printed.err or "not JSON" in printed.err
    archive.unpack(path, tmp_path / "here")
    held = {str(p.relative_to(tmp_path / "here")): p for p in (tmp_path / "here").rglob("*") if p.is_file()}
    assert {
        *("README.md", "environment.json", "commands.jsonl", archive.SUMS, "studies/one/best.toml"),
        *("report/report.html", "report/table.tex", "report/table.md", "report/scores-digits.pdf"),
        "cache/classifiers/of.safetensors",
    } <= held.keys()
    assert not [name for name in held if name.endswith(("checkpoint.pt", "error.log", "journal.log"))]
    for name, file in held.items():
        if file.suffix not in (".png", ".pdf"):
            text = file.read_text()
            assert "secret-host" not in text, name
            assert "/home/me" not in text, name
    found = reports.load(tmp_path / "here")
    assert len(found) == 5
    assert found.attrs["skipped"] == []
    for folder in map(Path, found["folder"]):
        record = read_record(folder)
        assert record is not None
        assert record["metrics"] == read_record(results / folder.relative_to(tmp_path / "here"))["metrics"]  # type: ignore[index]
    (environment,) = json.loads(held["environment.json"].read_text())
    assert (environment["runs"], environment["environment"]["torch"]) == (5, "2.11.0")
    assert "python -m bench.run --models dcgan" in held["README.md"].read_text()
    if Path("/usr/bin/sha256sum").exists():
        check = ["sha256sum", "--check", "--quiet", archive.SUMS]
        assert subprocess.run(check, cwd=tmp_path / "here", check=False).returncode == 0


@pytest.mark.slow
def test_weights_and_machines_on_request(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.zip"
    assert pack.main([str(results), "--out", str(path), "--weights", "--with-machine"]) == 0
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        assert sum(name.endswith("checkpoint.pt") for name in names) == 4
        assert sum(name.endswith("error.log") for name in names) == 4
        record = next(name for name in names if name.startswith("runs/vanilla") and name.endswith("run.json"))
        assert b"secret-host" in file.read(record)


def test_a_wrong_request_is_one_line(tmp_path: Path, results: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        pack.main([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match=r"--out: .* is a folder; name a file"):
        pack.main([str(results), "--out", str(tmp_path)])
