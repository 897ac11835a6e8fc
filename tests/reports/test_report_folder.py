"""A report beside an older one: what is renewed, removed, and left alone."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest

from bench.store import files
from reports import build
from reports.build import main


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


@pytest.mark.slow
def test_a_quick_report_renews_all_that_a_full_one_left(tmp_path: Path) -> None:
    out = tmp_path / "report"
    fake_runs.run(tmp_path, n_evals=2)
    build.build([tmp_path], out)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "over 1 training seed" in first["table.tex"].decode()
    for seed in (1, 2):
        fake_runs.run(tmp_path, seed=seed, n_evals=2, fid=40.0)
    build.build([tmp_path], out, ("markdown", "csv"), quick=True)
    now = {path.name: path.read_bytes() for path in out.iterdir()}
    assert now.keys() == first.keys()
    same = {name for name in now if now[name] == first[name]}
    # One model has nothing to be compared with; samples are those of the first seed.
    assert same == {
        "comparisons.csv",
        "samples-digits.png",
        "samples-digits.pdf",
        "filmstrip-digits.png",
        "filmstrip-digits.pdf",
    }
    assert "over 3 training seeds" in now["table.tex"].decode()
    assert "over 3 training seeds" in now["report.html"].decode()


@pytest.mark.slow
def test_one_format_renews_the_others(tmp_path: Path) -> None:
    out = tmp_path / "report"
    fake_runs.run(tmp_path, images=False)
    assert main([str(tmp_path), "--format", "markdown"]) == 0
    fake_runs.run(tmp_path, images=False, seed=1)
    assert main([str(tmp_path), "--format", "csv"]) == 0
    assert "over 2 training seeds" in (out / "table.md").read_text()
    assert "table.tex" not in names(out)


@pytest.mark.slow
def test_figures_of_groups_that_are_gone_are_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    fake_runs.run(tmp_path, images=False)
    other = fake_runs.run(tmp_path, dataset="mnist", images=False)
    assert main([str(tmp_path), "--format", "markdown", "latex"]) == 0
    assert {"scores-mnist.png", "scores-mnist.pdf", "curves-mnist.png"} <= names(out)
    (out / "notes.png").write_text("my own")
    (out / "curves-mnist.png").write_text("my own now")
    other.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main([str(tmp_path), "--format", "markdown"]) == 0
    assert names(out) == {
        *(
            "table.md",
            "table.tex",
            "files.json",
            "scores-digits.png",
            "scores-digits.pdf",
            "curves-digits.png",
            "curves-digits.pdf",
        ),
        *("precision_recall-digits.png", "precision_recall-digits.pdf", "notes.png", "curves-mnist.png"),
    }
    assert f"removed {out}/scores-mnist.png: of an earlier report" in capsys.readouterr().err


@pytest.mark.slow
def test_what_no_report_wrote_stays(tmp_path: Path) -> None:
    out = tmp_path / "report"
    fake_runs.run(tmp_path, images=False)
    out.mkdir()
    own = {
        "table.tex": "my table",
        "report.html": "my page",
        "curves-digits.pdf": "mine",
        "scores-mnist.png": "mine",
    }
    for name, text in own.items():
        (out / name).write_text(text)
    build.build([tmp_path], out, ("markdown", "csv"), quick=True)
    assert {name: (out / name).read_text() for name in own} == own


@pytest.mark.slow
def test_the_tables_of_a_report_without_a_list_are_known_by_their_heads(tmp_path: Path) -> None:
    out = tmp_path / "report"
    fake_runs.run(tmp_path, images=False)
    build.build([tmp_path], out, ("latex", "html"), quick=True)
    (out / "files.json").unlink()
    fake_runs.run(tmp_path, images=False, seed=1)
    build.build([tmp_path], out, ("markdown", "csv"), quick=True)
    for name in ("table.tex", "report.html"):
        assert "over 2 training seeds" in (out / name).read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"files": 3}',
        '{"files": {"../../victim": "SHA", "/victim": "SHA", "": "SHA", "..": "SHA", "runs": "SHA", "x": 3}}',
        '{"files": {"a\\u0000b": "SHA"}}',
        '{"files": {"\\ud800": "SHA"}}',
    ],
)
def test_a_list_that_somebody_made_up_removes_nothing_outside(tmp_path: Path, text: str) -> None:
    out = tmp_path / "results" / "report"
    fake_runs.run(tmp_path / "results", images=False)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out.mkdir()
    (out / "link").symlink_to(victim)
    (out / "files.json").write_text(text.replace("SHA", files.file_digest(victim)))
    build.build([tmp_path / "results"], out, ("csv",))
    assert victim.read_text() == "precious"
    assert (out / "link").is_symlink()
    assert (tmp_path / "results" / "runs").is_dir()
