"""The table that samples from elsewhere are to stand in: the protocol of the runs on the same data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.data import datasets
from bench.data.datasets import Dataset
from bench.data.points import MIXTURES
from bench.errors import UsageError
from bench.plan import RunContext, Spec, build_protocol
from bench.scoring.own_scores import sources
from bench.store import results
from bench.store.jobs import digest
from bench.store.records import Record

MENDED = {
    "draws": "--draws",
    "extractors": "--features",
    "code": "the scoring code has changed since: run those models again",
    "dataset": "the data has changed since: run those models again",
}
"""The beginning of a protocol's field -> what makes it equal."""


@dataclass(frozen=True)
class Table:
    """Where samples are to stand."""

    dataset: Dataset
    source: str
    """What loads the data set, where its name does not."""
    protocol: Mapping[str, Any]
    notes: list[str]
    """What to say about it."""


def find(asked: str, features: Sequence[str] | None, draws: int | None, context: RunContext) -> Table:
    """The protocol of the runs on this data set in the results folder; of several the most frequent one.

    ``features`` and ``draws`` are the user's own, None where the runs decide. Settings that say nothing about
    samples (precision of training, tolerance of D accuracy) are taken over.

    Raises:
        UsageError: the data set or an extractor cannot be loaded.
    """
    source, why = datasets.resolve(asked, data_root=context.data_root, offline=context.offline)
    if source in MIXTURES:
        raise UsageError(f"--dataset: {source} is points in the plane, and samples from elsewhere are images")
    plain = datasets.load(source, data_root=context.data_root, offline=context.offline)
    notes = [why] if why else []
    known = _known(plain.name, context)
    fitting = [
        (protocol, who)
        for protocol, who in known
        if features in (None, list(protocol["extractors"])) and draws in (None, protocol.get("draws"))
    ]
    tried: dict[str, tuple[Dataset, dict[str, Any]]] = {}
    for protocol, who in [*fitting, ({}, [])]:
        spec = _spec(protocol, asked, features, draws)
        key = digest(asdict(spec))
        if key not in tried:
            data = datasets.load(
                source, data_root=context.data_root, offline=context.offline, holdout=spec.holdout
            )
            tried[key] = data, build_protocol(spec, data, context)
        data, here = tried[key]
        if "eval_every" in protocol:
            here = here | {"eval_every": protocol["eval_every"]}
        if here == protocol:
            notes.append(f"in one table with {', '.join(who)}")
            return Table(data, "" if source == data.name else source, here, notes)
    data, here = next(iter(tried.values()))
    notes += _alone(here, known, plain.name, context)
    return Table(data, "" if source == data.name else source, here, notes)


def _known(dataset: str, context: RunContext) -> list[tuple[dict[str, Any], list[str]]]:
    """The protocols of runs of generation on a data set, and of which models; the most frequent first."""
    found, _ = results.load([context.out])
    mine: dict[str, list[Record]] = {}
    for run in found:
        record = run.record
        if record["dataset"] == dataset and record["task"] == "generation" and record.get("protocol"):
            mine.setdefault(digest(record["protocol"]), []).append(record)
    several = sorted(mine.values(), key=lambda held: -len(held))
    return [(dict(held[0]["protocol"]), sorted({record["model"] for record in held})) for held in several]


def _spec(protocol: Mapping[str, Any], asked: str, features: Sequence[str] | None, draws: int | None) -> Spec:
    """The request that leads to a protocol, where nothing else has changed."""
    fallback = Spec([], [asked], [])
    return Spec(
        models=[],
        datasets=[asked],
        seeds=[],
        features=list(features or protocol.get("extractors", fallback.features)),
        scores=sources(protocol),
        select=protocol.get("select", fallback.select),
        scored_on=protocol.get("scored_on", fallback.scored_on),
        d_acc_tolerance=protocol.get("d_acc_tolerance", fallback.d_acc_tolerance),
        precision=protocol.get("precision", fallback.precision),
        threads=protocol.get("threads", fallback.threads),
        draws=draws or protocol.get("draws", fallback.draws),
        select_weights=protocol.get("weights", fallback.select_weights),
    )


def _alone(
    here: Mapping[str, Any],
    known: Sequence[tuple[dict[str, Any], list[str]]],
    dataset: str,
    context: RunContext,
) -> Iterator[str]:
    """Why no other run stands in the table, and how to mend that."""
    if not known:
        yield f"no other run on {dataset} in {context.out} yet: bench.run adds models to the table"
    for protocol, who in known[:1]:
        differing = [name for name in {**here, **protocol} if here.get(name) != protocol.get(name)]
        fields = "; ".join(
            f"{name} is {_brief(protocol.get(name))} there and {_brief(here.get(name))} here"
            + (f" ({MENDED[name]})" if name in MENDED else "")
            for name in differing
        )
        yield f"note: in a table of its own, since the protocol of {', '.join(who)} differs: {fields}"


def _brief(value: Any) -> str:
    """A field's value in a few words."""
    if isinstance(value, Mapping):
        parts = [f"{name} {_brief(item)}" for name, item in value.items() if name in ("sha256", "name")]
        return " ".join(parts) or ", ".join(f"{name} {_brief(item)}" for name, item in value.items())
    return str(value)[:12]
