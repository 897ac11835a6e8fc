"""Every score that a record holds: its name, label, unit, direction, and what it needs.

Tables, figures, search objectives and the documentation read this file; a score is described nowhere else.
It imports nothing heavy, so that a command line can list the scores without PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]

Need = Literal["classes", "label", "super-resolution", "points", "classes or points", "--infinity"]
"""``classes``: a data set with classes, and its own classifier as extractor. ``label``: classes, and a model
that is given labels. ``super-resolution``: a model of that task. ``points``: data of points in
the plane. ``--infinity``: samples from elsewhere, scored with this flag."""


@dataclass(frozen=True)
class Score:
    """One number that a record holds of a run, and how it is shown."""

    name: str
    """In records and on the command line."""
    label: str
    """In tables and figures, with its unit."""
    better: Better | None = None
    """Which direction is better; None where neither is."""
    factor: float = 1.0
    """Shown is the recorded value times this."""
    needs: Need | None = None
    section: str = "metrics"
    """Where it is in a record: ``metrics`` (one value per extractor), ``cost``, ``d_accuracy.train`` …"""
    decimals: int | None = None
    """In tables; None: as many as the spread over seeds calls for."""

    @property
    def short(self) -> str:
        """The label without its unit, beside the recorded value: ``KID``, not ``KID ×10³``."""
        return self.label.partition(" ×")[0].partition(" (")[0]

    def column(self, extractor: str = "") -> str:
        """Its column in a frame of runs: ``metrics.classifier.fid``, ``cost.train_s``."""
        return ".".join(filter(None, [self.section, extractor, self.name]))

    def baseline(self, extractor: str) -> str:
        """The column of the same score of training images."""
        return f"floor.{extractor}.{self.name}"

    def baseline_std(self, extractor: str) -> str:
        """The column of that score's deviation over draws of training images."""
        return f"floor_std.{extractor}.{self.name}"

    def halves(self, extractor: str) -> str:
        """The column of the same score of one half of the split against the other."""
        return f"halves.{extractor}.{self.name}"

    def halves_std(self, extractor: str) -> str:
        """The column of that score's deviation over draws of halves."""
        return f"halves_std.{extractor}.{self.name}"

    def bicubic(self, extractor: str) -> str:
        """The column of the same score of bicubic interpolation."""
        return f"{self.column(extractor)}_bicubic"


FID = Score("fid", "FID", "lower")
KID = Score("kid_mean", "KID ×10³", "lower", factor=1e3)
IS = Score("isc_mean", "IS", "higher")
PRECISION = Score("precision", "Precision", "higher")
RECALL = Score("recall", "Recall", "higher")
MODES = Score("modes", "Modes", "higher", needs="classes or points")
MODE_KL = Score("mode_kl", "Mode KL", "lower", needs="classes")
MODE_KL_KNN = Score("mode_kl_knn", "kNN mode KL", "lower", needs="classes")
COND_ACCURACY = Score("cond_accuracy", "Cond. acc.", "higher", needs="label")
FID_INFINITY = Score("fid_infinity", "FID∞", needs="--infinity")
REVERSE_KL = Score("reverse_kl", "Reverse KL", "lower", needs="points")
HIGH_QUALITY = Score("high_quality", "High quality (%)", "higher", factor=100, needs="points", decimals=1)
PSNR = Score("psnr", "PSNR (dB)", "higher", needs="super-resolution")

SCORES = (
    FID,
    KID,
    IS,
    PRECISION,
    RECALL,
    REVERSE_KL,
    MODES,
    HIGH_QUALITY,
    MODE_KL,
    Score("modes_knn", "kNN modes", "higher", needs="classes"),
    MODE_KL_KNN,
    COND_ACCURACY,
    Score("class_fid", "Class FID", "lower", needs="label"),
    PSNR,
    Score("ssim", "SSIM", "higher", needs="super-resolution"),
)
"""Scores of samples, in the order of the main table's columns. The verdict goes by the first."""

MEMORISATION = (
    Score("density", "Density"),
    Score("coverage", "Coverage"),
    Score("authpct", "AuthPct", decimals=1),
    Score("c_t", "C_T", decimals=2),
)
"""Scores of images against all training images, of the final weights alone, in the order of their table.

None has a direction: a copier has the best coverage, and noise the best AuthPct. They are read against what
held-out images get.
"""

UNRANKED = (
    Score("isc_std", "IS, std over splits"),
    Score("kid_std", "KID, std over subsets"),
    Score("psnr_bicubic", "PSNR of bicubic (dB)", needs="super-resolution"),
    Score("ssim_bicubic", "SSIM of bicubic", needs="super-resolution"),
    FID_INFINITY,
)
"""Recorded beside those, without a column in the main table; CSV files have them."""


def _accuracies(section: str) -> tuple[Score, ...]:
    """Accuracy of the discriminator in percent: on real images, on generated ones, and the mean of both."""
    return tuple(
        Score(kind, kind, factor=100, section=section, decimals=1) for kind in ("real", "fake", "balanced")
    )


TRAIN_ACCURACY = _accuracies("d_accuracy.train")
HELDOUT_ACCURACY = _accuracies("d_accuracy.heldout")
NEAR_HALF = Score("near_half", "Near ½", section="d_accuracy")
NEAR_HALF_SINCE = Score("near_half_since", "Near ½ since step", section="d_accuracy", decimals=0)
BEST_STEP = Score("step", "Best step", section="best", decimals=0)
ACCURACY_GAP = Score("d_accuracy_gap", "D acc. gap", "lower", section="")
"""Distance of the held-out balanced accuracy from one half. Computed where it is needed, not recorded."""

COMPUTE_S = Score("compute_s", "compute (s)", section="cost")
"""Processor time, or time on the wall of a GPU: what a run cost on a machine that does other things too."""
TRAIN_S = Score("train_s", "train (s)", "lower", section="cost")
DEVICE_S = Score("device_s", "wall (s)", section="cost")
COSTS = (
    COMPUTE_S,
    Score("train_compute_s", "of it training (s)", section="cost"),
    TRAIN_S,
    Score("eval_s", "score (s)", section="cost"),
    DEVICE_S,
    Score("steps_per_s", "steps/s", section="cost"),
    Score("peak_memory_mb", "peak MB", section="cost"),
    Score("energy_j", "energy (J)", section="cost"),
)

OBJECTIVES: Mapping[str, Score] = {score.name: score for score in (*SCORES, ACCURACY_GAP, TRAIN_S)}
"""What a search may optimise, by name. Of several extractors the first that has the score counts."""


ALL = (*SCORES, *UNRANKED, ACCURACY_GAP, TRAIN_S)
"""The names that a user's own score cannot have."""


def needed(score: Score) -> str:
    """What a score needs, in words."""
    words: Mapping[Need | None, str] = {
        None: "",
        "classes": "a data set with classes, and its classifier as extractor",
        "label": "the same, and a model that is given labels",
        "super-resolution": "a super-resolution model",
        "points": "points in the plane",
        "classes or points": "classes, and their classifier as extractor; or points in the plane",
        "--infinity": "samples scored by `bench.score --infinity`",
    }
    return words[score.needs]


def markdown(scores: Iterable[Score]) -> str:
    """The table of scores as the documentation has it."""
    rows = [
        f"| `{score.name}` | {score.label} | {score.better or ''} | {needed(score)} |" for score in scores
    ]
    return "\n".join(["| name | in tables | better | needs |", "|---|---|---|---|", *rows]) + "\n"
