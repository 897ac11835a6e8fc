"""Rows of samples that were made elsewhere: ``bench.score`` scored them, and no model was trained here."""

from __future__ import annotations

import pandas as pd

MARK = "‡"
"""Behind the names of such rows, in every format."""

COLUMN = "samples.sha256"
"""Only their records have it."""


def is_elsewhere(runs: pd.DataFrame) -> pd.Series:
    """For each run whether its samples were made elsewhere."""
    return runs[COLUMN].notna() if COLUMN in runs else pd.Series(False, index=runs.index)


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """The other runs: those that were trained here."""
    return runs[~is_elsewhere(runs)]
