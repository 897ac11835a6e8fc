"""How much of the machine other programs use while something is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

MOST = 0.1
"""Cores that others may use. A measurement beside more is distorted."""


class Watch:
    """From its making on."""

    def __init__(self) -> None:
        self.start, self.busy = time.perf_counter(), busy_s()

    def others(self, own_s: float) -> float:
        """Cores that others used since, on average; ``own_s``: processor seconds of what was measured.

        NaN where the system does not say how long its processors worked.
        """
        return (busy_s() - self.busy - own_s) / max(1e-9, time.perf_counter() - self.start)


def busy_s() -> float:
    """Seconds for which the processors have worked, for whomever, or were taken from this machine; or NaN."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return float("nan")
    user, nice, system, _, _, irq, softirq, steal = map(int, first.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
