"""A table as plain values, and as markdown, LaTeX or plain text. ``page`` shows the same values in HTML."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from bench.scoring.scores import Better
from bench.store.jobs import slug
from reports.elsewhere import MARK

NOT_SEPARATED = "†"
ARROWS = {"lower": "↓", "higher": "↑", None: ""}
NOTHING = "—"


@dataclass(frozen=True)
class Cell:
    """One entry: its text, how it ranks, and the number behind it (NaN: none)."""

    text: str
    value: float = math.nan
    rank: int = 0
    """1 best of its column, 2 second, 0 neither."""
    tied: bool = False
    """Not separable from the best at the corrected level."""


@dataclass(frozen=True)
class Column:
    """A column's head: the group of columns that it belongs to ("" for none), and its label."""

    group: str
    label: str
    better: Better | None = None

    @property
    def head(self) -> str:
        """Label and direction."""
        return f"{self.label} {ARROWS[self.better]}".strip()


@dataclass(frozen=True)
class Row:
    """A named row. ``kind`` is ``model``, or ``reference`` for what models are read against."""

    name: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Reference rows first, then models; ``notes`` explain marks and gaps."""

    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    head: str = "Model"
    """The head of the column of row names."""
    verdict: str = ""
    """What the numbers can tell, to be read before them."""


# ---------------------------------------------------------------- as text


def spans(table: Table) -> list[tuple[str, int]]:
    """The upper row of heads: each group of columns, and how many columns it has."""
    return [(name, len(list(members))) for name, members in groupby(column.group for column in table.columns)]


def markdown(table: Table) -> str:
    """GitHub-flavoured markdown: bold best, underlined second."""
    several = len({column.group for column in table.columns if column.group}) > 1

    def head(column: Column) -> str:
        return f"{column.head} ({column.group})" if several and column.group else column.head

    def entry(cell: Cell) -> str:
        text = escape_markdown(cell.text)
        text = f"**{text}**" if cell.rank == 1 else f"<ins>{text}</ins>" if cell.rank == 2 else text
        return text + (NOT_SEPARATED if cell.tied else "")

    lines = [[table.head, *(escape_markdown(head(column)) for column in table.columns)]]
    lines.append(["---", *("---:" for _ in table.columns)])
    for row in table.rows:
        name = escape_markdown(row.name)
        lines.append([f"*{name}*" if row.kind == "reference" else name, *map(entry, row.cells)])
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    explained = (*legend(table), *table.notes)
    notes = "".join(f"\n- {escape_markdown(note)}" for note in explained)
    verdict = f"**{escape_markdown(table.verdict)}**\n\n" if table.verdict else ""
    return f"## {escape_markdown(table.title)}\n\n{verdict}{escape_markdown(table.caption)}\n\n{grid}\n" + (
        f"{notes}\n" if notes else ""
    )


def plain(table: Table, width: int | None = None, encoding: str = "utf-8") -> str:
    """Aligned text for a terminal of this width, in characters of its encoding: ``*`` best, ``+`` second."""
    table = _encodable(table, encoding)
    parts = fitted(table, width) if width else [table]
    notes = map(_one_line, (*legend(table, "*", "+"), *table.notes))
    lines = [_one_line(table.title), ""]
    if table.verdict:
        lines += [*textwrap.wrap(_one_line(table.verdict), min(width or PAGE, PAGE)), ""]
    for part in parts:
        lines += [*_aligned(part), ""]
    whole = "\n".join(line.rstrip() for line in [*lines, *notes]).rstrip() + "\n"
    return _in_encoding(whole, encoding)


ASCII = str.maketrans(
    {
        "±": "+-",
        "×": "x",
        "³": "^3",
        "½": "1/2",
        "↓": "v",
        "↑": "^",
        NOT_SEPARATED: "#",
        MARK: "##",
        "∞": "inf",
        NOTHING: "-",
        "…": "...",
        "≤": "<=",
    }
)
"""How a terminal without these characters shows them."""


def _in_encoding(text: str, encoding: str) -> str:
    """The text in characters that this encoding has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _encodable(table: Table, encoding: str) -> Table:
    """The table in characters that this encoding has. Some become longer, so it is aligned afterwards."""
    return replace(
        table,
        columns=tuple(
            replace(column, label=_in_encoding(column.head, encoding), better=None)
            for column in table.columns
        ),
        rows=tuple(
            replace(
                row,
                name=_in_encoding(row.name, encoding),
                cells=tuple(replace(cell, text=_in_encoding(cell.text, encoding)) for cell in row.cells),
            )
            for row in table.rows
        ),
    )


def _aligned(table: Table) -> list[str]:
    def column(c: int) -> list[str]:
        cells = [row.cells[c] for row in table.rows]
        room = 2 if any(cell.rank or cell.tied for cell in cells) else 0
        marks = ["*+"[cell.rank - 1 : cell.rank] + NOT_SEPARATED * cell.tied for cell in cells]
        shown = [cell.text + mark.ljust(room) for cell, mark in zip(cells, marks, strict=True)]
        width = max(map(len, [table.columns[c].head, *shown]))
        return [text.rjust(width) for text in (table.columns[c].head, *shown)]

    names = ["", *(_one_line(row.name) for row in table.rows)]
    names = [name.ljust(max(map(len, names))) for name in names]
    grid = zip(names, *(column(c) for c in range(len(table.columns))), strict=True)
    return ["  ".join(line) for line in grid]


def legend(table: Table, best: str = "Bold", second: str = "underlined") -> list[str]:
    """What the marks of the best and the second mean, where there are any."""
    ranked = any(cell.rank for row in table.rows for cell in row.cells)
    return [f"{best}: best; {second}: second."] if ranked else []


PAGE = 120
"""Characters in the longest line of print that can still be read."""

LONG_NAME = 40
"""Characters beyond which print breaks a row's name."""


def fitted(table: Table, width: int = PAGE) -> list[Table]:
    """The table, or where it is wider than ``width`` characters several with some of its columns each."""
    names = [len(row.name) for row in table.rows]
    room = width - min(LONG_NAME, max(names, default=0))
    parts: list[list[int]] = [[]]
    used = 0
    for k, column in enumerate(table.columns):
        needed = 4 + max(len(column.head), *(len(row.cells[k].text) for row in table.rows), 0)
        if parts[-1] and used + needed > room:
            parts.append([])
            used = 0
        parts[-1].append(k)
        used += needed
    if len(parts) == 1:
        return [table]
    return [
        replace(
            table,
            title=f"{table.title}, part {n}",
            caption=f"{table.caption} Part {n} of {len(parts)}.",
            verdict=table.verdict if n == 1 else "",
            columns=tuple(table.columns[k] for k in kept),
            rows=tuple(replace(row, cells=tuple(row.cells[k] for k in kept)) for row in table.rows),
        )
        for n, kept in enumerate(parts, 1)
    ]


def latex(table: Table) -> str:
    r"""A booktabs table for the width of a page; needs booktabs, graphicx, textcomp and T1 fontenc."""
    groups = spans(table)
    lines = [
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape_latex(f'{table.verdict} {table.caption}'.strip())}}}\smallskip",
        rf"\label{{tab:{slug(table.title).lower()}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
    ]
    if any(name for name, _ in groups):
        heads, rules, at = [""], [], 2
        for name, width in groups:
            heads.append(
                rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(name)}}}" if name else "&" * (width - 1)
            )
            rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if name else []
            at += width
        lines += [" & ".join(heads) + r" \\", "".join(rules)]
    lines.append(" & ".join([table.head, *(escape_latex(column.head) for column in table.columns)]) + r" \\")
    kind = ""
    for row in table.rows:
        lines += [r"\midrule"] if row.kind != kind else []
        kind = row.kind
        lines.append(" & ".join([_latex_name(row.name), *map(_latex_cell, row.cells)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    notes = (*legend(table), *table.notes)
    lines += [rf"\par\smallskip\raggedright {escape_latex(note)}" for note in notes]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _latex_name(name: str) -> str:
    text = escape_latex(name)
    return text if len(name) <= LONG_NAME else rf"\parbox[t]{{15em}}{{\raggedright {text}}}"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.rank == 1 else rf"\underline{{{text}}}" if cell.rank == 2 else text
    return text + (r"\rlap{$^\dagger$}" if cell.tied else "")


LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "³": "$^3$",
    "½": r"$\frac12$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "†": r"$^\dagger$",
    MARK: r"$^\ddagger$",
    "∞": r"$\infty$",
    "—": "---",
    "*": "{*}",  # after a line's end these three would be arguments of it
    "[": "{[}",
    "]": "{]}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is. A character that plain pdflatex lacks appears as its code point."""

    def one(character: str) -> str:
        if character in LATEX:
            return LATEX[character]
        if " " <= character <= "~" or "À" <= character <= "ÿ":
            return character
        return " " if character.isspace() else rf"\texttt{{U+{ord(character):04X}}}"

    return "".join(map(one, text))


def escape_markdown(text: str) -> str:
    """Text that neither ends a table cell nor turns into markup."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", _one_line(text)).replace("<", "&lt;")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def join(tables: Iterable[Table], render: Callable[[Table], str]) -> str:
    """Several tables in one text."""
    return "\n".join(render(table) for table in tables)
