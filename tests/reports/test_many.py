"""A report on very many runs shows the best of them, and says what it leaves out."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import fake_runs
import pytest

from reports import build, compare, page, sections


def test_a_report_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "MOST_ROWS", 2)
    monkeypatch.setattr(page, "MOST", 1)
    fids = {"vanilla": 40.0, "dcgan": 30.0, "lsgan": 50.0}
    fake_runs.study(tmp_path, fids, images=False)
    done = build.build([tmp_path], tmp_path / "report", ("markdown", "csv", "html"), quick=True)
    table, html = ((tmp_path / "report" / name).read_text() for name in ("table.md", "report.html"))
    note = "The first 2 of 3 rows; table.csv (--format csv) has all of them."
    assert note in table
    assert note in html
    assert [row.name for row in done.tables[0].rows if row.kind == "model"] == ["dcgan", "vanilla"]
    assert "Of the first 1 configurations. 2 more are in" in html
    assert "lsgan" in (tmp_path / "report" / "table.csv").read_text()


def test_of_very_many_configurations_the_same_pairs_are_tested() -> None:
    ids = [str(k) for k in range(40)]
    for centres in ({"3"}, {"0", "39"}, {"7", None}):
        every = [pair for pair in combinations(ids, 2) if centres & {*pair}]
        assert compare._with(ids, centres) == every
    assert math.comb(len(ids), 2) > compare.MOST_PAIRS
