"""CSV files that a spreadsheet shows as they are: no cell of them is a formula."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
ACTIVE = re.compile(r"(^|;)(?=\s*[=+\-@\t\r\n＝＋－＠])")
"""Where a formula would begin in a spreadsheet; in some countries a semicolon separates cells."""


def harmless(value: Any) -> Any:
    """A cell's value. A text that a spreadsheet would run gets an apostrophe in front; objects are JSON."""
    if isinstance(value, dict):
        return json.dumps(value)
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    return ACTIVE.sub(r"\1'", value)


def to_csv(frame: pd.DataFrame) -> str:
    """The frame as CSV, heads included."""
    texts = {
        str(name): frame[name].map(harmless, na_action="ignore")
        for name in frame
        if not pd.api.types.is_numeric_dtype(frame[name])
    }
    return frame.assign(**texts).rename(columns=harmless).to_csv(index=False)
