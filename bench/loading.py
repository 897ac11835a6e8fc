"""From a run's folder back to its generator: :func:`load`, which is ``bench.load``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baselines import registry
from baselines.training import settings
from baselines.training.step import Tensors
from baselines.training.trainer import bind, build
from bench.comparison import stored_nets
from bench.data import datasets
from bench.errors import ChangedError, UsageError, nearest, printable
from bench.execution.devices import devices
from bench.identity.fingerprint import code_of, differing
from bench.plan import WEIGHTS, resolve
from bench.store import files, records
from bench.store.records import Record
from bench.trained import Trained

SAMPLING = ("baselines/training/step.py", "baselines/training/streams.py")
"""Files of the trainer that samples depend on, beside those of the model."""


def load(
    run: Path | str, *, device: str = "cpu", data_root: Path | str = "data", weights: str | None = None
) -> Trained:
    """A finished run, ready to be sampled.

    ``run`` is a run's folder, ``results/runs/…/seed-0``. ``device``: ``cpu``, ``cuda``, ``cuda:1`` or
    ``auto``; noise differs between a CPU and a GPU. ``data_root`` is where data sets are, for the models that
    need theirs to be sampled. ``weights``: ``trained``, or ``ema``, the averaged weights of a run that has
    them; by default those whose scores tables show. Nothing is downloaded, and nothing is written.

    Raises:
        UsageError: there is no finished run, its files are damaged or another's, or its samples would not be
            its own, because the model's code has changed; or the run has no such weights. The message is one
            line.
    """
    folder = Path(run)
    record = _record(folder)
    _refuse_changed(folder, record)
    averaged = _whose(record, weights) == "ema"
    where = devices(device)[0]
    import torch

    on = torch.device(where)
    factory = registry.get(record["model"])
    about = record["protocol"]["dataset"]
    try:
        with settings.isolated():
            values = resolve(record["model"], record["hyperparameters"])
            gan = factory(datasets.spec_of(about), **values)
            nets = build(gan, record["seed"], on)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{folder}: {record['model']} cannot be built as recorded: {error}") from error
    moved: Tensors = {
        net: {name: value.to(on) for name, value in held.items()}
        for net, held in _weights(folder, record, nets, averaged=averaged).items()
    }
    bound = bind({name: (net, net.eval()) for name, net in nets.items()}, moved)
    return Trained(folder, record, gan, registry.card(factory), bound, on, Path(data_root))


def _record(folder: Path) -> Record:
    """The record of a finished run of this schema.

    Raises:
        UsageError: there is none.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; name a run's, results/runs/…/seed-0")
    try:
        record = records.read_record(folder)
    except (records.RecordError, files.UnreadableError) as error:
        raise UsageError(str(error)) from error
    if record is None:
        raise UsageError(f"{folder}: {_why_none(folder)}")
    if record["status"] != "finished":
        raise UsageError(f"{folder}: the run {record['status']}: {record['reason']}")
    if record.get("samples"):
        file = record["samples"].get("file")
        raise UsageError(f"{folder}: samples that were made elsewhere ({file}): there is no generator here")
    if "code" not in record:
        raise UsageError(f"{folder}: its record does not name the code that computed it")
    return record


def _whose(record: Record, asked: str | None) -> str:
    """Whose weights to load, ``trained`` or ``ema``.

    Raises:
        UsageError: there is no such choice, or the run has no averaged weights.
    """
    has_both = record["hyperparameters"].get("ema", 0) > 0
    if asked is None:
        return record["protocol"]["weights"] if has_both else "trained"
    if asked not in WEIGHTS:
        raise UsageError(f"weights: {asked!r} is not allowed; {', '.join(WEIGHTS)}{nearest(asked, WEIGHTS)}")
    if asked == "ema" and not has_both:
        name = record["model"]
        raise UsageError(f"weights: this run has no averaged ones; --set {name}.ema=0.999 makes them")
    return asked


def _why_none(folder: Path) -> str:
    """Why a folder without a record is no finished run, and what to do."""
    places = ("seed-*", "*/seed-*", "runs/*/seed-*")
    if below := sorted(path.parent for place in places for path in folder.glob(f"{place}/run.json")):
        return f"this holds {len(below)} runs; name one of them, such as {below[0]}"
    if any((folder / name).exists() for name in ("progress.json", "checkpoint.pt")):
        return "the run is not finished; the command that began it goes on"
    return "there is no run.json in it; name a run's folder, results/runs/…/seed-0"


def _refuse_changed(folder: Path, record: Record) -> None:
    """Refuse weights whose model is another one now: their samples would not be those of the record.

    Raises:
        UsageError: with the files that differ.
    """
    try:
        here = code_of(record["model"])
    except (LookupError, UsageError, ChangedError) as error:
        raise UsageError(f"{folder}: {' '.join(str(error).split())}") from error
    code = record["code"]
    changed = differing(code["model"], here["model"])
    changed += [name for name in SAMPLING if code["training"].get(name) != here["training"].get(name)]
    if changed:
        commit = record["environment"].get("commit")
        where = f"; the record is of commit {commit[:12]}" if commit else ""
        raise UsageError(f"{folder}: code changed since: {', '.join(changed)}{where}")


def _weights(folder: Path, record: Record, nets: dict[str, Any], *, averaged: bool) -> Tensors:
    """The stored weights, which fit these networks.

    Raises:
        UsageError: they are missing, damaged or another model's.
    """
    weights = stored_nets(folder, averaged=averaged)
    if weights is None:
        raise UsageError(f"{folder}/checkpoint.pt: the final weights are missing or unreadable")

    def shapes(held: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {f"{net}.{name}": value.shape for net, own in held.items() for name, value in own.items()}

    wanted = {name: dict([*net.named_parameters(), *net.named_buffers()]) for name, net in nets.items()}
    if shapes(weights) != shapes(wanted):
        raise UsageError(printable(f"{folder}/checkpoint.pt does not hold the weights of {record['model']}"))
    return weights
