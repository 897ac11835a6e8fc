"""What stands in the tables: scores, discriminator and cost, sources of spread, comparisons, single runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import environments, published, stats, versions
from reports.compare import LEVEL
from reports.summary import Group, Score, protocol_sentence, ranges
from reports.text import NOT_SEPARATED, NOTHING, Cell, Column, Row, Table
from reports.text import plain as plain  # a terminal wants no more than this module


def scores(group: Group) -> Table:
    """The main table: every score as mean ± std over seeds, beside what real data gets."""
    columns: list[Column] = []
    cells: list[list[Cell]] = []  # per column, one per model
    floors: list[Cell] = []
    bicubic: list[Cell] = []
    smallest: list[tuple[float, int]] = []
    for extractor in group.extractors:
        for score in group.scores(extractor):
            name = f"metrics.{extractor}.{score.key}"
            column, limit = _ranked(group, name, score)
            columns.append(Column(extractor, score.label, score.better))
            cells.append(column)
            smallest += [limit] if limit else []
            decimals = _decimals(group, name, score)
            floors.append(_constant(group, f"floor.{extractor}.{score.key}.mean", score, decimals))
            bicubic.append(_constant(group, f"{name}_bicubic.mean", score, decimals))
            best = f"best.metrics.{extractor}.{score.key}"
            if score.key == "fid" and f"{best}.mean" in group.summary:
                columns.append(Column(extractor, f"{score.label} at best step", score.better))
                cells.append(_ranked(group, best, score)[0])
                floors.append(floors[-1])
                bicubic.append(Cell(NOTHING))
    extra = _outcome(group)
    columns += [column for column, _ in extra]
    cells += [column for _, column in extra]
    empty = [Cell("")] * len(extra)
    rows = [
        Row(name, "reference", (*reference, *empty))
        for name, reference in (("real data", floors), ("bicubic", bicubic))
        if any(not math.isnan(cell.value) for cell in reference)
    ]
    papers, remarks = _published(group, columns)
    rows += papers + _rows(group, cells)
    mixed = environments.differences(group)
    notes = (
        *_notes(group, rows, smallest),
        *(difference.sentence for difference in mixed),
        *versions.notes(group.runs),
        *group.remarks,
        *_cautions(group),
        *remarks,
    )
    caption = protocol_sentence(group) + environments.caption(mixed)
    return Table(f"Scores: {group.title}", caption, tuple(columns), tuple(rows), notes)


def training(group: Group) -> Table:
    """The second table: the discriminator's accuracy, steps and cost."""
    columns = [Column("", "Steps"), Column("", "Trainable")]
    cells = [[Cell(f"{int(n):,}", float(n)) for n in group.summary["steps"]]]
    cells.append([_whole(n) for n in group.summary["parameters"]])

    def show(head: str, score: Score, decimals: int | None = None, spread: bool = True) -> None:
        if f"{score.key}.mean" in group.summary and group.summary[f"{score.key}.mean"].notna().any():
            columns.append(Column(head, score.label))
            cells.append(_mean_std(group, score.key, score, decimals, spread=spread))

    for where, head in (("train", "D acc. in training, %"), ("heldout", "D acc. held out, %")):
        for kind in ("real", "fake", "balanced"):
            show(head, Score(f"d_accuracy.{where}.{kind}", kind, None, 100), 1)
    show("", Score("d_accuracy.near_half_since", "Near ½ since step", None), 0)
    show("", Score("best.step", "Best step", None), 0)
    for label, name in (
        ("train (s)", "train_s"),
        ("score (s)", "eval_s"),
        ("device (s)", "device_s"),
        ("steps/s", "steps_per_s"),
        ("peak MB", "peak_memory_mb"),
        ("energy (J)", "energy_j"),
    ):
        show("Mean cost", Score(f"cost.{name}", label, None), spread=False)
    notes = []
    if "d_accuracy.threshold" in group.runs:
        calibrated = [isinstance(threshold, str) for threshold in group.runs["d_accuracy.threshold"]]
        critics = sorted(set(group.runs.loc[calibrated, "model"]))
        if critics:
            notes.append(
                f"{', '.join(critics)}: no natural threshold, so no accuracy in training; held out, the "
                "threshold is calibrated on half of the scores and judged on the other half."
            )
    return Table(
        f"Discriminator and cost: {group.title}",
        "Discriminator accuracy, mean ± standard deviation over training seeds, and mean cost per run: "
        f"{group.title}.",
        tuple(columns),
        tuple(_rows(group, cells)),
        tuple(notes),
    )


def sources(group: Group) -> Table | None:
    """Where the spread comes from: training seeds or sample draws; None where no run has several draws."""
    columns: list[Column] = []
    cells: list[list[Cell]] = []
    for extractor in group.extractors:
        for score in group.scores(extractor):
            for kind in ("training", "sampling"):
                name = f"metrics.{extractor}.{score.key}.{kind}_std"
                if name in group.summary and group.summary[name].notna().any():
                    columns.append(Column(extractor, f"{score.label}, {kind}"))
                    cells.append(_alike(group.summary[name] * score.scale))
    if not columns:
        return None
    return Table(
        f"Sources of spread: {group.title}",
        f"Standard deviation between training seeds, freed of sampling (0: sampling explains all of it), and "
        f"between sample draws of one trained model: {group.title}.",
        tuple(columns),
        tuple(_rows(group, cells)),
    )


def pairs(group: Group, compared: pd.DataFrame, family: str) -> Table | None:
    """The comparisons of one family ("baseline" or "all pairs"), or None where there are none."""
    mine = compared[compared["family"] == family] if len(compared) else compared
    if mine.empty:
        return None
    several = family != "baseline"
    columns = (
        *([Column("", "B")] if several else []),
        Column("", "Score"),
        Column("", "Mean A"),
        Column("", "Mean B"),
        Column("", "p"),
        Column("", "p (Holm)"),
        Column("", "P(A better) [95 % CI]"),
        Column("", "Seeds needed"),
    )
    rows = [
        Row(
            str(pair["a"]),
            "model",
            (
                *([Cell(str(pair["b"]))] if several else []),
                Cell(f"{pair['score']} ({pair['extractor']})"),
                Cell(f"{pair['mean_a']:.4g}", pair["mean_a"]),
                Cell(f"{pair['mean_b']:.4g}", pair["mean_b"]),
                _p(pair["p"]),
                _p(pair["p_holm"]),
                _improvement(pair),
                _seeds_needed(pair["seeds_needed"]),
            ),
        )
        for pair in mine.to_dict("records")
    ]
    baseline = mine["b"].iloc[0]
    against = "All pairs" if several else f"Against {baseline}"
    b = "B" if several else f"B, {baseline}"
    return Table(
        f"{against}: {group.title}",
        f"{group.title}. Model A against {b}: unpaired permutation test of the means (exact up to 10 seeds "
        "against 10), Holm-corrected per score; the probability that a run of A beats one of B, a failed run "
        "being worse than any score; the seeds per model that would tell the observed difference apart with "
        "a power of 80 %.",
        columns,
        tuple(rows),
        head="A",
    )


def seeds(group: Group, run_id: str) -> Table:
    """Every run of one configuration: how it ended, its scores, its folder."""
    mine = group.of(run_id)
    columns = [Column("", "Status")]
    cells = [[Cell(str(status)) for status in mine["status"]]]
    for extractor in group.extractors:
        for score in group.scores(extractor):
            values = mine[f"metrics.{extractor}.{score.key}"].astype(float) * score.scale
            columns.append(Column(extractor, score.label, score.better))
            cells.append([Cell(NOTHING) if math.isnan(v) else Cell(f"{v:.4g}", v) for v in values])
    shown = (("D acc. held out", "d_accuracy.heldout.balanced"), ("Near ½", "d_accuracy.near_half"))
    for label, name in (*shown, ("Train (s)", "cost.train_s")):
        if name in mine:
            columns.append(Column("", label))
            cells.append([_number(value) for value in mine[name]])
    columns += [Column("", "Attempts"), Column("", "Reason"), Column("", "Folder")]
    for name in ("attempts", "reason", "place"):
        given = mine[name] if name in mine else [None] * len(mine)
        cells.append([_number(value) if name == "attempts" else Cell(_said(value)) for value in given])
    rows = [
        Row(f"seed {seed}", "model", tuple(column[k] for column in cells))
        for k, seed in enumerate(mine["seed"])
    ]
    return Table("", "", tuple(columns), tuple(rows))


def _number(value: Any) -> Cell:
    number = float(value) if isinstance(value, int | float) else math.nan
    return Cell(NOTHING) if math.isnan(number) else Cell(f"{number:.4g}", number)


def _alike(values: pd.Series) -> list[Cell]:
    """A column of numbers with as many decimals as its largest needs to show three digits."""
    known = values.abs().dropna()
    largest = float(known.max()) if len(known) else 0.0
    decimals = int(np.clip(2 - math.floor(math.log10(largest)), 0, 4)) if largest else 0
    return [Cell(NOTHING) if math.isnan(v) else Cell(_fixed(v, decimals), v) for v in values]


def _said(value: Any) -> str:
    return value if isinstance(value, str) else NOTHING


def _published(group: Group, columns: Sequence[Column]) -> tuple[list[Row], list[str]]:
    """Rows of published FIDs for models that were measured alike; a note on what differs for the others."""
    if published.EXTRACTOR not in group.extractors:
        return [], []
    rows: list[Row] = []
    differing: dict[str, None] = {}  # in order, each once
    for run in group.runs.drop_duplicates("id").to_dict("records"):
        figure = published.figure(group.dataset, str(run["model"]))
        if figure is None:
            continue
        differences = published.compare({str(name): value for name, value in run.items()})
        if differences:
            differing |= dict.fromkeys(map(str, differences))
            continue
        mean, std = figure
        cells = [
            Cell(f"{mean} ± {std}", mean)
            if (column.group, column.label) == (published.EXTRACTOR, "FID")
            else Cell(NOTHING if column.group else "")
            for column in columns
        ]
        rows.append(Row(f"{run['model']}, published", "reference", tuple(cells)))
    notes = [f"Published: {published.SOURCE}."] if rows else []
    if differing:
        notes.append(
            f"The figures of {published.SOURCE} do not stand beside these: their protocol differs in "
            f"{'; '.join(differing)}."
        )
    return rows, notes


def _rows(group: Group, cells: Sequence[Sequence[Cell]]) -> list[Row]:
    return [
        Row(str(label), "model", tuple(column[k] for column in cells))
        for k, label in enumerate(group.summary["label"])
    ]


def _ranked(group: Group, name: str, score: Score) -> tuple[list[Cell], tuple[float, int] | None]:
    """A column's cells with its best, second and those not separable from the best.

    Only models without failed runs are ranked. The best was picked by looking, so its tests are corrected
    for all pairs. Also the smallest corrected p that they could have given, and for how many.
    """
    cells = _mean_std(group, name, score)
    means = [cell.value for cell in cells]
    scored = [k for k, mean in enumerate(means) if not math.isnan(mean)]
    order = sorted(
        (k for k in scored if not group.summary["failures"].iloc[k]),
        key=lambda k: means[k] if score.better == "lower" else -means[k],
    )
    if score.better is None or len({means[k] for k in scored}) < 2 or not order:
        return cells, None  # nothing to rank
    best = order[0]
    firsts = {means[best]: 1} | {means[k]: 2 for k in order[1:2] if means[k] != means[best]}
    ranks = {k: firsts[means[k]] for k in order if means[k] in firsts}
    rest = [k for k in scored if k != best]
    values = [group.outcomes(run_id, name, score) for run_id in group.summary["id"]]
    p = [stats.permutation_p(values[k], values[best]) for k in rest]
    family = math.comb(len(scored), 2)
    sizes = [values[k].size for k in rest if values[k].size > 1] if values[best].size > 1 else []
    reach = min((stats.smallest_p(n, values[best].size) for n in sizes), default=math.inf) * family
    tied = {k for k, adjusted in zip(rest, stats.holm(p, family), strict=True) if not adjusted <= LEVEL}
    ranked = [
        Cell(cell.text, cell.value, ranks.get(k, 0), reach <= LEVEL and k in tied and ranks.get(k) != 1)
        for k, cell in enumerate(cells)
    ]
    return ranked, (reach, family) if sizes else None


def _mean_std(
    group: Group, name: str, score: Score, decimals: int | None = None, *, spread: bool = True
) -> list[Cell]:
    """A column's cells; its decimals follow from the spread where they are not given."""
    decimals = _decimals(group, name, score) if decimals is None else decimals
    cells = []
    for mean, std in zip(group.summary[f"{name}.mean"], group.summary[f"{name}.std"], strict=True):
        if math.isnan(mean):
            cells.append(Cell(NOTHING))
            continue
        text = _fixed(mean * score.scale, decimals)
        if spread and not math.isnan(std):
            text += f" ± {_fixed(std * score.scale, decimals)}"
        cells.append(Cell(text, mean * score.scale))
    return cells


def _fixed(number: float, decimals: int) -> str:
    """A number with so many decimals; with an exponent where it would be longer than any column."""
    return f"{number:,.{decimals}f}" if abs(number) < 1e12 else f"{number:.3g}"


def _decimals(group: Group, name: str, score: Score) -> int:
    """Decimals of a column: two digits of its typical spread, or four of the values without one."""
    stds = group.summary[f"{name}.std"].to_numpy(dtype=float) * score.scale
    stds = stds[stds > 0]
    if stds.size:
        return int(np.clip(1 - math.floor(math.log10(float(np.median(stds)))), 0, 4))
    means = np.abs(group.summary[f"{name}.mean"].to_numpy(dtype=float)) * score.scale
    largest = float(np.nanmax(means, initial=0.0))
    if largest == 0 or (means == np.round(means)).all():
        return 0
    return int(np.clip(3 - math.floor(math.log10(largest)), 0, 4))


def _constant(group: Group, name: str, score: Score, decimals: int) -> Cell:
    """The mean over a group's configurations of what should be the same for all of them.

    With the column's decimals, or more where two of its digits need them.
    """
    mean = float(group.summary[name].mean()) * score.scale if name in group.summary else math.nan
    if math.isnan(mean):
        return Cell(NOTHING)
    whole = mean == round(mean)
    own = 0 if whole else int(np.clip(1 - math.floor(math.log10(abs(mean))), 0, 4))
    return Cell(_fixed(mean, max(decimals, own)), mean)


def _outcome(group: Group) -> list[tuple[Column, list[Cell]]]:
    """What stands beside the scores: the criterion, failures, time."""
    summary = group.summary
    found = []
    if "d_accuracy.near_half" in group.runs:
        found.append(
            (
                Column("", "Near ½"),
                [_of(k, n) for k, n in zip(summary["near_half"], summary["n"], strict=True)],
            )
        )
    found.append(
        (Column("", "Failures"), [_of(k, n) for k, n in zip(summary["failures"], summary["n"], strict=True)])
    )
    if "cost.device_s.mean" in summary:
        found.append((Column("", "Time"), durations(summary["cost.device_s.mean"])))
    return found


def _of(k: int, n: int) -> Cell:
    return Cell(f"{k}/{n}", k / n)


def _whole(n: float) -> Cell:
    return Cell(NOTHING) if math.isnan(n) else Cell(f"{int(n):,}", n)


def durations(seconds: pd.Series) -> list[Cell]:
    """Seconds for a person, all in the largest unit of which each is at least one: s, min or h."""
    least = seconds.min()
    unit, size = next((pair for pair in (("h", 3600.0), ("min", 60.0)) if least >= pair[1]), ("s", 1.0))
    return [Cell(NOTHING) if math.isnan(s) else Cell(f"{_fixed(s / size, 1)} {unit}", s) for s in seconds]


def _p(p: float) -> Cell:
    return Cell(NOTHING if math.isnan(p) else f"{p:.2g}" if p >= 1e-4 else "<0.0001", p)


def _improvement(pair: Any) -> Cell:
    value = float(pair["improvement"])
    if math.isnan(pair["improvement_low"]):
        return Cell(f"{value:.2f}", value)
    return Cell(f"{value:.2f} [{pair['improvement_low']:.2f}, {pair['improvement_high']:.2f}]", value)


def _seeds_needed(n: float) -> Cell:
    if math.isnan(n):
        return Cell(NOTHING)
    return Cell("no difference" if math.isinf(n) else ">1,000" if n > 1_000 else f"{int(n)}", n)


def _notes(group: Group, rows: Sequence[Row], smallest: Sequence[tuple[float, int]]) -> list[str]:
    notes = []
    if any(cell.tied for row in rows for cell in row.cells):
        notes.append(
            f"{NOT_SEPARATED}: not separable from the best (permutation test, Holm-corrected for all pairs "
            f"of the column, {100 * LEVEL:.0f} %)."
        )
    if smallest:
        reach, tests = max(smallest)
        if reach > LEVEL:
            enough = next(n for n in range(2, 100) if stats.smallest_p(n, n) * tests <= LEVEL)
            notes.append(
                f"With these seeds no p, corrected for {tests} pairs, can be below {min(1.0, reach):.2g}: "
                f"nothing could be told from the best, whatever the scores; it takes {enough} seeds a model."
            )
    elif len(group.summary) > 1:
        alone = "One seed" if group.summary["n"].max() == 1 else "The best has one seed"
        notes.append(f"{alone}: no test.")
    missing: dict[str, list[str]] = {}
    for row in group.summary.to_dict("records"):
        if row["missing_seeds"]:
            missing.setdefault(ranges(row["missing_seeds"]), []).append(row["label"])
        if row["failures"]:
            mine = group.of(row["id"])
            bad = mine[mine["status"] != "finished"]
            which = ", ".join(
                f"{status} (seed {ranges(part['seed'])})" for status, part in bad.groupby("status")
            )
            if row["failures"] < row["n"]:
                which += (
                    "; its means are over the seeds that have a score, so it is not ranked, and in tests a "
                    "failed run is worse than any score"
                )
            notes.append(f"{row['label']}: {which}.")
    notes += [f"No run of seed {which}: {', '.join(labels)}." for which, labels in missing.items()]
    return notes


def _cautions(group: Group) -> list[str]:
    """What a reader must know before comparing rows, or tables."""
    notes = []
    asked = "metrics.classifier.cond_accuracy.mean"
    if asked in group.summary:
        conditional = group.summary[asked].notna()
        if conditional.any() and not conditional.all():
            labels = ", ".join(group.summary.loc[conditional, "label"])
            notes.append(
                f"{labels}: asked for classes with the test split's frequencies, which the others have to "
                "learn; compare Mode KL within either kind only."
            )
    n = group.protocol.get("n_fake")
    for extractor in group.extractors:
        dim = group.protocol.get(f"extractors.{extractor}.feature_dim")
        if isinstance(n, int) and isinstance(dim, int) and n < 2 * dim:
            notes.append(
                f"FID of {n:,} samples in the {dim:,} dimensions of {extractor} is mostly bias; KID is not."
            )
    return notes
