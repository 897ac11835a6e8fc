"""Recompute runs from their records, and compare. This is a command for reviewers.

    python -m bench.verify results
    python -m bench.verify study.zip        an archive that reports.pack wrote

For each run it prints one of these results:

    identical to the bit             history, weights and scores
    same within rounding             the environment differs: in what, and by how much the numbers do
    different                        the first thing that differs; the exit code is 1
    cannot be recomputed here        and the reason: the code changed, the data is missing

Nothing is written into the results folder. Exit codes: 0 no run differs; 1 one differs, or none could be
recomputed; 2 the request was wrong; 130 or 143 interrupted.
"""

from __future__ import annotations

import random
import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cli import Parser, number, path, run_main
from bench.comparison import Finding, Verdict, compare, compare_scores, differences, stored_nets
from bench.errors import ChangedError, UsageError, printable
from bench.execution.devices import devices
from bench.execution.progress import Progress
from bench.execution.run_source import Runs
from bench.execution.signals import Interrupt
from bench.execution.supervisor import supervise
from bench.identity.fingerprint import code_of, differing, differing_files, scoring_code
from bench.plan import RunContext, Spec, build_protocol, plan
from bench.scoring.extractors import weights
from bench.scoring.own_scores import sources
from bench.store import archive, files, records
from bench.store.jobs import Job


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.verify", description=__doc__.partition("\n\n")[0] if __doc__ else None)
    p.add_argument(
        "paths", nargs="*", type=path, default=[Path("results")], metavar="PATH",
        help="results folders or archives of reports.pack, of which runs are picked at random, or run "
        "folders (default results)",
    )  # fmt: skip
    p.add_argument("--runs", type=_how_many, default=3, metavar="N", help="how many, or all (default 3)")
    p.add_argument(
        "--scores-only",
        action="store_true",
        help="recompute scores from the stored weights, without training",
    )
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    p.add_argument("--workers", type=number(int, 1, 1024), default=1, metavar="N", help="processes")
    p.add_argument("--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets")
    p.add_argument("--offline", action="store_true", help="never use the network")
    p.add_argument("--inception-weights", type=path, metavar="FILE", help="instead of a download")
    p.add_argument(
        "--weights", type=weights, nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="of extractors, instead of a download",
    )  # fmt: skip
    return p


def _how_many(text: str) -> int | None:
    """A number of runs; ``None`` for ``all``."""
    return None if text == "all" else int(number(int, 1)(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    with TemporaryDirectory(prefix="gan-bench-verify-") as scratch, Interrupt().installed() as interrupt:
        try:
            opened = {
                _opened(given, Path(scratch) / f"packed-{k}"): given for k, given in enumerate(args.paths)
            }
        except archive.ArchiveError as error:
            print(f"error: {printable(error)}", file=sys.stderr)
            return 1
        folders = _chosen(list(opened), args.runs)
        context = RunContext(
            out=Path(scratch),
            data_root=args.data_root.absolute(),
            offline=args.offline,
            device=devices(args.device)[0],
            inception_weights=args.inception_weights,
            weights=tuple((name, file.absolute()) for name, file in args.weights),
        )
        found = _verify(args, folders, context, interrupt)
        counts: Counter[Finding] = Counter()
        for folder, verdict in found:
            counts[verdict.finding] += 1
            print(f"{_shown(folder, opened)}: {verdict}", flush=True)
        if interrupt.signal is not None:
            print("interrupted: nothing was changed; the same command starts again", file=sys.stderr)
            return 128 + interrupt.signal
    runs = "run" if len(folders) == 1 else "runs"
    print(f"{len(folders)} {runs}: {', '.join(f'{n} {finding}' for finding, n in counts.items())}")
    return 1 if counts["different"] or not counts["identical"] + counts["rounding"] else 0


def _opened(given: Path, folder: Path) -> Path:
    """A folder as it is; an archive is unpacked into the given folder, which then stands for it.

    Raises:
        ArchiveError: it cannot be trusted.
    """
    if not given.is_file():
        return given
    archive.unpack(given, folder)
    return folder


def _shown(folder: Path, opened: Mapping[Path, Path]) -> str:
    """A run's folder, as the user named it: ``study.zip/runs/...``."""
    for here, given in opened.items():
        if here != given and folder.is_relative_to(here):
            return str(given / folder.relative_to(here))
    return str(folder)


def _chosen(paths: Sequence[Path], n: int | None) -> list[Path]:
    """The run folders that are named, and ``n`` random runs of each results folder that is named.

    Raises:
        UsageError: there is no run.
    """
    folders = []
    for given in paths:
        if (given / "run.json").exists():
            folders.append(given)
            continue
        held = sorted(path.parent for path in (given / "runs").glob("*/seed-*/run.json"))
        if not held:
            raise UsageError(f"{given}: no finished runs in it; name a results folder or a run folder")
        folders += held if n is None or n >= len(held) else sorted(random.sample(held, n))
    return folders


def _verify(
    args: Namespace, folders: Sequence[Path], context: RunContext, interrupt: Interrupt
) -> Iterator[tuple[Path, Verdict]]:
    """First the runs of which nothing needs to be computed, then the others, one by one."""
    waiting: dict[Path, tuple[records.Record, Job]] = {}
    for folder in folders:
        planned = _planned(folder, context, scores_only=args.scores_only)
        if isinstance(planned, Verdict):
            yield folder, planned
        else:
            waiting[folder] = planned
    if not args.scores_only:
        _recompute(list(waiting.values()), context, args.workers, interrupt)
    for folder, (record, job) in waiting.items():
        if args.scores_only:
            if interrupt.is_set():
                return
            yield folder, _rescored(folder, record, job, context)
            continue
        again = records.read_record(job.folder(context.out))
        if again is None:  # interrupted
            continue
        weights = not _without_weights(folder, context)
        verdict = compare(folder, record, job.folder(context.out), again, weights=weights)
        if (
            verdict.finding == "rounding" and weights
        ):  # then the scores must be those of the stored weights, at least
            rescored = _rescored(folder, record, job, context)
            verdict = rescored if rescored.finding == "different" else verdict
        yield folder, verdict


def _recompute(
    runs: Sequence[tuple[records.Record, Job]], context: RunContext, n_workers: int, interrupt: Interrupt
) -> None:
    """Train, score and record runs into the scratch folder, in worker processes."""
    jobs = [job for _, job in runs]
    slots = [context.device] * min(n_workers, len(jobs))
    with Progress(jobs, context.out) as progress:
        supervise(Runs(jobs, context.out), context, slots, interrupt, tick=progress.tick)


def _without_weights(folder: Path, context: RunContext) -> bool:
    """Whether a run comes from an archive that was packed without weights."""
    return folder.is_relative_to(context.out) and not (folder / "checkpoint.pt").exists()


def _rescored(folder: Path, record: records.Record, job: Job, context: RunContext) -> Verdict:
    """Compare the scores of a run with the scores of its stored weights."""
    from baselines.training.trainer import bind
    from bench.execution import environment
    from bench.execution.recording import describe_baseline, describe_scores
    from bench.execution.training import Stack

    if record["status"] != "finished":
        return Verdict("cannot", f"it {record['status']}, and has no scores")
    if _without_weights(folder, context):
        return Verdict("cannot", "the archive holds no weights; reports.pack has --weights")
    averaged = record["hyperparameters"].get("ema", 0) > 0 and job.protocol["weights"] == "ema"
    nets = stored_nets(folder, averaged=averaged)
    if nets is None:
        return Verdict("different", "checkpoint.pt, its final weights, is missing or unreadable")
    environment.set_up(context.device, job.protocol["precision"], job.protocol.get("threads", 1))
    stack = Stack([job], context)
    evaluator = stack.evaluator(job.protocol["scored_on"])
    try:
        lane, bound = stack.lanes[0], bind(stack.trainer.modules, nets)
        found = stack.evaluated(evaluator, bound, lane)
        again = describe_scores(stack, evaluator, bound, lane, found) | {"d_accuracy": found.d_accuracy}
    except (KeyError, RuntimeError) as error:
        return Verdict("different", f"checkpoint.pt does not hold the weights of {job.model}: {error}")
    if record["floor"]:
        again |= describe_baseline(evaluator)
    return compare_scores(record, again)


def _samples_rescored(folder: Path, record: records.Record, context: RunContext) -> Verdict:
    """Compare the scores of samples from elsewhere with those of the same files, where they still are."""
    from bench.data import datasets
    from bench.data.samples import read_samples
    from bench.execution import elsewhere
    from bench.execution.recording import describe_baseline

    samples, request = record["samples"], _request(record)
    if changed := differing(record["code"]["scoring"], scoring_code()):
        return Verdict("cannot", f"code changed: {', '.join(changed)}")
    _bring_classifiers(folder, context)
    kept = {name: record["protocol"][name] for name in ("eval_every",) if name in record["protocol"]}
    try:
        dataset = datasets.load(
            request.datasets[0],
            data_root=context.data_root,
            offline=context.offline,
            holdout=request.holdout,
        )
        protocol = build_protocol(request, dataset, context) | kept
        if apart := ", ".join(differences(record["protocol"], protocol)):
            return Verdict("cannot", f"data, weights or protocol changed: {apart}")
        read = read_samples(Path(samples["path"]), elsewhere.reading_of(samples), dataset, samples["n"])
    except UsageError as error:
        return Verdict("cannot", " ".join(str(error).split()))
    if elsewhere.content_sha256(read) != samples["sha256"]:
        return Verdict("cannot", f"{samples['path']} holds other samples now than those that were scored")
    job = elsewhere.job_of(record["model"], record["seed"], dataset, "", protocol)
    if job.run_id != record["id"]:
        return Verdict("different", "its id does not follow from its content")
    evaluator = elsewhere.evaluator_of(dataset, protocol, context)
    again = elsewhere.describe_scores(evaluator, read, job, with_infinity="infinity" in record)
    again.pop("infinity", None)  # the curve behind a score that is compared
    again |= describe_baseline(evaluator) | {"d_accuracy": None}
    return compare_scores(record, again, "the same samples")


# ------------------------------------------------------------------ from a record to a job


def _planned(folder: Path, context: RunContext, *, scores_only: bool) -> tuple[records.Record, Job] | Verdict:
    """The record of a run and the job that it describes; or a verdict, if there is nothing to compute."""
    try:
        record = records.read_record(folder)
    except records.RecordError as error:
        return Verdict("different", error.reason)
    except files.UnreadableError as error:
        return Verdict("cannot", str(error))
    if record is None or "code" not in record:
        return Verdict("cannot", "its record does not name the code that computed it")
    if record["status"] == "failed":
        return Verdict("cannot", f"it failed: {record['reason']}")
    if record.get("samples"):
        return _samples_rescored(folder, record, context)
    model = record["model"]
    try:
        here = code_of(model)
        parts = ("model", "scoring") if scores_only else ("model", "training", "scoring")
        if any(differing(record["code"][part], here[part]) for part in parts):
            return Verdict("cannot", f"code changed: {', '.join(differing_files(record['code'], here))}")
        _bring_classifiers(folder, context)
        job = plan(_request(record), context, lambda line: None)[0]
    except (LookupError, UsageError, ChangedError) as error:
        return Verdict("cannot", " ".join(str(error).split()))
    if job.protocol != record["protocol"]:
        changed = ", ".join(differences(record["protocol"], job.protocol))
        return Verdict("cannot", f"data, weights or protocol changed: {changed}")
    if not scores_only and job.run_id != record["id"]:
        return Verdict("different", "its id does not follow from its content")
    return record, job


def _request(record: records.Record) -> Spec:
    """The request that leads to a record."""
    protocol = record["protocol"]
    return Spec(
        models=[record["model"]],
        datasets=[record["environment"].get("source") or record["dataset"]],
        seeds=[record["seed"]],
        steps=record["steps"],
        eval_every=record["eval_every"],
        features=list(protocol["extractors"]),
        scores=sources(protocol),
        hyperparameters={record["model"]: record["hyperparameters"]},
        select=protocol["select"],
        scored_on=protocol["scored_on"],
        d_acc_tolerance=protocol["d_acc_tolerance"],
        precision=protocol["precision"],
        threads=protocol.get("threads", 1),
        draws=protocol["draws"],
        select_weights=protocol.get("weights", "ema"),
    )


def _bring_classifiers(folder: Path, context: RunContext) -> None:
    """Copy the classifiers that were trained on first use. Trained on another machine, they would differ.

    The hash of their weights is part of the protocol, which is compared.
    """
    kept = folder.parents[2] / "cache" / "classifiers"
    if kept.is_dir():
        shutil.copytree(kept, context.cache / "classifiers", dirs_exist_ok=True)


if __name__ == "__main__":
    run_main(main)
