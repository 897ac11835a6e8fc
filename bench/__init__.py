"""How it is measured: data, scores, jobs, records and the command line.

``bench.load("results/runs/…/seed-0")`` gives a finished run with its generator.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

if os.path.basename(sys.argv[0]) in ("-m", "gan-bench"):  # noqa: PTH119
    # A command that is still importing. Ctrl-C ends it, with no traceback of imports.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("baselines", "bench", "reports"):
        if os.path.exists(f"{name}.py") and not sys.flags.safe_path:  # noqa: PTH110
            here = f"{name}.py in the working folder hides the package {name!r} of gan-bench"
            print(f"error: {here}: rename it, or work in another folder", file=sys.stderr)
            sys.exit(2)


def __getattr__(name: str) -> Any:
    """The public function, without importing PyTorch until it is asked for.

    The name of its module is put together here: modules that are imported under a plain name belong to the
    code that a run's numbers depend on (:mod:`bench.identity.modules`).
    """
    if name == "load":
        return import_module(f"{__name__}.loading").load
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
