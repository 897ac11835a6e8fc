"""The style of each configuration, the same in every figure of a report: name, colour, line and marker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.groups import Group
from reports.searches import Search

COLORS = (0, 1, 2, 3, 4, 5, 7, 9)
"""Of seaborn's ten colours for the colour-blind all but light pink and yellow: they fade on white."""
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

LONGEST = 28
"""Characters of a name in a figure."""


@dataclass(frozen=True)
class Style:
    """How a configuration is drawn: its name in figures, its whole name, colour, line and marker."""

    label: str
    whole: str
    color: Any
    line: Any
    marker: str

    @property
    def curve(self) -> dict[str, Any]:
        """For ``plot``: colour, line and name."""
        return {"color": self.color, "linestyle": self.line, "label": self.label}

    @property
    def dots(self) -> dict[str, Any]:
        """For ``scatter``: colour and marker, with a thin edge."""
        thin = {"alpha": 0.8, "edgecolor": "0.2", "linewidth": 0.3}
        return {"color": self.color, "marker": self.marker, **thin}


def styles(groups: Iterable[Group], searches: Iterable[Sequence[Search]] = ()) -> dict[str, Style]:
    """A style per configuration (id) and search (its name in :func:`named`), for all figures of a report.

    ``searches``: those of each figure. The same name in several groups has the same style. Among up to 18
    names any two differ in at least two of colour, line and marker. Numbers of short names follow the tables.
    """
    import seaborn

    palette = seaborn.color_palette("colorblind", 10)
    names: dict[str, str] = {}  # key -> whole name
    models: dict[str, str] = {}  # whole name -> model
    for group in groups:
        by_id = group.summary.sort_values("id")
        names |= zip(by_id["id"], _unique(by_id["label"]), strict=True)
        for run_id, model in zip(group.summary["id"], group.summary["model"], strict=True):
            models.setdefault(names[run_id], model)
    order = sorted(models)
    for several in searches:
        for name, search in named(several).items():
            names[name] = name
            models.setdefault(name, search.model)
    order += [name for name in models if name not in order]
    short = _short(models)
    place = {whole: k for k, whole in enumerate(order)}
    return {
        key: Style(
            short[whole],
            whole,
            palette[COLORS[place[whole] % len(COLORS)]],
            LINES[place[whole] % len(LINES)],
            MARKERS[place[whole] % len(MARKERS)],
        )
        for key, whole in names.items()
    }


def named(searches: Sequence[Search]) -> dict[str, Search]:
    """The searches of a figure by unique names."""
    return dict(zip(_unique(search.label for search in searches), searches, strict=True))


def _unique(names: Iterable[str]) -> list[str]:
    """The names made unique: the second of a name and all further ones get a number."""
    seen = Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _short(models: Mapping[str, str]) -> dict[str, str]:
    """Whole name -> a name that fits: if too long the model alone, and numbered where several are equal."""
    short = {}
    for whole, model in models.items():
        text = _drawable(whole)
        short[whole] = text if len(text) <= LONGEST else _cut(_drawable(model))
    alike = Counter(short.values())
    count = Counter[str]()
    for whole, text in short.items():
        if alike[text] > 1:
            count[text] += 1
            short[whole] = f"{text} #{count[text]}"
    return short


def _cut(text: str) -> str:
    """Text without its middle where it is too long."""
    half = (LONGEST - 4) // 2  # leaves room for a number
    return text if len(text) <= LONGEST - 3 else f"{text[:half]}…{text[-half:]}"


def _drawable(text: str) -> str:
    """Text with a box for each character that the figures' font lacks."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    text = "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "□" for c in text)
    return f" {text}" if text.startswith("_") else text  # legends skip a leading underscore
