"""Captions: what a table or a figure shows and how it was measured, in sentences for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.scoring.scores import COND_ACCURACY
from reports.across import Across
from reports.figures.canvas import MOST_BANDS
from reports.figures.points import Film
from reports.figures.samples import HEADS
from reports.groups import HALVES, Group
from reports.searches import Search
from reports.stats import FEWEST_FOR_INTERVAL
from reports.words import listed, ranges, seeds, short, span


def protocol(group: Group) -> str:
    """How the numbers of a group's main table were measured."""
    p = group.protocol
    numbers = sorted(set(group.runs["seed"]))
    precision = p.get("precision", "float32")
    rounded = "" if precision == "float32" else f" in {precision}"
    each = group.summary["n"]
    trained = (
        f"Mean ± standard deviation over {span(each)} training seed{'s' * (max(each) > 1)} "
        f"({ranges(numbers)}), {_trained(group)} {group.dataset}{rounded} (data "
        f"{short(p.get('dataset.sha256', 'unknown'))})."
    )
    n_fake, n_real = (_count(p.get(name)) for name in ("n_fake", "n_real"))
    split = p.get("scored_on", "unknown")
    if group.task == "super-resolution":
        return f"{trained} Scored on {n_real} images of the {split} split, at the final step."
    if group.of_points:
        return f"{trained} {_points(group)}{_real_images(group)}"
    features = " and ".join(
        f"{name} (weights {short(p.get(f'extractors.{name}.sha256', 'unknown'))})"
        for name in group.extractors
        if f"extractors.{name}.sha256" in p
    )
    judge = p.get("mode_judge_sha256")
    modes = f"; modes by the classifier of a channel (weights {short(judge)})" if judge else ""
    draws = p.get("draws")
    several = f", mean of {draws} draws," if isinstance(draws, int) and draws > 1 else ""
    best = ", FID also at the step that is best on validation" if p.get("select") == "best" else ""
    return (
        f"{trained} {n_fake} samples per run{several} against {n_real} images of the {split} split, with the "
        f"features of {features or 'no extractor'}{modes}, at the final step{best}.{_real_images(group)}"
    )


def _points(group: Group) -> str:
    """How points in the plane were scored."""
    n, draws = (group.protocol.get(name) for name in ("n_fake", "draws"))
    several = f", mean of {draws} draws" if isinstance(draws, int) and draws > 1 else ""
    return (
        f"{_count(n)} samples per run{several}, at the final step; one is of high quality within 3 σ of the "
        "nearest mode, and counts for that mode."
    )


def _trained(group: Group) -> str:
    """For how long models were trained, where they were trained here."""
    if not group.steps:
        return "trained elsewhere on"
    return f"trained for {group.steps} generator updates{' (here)' if group.elsewhere else ''} on"


def _real_images(group: Group) -> str:
    """What the rows of real images are, where their deviations are known."""
    found = ""
    if any(str(name).startswith("floor_std.") for name in group.runs):
        real = group.training.capitalize()
        found = f" {real}: as many in place of samples, mean ± standard deviation over draws."
    shown = [(extractor, score) for extractor in group.extractors for score in group.scores(extractor)]
    if any(HALVES in group.reference_rows(*each) for each in shown):
        found += f" {_halves(group)}"
    return found


def _halves(group: Group) -> str:
    """What the row of halves is."""
    n = group.protocol.get("n_real")
    each = f"{n // 2:,}" if isinstance(n, int) else "an unknown number of"
    return (
        f"Held-out halves: one half of the {group.protocol.get('scored_on', 'unknown')} split against the "
        f"other, {each} images each, over draws."
    )


def memorisation(group: Group) -> str:
    """What the table of memorisation shows."""
    p = group.protocol
    found = (
        f"Whether models copy, mean ± standard deviation over training seeds: {group.title}. "
        f"{_count(p.get('n_fake'))} samples per run against all {_count(p.get('n_train'))} training images. "
        "AuthPct (%) near 0 and C_T far below 0 are those of copies, as the row of training images shows."
    )
    known = any(str(name).startswith("halves_std.") for name in group.runs)
    return f"{found} {_halves(group)} A model that does not copy has values near theirs." if known else found


def _count(n: Any) -> str:
    return f"{n:,}" if isinstance(n, int) else "an unknown number of"


def training(group: Group) -> str:
    """How many seeds were trained, for how long."""
    each = group.summary["n"]
    numbers = ranges(set(group.runs["seed"]))
    steps = f", {group.steps} steps" if group.steps else ""
    return f"{span(each)} seed{'s' * (max(each) > 1)} ({numbers}){steps}"


def scoring(group: Group) -> str:
    """What the scores were computed on."""
    fake, real = (group.protocol.get(name, "?") for name in ("n_fake", "n_real"))
    if group.of_points:
        return f"{fake} samples"
    split = group.protocol.get("scored_on", "unknown")
    against = f"{real} images of the {split} split"
    return against if group.task == "super-resolution" else f"{fake} samples against {against}"


def marks(group: Group, extractor: str) -> str:
    """What is drawn in a figure of scores: intervals and lines where there are any."""
    known = group.scores(extractor)
    names = [score.column(extractor) for score in known]
    sizes = {
        int(row[f"{name}.n"])
        for row in group.summary.to_dict("records")
        for name in names
        if row[f"{name}.ci_low"] == row[f"{name}.ci_low"]
    }
    found = ["a dot per seed, a tick at the mean"]
    if sizes:
        found.append(f"a bar for its 95 % t interval over {span(sizes)} seeds")
        if (group.summary[[f"{name}.n" for name in names]] < FEWEST_FOR_INTERVAL).any(axis=None):
            found.append(f"none of fewer than {FEWEST_FOR_INTERVAL}")
    lines = dict.fromkeys(who for score in known for who in group.references(extractor, score))
    return "; ".join([", ".join(found), *([f"dashed: {' or '.join(lines)}"] if lines else [])])


def pictures(group: Group, shown: Mapping[str, tuple[int, object]]) -> str:
    """Of which seeds the sample grids are, and what their columns show."""
    numbers = {seed for seed, _ in shown.values()}
    whose = f" of {seeds(sorted(numbers))}"
    if len(numbers) > 1:
        whose += ", each model's first"
    if heads := HEADS.get(group.task):
        return f"{whose}, columns: {', '.join(heads)}"
    asked = COND_ACCURACY.column("classifier")
    given = sorted(set(group.runs.loc[group.runs[asked].notna(), "model"])) if asked in group.runs else []
    return f"{whose}, columns of {', '.join(given)}: classes in order" if given else whose


def points(films: Mapping[str, Film], when: str = "") -> str:
    """What a figure of points in the plane shows, of which seeds, and when."""
    numbers = {film.seed for film in films.values()}
    more = ", each model's first" if len(numbers) > 1 else ""
    return f"Samples of {seeds(sorted(numbers))}{more}{when}, over circles around the modes of the data"


def budget(searches: Sequence[Search]) -> str:
    """The caption of a figure of searches."""
    first = searches[0]
    n = span(len(search.curve) for search in searches)
    band = f", with a 95 % percentile bootstrap band over {n} trials" if len(searches) <= MOST_BANDS else ""
    return (
        f"Expected best validation {first.objective} of a search on {first.dataset} against its number of "
        f"trials{band}. For random search it is an estimate; for other samplers it describes this search."
    )


def ranks(found: Across) -> str:
    """The caption of the figure over several data sets."""
    names = listed([setting.dataset for setting in found.settings])
    bars = (
        "bars join models that are not told apart (Nemenyi test, 5 %)"
        if found.can_tell
        else "there are no bars, since ranks on so few data sets cannot tell models apart"
    )
    return (
        f"Mean ranks over {names}; {bars}. Below: interquartile mean of the scores with its 95 % stratified "
        f"bootstrap interval over seeds, {found.task}."
    )
