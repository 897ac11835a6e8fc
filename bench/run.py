"""Train models over seeds, score them, and say which is better.

    python -m bench.run --models vanilla --seeds 5

plan -> execute -> summary. Exit codes: 0 all runs finished; 1 some failed or diverged (they are
kept and reported); 2 the request was wrong; 130 or 143 interrupted: the same command goes on.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from bench import where
from bench.cli import Parser, chosen, configurations, label, number, run_main, setting, word
from bench.errors import UsageError, nearest, printable
from bench.execution.progress import Progress
from bench.execution.run_source import Runs
from bench.execution.signals import Interrupt
from bench.execution.stacking import n_stacks, seeds_per_stack, unstackable
from bench.plan import PRECISIONS, WEIGHTS, RunContext, Spec, Trial, Trials, plan
from bench.reuse import explain
from bench.scoring.extractors import AUTO, named
from bench.scoring.protocols import PROTOCOLS, follow
from bench.store import files, records, results
from bench.store.jobs import Job
from bench.store.leases import holder, is_leased

MOST = 10**12
"""Of anything that is counted."""


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.run", description=__doc__.partition("\n\n")[0] if __doc__ else None, epilog=EPILOG)
    _add_training(p)
    _add_scoring(p)
    where.add_flags(p, stack="seeds that train as one stack", retries=(1, "of a run that fails (default 1)"))
    p.add_argument("--fresh", action="store_true", help="compute again what is there; the old is kept")
    p.add_argument("--list", action="store_true", help="print models, data sets and features")
    return p


def _add_training(p: Parser) -> None:
    what = p.add_argument_group("what is trained")
    what.add_argument("--models", nargs="+", metavar="MODEL", help="names (see --list), or module:function")
    seeds = what.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=number(int, 1, 10**6), metavar="N", help="0 to N-1 (default 5)")
    seeds.add_argument(
        "--seed-list", type=number(int, 0, 2**32 - 1), nargs="+", metavar="SEED", help="these seeds"
    )
    what.add_argument(
        "--dataset", nargs="+", default=["auto"], metavar="NAME",
        help="auto (default), digits, mnist, fashion-mnist, kmnist, cifar10, folder:PATH, array:FILE or "
        "module:function",
    )  # fmt: skip
    where.add_image_size(what)
    what.add_argument(
        "--steps", type=number(int, 1, MOST), metavar="N", help="iterations; default by data set"
    )
    what.add_argument("--batch-size", type=number(int, 1, MOST), metavar="N", help="for every model")
    what.add_argument(
        "--set", type=setting, nargs="+", action="extend", default=[], metavar="MODEL.PARAM=VALUE",
        help="hyperparameters (see --list); one with several values makes a configuration of each",
    )  # fmt: skip
    what.add_argument(
        "--label", type=label, nargs="+", action="extend", default=[], metavar="MODEL=NAME",
        help="what tables and figures call a model's runs; it can be changed at any time",
    )  # fmt: skip
    what.add_argument(
        "--precision", type=chosen(PRECISIONS), default="float32", metavar="NAME",
        help="of the networks in training: float32 (default), tf32 (on GPUs), bf16",
    )  # fmt: skip


def _add_scoring(p: Parser) -> None:
    how = p.add_argument_group("how it is scored")
    how.add_argument(
        "--eval-every", type=number(int, 1, MOST), metavar="N", help="iterations; default a tenth"
    )
    how.add_argument(
        "--features", type=named, nargs="+", metavar="NAME",
        help="auto (default: classifier for data with labels, else generic), inception-v3-compat, others "
        "(see --list), or module:function",
    )  # fmt: skip
    how.add_argument(
        "--scores", type=word, nargs="+", default=[], metavar="NAME",
        help="your own, beside those of this harness: module:function",
    )  # fmt: skip
    how.add_argument(
        "--select", type=chosen(("final", "best")), default="final", metavar="STEP",
        help="final (default), or best: hold out a validation split and score its best step too",
    )  # fmt: skip
    how.add_argument(
        "--select-weights", type=chosen(WEIGHTS), default="ema", metavar="WHOSE",
        help="whose scores tables show: ema (default: of the averaged weights, where MODEL.ema sets an "
        "average), or trained",
    )  # fmt: skip
    how.add_argument(
        "--d-acc-tolerance", type=number(float, 0, 0.5), default=0.15, metavar="X",
        help="half-width of the band around 50 %% (default 0.15)",
    )  # fmt: skip
    how.add_argument(
        "--protocol", type=chosen(tuple(PROTOCOLS)), metavar="NAME",
        help=f"a paper's nets, z, batch, optimizer, steps and features: {', '.join(PROTOCOLS)}",
    )  # fmt: skip
    how.add_argument(
        "--save-samples", type=number(int, 0, MOST), default=0, metavar="N",
        help="of each run, as samples.npz; finished runs are sampled from their weights",
    )  # fmt: skip
    how.add_argument(
        "--draws", type=number(int, 1, 1000), metavar="N",
        help="draws of samples that a run's scores are averaged over, at the last step (default 3, without "
        "--protocol)",
    )  # fmt: skip
    how.add_argument(
        "--strict-environment", action="store_true",
        help="no table of runs from several environments (torch, device and so on): exit code 1, runs kept",
    )  # fmt: skip


EPILOG = """examples:
  python -m bench.run --models vanilla --seeds 5
  python -m bench.run --models vanilla dcgan --dataset mnist --steps 5000 --set vanilla.lr=1e-4
  python -m bench.run --models dcgan --executor slurm --slurm partition=gpu gres=gpu:1 --workers 8
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    if args.list:
        from bench.listing import print_list

        print_list()
        return 0
    if not args.models:
        raise UsageError("--models: name at least one; --list shows them")
    labels = _labels(args)
    where.say_planning(args.models, args.dataset)
    context, slots = where.context_of(args, save_samples=args.save_samples)
    trials: Trials = []
    untried = trials if where.workers_try(args) else None
    jobs = plan(_spec(args), context, dry_run=args.dry_run, trials=untried)
    if args.dry_run:
        return _print_plan(jobs, context)
    note = partial(_note_command, argv, jobs, context, labels)
    if args.fresh:
        _put_away(jobs, context)
    todo, reused = _sort(jobs, context)
    if not (trials and todo):
        note()
    at = where.names(args, slots)
    print(f"{_runs(len(jobs))}, {reused} reused, {len(todo)} to compute on {at}", flush=True)
    for line in (*explain(todo, context.out), *where.idle_cores(args, context, len(todo))):
        print(line, flush=True)
    with Interrupt().installed() as interrupt:
        if todo:
            _execute(args, todo, context, slots, interrupt, whole=jobs, trials=trials, ready=note)
    if interrupt.signal is not None:
        left = len(_sort(jobs, context)[0])
        what = f"{_runs(left)} {'is' if left == 1 else 'are'} not finished"
        same = "the same command without --fresh" if args.fresh else "the same command"
        print(f"interrupted: {what}; {same} goes on", file=sys.stderr)
        return 128 + interrupt.signal
    if args.detach and _sort(jobs, context)[0]:
        return 0
    kept = _save_samples(jobs, context) if args.save_samples else 0
    return max(kept, _close(jobs, context, strict_environment=args.strict_environment))


def _execute(
    args: Namespace,
    todo: Sequence[Job],
    context: RunContext,
    slots: Sequence[str],
    interrupt: Interrupt,
    *,
    whole: Sequence[Job],
    trials: Sequence[Trial] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Have the runs that are left of the ``whole`` plan computed, after these ``trials``."""
    n_workers = len(slots) if args.executor == "local" else args.workers or 1
    stack = args.stack or seeds_per_stack(todo, n_workers, gpus=where.on_gpus(args, context))
    alone = unstackable(todo) if stack > 1 else set()
    source = Runs(todo, context.out, stack=stack, retries=args.retries, whole=whole)
    for run_id in alone:
        source.smaller(run_id, 1)
    with Progress(todo, context.out) if args.workers != 0 else nullcontext() as progress:
        tick = progress.tick if progress else lambda: None
        most = n_stacks(todo, stack, alone)
        where.execute(
            args, source, context, slots, interrupt, most=most, tick=tick, trials=trials, ready=ready
        )


def _spec(args: Namespace) -> Spec:
    for flag, values in (
        ("--models", args.models),
        ("--dataset", args.dataset),
        ("--seed-list", args.seed_list or ()),
    ):
        twice = [value for value, n in Counter(values).items() if n > 1]
        if twice:
            raise UsageError(f"{flag}: {str(twice[0])!r} is named twice")
    if args.batch_size is not None:
        for model, name, _ in args.set:
            if name == "batch_size":
                raise UsageError(f"--batch-size: --set names {model}.batch_size as well")
    settings, variations = configurations(args.set)
    updates, draws, features = None, 3, list(dict.fromkeys(args.features or [AUTO]))
    if args.protocol:
        if len(args.dataset) > 1:
            raise UsageError("--protocol: one --dataset at a time, since steps differ by data set")
        followed = follow(args.protocol, args.models, args.dataset)
        for model in args.models:
            settings[model] = followed.settings(model, args.dataset[0]) | settings.get(model, {})
        updates, draws = followed.updates[args.dataset[0]], followed.draws or draws
        if args.features and set(features) != set(followed.features):
            raise UsageError(f"--features: --protocol {args.protocol} has {' '.join(followed.features)}")
        features = list(followed.features)
    return Spec(
        models=args.models,
        datasets=where.sized(args.dataset, args.image_size),
        seeds=sorted(args.seed_list) if args.seed_list else range(args.seeds or 5),
        steps=args.steps,
        updates=updates,
        eval_every=args.eval_every,
        features=features,
        scores=args.scores,
        hyperparameters=settings,
        variations=variations,
        batch_size=args.batch_size,
        select=args.select,
        d_acc_tolerance=args.d_acc_tolerance,
        precision=args.precision,
        threads=args.threads,
        draws=args.draws or draws,
        select_weights=args.select_weights,
    )


# ------------------------------------------------------------------ the runs that there are


def _sort(jobs: Sequence[Job], context: RunContext) -> tuple[list[Job], int]:
    """The jobs that are still to be computed, and how many are not: a failed run is tried again.

    Raises:
        UnreadableError: nobody can tell, because a record cannot be read.
    """
    todo = []
    for job in jobs:
        try:
            record = records.read_record(job.folder(context.out), job)
        except records.RecordError as error:
            print(f"{error}; to be computed again", file=sys.stderr)
            record = None
        if record is None or record["status"] == "failed":
            todo.append(job)
        else:
            for other in results.others(job.folder(context.out)):
                print(other, file=sys.stderr)
    return todo, len(jobs) - len(todo)


def _put_away(jobs: Sequence[Job], context: RunContext) -> None:
    """Rename the folders of these runs, so that they are computed again and nothing is lost.

    Raises:
        UsageError: another command is computing one of them.
    """
    folders = [folder for job in jobs if (folder := job.folder(context.out)).exists()]
    for folder in folders:
        if is_leased(folder):
            raise UsageError(f"--fresh: {folder} is being computed by {holder(folder)}")
    for folder in folders:
        folder.rename(results.old_name(folder))


def _save_samples(jobs: Sequence[Job], context: RunContext) -> int:
    """Sample finished runs that have fewer samples than asked for, such as reused ones, from their weights.

    Returns the exit code: 1 where a run cannot be sampled.
    """
    from bench.sample import keep

    code = 0
    for job in jobs:
        folder = job.folder(context.out)
        try:
            record = records.read_record(folder, job)
            if record is not None and record["status"] == "finished":
                keep(folder, context.save_samples, device=context.device, data_root=context.data_root)
        except (UsageError, records.RecordError) as error:
            print(f"--save-samples: {printable(error)}; --fresh computes the run again", file=sys.stderr)
            code = 1
    return code


def _labels(args: Namespace) -> dict[str, str]:
    """Model -> its label, where one is given.

    Raises:
        UsageError: the model is not asked for, or has two labels, or shares one.
    """
    found: dict[str, str] = {}
    for model, name in args.label:
        if model not in args.models:
            known = f"{' '.join(args.models)}{nearest(model, args.models)}"
            raise UsageError(f"--label: {model!r} is not among --models {known}")
        if model in found:
            raise UsageError(f"--label: {model!r} is named twice")
        if name in found.values():
            raise UsageError(f"--label: {name!r} is given to two models")
        found[model] = name
    return found


def _note_command(
    argv: Sequence[str] | None, jobs: Sequence[Job], context: RunContext, labels: Mapping[str, str]
) -> None:
    """Append the command to ``commands.jsonl``: what was asked (``auto``, say), and the runs it became.

    The labels stand there by the runs' folders: reports read them.
    """
    folders = {job.folder(context.out).parent.name: job.model for job in jobs}
    command = ["python", "-m", "bench.run", *(sys.argv[1:] if argv is None else argv)]
    note = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": command, "runs": sorted(folders)}
    named = {name: labels[model] for name, model in folders.items() if model in labels}
    line = json.dumps(note | ({"labels": named} if named else {}))
    files.append(context.out / results.COMMANDS, line + "\n")


def _print_plan(jobs: Sequence[Job], context: RunContext) -> int:
    todo, reused = _sort(jobs, context)
    waiting = set(map(id, todo))
    for job in jobs:
        what = "compute" if id(job) in waiting else "reuse"
        name = f"{job.model:12} {job.dataset:12} seed {job.seed:<4}"
        print(f"{what:8} {name} {job.steps} steps  {job.folder(context.out)}")
    for line in explain(todo, context.out):
        print(line)
    print(f"{_runs(len(jobs))}: {len(todo)} to compute, {reused} reused")
    return 0


def _runs(n: int) -> str:
    return f"{n} run" if n == 1 else f"{n} runs"


def _close(jobs: Sequence[Job], context: RunContext, *, strict_environment: bool = False) -> int:
    """Print the table, write the report on all runs in ``out``, and print how each failed run ended."""
    from reports import build, environments, groups, load
    from reports.tables import tables, terminal

    runs = load(context.out)
    mine = runs[runs["folder"].isin([str(job.folder(context.out)) for job in jobs])]
    if len(mine) < len(jobs):
        lost = f"the records of {len(jobs) - len(mine)} of {len(jobs)} runs are missing or damaged"
        print(f"error: {lost}; the same command computes them", file=sys.stderr)
    if runs.empty:
        return 1
    bad = mine[mine["status"] != "finished"]
    code = 1 if len(bad) or len(mine) < len(jobs) else 0
    try:
        found = groups.groups(mine)
        if strict_environment:
            environments.refuse_mixed(found)
        width = shutil.get_terminal_size().columns  # 80 where there is no terminal
        for group in found:
            print(terminal.shown(tables.scores(group), width, sys.stdout.encoding or "utf-8"))
        folder = context.out / "report"
        formats = ("markdown", "csv", "html")
        strict = strict_environment
        build.build([context.out], folder, formats, runs=runs, quick=True, strict_environment=strict)
        print(f"report: {printable(folder / 'report.html')}")
    except environments.MixedEnvironmentError as error:
        print(f"error: {error}; the runs are kept", file=sys.stderr)
        code = 1
    for run in bad.itertuples():
        log = Path(str(run.folder)) / "error.log"
        see = f"; see {log}" if log.is_file() else ""
        line = f"{run.status}: {run.model} {run.dataset} seed {run.seed}: {run.reason}{see}"
        print(printable(line), file=sys.stderr)
    return code


if __name__ == "__main__":
    run_main(main)
