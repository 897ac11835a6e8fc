"""Recompute runs from what their records say, and compare: a reviewer's command.

    python -m bench.verify results

Of each run it says one of these:

    identical to the bit             history, weights and scores
    same within rounding             where the environment differs: in what, and by how much the numbers do
    different                        what differs first; the exit code is 1
    cannot be recomputed here        and why: the code changed, the data are not there

Nothing is written into the results folder. Exit codes: 0 no run differs; 1 one does, or none could be
recomputed; 2 the request was wrong; 130 or 143 interrupted.
"""

from __future__ import annotations

import math
import random
import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from bench.cli import Parser, number, path, run_main
from bench.errors import ChangedError, UsageError
from bench.execution.devices import devices
from bench.execution.progress import Progress
from bench.execution.runs import Runs
from bench.execution.signals import Interrupt
from bench.execution.supervisor import supervise
from bench.fingerprint import code_of, differing, differing_files
from bench.plan import Job, Place, Spec, plan
from bench.store import files, records

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-3
"""Relative difference that rounding explains before training has amplified it: in the first window of the
history, and in scores of the same weights."""

ENVIRONMENT = ("torch", "numpy", "torch_fidelity", "cpu", "cpu_capability", "matmul", "threads", "device")
"""What rounding depends on, as records name it."""

COMPARED = ("status", "reason", "parameters", "metrics", "floor", "draws", "best", "d_accuracy", "evals")
"""What a record says of a run's outcome."""

Finding = Literal["identical", "rounding", "different", "cannot"]


@dataclass(frozen=True)
class Verdict:
    """What came of one run."""

    finding: Finding
    why: str = ""

    def __str__(self) -> str:
        words = {
            "identical": "identical to the bit",
            "rounding": "same within rounding",
            "different": "different",
            "cannot": "cannot be recomputed here",
        }[self.finding]
        return f"{words}: {self.why}" if self.why else words


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.verify", description=__doc__.partition("\n\n")[0] if __doc__ else None)
    p.add_argument(
        "paths", nargs="*", type=path, default=[Path("results")], metavar="PATH",
        help="results folders, of which runs are picked at random, or run folders (default results)",
    )  # fmt: skip
    p.add_argument("--runs", type=_how_many, default=3, metavar="N", help="how many, or all (default 3)")
    p.add_argument(
        "--scores-only", action="store_true", help="recompute scores from the stored weights; no training"
    )
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    p.add_argument("--workers", type=number(int, 1, 1024), default=1, metavar="N", help="processes")
    p.add_argument("--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets")
    p.add_argument("--offline", action="store_true", help="never touch the network")
    p.add_argument("--inception-weights", type=path, metavar="FILE", help="instead of a download")
    return p


def _how_many(text: str) -> int | None:
    """A number of runs; ``None`` for ``all``."""
    return None if text == "all" else int(number(int, 1)(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse(argv)
    folders = _chosen(args.paths, args.runs)
    with TemporaryDirectory(prefix="gan-bench-verify-") as scratch, Interrupt().installed() as interrupt:
        place = Place(
            out=Path(scratch),
            data_root=args.data_root.absolute(),
            offline=args.offline,
            device=devices(args.device)[0],
            inception_weights=args.inception_weights,
        )
        found = _verify(args, folders, place, interrupt)
        counts: Counter[Finding] = Counter()
        for folder, verdict in found:
            counts[verdict.finding] += 1
            print(f"{folder}: {verdict}", flush=True)
        if interrupt.signal is not None:
            print("interrupted: nothing was changed; the same command begins anew", file=sys.stderr)
            return 128 + interrupt.signal
    runs = "run" if len(folders) == 1 else "runs"
    print(f"{len(folders)} {runs}: {', '.join(f'{n} {finding}' for finding, n in counts.items())}")
    return 1 if counts["different"] or not counts["identical"] + counts["rounding"] else 0


def _chosen(paths: Sequence[Path], n: int | None) -> list[Path]:
    """The run folders that are named, and ``n`` of those in the results folders that are named.

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
    args: Namespace, folders: Sequence[Path], place: Place, interrupt: Interrupt
) -> Iterator[tuple[Path, Verdict]]:
    """What can be said before anything is computed, then the rest, run by run."""
    waiting: dict[Path, tuple[records.Record, Job]] = {}
    for folder in folders:
        planned = _planned(folder, place, scores_only=args.scores_only)
        if isinstance(planned, Verdict):
            yield folder, planned
        else:
            waiting[folder] = planned
    if args.scores_only:
        for folder, (record, job) in waiting.items():
            if interrupt.is_set():
                return
            yield folder, _rescored(folder, record, job, place)
        return
    by_draws: dict[int, list[Job]] = {}
    for record, job in waiting.values():
        by_draws.setdefault(_n_draws(record), []).append(job)
    for draws, jobs in by_draws.items():
        with Progress(jobs, place.out) as progress:
            slots = [place.device] * min(args.workers, len(jobs))
            supervise(
                Runs(jobs, place.out), replace(place, draws=draws), slots, interrupt, tick=progress.tick
            )
    for folder, (record, job) in waiting.items():
        again = records.read_record(job.folder(place.out))
        if again is None:  # interrupted
            continue
        verdict = compare(folder, record, job.folder(place.out), again)
        if verdict.finding == "rounding":  # then at least the scores must be those of the weights
            rescored = _rescored(folder, record, job, place)
            verdict = rescored if rescored.finding == "different" else verdict
        yield folder, verdict


def _n_draws(record: records.Record) -> int:
    """How many sample draws were scored: with no scores of them, one."""
    values = [value for scores in record.get("draws", {}).values() for value in scores.values()]
    return len(values[0]) if values else 1


# ------------------------------------------------------------------ from a record to a job


def _planned(folder: Path, place: Place, *, scores_only: bool) -> tuple[records.Record, Job] | Verdict:
    """A run's record and the job that it describes, or why there is nothing to compute."""
    try:
        record = records.read_record(folder)
    except records.RecordError as error:
        return Verdict("different", error.reason)
    except files.UnreadableError as error:
        return Verdict("cannot", str(error))
    if record is None or "code" not in record:
        return Verdict("cannot", "its record does not say which code made it")
    if record["status"] == "failed":
        return Verdict("cannot", f"it failed: {record['reason']}")
    model = record["model"]
    try:
        here = code_of(model)
        parts = ("model", "scoring") if scores_only else ("model", "training", "scoring")
        if any(differing(record["code"][part], here[part]) for part in parts):
            return Verdict("cannot", f"code changed: {', '.join(differing_files(record['code'], here))}")
        _bring_classifiers(folder, place)
        job = plan(_request(record), place, lambda line: None)[0]
    except (LookupError, UsageError, ChangedError) as error:
        return Verdict("cannot", " ".join(str(error).split()))
    if job.protocol != record["protocol"]:
        differing_fields = ", ".join(_differing(record["protocol"], job.protocol))
        return Verdict("cannot", f"data, weights or protocol changed: {differing_fields}")
    if not scores_only and job.run_id != record["id"]:
        return Verdict("different", "its id does not follow from what it says")
    return record, job


def _request(record: records.Record) -> Spec:
    """What was asked for."""
    protocol = record["protocol"]
    return Spec(
        models=[record["model"]],
        datasets=[record["environment"].get("source") or record["dataset"]],
        seeds=[record["seed"]],
        steps=record["steps"],
        eval_every=record["eval_every"],
        features=list(protocol["extractors"]),
        hyperparameters={record["model"]: record["hyperparameters"]},
        select=protocol["select"],
        scored_on=protocol["scored_on"],
        d_acc_tolerance=protocol["d_acc_tolerance"],
        precision=protocol["precision"],
    )


def _bring_classifiers(folder: Path, place: Place) -> None:
    """Copy classifiers that were trained on first use: on another machine they would come out otherwise.

    Their weights' hash is part of the protocol, which is compared.
    """
    kept = folder.parents[2] / "cache" / "classifiers"
    if kept.is_dir():
        shutil.copytree(kept, place.cache / "classifiers", dirs_exist_ok=True)


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of the fields in which two nested objects differ."""
    for key in [*a, *(key for key in b if key not in a)]:
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            yield from _differing(x, y, f"{prefix}{key}.")
        elif x != y:
            yield f"{prefix}{key}"


# ------------------------------------------------------------------ the comparison


def compare(folder: Path, record: records.Record, here: Path, again: records.Record) -> Verdict:
    """A run on record beside the same run, computed again into the folder ``here``."""
    if again["status"] == "failed":
        return Verdict("cannot", str(again["reason"]))
    history = _history_difference(folder, here)
    weights = None if history else _weights_difference(folder, here)
    scores = _score_difference(record, again)
    first = history or weights or scores
    if first is None:
        return Verdict("identical")
    environment = _environments(record, again)
    if not environment or not _alike_at_first(folder, here):
        return Verdict("different", first)
    return Verdict("rounding", f"{'; '.join(environment)}; {first}; {_by_how_much(record, again)}")


def _history_difference(folder: Path, here: Path) -> str | None:
    """The first step at which two histories differ."""
    a, b = ((place / "history.csv").read_bytes() for place in (folder, here))
    if a == b:
        return None
    (head, *rows), (other_head, *others) = (text.decode().splitlines() for text in (a, b))
    if head != other_head:
        return f"history.csv has the columns {head} on record, {other_head} recomputed"
    for row, other in zip_longest(rows, others, fillvalue=""):
        if row != other:
            cells = zip(head.split(","), row.split(","), other.split(","), strict=False)
            step = (row or other).partition(",")[0]
            name, x, y = next((cell for cell in cells if cell[1] != cell[2]), ("rows", "none", "none"))
            return f"history differs from step {step}: {name} is {x} on record, {y} recomputed"
    return "history.csv differs in its line ends"


def _alike_at_first(folder: Path, here: Path) -> bool:
    """Whether the first window of two histories agrees as far as rounding goes."""
    import numpy as np
    import pandas as pd

    a, b = (pd.read_csv(place / "history.csv", nrows=1) for place in (folder, here))
    if list(a.columns) != list(b.columns) or len(a) != len(b):
        return False
    return np.allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


def _weights_difference(folder: Path, here: Path) -> str | None:
    """The first tensor in which two runs' final weights differ."""
    import torch

    a, b = _weights(folder), _weights(here)
    if a is None:
        return "checkpoint.pt, its final weights, is missing or unreadable"
    assert b is not None
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in a or name not in b or not torch.equal(a[name], b[name]):
            return f"the final weights differ in {name}"
    return None


def _weights(folder: Path) -> dict[str, Tensor] | None:
    """A run's final weights by their full names."""
    nets = _nets(folder)
    if nets is None:
        return None
    return {f"{net}.{name}": tensor for net, held in nets.items() for name, tensor in held.items()}


def _nets(folder: Path) -> dict[str, dict[str, Tensor]] | None:
    import torch

    from bench.execution.checkpoints import load_checkpoint

    try:
        state = load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))
        weights: dict[str, dict[str, Tensor]] = state["weights"]
    except Exception:  # whatever a damaged file makes its reader raise
        return None
    return weights


def _outcome(record: records.Record) -> dict[str, Any]:
    """What a record says of a run's outcome, but for times."""
    held = {name: record.get(name) for name in COMPARED}
    timeless = [{key: value for key, value in entry.items() if key != "train_s"} for entry in record["evals"]]
    return held | {"evals": {str(entry["step"]): entry for entry in timeless}}


def _score_difference(record: records.Record, again: records.Record) -> str | None:
    """The first field of two records in which the outcomes differ."""
    a, b = _outcome(record), _outcome(again)
    name = next(_differing(a, b), None)
    return None if name is None else f"{name} is {_at(a, name)} on record, {_at(b, name)} recomputed"


def _at(held: Any, name: str) -> str:
    for key in name.split("."):
        held = held.get(key) if isinstance(held, Mapping) else None
    return f"{held:.6g}" if isinstance(held, float) else str(held)


def _environments(record: records.Record, again: records.Record) -> list[str]:
    """The environment's fields that change rounding and are not the same."""
    fields = {name: (record["environment"].get(name), again["environment"].get(name)) for name in ENVIRONMENT}
    fields["stack"] = (record["cost"].get("stack"), again["cost"].get("stack"))
    return [f"{name} {a} there, {b} here" for name, (a, b) in fields.items() if a != b and a is not None]


def _by_how_much(record: records.Record, again: records.Record) -> str:
    """The first score of each extractor, there and here."""
    said = []
    for extractor, scores in record["metrics"].items():
        for name, there in list(scores.items())[:1]:
            here = again["metrics"].get(extractor, {}).get(name, math.nan)
            said.append(f"{name} ({extractor}) {there:.4g} there, {here:.4g} here")
    return "; ".join(said) or "no scores"


# ------------------------------------------------------------------ scores alone


def _rescored(folder: Path, record: records.Record, job: Job, place: Place) -> Verdict:
    """A run's scores beside those of its stored weights."""
    from baselines.training.trainer import bind
    from bench.execution import environment
    from bench.execution.training import Stack

    if record["status"] != "finished":
        return Verdict("cannot", f"it {record['status']}, and has no scores")
    nets = _nets(folder)
    if nets is None:
        return Verdict("different", "checkpoint.pt, its final weights, is missing or unreadable")
    environment.set_up(place.device, job.protocol["precision"])
    stack = Stack([job], place)
    evaluator = stack.evaluator(job.protocol["scored_on"])
    try:
        found = stack.evaluated(evaluator, bind(stack.trainer.modules, nets), stack.lanes[0])
    except (KeyError, RuntimeError) as error:
        return Verdict("different", f"checkpoint.pt does not hold the weights of {job.model}: {error}")
    a = {"metrics": record["metrics"], "d_accuracy": record["d_accuracy"].get("heldout")}
    b = {"metrics": found.metrics, "d_accuracy": found.d_accuracy}
    if record["floor"]:
        a["floor"], b["floor"] = record["floor"], evaluator.floor()
    apart = list(_differing(a, b))
    if not apart:
        return Verdict("identical", "scores of the stored weights")
    far = [name for name in apart if not _close(a, b, name)]
    name = (far or apart)[0]
    said = f"{name} is {_at(a, name)} on record, {_at(b, name)} from the stored weights"
    return Verdict("different" if far else "rounding", said)


def _close(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> bool:
    x, y = _at(a, name), _at(b, name)
    try:
        return math.isclose(float(x), float(y), rel_tol=ROUNDING, abs_tol=ROUNDING)
    except ValueError:
        return False


if __name__ == "__main__":
    run_main(main)
