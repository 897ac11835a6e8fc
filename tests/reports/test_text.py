"""A table as markdown, LaTeX and plain text; no name breaks any of them."""

from __future__ import annotations

import re
from pathlib import Path

import fake_runs
import pytest
from drawn import group_of
from hypothesis import given
from hypothesis import strategies as st

from reports.tables import tables, terminal
from reports.tables import text as to_text
from reports.tables.text import Table

HOSTILE = [
    r"a_b%c&d#e$f{g}h~i^j",
    r"\input{/etc/passwd}",
    "*starred [option] ]",
    "<script>alert(1)</script>",
    "a|b\nc\td\x00",
    "中文 \U0001f600 é",
    "`code` 'quote' \"double\"",
]


def a_table(name: str, text: str = "1.0 ± 0.1") -> Table:
    """One row."""
    columns = (to_text.Column("group", "FID", "lower"), to_text.Column("group", "IS", "higher"))
    row = to_text.Row(name, "model", (to_text.Cell(text, 1.0, 1), to_text.Cell(text, 1.0, 2, True)))
    return Table(name, name, columns, (row,), (name,))


def test_markdown() -> None:
    shown = to_text.markdown(a_table("vanilla"))
    assert "| Model | FID ↓ | IS ↑ |" in shown
    assert "| vanilla | **1.0 ± 0.1** | <ins>1.0 ± 0.1</ins>† |" in shown


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_markdown_table(name: str) -> None:
    lines = [line for line in to_text.markdown(a_table(name)).splitlines() if line.startswith("| ")]
    assert len(lines) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines)
    assert "<script" not in to_text.markdown(a_table(name))


def braces_match(text: str) -> bool:
    """Whether unescaped braces are balanced."""
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_has_the_structure_of_a_booktabs_table(name: str) -> None:
    text = to_text.latex(a_table(name))
    for part in ("table*", "tabular"):
        assert text.count(rf"\begin{{{part}}}") == text.count(rf"\end{{{part}}}") == 1
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) in (1, 2) for row in rows)
    assert r"\multicolumn{2}{c}{group}" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"\textbf{1.0 $\pm$ 0.1}" in text
    assert r"\underline{1.0 $\pm$ 0.1}\rlap{$^\dagger$}" in text
    assert r"\input" not in text
    assert braces_match(text)
    assert text.isascii() or "é" in name


def test_what_is_too_wide_for_print_is_split(tmp_path: Path) -> None:
    both = ("classifier", "inception-v3-compat")
    fake_runs.study(tmp_path, {"cgan": 40}, images=False, extractors=both, conditional=True)
    table = tables.scores(group_of(tmp_path))
    parts = to_text.fitted(table)
    assert len(parts) > 1
    assert [c for part in parts for c in part.columns] == list(table.columns)
    for k, row in enumerate(table.rows):
        assert [c for part in parts for c in part.rows[k].cells] == list(row.cells)
    assert len({part.title for part in parts}) == len(parts)
    assert to_text.fitted(a_table("narrow")) == [a_table("narrow")]
    shown = to_text.plain(table, 80).splitlines()
    grid = shown[: shown.index("", 2 + 2)]
    assert max(map(len, grid)) <= 80
    assert sum(line.startswith("cgan") for line in shown) > 1


def test_long_names_break_in_print() -> None:
    name = "vanilla (" + "latent_dim=64, " * 5 + ")"
    assert rf"\parbox[t]{{15em}}{{\raggedright {to_text.escape_latex(name)}}} &" in to_text.latex(
        a_table(name)
    )


@given(st.text())
def test_escaped_latex_holds_no_active_character(text: str) -> None:
    escaped = to_text.escape_latex(text)
    rest = re.sub(r"\\text[a-z]+\{\}|\\texttt\{U\+[0-9A-F]+\}|\\[{}_%&#$]|\{[*\[\]]\}", "", escaped)
    for formula in ("$\\pm$", "$\\times$", "$\\cdot$", "$^3$", "$\\frac12$", "$\\downarrow$", "$\\uparrow$"):
        rest = rest.replace(formula, "")
    for formula in ("$^\\dagger$", "$^\\ddagger$", "$\\infty$"):
        rest = rest.replace(formula, "")
    assert not set(rest) & set("\\{}_%&#$^~\n*[]")


def test_plain_text_is_aligned(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "dcgan": 20}, images=False)
    title, _, *verdict, _, head, real, first, second, _, legend = to_text.plain(
        tables.scores(group_of(tmp_path))
    ).splitlines()[:10]
    assert title == "Scores: generation on digits"
    assert " ".join(verdict).startswith("On digits after 400 steps dcgan has the lowest FID (")
    rows = [real, first, second]
    assert head.split()[:2] == ["FID", "↓"]
    assert [row.split()[0] for row in rows[:3]] == ["training", "dcgan", "vanilla"]
    assert len({row.index("±") for row in rows[1:3]}) == 1
    assert rows[1].split()[3].endswith("*")
    assert legend == "*: best; +: second."


def test_a_terminal_shows_the_columns_that_it_has_room_for(tmp_path: Path) -> None:
    """The first score, failures and cost always; what is left out is named, and notes are wrapped."""
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fake_runs.study(tmp_path, {"vanilla": 20}, seeds=range(2), images=False, hyperparameters={"lr": 0.1})
    fake_runs.run(tmp_path, model="a_model_with_a_long_name" * 3, status="diverged", images=False)
    table = tables.scores(group_of(tmp_path))
    for width, encoding in ((80, "utf-8"), (80, "ascii"), (100, "utf-8"), (60, "utf-8")):
        shown = terminal.shown(table, width, encoding)
        assert max(map(len, shown.splitlines())) <= width
        assert " ".join(to_utf8(shown).split()).startswith(f"{table.title} {to_utf8(table.verdict)}"[:60])
        head = next(line for line in shown.splitlines() if " Failures" in line)
        assert {"FID", "Failures", "Time"} <= {*head.split()}
        assert head.index("FID") < head.index("Failures")
        missing = [column.label for column in table.columns if f" {column.label}" not in to_utf8(head)]
        assert "Recall" in missing
        assert f"More columns are in the report: {', '.join(missing)}." in " ".join(to_utf8(shown).split())
    assert "More columns" not in terminal.shown(table, 500)


def to_utf8(text: str) -> str:
    return text.replace("x10^3", "×10³").replace("1/2", "½")
