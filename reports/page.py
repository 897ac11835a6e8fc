"""``report.html``: one file that opens from disk, loads nothing, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import printable
from bench.scoring.scores import FID_INFINITY
from bench.store.rows import flat
from bench.version import VERSION
from reports import histories, versions
from reports.figures import canvas
from reports.figures.curves import Histories
from reports.figures.samples import Pictures
from reports.groups import Group
from reports.private import SHOW_ALL, Hider
from reports.sections import Section
from reports.tables import tables, text
from reports.tables.text import Table
from reports.words import shown

ACROSS = -1
"""The number of figures over several data sets."""
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure that was written: its group's number (or 0, of searches, or ACROSS), caption, PNG or GIF."""

    group: int
    caption: str
    path: Path
    dark: bytes = b""
    """The same as a PNG for a dark page."""


@dataclass(frozen=True)
class Beside:
    """What the page shows of a group's best configurations beside their numbers."""

    names: Mapping[str, str]
    """Names that its figures shorten -> what they stand for."""
    neighbours: Mapping[str, tuple[int, Pictures]]
    """See :func:`reports.figures.samples.neighbours`."""
    histories: Histories


NOTHING = Beside({}, {}, {})

MOST = 50
"""Configurations of a group whose runs the page lists, the best ones."""


def render(
    runs: pd.DataFrame,
    sections: Sequence[Section],
    pictures: Sequence[Picture],
    skipped: Sequence[str],
    beside: Mapping[int, Beside] | None = None,
    hide: Hider = SHOW_ALL,
    across: Sequence[text.Table] = (),
) -> str:
    """The page. ``across``: tables over several data sets.

    ``beside``: group number -> what is shown of it beside tables and figures.

    Texts from records are escaped. Besides, a policy in the page's head forbids all that is not its own.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        version=VERSION,
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        spans=text.spans,
        legend=text.legend,
        mark=text.NOT_SEPARATED,
        n_runs=len(runs),
        n_bad=int((runs["status"] != "finished").sum()),
        parts=_parts,
        size=(histories.WIDTH, histories.HEIGHT),
        sections=[
            _section(section, pictures, (beside or {}).get(section.group.number, NOTHING), hide)
            for section in sections
        ],
        across=across,
        across_pictures=_shown(pictures, ACROSS),
        searches=_shown(pictures, 0),
        skipped=skipped,
    )


WIDE = 165
"""Characters of a line of a table that fits into the page where that is at its widest."""


def _parts(table: Table) -> list[Table]:
    """A table as it fits into the page: where it is too wide, several with some of its columns each."""
    return text.fitted(table, WIDE)


def _section(section: Section, pictures: Sequence[Picture], beside: Beside, hide: Hider) -> dict[str, Any]:
    """What the template shows of a group."""
    group = section.group
    code = {
        run_id: version.name
        for _, mine in group.runs.groupby("model")
        for version in versions.versions(mine)
        for run_id in version.ids
    }
    return {
        "group": group,
        "scores": section.scores,
        "memorisation": section.memorisation,
        "training": section.training,
        "sources": section.sources,
        "against": section.against,
        "pairs": section.pairs,
        "reach": section.reach,
        "pictures": _shown(pictures, group.number),
        "names": beside.names,
        "neighbours": [
            {"caption": f"{label}, seed {beside.neighbours[run_id][0]}", "source": _encoded(image)}
            for run_id, label in zip(group.summary["id"], group.summary["label"], strict=True)
            if run_id in beside.neighbours
            for _, image in beside.neighbours[run_id][1]
        ],
        "protocol": {name: shown(value) for name, value in group.protocol.items()},
        "configurations": [
            {
                "label": row["label"],
                "hyperparameters": _distinct(group, row["id"], "hyperparameters"),
                "parameters": _distinct(group, row["id"], "parameters"),
                "environment": _environment(group, row["id"]),
                "code": _files(group, row["id"]),
                "version": code[row["id"]],
                "command": command(group, row["id"], hide),
                "seeds": tables.seeds(group, row["id"]),
                "histories": _histories(group, row["id"], beside.histories),
            }
            for row in group.summary[["id", "label"]].head(MOST).to_dict("records")
        ],
        "left_out": max(0, len(group.summary) - MOST),
    }


def _shown(pictures: Sequence[Picture], number: int) -> list[dict[str, Any]]:
    """The pictures of a group as the template takes them."""
    return [
        {
            "caption": picture.caption,
            "source": _inline(picture.path.read_bytes(), picture.path.suffix[1:]),
            "dark": _inline(picture.dark) if picture.dark else "",
            "narrow": _inches(picture.path) < (canvas.COLUMN + canvas.PAGE) / 2,
        }
        for picture in pictures
        if picture.group == number
    ]


def command(group: Group, run_id: str, hide: Hider = SHOW_ALL) -> str:
    """The command that repeats a configuration's runs, with every hyperparameter named.

    Runs that were scored on validation are trials of a search: no command of their own repeats them.
    """
    if group.protocol.get("scored_on") == "val":
        return "# a trial of a search by python -m bench.tune: see summary.json in the study's folder"
    mine = group.of(run_id)
    first = mine.iloc[0]
    model, dataset = str(first["model"]), str(first["dataset"])
    for kind, place in (("folder", "PATH"), ("array", "FILE")):
        if dataset.startswith(f"{kind}-"):  # where it lies is for the reader to say
            dataset = f"{kind}:{place}"
    if run_id in group.elsewhere:
        return hide.paths(printable(shlex.join(_scored(group, mine, model, dataset))))
    words = ["python", "-m", "bench.run", "--models", model, "--dataset", dataset]
    words += ["--seed-list", *(str(seed) for seed in mine["seed"])]
    words += ["--steps", str(first["steps"])]
    if (every := _first_step(mine)) is not None:
        words += ["--eval-every", str(every)]
    if (precision := group.protocol.get("precision", "float32")) != "float32":
        words += ["--precision", str(precision)]
    if (threads := group.protocol.get("threads", 1)) != 1:
        words += ["--threads", str(threads)]
    if not group.of_points:
        words += ["--features", *(group.extractors or ["classifier"])]
    if group.protocol.get("select") == "best":
        words += ["--select", "best"]
    if (tolerance := group.protocol.get("d_acc_tolerance")) is not None:
        words += ["--d-acc-tolerance", str(tolerance)]
    if settings := first["record"].get("hyperparameters"):
        words += ["--set", *(f"{model}.{name}={_flag(value)}" for name, value in settings.items())]
    return hide.paths(printable(shlex.join(words)))


def _scored(group: Group, mine: pd.DataFrame, model: str, dataset: str) -> list[str]:
    """The command that scores samples from elsewhere once more."""
    samples = [record["samples"] for record in mine["record"]]
    words = ["python", "-m", "bench.score", *(shown(each.get("file")) for each in samples)]
    words += ["--name", model, "--dataset", dataset, "--seeds", *(str(seed) for seed in mine["seed"])]
    words += ["--features", *group.extractors, "--draws", shown(group.protocol.get("draws"))]
    how = flat({"reading": samples[0].get("reading") or {}})
    for name in ("key", "labels_key", "layout"):
        if (value := how.get(f"reading.{name}")) is not None:
            words += [f"--{name.replace('_', '-')}", shown(value)]
    if isinstance(limits := how.get("reading.value_range"), list):
        words += ["--range", *map(shown, limits)]
    words += ["--unlabelled"] if how.get("reading.unlabelled") else []
    with_infinity = any(group.has(FID_INFINITY.column(extractor)) for extractor in group.extractors)
    return words + (["--infinity"] if with_infinity else [])


def _first_step(runs: pd.DataFrame) -> int | None:
    """The step of the first evaluation, which is the interval between them; None where there was none."""
    for record in runs["record"]:
        match record.get("evals"):
            case [{"step": int(step)}, *_]:
                return step
    return None


def _distinct(group: Group, run_id: str, section: str) -> dict[str, str]:
    """Name -> the values that a configuration's runs have in this section of their records, each once."""
    values: dict[str, dict[str, None]] = {}
    for record in group.of(run_id)["record"]:
        for name, value in flat(record.get(section) or {}).items():
            values.setdefault(name, {})[shown(value)] = None
    return {name: " | ".join(texts) for name, texts in values.items()}


def _environment(group: Group, run_id: str) -> dict[str, str]:
    """The same of the environment, without what is unknown; of the times the first and the last."""
    found = _distinct(group, run_id, "environment")
    times = found.get("time", "").split(" | ")
    if len(times) > 1:
        found["time"] = f"{min(times)} to {max(times)}"
    return {name: text for name, text in found.items() if text != "null"}


def _files(group: Group, run_id: str) -> dict[str, str]:
    """File -> digest of the code that made a configuration's runs."""
    mine = group.of(run_id).reindex(columns=versions.PARTS)
    return {
        file: sha
        for name in versions.PARTS
        for files in mine[name].head(1)
        if isinstance(files, dict)
        for file, sha in files.items()
    }


def _flag(value: Any) -> str:
    """A hyperparameter as ``--set`` reads it."""
    if value is None:
        return "none"
    return ",".join(map(shown, value)) if isinstance(value, list) else shown(value)


def _hash(text: str) -> str:
    """A text as a Content-Security-Policy source."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _histories(group: Group, run_id: str, held: Histories) -> dict[int, list[histories.Chart]]:
    """Seed -> the charts of its history."""
    if run_id not in held:
        return {}
    end = float(group.of(run_id)["steps"].max())
    parts = held[run_id].groupby(held[run_id]["seed"].astype(int))
    return {int(str(seed)): histories.charts(part, end) for seed, part in parts}


def _encoded(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as the source of a picture."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(image).save(stream, "png")
    return _inline(stream.getvalue())


def _inline(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _inches(path: Path) -> float:
    """How wide a figure was drawn: from the PNG's header. A GIF is as wide as the page."""
    if path.suffix == ".gif":
        return canvas.PAGE
    return int.from_bytes(path.read_bytes()[16:20]) / canvas.DOTS_PER_INCH
