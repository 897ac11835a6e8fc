"""Hand runs on to another tool: ``python -m reports.export results --to tensorboard DIR``.

    python -m reports.export results --to tensorboard logs    # then: tensorboard --logdir logs
    python -m reports.export results --to wandb PROJECT       # as wandb is set up here; WANDB_MODE=offline
    python -m reports.export results --to trackio PROJECT     # then: trackio show

Each run goes with its losses, the scores along training and at the end, its sample grids, and its
hyperparameters. Nothing of the machine is handed on; what a tool records by itself is its own matter. The
tool's package must be installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.cli import Parser, path, run_main
from bench.errors import UsageError, nearest, printable

TOOLS = ("tensorboard", "wandb", "trackio")


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="reports.export", description=__doc__)
    p.add_argument("roots", nargs="*", type=path, default=[Path("results")], metavar="RESULTS")
    p.add_argument(
        "--to", nargs=2, required=True, metavar=("TOOL", "WHERE"),
        help="tensorboard and a new folder, or wandb or trackio and a project",
    )  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    tool, where = args.to
    if tool not in TOOLS:
        raise UsageError(f"--to: {tool!r} is not allowed; {', '.join(TOOLS)}{nearest(tool, TOOLS)}")
    if not where.strip():
        raise UsageError(f"--to {tool}: '' is not allowed; {_wanted(tool)}")
    folder = Path(where)
    if tool == "tensorboard" and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise UsageError(f"--to tensorboard: {where} is there and not empty; name a new folder")
    if find_spec(tool) is None:
        raise UsageError(f"--to {tool}: the package is not installed; pip install {tool}")
    from reports import exports, load

    missing = [str(root) for root in args.roots if not root.is_dir()]
    if missing:
        raise UsageError(f"{', '.join(missing)}: no such folder")
    runs = load(args.roots)
    for line in runs.attrs["skipped"]:
        print(f"skipped {line}", file=sys.stderr)
    if runs.empty:
        raise UsageError(f"{', '.join(map(str, args.roots))}: no finished runs")
    found = exports.exports(runs, args.roots)
    getattr(exports, f"to_{tool}")(found, where)
    print(printable(f"{len(found)} {'run' if len(found) == 1 else 'runs'} to {tool}: {where}"))
    return 0


def _wanted(tool: str) -> str:
    return "name a new folder" if tool == "tensorboard" else "name a project"


if __name__ == "__main__":
    run_main(main)
