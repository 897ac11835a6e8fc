"""How it is measured: data, scores, jobs, records and the command line.

``bench.load("results/runs/…/seed-0")`` gives a finished run with its generator.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Any

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # A command (python -m bench.run) that is still importing: Ctrl-C ends it, with no traceback of imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
    """The public function, without importing PyTorch until it is asked for.

    The name of its module is put together here: modules that are imported under a plain name belong to the
    code that a run's numbers depend on (:mod:`bench.identity.modules`).
    """
    if name == "load":
        return import_module(f"{__name__}.loading").load
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
