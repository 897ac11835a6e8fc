"""Runs that were computed in several environments share a row, and every form of the table says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_runs
import pandas as pd
import pytest

import reports
from reports import build, environments, groups
from reports.tables import tables
from reports.tables import text as to_text


def study(root: Path, *environments: dict[str, Any], model: str = "vanilla") -> Path:
    """A seed of a model in each of these environments."""
    for seed, fields in enumerate(environments):
        fake_runs.run(root, model=model, seed=seed, images=False, fields=fields)
    return root


def said(root: Path) -> list[str]:
    """The sentences on environments below the only table of scores."""
    [group] = groups.groups(reports.load(root))
    sentences = [each.sentence for each in environments.differences(group)]
    table = tables.scores(group)
    assert [note for note in table.notes if "environments" in note] == sentences
    assert ("in one environment" in table.caption) == bool(sentences)
    return sentences


OLD, NEW = {"environment.torch": "2.13.0"}, {"environment.torch": "2.14.1"}


def test_seeds_of_two_versions_of_torch_are_listed(tmp_path: Path) -> None:
    study(tmp_path, OLD, OLD, NEW)
    assert said(tmp_path) == [
        "Seeds of vanilla were computed in 2 environments: torch 2.13.0 (seeds 0, 1), torch 2.14.1 (seed 2)."
    ]


def test_rows_that_differ_from_one_another_are_listed(tmp_path: Path) -> None:
    study(tmp_path, {}, {})
    study(tmp_path, {}, {"environment.device": "cuda:1 (NVIDIA H100)"}, model="dcgan")
    study(tmp_path, {"environment.device": "cuda:0 (NVIDIA H100)"}, model="gan")
    [sentence] = said(tmp_path)
    assert sentence == (
        "Runs of this table were computed in 2 environments: CPU (dcgan seed 0; vanilla), "
        "NVIDIA H100 (dcgan seed 1; gan)."
    )


@pytest.mark.parametrize(
    ("field", "one", "other", "words"),
    [
        ("environment.torch", "2.13.0", "2.14.1", "torch 2.13.0 (seed 0), torch 2.14.1 (seed 1)"),
        ("environment.torch_fidelity", "0.4.0", "0.5.0", "torch-fidelity 0.4.0 (seed 0)"),
        ("environment.numpy", "2.3.1", "2.4.0", "numpy 2.3.1 (seed 0), numpy 2.4.0 (seed 1)"),
        ("environment.device", "cpu", "cuda:0 (A GPU)", "A GPU (seed 1), CPU (seed 0)"),
        ("environment.cpu_capability", "AVX2", "AVX512", "instruction set AVX2 (seed 0)"),
        ("environment.matmul", "highest", "medium", "matmul precision medium (seed 1)"),
        ("environment.threads", 1, 2, "1 thread (seed 0), 2 threads (seed 1)"),
        ("cost.stack", 1, 5, "stacks of 1 seed (seed 0), stacks of 5 seeds (seed 1)"),
        ("environment.commit", "a" * 40, "b" * 40, "commit aaaaaaaaaaaaaaaaaaa (seed 0)"),
    ],
)
def test_each_field_has_its_sentence(tmp_path: Path, field: str, one: Any, other: Any, words: str) -> None:
    study(tmp_path, {field: one}, {field: other})
    [sentence] = said(tmp_path)
    assert words in sentence


def test_what_a_record_does_not_say_is_no_difference(tmp_path: Path) -> None:
    study(tmp_path, {}, {"environment.cpu_capability": "AVX2"}, {"environment": {}, "cost": {}})
    assert said(tmp_path) == []


def test_a_variable_that_is_not_set_differs_from_one_that_is(tmp_path: Path) -> None:
    known = {"environment.cpu_capability": "AVX2", "environment.onednn_max_cpu_isa": None}
    study(tmp_path, {}, known, known | {"environment.onednn_max_cpu_isa": "SSE41"})
    [sentence] = said(tmp_path)
    assert sentence.endswith(
        "2 environments: ONEDNN_MAX_CPU_ISA SSE41 (seed 2), ONEDNN_MAX_CPU_ISA not set (seed 1)."
    )


def test_the_index_of_a_gpu_and_a_commit_beside_recorded_code_are_no_difference(tmp_path: Path) -> None:
    code = {"model": {"m.py": "0" * 16}, "training": {}, "scoring": {}, "how": "source"}
    a = {"environment.device": "cuda:0 (A GPU)", "environment.commit": "a", "code": code}
    b = {"environment.device": "cuda:1 (A GPU)", "environment.commit": "b", "code": code}
    study(tmp_path, a, b)
    assert said(tmp_path) == []


def test_many_rows_are_not_all_named(tmp_path: Path) -> None:
    for k in range(9):
        study(tmp_path, OLD if k < 8 else NEW, model=f"m{k}")
    [sentence] = said(tmp_path)
    assert "torch 2.13.0 (m0; m1; m2; m3; m4; m5; 2 more rows), torch 2.14.1 (m8)." in sentence


@pytest.mark.slow
def test_every_format_says_so(tmp_path: Path) -> None:
    study(tmp_path, OLD, OLD, NEW)
    report = build.build([tmp_path], tmp_path / "report", quick=True)
    for name in ("table.md", "table.tex", "report.html"):
        text = (tmp_path / "report" / name).read_text()
        assert "in one environment: they differ in torch" in text, name
        assert "torch 2.13.0 (seeds 0, 1), torch 2.14.1 (seed 2)" in text, name
    assert "torch 2.13.0 (seeds 0, 1)" in to_text.plain(report.tables[0], 80)
    [cell] = pd.read_csv(tmp_path / "report" / "table.csv")["environments"]
    assert cell == "torch 2.13.0 (seeds 0, 1), torch 2.14.1 (seed 2)"


@pytest.mark.slow
def test_strict_refuses_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    study(tmp_path / "results", OLD, OLD, NEW)
    command = [sys.executable, "-m", "reports.build", str(tmp_path / "results"), "--format", "markdown"]
    done = subprocess.run([*command, "--strict-environment"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "error: --strict-environment: several environments: generation on digits: "
        "torch 2.13.0 (seeds 0, 1), torch 2.14.1 (seed 2)\n"
    )
    assert not (tmp_path / "results" / "report").exists()


def test_strict_builds_what_is_alike(tmp_path: Path) -> None:
    study(tmp_path, OLD, OLD)
    assert build.main([str(tmp_path), "--format", "csv", "--strict-environment"]) == 0
