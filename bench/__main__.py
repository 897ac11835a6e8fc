"""All commands under one name.

gan-bench run --models vanilla --seeds 5        the same as python -m bench.run --models vanilla --seeds 5
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from bench.cli import run_main
from bench.errors import UsageError, nearest

COMMANDS = {
    "run": ("bench.run", "train models over seeds, score them, and say which is better"),
    "tune": ("bench.tune", "search a model's hyperparameters"),
    "score": ("bench.score", "score images that were made elsewhere, in the same tables"),
    "report": ("reports.build", "tables, figures and a page from run folders"),
    "pack": ("reports.pack", "one file with all that a paper's appendix needs"),
    "sample": ("bench.sample", "samples of a finished run's generator"),
    "export": ("reports.export", "runs for TensorBoard, Weights & Biases or Trackio"),
    "verify": ("bench.verify", "recompute runs from their records, and compare"),
    "speed": ("bench.speed", "measure this machine"),
    "features": ("bench.features", "train the classifiers, or measure what their scores see"),
    "conformance": ("baselines.conformance", "check that a model keeps the interface's promises"),
}
"""Name -> module, and what it does."""


def usage() -> str:
    """What ``--help`` prints."""
    lines = [f"  {name:12} {what}  (python -m {module})" for name, (module, what) in COMMANDS.items()]
    return "\n".join(["usage: gan-bench COMMAND ...", "", *lines, "", "gan-bench COMMAND --help says more"])


def main() -> NoReturn:
    """Run the command that the first word names, and exit with its code."""
    run_main(_main)


def _main() -> int:
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        raise UsageError(f"{name!r} is not a command; one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    sys.path.insert(0, "")  # models are found in the working folder, as with python -m
    module = import_module(COMMANDS[name][0])
    sys.argv = [str(module.__file__), *words]
    code: int = module.main()
    return code


if __name__ == "__main__":
    main()
