"""Sample the generator of a finished run into a file.

    python -m bench.sample results/runs/vanilla-mnist-0123456789ab/seed-0 --n 64 --out grid.png

Exit codes: 0 written; 1 the file cannot be written; 2 the request was wrong.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import Parser, chosen, number, path, run_main
from bench.errors import UsageError, nearest, printable
from bench.plan import WEIGHTS

if TYPE_CHECKING:
    from bench.trained import Trained

KINDS = (".npz", ".png", ".gif")


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="bench.sample", description=__doc__.partition("\n\n")[0] if __doc__ else None, epilog=EPILOG
    )
    p.add_argument("run", type=path, metavar="RUN", help="the folder of a run, results/runs/…/seed-0")
    p.add_argument(
        "--out", type=path, required=True, metavar="FILE",
        help=".npz (arr_0, labels as arr_1), .png (a grid), .gif (a film), or a new folder of PNGs",
    )  # fmt: skip
    p.add_argument("--n", type=number(int, 1, 10**7), metavar="N", help="images (default 64)")
    p.add_argument(
        "--seed", type=number(int, 0, 2**32 - 1), metavar="SEED",
        help="of the noise; default: the run's, whose first images are those that were scored",
    )  # fmt: skip
    p.add_argument(
        "--labels", type=number(int, 0), nargs="+", metavar="CLASS",
        help="classes, taken in turn; conditional models only. Default: drawn as for the scores",
    )  # fmt: skip
    p.add_argument(
        "--select-weights", type=chosen(WEIGHTS), metavar="WHOSE",
        help="ema or trained; default: those whose scores tables show",
    )  # fmt: skip
    p.add_argument("--force", action="store_true", help="replace the file if it is there")
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or auto")
    p.add_argument(
        "--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets (default data)"
    )
    return p


EPILOG = """examples:
  python -m bench.sample RUN --n 10000 --out samples.npz
  python -m bench.sample RUN --n 100 --labels 0 1 2 3 4 5 6 7 8 9 --out grid.png
  python -m bench.sample RUN --n 16 --out interpolation.gif
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    _check_out(args.out, force=args.force)
    from bench.loading import load

    run = load(args.run, device=args.device, data_root=args.data_root, weights=args.select_weights)
    n = args.n or 64
    labels = None if args.labels is None else [args.labels[k % len(args.labels)] for k in range(n)]
    if "points" in run.record["protocol"]["dataset"] and args.out.suffix != ".npz":
        raise UsageError(f"--out: {args.out.name} is for images, and these are points in the plane; use .npz")
    _write(run, n, labels, args)
    print(printable(args.out))
    return 0


def keep(folder: Path, n: int, *, device: str, data_root: Path) -> None:
    """Write ``samples.npz`` of a finished run, as ``bench.run --save-samples`` does at the end of a run.

    Nothing is done where it holds n images. Of super-resolution there is one per image of the split.

    Raises:
        UsageError: the run cannot be sampled.
    """
    from bench.scoring import pictures

    if pictures.n_images(folder / "samples.npz") >= n:
        return
    from bench.loading import load

    run = load(folder, device=device, data_root=data_root)
    n = n if run.gan.noise else min(n, run.record["protocol"]["n_fake"])
    pictures.write_arrays(run.sample(n), run.labels(n), folder / "samples.npz")


def _check_out(out: Path, *, force: bool) -> None:
    """Refuse a file of an unknown kind, and one that is there.

    Raises:
        UsageError: naming it.
    """
    if out.suffix and out.suffix not in KINDS:
        kinds = f"{', '.join(KINDS)}, or no suffix for a folder"
        raise UsageError(f"--out: {out.suffix!r} is not allowed; {kinds}{nearest(out.suffix, KINDS)}")
    if not out.suffix and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise UsageError(f"--out: {out} is there and not empty; name a new folder")
    if out.suffix and out.exists() and not force:
        raise UsageError(f"--out: {out} is there; --force replaces it")


def _write(run: Trained, n: int, labels: list[int] | None, args: Namespace) -> None:
    """Sample, and write what the name of ``--out`` says."""
    import numpy as np
    import torch

    from bench.scoring import pictures

    columns = len(args.labels) if args.labels and len(args.labels) > 1 else math.ceil(math.sqrt(n))
    if args.out.suffix == ".gif":
        pictures.write_film(run.interpolate(n, seed=args.seed, labels=labels), columns, args.out)
        return
    images = run.sample(n, seed=args.seed, labels=labels)
    asked = run.labels(n, seed=args.seed) if labels is None else np.asarray(labels, dtype=np.int64)
    if args.out.suffix == ".npz":
        pictures.write_arrays(images, asked, args.out)
    elif args.out.suffix == ".png":
        pictures.write_grid(torch.from_numpy(images).permute(0, 3, 1, 2), columns, args.out)
    else:
        pictures.write_folder(images, asked, args.out)


if __name__ == "__main__":
    run_main(main)
