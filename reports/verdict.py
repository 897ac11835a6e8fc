"""What a group's runs can and cannot tell, in sentences made from the tests alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.scoring.scores import Score
from reports import compare
from reports.compare import LEVEL
from reports.groups import Group
from reports.stats import fewest_seeds
from reports.tables import cells
from reports.words import listed

MOST = 5
"""Models that a sentence names; of more it gives the number."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a group by its first score."""

    text: str
    winner: str | None
    """The label of the model that is told apart, as the better one, from every other that has a score."""


def verdict(group: Group) -> Verdict:
    """Which model is the best, from which others it is told apart, and what it would take to tell the rest.

    By the first score of the first extractor, at a level of 5 % for all pairs together: of equal models one
    is named the winner in at most 5 % of studies. Failed runs and models with one seed are named.
    """
    where = f"On {group.dataset}" + (f" after {group.steps} steps" if group.steps else "")
    for extractor in group.extractors:
        for score in group.scores(extractor)[:1]:
            return _Judge(group, extractor, score).verdict(where)
    return Verdict(f"{where} no run has a score.{_failures(group)}", None)


def _failures(group: Group) -> str:
    """A sentence for the models of which runs failed."""
    failed = group.summary[group.summary["failures"] > 0]
    if failed.empty:
        return ""
    counts = [
        f"{label} in {bad} of {n} runs"
        for label, bad, n in zip(failed["label"], failed["failures"], failed["n"], strict=True)
    ]
    return f" Failed, and so not ranked: {_named(counts)}."


class _Judge:
    """Words for one score of a group."""

    def __init__(self, group: Group, extractor: str, score: Score) -> None:
        self.group, self.score = group, score
        name = score.column(extractor)
        self.tests = compare.pairwise(group, name, score)
        self.best = compare.best(group, self.tests, name)
        ids = [str(run_id) for run_id in group.summary["id"]]
        self.labels = dict(zip(ids, group.summary["label"], strict=True))
        self.cells = dict(zip(ids, cells.mean_std(group, name, score), strict=True))
        self.real = group.references(extractor, score)
        whose = f" ({extractor})" if len(group.extractors) > 1 else ""
        self.name = f"{score.short}{whose}"
        self.extreme = "lowest" if score.better == "lower" else "highest"
        means = [cell.value for cell in self.cells.values() if not math.isnan(cell.value)]
        record = (min if score.better == "lower" else max)(means)
        ranked = self.best is None or self.cells[self.best].value == record
        self.among = "" if ranked else " of the ranked models"

    def verdict(self, where: str) -> Verdict:
        scored = list(self.tests.outcomes)
        if len(scored) == 1:
            reference = "".join(f", {who} {value:.3g}" for who, value in self.real.items())
            only, n = scored[0], self.tests.outcomes[scored[0]].size
            text = (
                f"{where} {self.labels[only]} has {self.name} {self.cells[only].text} "
                f"({n} seed{'s' * (n > 1)}){reference}. There is no model to compare it with."
            )
            return Verdict(text + self._below(), None)
        leader = self.best or scored[0]
        if not self.tests.pairs:
            text = f"{where} nothing can be told by {self.name}: that takes two seeds of two models."
        elif self.tests.smallest > LEVEL:
            text = (
                f"{where} nothing can be told by {self.name}: with so few seeds no p, corrected for "
                f"{self._pairs()}, can be below {min(1.0, self.tests.smallest):.2g}. "
                f"That takes {fewest_seeds(self.tests.pairs, LEVEL)} seeds per model."
            )
        elif self.best is None:
            text = (
                f"{where} nothing can be told by {self.name}: every model with several seeds has failed runs."
            )
        else:
            return self._compared(where, self.best)
        return Verdict(
            f"{text} The {self.extreme} mean{self.among} is that of {self._value(leader)}.{self._below()}",
            None,
        )

    def _compared(self, where: str, best: str) -> Verdict:
        others = [run_id for run_id in self.tests.tested if run_id != best]
        told = [run_id for run_id in others if self.tests.beats(best, run_id)]
        left = [run_id for run_id in others if run_id not in told]
        winner = self.labels[best] if len(told) == len(self.tests.outcomes) - 1 else None
        mean = "" if winner else "mean "
        text = (
            f"{where} {self.labels[best]} has the {self.extreme} {mean}{self.name}{self.among} "
            f"({self._numbers(best)})"
        )
        corrected = f"; p is corrected for {self._pairs()}" if self.tests.pairs > 1 else ""
        if not told:
            text += (
                f", but is told apart from no other model: not from {self._against(best, left)}{corrected}."
            )
        elif left:
            text += (
                f". It is told apart from {self._against(best, told)}, not from {self._against(best, left)}"
                f"{corrected}."
            )
        else:
            text += f". It is told apart from {self._against(best, told)}{corrected}."
        return Verdict(text + self._advice(best, left) + self._below(), winner)

    def _advice(self, best: str, left: Sequence[str]) -> str:
        """How many seeds it would take to tell the best from the nearest one that it is not told from."""
        for other in left:
            needed = compare.needed_seeds(self.tests, best, other)
            if not math.isnan(needed.low):
                more = max(self.tests.outcomes[run_id].size for run_id in (best, other)) + 1
                seeds = cells.seed_range(max(needed.low, more), max(needed.high, more))
                return f" To tell it from {self.labels[other]} would take {seeds} seeds per model."
        return ""

    def _below(self) -> str:
        """What else must be said: models that failed, and those that are in no test."""
        lone = [self.labels[run_id] for run_id, values in self.tests.outcomes.items() if values.size == 1]
        alone = len(self.tests.outcomes) == len(lone)
        return ("" if alone or not lone else f" One seed, in no test: {_named(lone)}.") + _failures(
            self.group
        )

    def _pairs(self) -> str:
        return f"{self.tests.pairs:,} pair{'s' * (self.tests.pairs > 1)}"

    def _numbers(self, run_id: str) -> str:
        n = self.tests.outcomes[run_id].size
        return f"{self.cells[run_id].text}, {n} seed{'s' * (n > 1)}"

    def _value(self, run_id: str) -> str:
        return f"{self.labels[run_id]} ({self._numbers(run_id)})"

    def _against(self, best: str, others: Sequence[str]) -> str:
        return _named(
            [f"{self.labels[k]} (p = {cells.p_value(self.tests.corrected(best, k)).text})" for k in others]
        ).replace("p = <", "p < ")


def _named(words: Sequence[str]) -> str:
    """Words in a sentence, the first few of many."""
    if len(words) <= MOST:
        return listed(words)
    return listed([*words[: MOST - 1], f"{len(words) - MOST + 1} others"])
