"""A user's own score: ``module:function``, or the name of an entry point in ``gan_bench.scores``.

::

    @own_score("Mean gap", better="lower")
    def mean_gap(real: Features, fake: Features) -> float:
        return float((real.features.mean(0) - fake.features.mean(0)).norm())

It is computed on every extractor, wherever FID is: for samples, for real data in their place, at each
evaluation. Its name in records is that of the function. Its code is part of the protocol, so values of an
edited score never share a table with those of the old one. ``python -m bench.conformance score`` checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, one_line
from bench.identity import outside
from bench.scoring.scores import ALL, Better, Score

if TYPE_CHECKING:
    from bench.scoring.features import Features

Function = Callable[["Features", "Features"], float]


def own_score(label: str, *, better: Better) -> Callable[[Function], Function]:
    """Declare a function of the features of real images (N, D) and of samples (M, D) as a score.

    ``label`` is its name in tables; ``better`` is ``lower`` or ``higher``.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better is {better!r}, not 'lower' or 'higher'")

    def declare(function: Function) -> Function:
        function.score = Score(function.__name__, label, better)  # type: ignore[attr-defined]
        return function

    return declare


@dataclass(frozen=True, eq=False)
class OwnScore:
    """A score from outside, loaded."""

    source: str
    """As it was named: ``module:function``, or the name of an entry point."""
    score: Score
    function: Function
    sha256: str
    """Of its code."""

    def __call__(self, real: Features, fake: Features) -> float:
        """Its value.

        Raises:
            ScoreError: it fails, or gives something else than a finite number.
        """
        from bench.scoring.metrics import ScoreError  # here, not above: it imports PyTorch

        try:
            value = self.function(real, fake)
        except Exception as error:  # it may raise anything
            raise ScoreError(f"{self.source} fails: {one_line(error)}") from error
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ScoreError(f"{self.source} gives {value!r}, not a finite number")
        return float(value)

    def describe(self) -> dict[str, Any]:
        """What a protocol says of it."""
        return {
            "source": self.source,
            "label": self.score.label,
            "better": self.score.better,
            "sha256": self.sha256,
        }


def load(source: str) -> OwnScore:
    """A user's score.

    Raises:
        UsageError: there is none, or it is not declared, or has the name of another score.
    """
    found = outside.find("--scores", source)
    score = getattr(found.function, "score", None)
    if not isinstance(score, Score):
        raise UsageError(
            f"--scores: {source} is not declared: decorate it with "
            "@bench.scoring.own_scores.own_score(label, better=...)"
        )
    if score.name in {other.name for other in ALL}:
        raise UsageError(f"--scores: {source} has the name of another score, {score.name!r}; rename it")
    return OwnScore(source, score, found.function, found.digest)


def load_all(sources: Sequence[str]) -> tuple[OwnScore, ...]:
    """Several scores, each of another name.

    Raises:
        UsageError: two have the same name, or one cannot be used.
    """
    found = {score.score.name: score for score in map(load, sources)}
    if len(found) < len(sources):
        raise UsageError(f"--scores: two of {', '.join(sources)} have the same name; rename one")
    return tuple(found.values())


def sources(protocol: Mapping[str, Any]) -> tuple[str, ...]:
    """How the scores of a protocol were named."""
    return tuple(described["source"] for described in protocol.get("scores", {}).values())
