"""Score images that were made elsewhere, as another row of the same tables.

    python -m bench.score a.npz b.npz c.npz --name StyleGAN2 --dataset cifar10

Each file or folder holds the samples of one training seed. They are scored as the samples of the harness's
own models are, by the protocol of the other runs in --out. Exit codes: 0 scored, or scored before; 1 the
samples cannot be scored, or the results cannot be written; 2 the request was wrong.
"""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cli import MOST_OF_A_LABEL, Parser, chosen, number, path, run_main, word
from bench.data.arrays import LAYOUTS, Read, Reading
from bench.errors import UsageError, printable
from bench.execution.devices import devices
from bench.plan import RunContext
from bench.scoring.extractors import named, weights
from bench.store import records, results
from bench.store.jobs import Job

EPILOG = """examples:
  python -m bench.score seed-0.npz seed-1.npz seed-2.npz --name DDPM --dataset mnist
  python -m bench.score samples/ --name StyleGAN2 --dataset cifar10 --seeds 7 --features inception-v3-compat
  python -m bench.score floats.npy --range -1 1 --name mine --dataset digits --infinity
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="bench.score", description=__doc__.partition("\n\n")[0] if __doc__ else None, epilog=EPILOG
    )
    p.add_argument(
        "samples", nargs="+", type=path, metavar="SAMPLES",
        help=".npz, .npy or a folder of images, one per training seed of the model",
    )  # fmt: skip
    p.add_argument("--name", type=word, required=True, metavar="LABEL", help="what tables call the model")
    p.add_argument(
        "--dataset", required=True, metavar="NAME", help="as for bench.run; the samples imitate its images"
    )
    p.add_argument(
        "--seeds", type=number(int, 0, 2**32 - 1), nargs="+", metavar="SEED",
        help="the training seeds of SAMPLES, in their order (default 0, 1, ...)",
    )  # fmt: skip
    read = p.add_argument_group("how samples are read")
    read.add_argument("--key", type=word, metavar="NAME", help="of the images in an .npz (default arr_0)")
    read.add_argument(
        "--labels-key", type=word, metavar="NAME", help="of the labels in it (default arr_1, if there is one)"
    )
    read.add_argument(
        "--layout", type=chosen(LAYOUTS), metavar="NAME", help="NHWC or NCHW, if sizes do not tell"
    )
    read.add_argument(
        "--range",
        type=number(float, -1e6, 1e6),
        nargs=2,
        metavar=("BLACK", "WHITE"),
        help="of float images: 0 1, -1 1",
    )
    read.add_argument("--unlabelled", action="store_true", help="leave labels and sub-folders out")
    how = p.add_argument_group("how they are scored")
    how.add_argument(
        "--features", type=named, nargs="+", metavar="NAME",
        help="default: those of the other runs in --out, or else classifier",
    )  # fmt: skip
    how.add_argument(
        "--draws", type=number(int, 1, 1000), metavar="N",
        help="draws of samples that scores are averaged over; default: as the other runs, or else 3",
    )  # fmt: skip
    how.add_argument(
        "--infinity", action="store_true", help="also FID∞, and KID against the number of samples"
    )
    at = p.add_argument_group("where")
    at.add_argument("--out", type=path, default=Path("results"), metavar="DIR", help="default results")
    at.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu or cuda")
    at.add_argument("--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets")
    at.add_argument("--offline", action="store_true", help="never touch the network")
    at.add_argument("--inception-weights", type=path, metavar="FILE", help="instead of a download")
    at.add_argument(
        "--weights", type=weights, nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="of extractors, instead of a download",
    )  # fmt: skip
    at.add_argument(
        "--fresh", action="store_true", help="score again what is on record; the old record is kept"
    )
    return p


@dataclass(frozen=True)
class Given:
    """The samples of one training seed."""

    path: Path
    seed: int
    read: Read
    about: Mapping[str, Any]
    """What the record says of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    seeds = _seeds(args)
    _check_name(args.name)
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out: {args.out} is not a folder")
    context = RunContext(
        out=args.out.absolute(),
        data_root=args.data_root.absolute(),
        offline=args.offline,
        device=devices(args.device)[0],
        inception_weights=args.inception_weights,
        weights=tuple((name, file.absolute()) for name, file in args.weights),
    )
    from bench.execution import elsewhere, rivals
    from bench.scoring.metrics import ScoreError

    table = rivals.find(args.dataset, args.features, args.draws, context)
    for line in table.notes:
        print(line)
    how = Reading(args.key, args.labels_key, args.layout, args.range and tuple(args.range), args.unlabelled)
    given = [_read(each, seed, how, table) for each, seed in zip(args.samples, seeds, strict=True)]
    _check_distinct(given)
    jobs = [elsewhere.job_of(args.name, seed, table.dataset, table.source, table.protocol) for seed in seeds]
    todo = _todo(args, given, jobs, context)
    if todo:
        evaluator = elsewhere.evaluator_of(table.dataset, table.protocol, context)
    for each, job in todo:
        print(f"scoring {each.path} as {args.name}, seed {each.seed}", flush=True)
        folder = job.folder(context.out)
        try:
            result = elsewhere.record(
                folder, job, each.about, each.read, evaluator, with_infinity=args.infinity
            )
        except ScoreError as error:
            print(printable(f"error: {each.path}: {error}"), file=sys.stderr)
            return 1
        for extractor, curve in result.get("infinity", {}).items():
            print(_infinity(result, extractor, curve))
    _close(context.out, {job.run_id for job in jobs})
    return 0


# ------------------------------------------------------------------ the request


def _seeds(args: Namespace) -> list[int]:
    """The training seed of each argument.

    Raises:
        UsageError: there are not as many as samples, or one is named twice.
    """
    seeds = args.seeds or list(range(len(args.samples)))
    if len(seeds) != len(args.samples):
        raise UsageError(f"--seeds: {len(seeds)} of them for {len(args.samples)} SAMPLES; one for each")
    twice = [seed for seed, n in Counter(seeds).items() if n > 1]
    if twice:
        raise UsageError(f"--seeds: {twice[0]} is named twice")
    return list(seeds)


def _check_name(name: str) -> None:
    """Refuse a name that tables cannot show, or that one of our models has."""
    from baselines import registry

    if len(name) > MOST_OF_A_LABEL or name != printable(name):
        raise UsageError(f"--name: a printable name of at most {MOST_OF_A_LABEL} characters, not {name!r}")
    if name in registry.names() or ":" in name:
        raise UsageError(
            f"--name: {name!r} is the name of a model of this harness; add where its samples come "
            f"from, as in {name.replace(':', '-') + ' (their code)'!r}"
        )


def _read(given: Path, seed: int, how: Reading, table: Any) -> Given:
    """Samples, as many as the protocol scores.

    Raises:
        UsageError: they cannot be used, or are too few.
    """
    from bench.data.samples import read_samples
    from bench.execution.elsewhere import describe, n_needed

    protocol = table.protocol
    need, each = n_needed(protocol), protocol["n_fake"]
    read = read_samples(given, how, table.dataset, need)
    if len(read.images) < need:
        several = f" ({protocol['draws']} draws of {each:,})" if protocol["draws"] > 1 else ""
        less = f", or score fewer draws, in a table of their own: --draws {len(read.images) // each}"
        less = less if protocol["draws"] > 1 and len(read.images) >= each else ""
        raise UsageError(
            f"{given}: {len(read.images):,} images, and the protocol of {table.dataset.name} scores "
            f"{need:,}{several}: sample more{less}"
        )
    if read.n_held > need:
        print(f"{given}: the first {need:,} of its {read.n_held:,} images are scored")
    for note in read.notes:
        print(printable(f"note: {given}: {note}"), file=sys.stderr)
    return Given(given, seed, read, describe(given, how, read))


def _check_distinct(given: Sequence[Given]) -> None:
    """Refuse the same samples under two seeds: their spread would be none."""
    known: dict[str, Path] = {}
    for each in given:
        other = known.setdefault(each.about["sha256"], each.path)
        if other != each.path:
            raise UsageError(f"{other} and {each.path} hold the same images; give one for each training seed")


def _todo(
    args: Namespace, given: Sequence[Given], jobs: Sequence[Job], context: RunContext
) -> list[tuple[Given, Job]]:
    """What is to be scored; what is on record and is scored again is put away first.

    Raises:
        UsageError: other samples of this name and seed are on record.
    """
    todo, old = [], []
    for each, job in zip(given, jobs, strict=True):
        folder = job.folder(context.out)
        record = results.usable_record(folder, job, mine=True)
        if record is not None and not args.fresh:
            if record["samples"]["sha256"] != each.about["sha256"]:
                raise UsageError(
                    f"--name {args.name!r}: other samples of seed {each.seed} are on record, "
                    f"from {record['samples']['file']}; give another --name or seed, or --fresh, which keeps "
                    "the old record"
                )
            if not args.infinity or "infinity" in record:
                print(f"{each.path}: on record as {args.name}, seed {each.seed}; reused")
                continue
        todo.append((each, job))
        old += [folder] if record is not None else []
    for folder in old:
        folder.rename(results.old_name(folder))
    return todo


# ------------------------------------------------------------------ the result


def _infinity(record: records.Record, extractor: str, curve: Mapping[str, Any]) -> str:
    """FID∞ and KID of one extractor in words."""
    fid, sizes = curve["fid"], curve["n"]
    kids = ", ".join(f"{1e3 * kid:.3g} at {n:,}" for kid, n in zip(curve["kid"], curve["kid_n"], strict=True))
    return (
        f"  {extractor}: FID∞ {record['metrics'][extractor]['fid_infinity']:.4g} (FID {fid[0]:.4g} at "
        f"{sizes[0]:,} to {fid[-1]:.4g} at {sizes[-1]:,} samples, R² of the line {curve['r2']:.3f}); "
        f"KID ×10³ {kids}"
    )


def _close(out: Path, ids: set[str]) -> None:
    """Print the table that the samples stand in, and write the report on all runs in ``out``."""
    from reports import build, groups, load
    from reports.tables import tables, terminal

    runs = load(out)
    width = shutil.get_terminal_size().columns  # 80 where there is no terminal
    for group in groups.groups(runs):
        if ids & set(group.summary["id"]):
            print(terminal.shown(tables.scores(group), width, sys.stdout.encoding or "utf-8"))
    build.build([out], out / "report", ("markdown", "csv", "html"), runs=runs, quick=True)
    print(f"report: {printable(out / 'report' / 'report.html')}")


if __name__ == "__main__":
    run_main(main)
