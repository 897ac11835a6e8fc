"""How a command is asked to stop: Ctrl-C, SIGTERM, a terminal that closes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator

Stop = Callable[[], bool]
"""Whether to stop: asked between slices of training."""

ECHO_S = 0.3
"""Seconds in which a signal that comes again is the same: ``timeout`` sends it to its child and to the group.
A closed terminal repeats it as often as it likes: the kernel does, and then the shell."""

SHOW_CURSOR = b"\x1b[?25h\n"
"""To a terminal: a live display hides the cursor."""


class Interrupt:
    """A request to stop. A second one ends the process at once."""

    signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.signal: int | None = None
        self.first = math.inf

    def __call__(self, number: int, frame: object) -> None:
        if self.signal is None:
            self.signal, self.first = number, time.monotonic()
        elif number != signal.SIGHUP and time.monotonic() - self.first > ECHO_S:
            if os.isatty(1):
                os.write(1, SHOW_CURSOR)
            os._exit(128 + number)  # workers notice that their parent is gone

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Handle these signals within the block, except a SIGHUP that is ignored, as under ``nohup``."""
        nohup = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        before = {number: signal.signal(number, self) for number in {*self.signals} - nohup}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Notice(Interrupt):
    """In a job of an engine, SIGUSR2 too: its time is up. It has until the engine kills it."""

    signals = (*Interrupt.signals, signal.SIGUSR2)

    def __call__(self, number: int, frame: object) -> None:
        self.signal = self.signal or number
