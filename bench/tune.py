"""Search a model's hyperparameters, then retrain the winner on fresh seeds and score it on test.

    python -m bench.tune --model vanilla --trials 20 --seeds 2

Any number of these commands, on one machine or several that share ``--out``, search the same study together.
After a stop the same command goes on. Exit codes: 0 done; 1 nothing was found, or a retrained run failed;
2 the request was wrong; 130 or 143 interrupted.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import where
from bench.cli import Parser, chosen, number, path, run_main, setting, word
from bench.errors import UsageError, printable
from bench.execution.signals import Interrupt
from bench.execution.stacking import trials_per_worker
from bench.plan import PRECISIONS, RunContext
from bench.scoring.extractors import AUTO, named
from bench.search import FIRST_SEED, PRUNERS, SAMPLERS, addresses
from bench.search.objectives import DIRECTIONS
from bench.store.leases import STALE_S

if TYPE_CHECKING:
    from bench.search.request import Search
    from bench.search.study import SharedStudy

JOBS = 4
"""Jobs of an engine that search together, unless ``--workers`` says how many."""


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="bench.tune", description=__doc__.partition("\n\n")[0] if __doc__ else None, epilog=EPILOG
    )
    _add_space(p)
    _add_search(p)
    where.add_flags(
        p,
        stack="trials that a worker trains at once, as one stack where they can; default 1, on a GPU 8",
        retries=(2, "of a trial that is lost (default 2)"),
    )
    return p


def _add_space(p: Parser) -> None:
    what = p.add_argument_group("what is searched")
    what.add_argument(
        "--model", "--models", dest="models", nargs="+", metavar="MODEL", help="one study each, equal budgets"
    )
    what.add_argument("--dataset", default="auto", metavar="NAME", help="as for bench.run")
    where.add_image_size(what)
    what.add_argument(
        "--space",
        type=path,
        metavar="FILE.toml",
        help="ranges that replace the declared ones",
    )
    what.add_argument(
        "--set", type=setting, nargs="+", action="extend", default=[], metavar="MODEL.PARAM=VALUE",
        help="fixed, not searched",
    )  # fmt: skip
    what.add_argument(
        "--objective", type=chosen(tuple(DIRECTIONS)), nargs="+", default=["fid"], metavar="NAME",
        help=f"mean over seeds, on validation: {', '.join(DIRECTIONS)}; several give a Pareto front",
    )  # fmt: skip
    what.add_argument(
        "--features", type=named, nargs="+", default=[AUTO], metavar="NAME",
        help=f"as for bench.run; {AUTO} by default",
    )  # fmt: skip
    what.add_argument(
        "--precision", type=chosen(PRECISIONS), default="float32", metavar="NAME", help="as for bench.run"
    )


def _add_search(p: Parser) -> None:
    how = p.add_argument_group("how")
    how.add_argument("--trials", type=number(int, 1), default=20, metavar="N", help="in all (default 20)")
    how.add_argument("--seeds", type=number(int, 1), default=2, metavar="N", help="per trial (default 2)")
    how.add_argument(
        "--steps", type=number(int, 1), metavar="N", help="of a trial; default a quarter of the usual"
    )
    how.add_argument("--eval-every", type=number(int, 1), metavar="N", help="iterations; default a tenth")
    how.add_argument(
        "--sampler", type=chosen(SAMPLERS), default="tpe", metavar="NAME", help=", ".join(SAMPLERS)
    )
    how.add_argument("--sampler-seed", type=number(int, 0), default=0, metavar="N")
    how.add_argument(
        "--pruner", type=chosen(PRUNERS), metavar="NAME",
        help=f"{', '.join(PRUNERS)}; default median, none for several objectives",
    )  # fmt: skip
    how.add_argument(
        "--retrain", type=number(int, 0, FIRST_SEED), default=5, metavar="N",
        help="fresh seeds for the winner and for the default configuration, scored on test (default 5)",
    )  # fmt: skip
    how.add_argument(
        "--retrain-steps", type=number(int, 1), metavar="N", help="default --steps, or else the usual"
    )
    how.add_argument(
        "--study", type=word, metavar="NAME", help="default: by model, data set and a hash of the request"
    )
    how.add_argument(
        "--storage", type=word, metavar="URL",
        help="a database, or '$GAN_BENCH_STORAGE', the address in that variable; default a journal",
    )  # fmt: skip
    how.add_argument(
        "--deadline", type=number(float, 1), default=STALE_S, metavar="SECONDS",
        help="a trial whose process gives no sign of life for so long is tried again (default 60)",
    )  # fmt: skip


EPILOG = """examples:
  python -m bench.tune --model vanilla --trials 20 --seeds 2
  python -m bench.tune --models vanilla dcgan --sampler random --trials 50
  python -m bench.tune --model dcgan --objective fid train_s --space ranges.toml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    _check(args)
    where.say_planning(args.models, [args.dataset])
    context, slots = where.context_of(args)
    args.storage = addresses.hide(args.storage) if args.storage else None
    from bench.search import request  # imports PyTorch

    searches = request.searches(args, context)
    if args.dry_run:
        for search in searches:
            print(search)
            for name, values in search.space.items():
                print(f"  {name}: {values}")
        return 0
    codes = []
    for search in searches:
        shared = _open(args, search)
        try:
            code = _run(args, search, shared, context, slots)
        except addresses.StorageError as error:
            print(printable(f"stopped: {error}; the same command goes on"), file=sys.stderr)
            return 1
        if code >= 128:
            return code
        codes.append(code)
    return max(codes)


def _check(args: Namespace) -> None:
    if not args.models:
        raise UsageError("--model: name at least one; python -m bench.run --list shows them")
    for flag, values in (("--models", args.models), ("--objective", args.objective)):
        twice = [value for value, n in Counter(values).items() if n > 1]
        if twice:
            raise UsageError(f"{flag}: {twice[0]!r} is named twice")
    if len(args.objective) > 1 and args.sampler == "cmaes":
        raise UsageError(
            "--sampler: 'cmaes' searches one objective; take tpe, random, grid or qmc for several"
        )
    if len(args.objective) > 1 and args.pruner not in (None, "none"):
        raise UsageError(f"--pruner: {args.pruner!r} judges one objective; 'none' for several")
    if "train_s" in args.objective and (args.stack or 1) > 1:
        raise UsageError("--stack: trials that train together have no train_s of their own; 1 for it")
    if args.study and len(args.models) > 1:
        raise UsageError("--study: names one model's study; leave it out for several models")


def _open(args: Namespace, search: Search) -> SharedStudy:
    """Create or join the study."""
    from bench.search import samplers, storage, study

    recipe, name = search.recipe, search.study
    job, folder, pruner = recipe.template, recipe.folder, search.request["pruner"]
    connection = storage.open_storage(args.storage, folder)
    with storage.storage_errors(args.storage, folder):
        directions = [DIRECTIONS[objective] for objective in recipe.objectives]
        study.begin(connection, name, directions, search.request)
    shared = study.SharedStudy(
        url=args.storage,
        folder=folder,
        name=name,
        space=search.space,
        sampler=args.sampler,
        sampler_seed=args.sampler_seed,
        pruner=samplers.pruner(pruner, steps=job.steps, eval_every=job.eval_every),
        pruner_name=pruner,
        total=search.total,
        retries=args.retries,
        connection=connection,
    )
    shared.enqueue()
    return shared


# ------------------------------------------------------------------ one model's search


def _run(
    args: Namespace, search: Search, shared: SharedStudy, context: RunContext, slots: Sequence[str]
) -> int:
    """Search, then retrain and compare; returns the exit code."""
    from bench.closing import Retraining, close
    from bench.search.study import SETTLED

    recipe = search.recipe
    done = sum(shared.counts()[state] for state in SETTLED)
    print(f"{search}; {done} done\n{recipe.folder}", flush=True)
    if done < search.total:
        interrupt = _search(args, search, shared, context, slots)
        if not shared.finished:
            if interrupt.signal is None and args.detach:
                return 0
            left = search.total - sum(shared.counts()[state] for state in SETTLED)
            how = "interrupted" if interrupt.signal is not None else "no job is left"
            print(f"{how}: {left} trials are left; the same command goes on", file=sys.stderr)
            return 1 if interrupt.signal is None else 128 + interrupt.signal
    retraining = Retraining(args.retrain, search.full_steps, args.eval_every, where.words(args))
    return close(shared, recipe, search.request, context, retraining)


def _search(
    args: Namespace, search: Search, shared: SharedStudy, context: RunContext, slots: Sequence[str]
) -> Interrupt:
    """Run trials until the study is done, or until a signal."""
    from bench.search.progress import StudyProgress
    from bench.search.trial_source import Trials

    local = args.executor == "local"
    most = min(len(slots) if local else args.workers or JOBS, search.total)
    gpus, timed = where.on_gpus(args, context), "train_s" in search.recipe.objectives
    together = trials_per_worker(args.stack, search.total, most, gpus=gpus, timed=timed)
    source = Trials(shared, search.recipe, together=together, stale_s=args.deadline)
    of_trials = replace(context, out=search.recipe.folder, cache_root=context.out)
    with (
        Interrupt().installed() as interrupt,
        StudyProgress(shared, search.recipe.objectives[0]) as progress,
    ):
        where.execute(args, source, of_trials, slots, interrupt, most=most, tick=progress.tick)
    return interrupt


if __name__ == "__main__":
    run_main(main)
