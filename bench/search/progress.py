"""Live progress of a search, read from the study: what every process on it does."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.errors import printable
from bench.search.objectives import DIRECTIONS
from bench.search.study import SETTLED, SharedStudy, Slot

LOOK_EVERY = 1.0
"""Seconds between looks at the study: a database is asked each time."""

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal and nothing happened."""


class StudyProgress:
    """A bar in a terminal; a line for each trial that ended, there and elsewhere."""

    def __init__(self, shared: SharedStudy, objective: str) -> None:
        self.shared, self.objective, self.console = shared, objective, Console()
        self.known: dict[int, int] = {
            slot.number: slot.last.number for slot in shared.slots().values() if slot.state in SETTLED
        }
        self.lost: set[int] = set()
        self.told = self.looked = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=shared.total)

    def __enter__(self) -> StudyProgress:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.look()
        finally:
            self.bar.stop()

    def tick(self) -> None:
        """Look at the study, if the last look was long enough ago."""
        if time.monotonic() - self.looked > LOOK_EVERY:
            self.looked = time.monotonic()
            self.look()

    def look(self) -> None:
        """Look at the study, and say what has changed."""
        slots = [slot for number, slot in self.shared.slots().items() if number < self.shared.total]
        settled = [slot for slot in slots if slot.state in SETTLED]
        state = self._state(slots, settled)
        for slot in slots:
            for trial in slot.attempts:
                if trial.user_attrs.get("ending") == "lost" and trial.number not in self.lost:
                    self.lost.add(trial.number)
                    self._print(f"trial {slot.number}: attempt lost ({trial.user_attrs.get('reason')})")
        for slot in settled:
            if self.known.get(slot.number) != slot.last.number:
                self.known[slot.number] = slot.last.number
                self._print(f"trial {slot.number}: {self._ended(slot)}; {state}")
        if self.console.is_terminal:
            self.bar.update(self.task, completed=len(settled), description=state)
        elif time.monotonic() - self.told > LINE_EVERY:
            done = f"{len(settled)}/{self.shared.total}"
            self._print("; ".join(filter(None, [f"{done} trials, {state}", self._running(slots)])))

    def _state(self, slots: list[Slot], settled: list[Slot]) -> str:
        """``best fid 12.3, 2 running, 3 pruned, 0 failed``."""
        values = [slot.last.values[0] for slot in settled if slot.state == "complete" and slot.last.values]
        pick = min if DIRECTIONS[self.objective] == "minimize" else max
        best = f"{pick(values):.5g}" if values else "none yet"
        counts = {name: sum(slot.state in states for slot in slots) for name, states in COUNTED.items()}
        return f"best {self.objective} {best}, " + ", ".join(f"{n} {name}" for name, n in counts.items())

    def _running(self, slots: list[Slot]) -> str:
        """``trial 3 at step 400: fid 35.1``, as far as it was scored."""
        said = []
        for slot in slots:
            if slot.state == "running" and (reported := slot.last.intermediate_values):
                step = max(reported)
                said.append(f"trial {slot.number} at step {step}: {self.objective} {reported[step]:.5g}")
        return "; ".join(said)

    def _ended(self, slot: Slot) -> str:
        if slot.state == "complete" and slot.last.values:
            return f"{self.objective} {slot.last.values[0]:.5g}"
        return f"{slot.state} ({slot.reason})"

    def _print(self, line: str) -> None:
        self.told = time.monotonic()
        self.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


COUNTED = {"running": ("running",), "pruned": ("pruned",), "failed": ("diverged", "failed")}
