"""The end of a search: both configurations are retrained, and runs that fail count."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import closing, tune
from bench.scoring import sizes
from bench.search import findings
from reports import build


@pytest.mark.slow
def test_the_command_counts_the_retrained_runs_that_diverge(
    fast_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winner of a search of few steps diverges when it is trained for longer."""
    monkeypatch.setattr(findings, "write_all", lambda *arguments: [])
    monkeypatch.setattr(sizes, "KID_SUBSETS", 2)
    monkeypatch.setattr(build, "build", lambda *arguments, **options: None)
    space = fast_path / "space.toml"
    space.write_text('fault = {values = ["nan"]}\n')
    words = ["--model", "faults:faulty", "--dataset", "digits", "--offline", "--device", "cpu"]
    words += ["--set", "faults:faulty.at=8", "faults:faulty.batch_size=16", "--space", str(space)]
    words += ["--sampler", "grid", "--seeds", "1", "--steps", "4", "--retrain", "2", "--retrain-steps", "12"]
    words += ["--eval-every", "12"]  # it counts its calls, and is made anew after each evaluation
    assert tune.main([*words, "--workers", "0", "--out", str(fast_path / "results")]) == 1
    said = capsys.readouterr().out
    assert "  fid: no score (2 of 2 failed) against " in said
    assert "so that the best wins 0% of all pairs of runs" in said


def test_the_path_of_a_folder_of_images_is_written_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert closing._from_here(f"folder:{tmp_path}/data/faces") == "folder:data/faces"
    assert closing._from_here("digits") == "digits"
