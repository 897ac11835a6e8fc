"""Notes below the main table: what its marks mean, what is missing, and what to know before comparing."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

from bench.scoring.scores import COND_ACCURACY, FID_INFINITY, MODE_KL, NEAR_HALF
from bench.store.rows import CALIBRATED, THRESHOLD
from reports import stats
from reports.compare import LEVEL, Tests
from reports.elsewhere import MARK
from reports.groups import Group
from reports.tables.text import NOT_SEPARATED, Row
from reports.words import listed, seeds, span


def notes(group: Group, rows: Sequence[Row], tests: Sequence[Tests]) -> list[str]:
    """What the marks mean, which tests could show anything, and which runs failed or are missing.

    ``tests``: those of each column that has any, the first score's first.
    """
    found = []
    if any(cell.tied for row in rows for cell in row.cells):
        pairs = span(test.pairs for test in tests)
        found.append(
            f"{NOT_SEPARATED}: not told apart from the best (permutation test, corrected for all {pairs} "
            f"pairs of the column, {100 * LEVEL:.0f} %)."
        )
    if tests and tests[0].smallest > LEVEL:
        n = tests[0].pairs
        found.append(
            f"With so few seeds no p, corrected for {n:,} pair{'s' * (n > 1)}, can be below "
            f"{min(1.0, tests[0].smallest):.2g}: whatever the scores, no model is told apart from another. "
            f"That takes {stats.fewest_seeds(n, LEVEL)} seeds per model."
        )
    elif len({c for row in rows for c, cell in enumerate(row.cells) if cell.rank}) < len(tests):
        found.append("A column without marks: its best is told apart from no other model.")
    found += [*_elsewhere(group), *_averaged(group)]
    return [*found, *_few(group), *_failures(group), *_missing(group)]


def _averaged(group: Group) -> list[str]:
    """A note for each configuration with averaged weights: whose scores the table has, and the first score of
    the others."""
    words = {"trained": "its trained weights", "ema": "the average of its weights"}
    others = "ema" if group.protocol.get("weights") == "trained" else "trained"
    first = next(
        ((extractor, score) for extractor in group.extractors for score in group.scores(extractor)), None
    )
    found = []
    for row in group.summary.to_dict("records"):
        beta = group.of(row["id"]).iloc[0].get("hyperparameters.ema")
        if first is None or not isinstance(beta, float) or not beta > 0:
            continue
        value = row.get(f"{others}.{first[1].column(first[0])}.mean", math.nan) * first[1].factor
        shown = words["trained" if others == "ema" else "ema"]
        other = f"{first[1].label} of {words[others]}: {value:.4g}"
        found.append(f"{row['label']}: scores of {shown} (ema {beta:g}); {other}.")
    return found


def _elsewhere(group: Group) -> list[str]:
    """Notes on samples that were made elsewhere."""
    if not group.elsewhere:
        return []
    without = "there is no D accuracy, no cost and no count of failed runs"
    found = [f"{MARK}: samples that were made elsewhere, scored here as all others are; {without}."]
    for extractor in group.extractors:
        name = FID_INFINITY.column(extractor)
        if group.has(name):
            known = group.summary[group.summary[f"{name}.mean"].notna()]
            each = [f"{row['label']} {row[f'{name}.mean']:.4g}" for row in known.to_dict("records")]
            found.append(f"{FID_INFINITY.label} ({extractor}), for comparing across N: {', '.join(each)}.")
    return found


def _few(group: Group) -> list[str]:
    """Notes on configurations with too few seeds to be tested, or to say how much they spread."""
    found = []
    for n in sorted(set(map(int, group.summary["n"]))):
        who = ", ".join(group.summary.loc[group.summary["n"] == n, "label"])
        if n == 1:
            found.append(f"One seed, so in no test and without a mark: {who}.")
        elif n < stats.FEWEST_FOR_INTERVAL:
            found.append(
                f"{n} seeds hardly say how much a model varies (the true standard deviation may be "
                f"{stats.widest_std(n):.2g} times as large): {who}."
            )
    return found


def _failures(group: Group) -> list[str]:
    """A note for each configuration of which runs failed or diverged."""
    found = []
    for row in group.summary[group.summary["failures"] > 0].to_dict("records"):
        mine = group.of(row["id"])
        bad = mine[mine["status"] != "finished"]
        which = ", ".join(f"{status} ({seeds(list(part['seed']))})" for status, part in bad.groupby("status"))
        if row["failures"] < row["n"]:
            which += (
                "; its means are over the seeds that have a score, so it is not ranked, and in tests a "
                "failed run is worse than any score"
            )
        found.append(f"{row['label']}: {which}.")
    return found


def _missing(group: Group) -> list[str]:
    """A note for each set of seeds that some configurations lack and others have."""
    missing: dict[str, list[str]] = {}
    for row in group.summary.to_dict("records"):
        if row["missing_seeds"]:
            missing.setdefault(seeds(row["missing_seeds"]), []).append(row["label"])
    return [f"No run of {which}: {', '.join(labels)}." for which, labels in missing.items()]


def cautions(group: Group) -> list[str]:
    """What a reader must know before comparing rows, or tables."""
    found = []
    asked = f"{COND_ACCURACY.column('classifier')}.mean"
    if asked in group.summary:
        conditional = group.summary[asked].notna()
        if brought := group.summary[conditional & group.summary["id"].isin(group.elsewhere)][
            "label"
        ].tolist():
            found.append(
                f"{', '.join(brought)}: the labels beside the samples are taken as the classes that were "
                "asked for."
            )
        conditional &= ~group.summary["id"].isin(group.elsewhere)
        if conditional.any() and not conditional.all():
            labels = ", ".join(group.summary.loc[conditional, "label"])
            found.append(
                f"{labels}: asked for classes with the frequencies of the training split, which the others "
                f"have to learn; compare {MODE_KL.label} only among such models, or only among the others."
            )
    found += [
        f"{row['label']}: a critic has no threshold, so {NEAR_HALF.label} cannot be said of its training. "
        f"At its last evaluations, with a threshold chosen on held-out images, {row['near_half']} of "
        f"{row['n']} runs were near one half."
        for row in critics(group)
    ]
    sizes = [group.protocol.get(name) for name in ("n_fake", "n_real")]
    n = min((size for size in sizes if isinstance(size, int)), default=None)
    for extractor in group.extractors:
        dim = group.protocol.get(f"extractors.{extractor}.feature_dim")
        if isinstance(n, int) and isinstance(dim, int) and n < 2 * dim:
            found.append(
                f"FID of {n:,} images in the {dim:,} dimensions of {extractor} is mostly bias; KID is not."
            )
    return found


def memorisation(group: Group, reference: str) -> list[str]:
    """What to know before reading the table of memorisation; ``reference``: the row of held-out images."""
    found = ["No column is ranked: noise has the highest AuthPct, and a copier the highest coverage."]
    for extractor in group.extractors:
        its = group.memorisation(extractor)
        lacking = [score.label for score in its if reference not in group.reference_rows(extractor, score)]
        if its and len(lacking) == len(its):
            found.append(f"{reference}: none with {extractor}, since the split is too small.")
        elif lacking:
            found.append(
                f"{reference}: no {listed(lacking)}, which depends on the number of samples; a half is fewer."
            )
    return found


def critics(group: Group) -> list[dict[Hashable, Any]]:
    """The rows of the summary of models whose discriminator has no threshold."""
    if THRESHOLD not in group.runs:
        return []
    calibrated = {
        run["id"] for run in group.runs[["id", THRESHOLD]].to_dict("records") if run[THRESHOLD] == CALIBRATED
    }
    return [row for row in group.summary.to_dict("records") if row["id"] in calibrated]


def without_discriminator(group: Group) -> set[Hashable]:
    """The ids of models that have no discriminator: of no finished run is anything known about one."""
    if NEAR_HALF.column() not in group.runs:
        return set()
    finished = group.runs[group.runs["status"] == "finished"]
    judged = finished[NEAR_HALF.column()].notna().groupby(finished["id"]).any()
    return set(judged.index[~judged])
