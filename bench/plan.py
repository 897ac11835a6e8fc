"""From a request to runs: ``Spec`` -> :func:`plan` -> ``[Job]``. What cannot work is refused here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.data import datasets
from bench.errors import UsageError, nearest
from bench.identity import fingerprint
from bench.identity.signatures import signature
from bench.scoring import extractors
from bench.store.jobs import Job

PRECISIONS = ("float32", "tf32", "bf16")
"""Arithmetic of the networks in training. Weights, losses, optimizers and scores are always float32."""

WEIGHTS = ("ema", "trained")
"""Whose scores tables show: of averaged weights where a run has them, or of trained weights in any case."""


@dataclass(frozen=True)
class RunContext:
    """Where and how runs are computed. It changes no number, except for the rounding of a device."""

    out: Path = Path("results")
    data_root: Path = Path("data")
    offline: bool = False
    device: str = "cpu"
    checkpoint_every: float = 60.0
    """Seconds."""
    save_samples: int = 0
    inception_weights: Path | None = None
    weights: tuple[tuple[str, Path], ...] = ()
    """Files of weights, with the names of their extractors."""
    cache_root: Path | None = None
    """The folder that holds the cache, if not ``out``."""

    @property
    def cache(self) -> Path:
        """The folder of features of real images, their scores, and classifiers trained on first use."""
        return (self.cache_root or self.out) / "cache"

    def for_extractors(self, device: str) -> dict[str, Any]:
        """Keyword arguments of :func:`bench.scoring.extractors.load_extractor`."""
        return {
            "cache": self.cache,
            "device": device,
            "inception_weights": self.inception_weights,
            "weights": dict(self.weights),
            "offline": self.offline,
        }


@dataclass(frozen=True)
class Spec:
    """The request."""

    models: Sequence[str]
    datasets: Sequence[str]
    seeds: Sequence[int]
    steps: int | None = None
    updates: int | None = None
    """Updates of the discriminator, if ``steps`` does not say how long training is."""
    eval_every: int | None = None
    features: Sequence[str] = ("auto",)
    """Names of extractors; ``auto`` depends on the data set."""
    scores: Sequence[str] = ()
    """A user's own, beside those of this harness."""
    hyperparameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Model -> name -> value, as text or plain values."""
    variations: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Model -> name -> value of each of its configurations, beside ``hyperparameters``, if it has several."""
    batch_size: int | None = None
    select: str = "final"
    scored_on: str = "test"
    d_acc_tolerance: float = 0.15
    precision: str = "float32"
    threads: int = 1
    """Of training, on a CPU. Several round differently, so they are part of the protocol."""
    draws: int = 3
    """Draws of samples that are scored at the last step. A run's scores are their means."""
    select_weights: str = "ema"
    """One of :data:`WEIGHTS`."""

    @property
    def holdout(self) -> bool:
        """Whether a validation split is held out of training: if a choice is made on it."""
        return self.select == "best" or self.scored_on == "val"


def plan(
    spec: Spec,
    context: RunContext,
    log: Callable[[str], object] = print,
    *,
    dry_run: bool = False,
    trials: Trials | None = None,
) -> list[Job]:
    """The runs of a request; the seeds of a configuration follow each other.

    Loads each data set, tries each model on it, and loads each feature extractor that was not trained here. A
    classifier may be trained here, once. In a ``dry_run`` no model is tried and no classifier is trained.
    Where ``trials`` is given, it is filled with the trials that are left to workers. ``log`` reports how
    ``auto`` was resolved, and why.

    Raises:
        UsageError: a model, data set, hyperparameter or combination is not possible.
    """
    _refuse_unasked(spec)
    _settings(spec, points=False)  # what cannot be is refused before data sets are read
    jobs: list[Job] = []
    for asked in spec.datasets:
        source, why = datasets.resolve(asked, data_root=context.data_root, offline=context.offline)
        if why:
            log(why)
        dataset = datasets.load(
            source, data_root=context.data_root, offline=context.offline, holdout=spec.holdout
        )
        name = dataset.name
        if any(job.dataset == name for job in jobs):
            raise UsageError(f"--dataset: {asked!r} is {name!r}, which is named already")
        if source == name:
            source = ""
        else:
            log(f"--dataset {source!r}: its images are called {name}")
        settings = _settings(spec, points=dataset.points)
        ready = extractors.are_kept(spec.features, dataset, context.cache)
        for model, values in settings:
            trial = Trial(model, values, dataset.describe(), _flag(spec, model))
            _make(trial, log, left_to=[] if dry_run else trials if ready else None)
        if why := extractors.resolve(spec.features, dataset)[1]:
            log(why)
        protocol = build_protocol(spec, dataset, context, dry_run=dry_run)
        if any(
            extractor["sha256"] == extractors.TO_BE_TRAINED for extractor in protocol["extractors"].values()
        ):
            log(f"a classifier of {name} would be trained first, once; the ids below depend on it")
        for model, values in settings:
            code = fingerprint.code_of(model)
            steps = spec.steps or iterations(spec.updates, values) or datasets.default_steps(name)
            every = min(steps, spec.eval_every or max(1, steps // datasets.n_evals(name)))
            own = protocol | _paired(model, protocol)
            if spec.select == "best":
                own["eval_every"] = every
            jobs += [Job(model, values, name, seed, steps, every, own, code, source) for seed in spec.seeds]
    return jobs


def _refuse_unasked(spec: Spec) -> None:
    """Refuse hyperparameters of models that are not asked for."""
    for given in (*spec.hyperparameters, *spec.variations):
        if given not in spec.models:
            raise UsageError(
                f"--set: {given!r} is not among --models {' '.join(spec.models)}{nearest(given, spec.models)}"
            )


def _settings(spec: Spec, *, points: bool) -> list[tuple[str, dict[str, Any]]]:
    """Each configuration: its model, and all its hyperparameters."""
    found = []
    for model in spec.models:
        for variation in spec.variations.get(model, [{}]):
            given = {**spec.hyperparameters.get(model, {}), **variation}
            found.append((model, resolve(model, given, points=points)))
    if spec.batch_size is not None:
        for _, values in found:
            values["batch_size"] = spec.batch_size
    return found


def iterations(updates: int | None, values: Mapping[str, Any]) -> int | None:
    """How many iterations of a model have so many updates of the discriminator."""
    return updates and max(1, updates // max(1, values.get("n_critic", 1)))  # below 1 it is refused later


def _make(trial: Trial, log: Callable[[str], object], *, left_to: Trials | None) -> None:
    """Make a trial, or leave it to others; ``log`` reports a batch that is larger than the data."""
    refuse_unlabelled(trial.model, trial.dataset)
    if left_to is None:
        size = trial()
    else:
        left_to.append(trial)
        size = trial.values.get("batch_size", 0)
    n_train, name = trial.dataset["n_train"], trial.dataset["name"]
    if size > n_train:
        log(
            f"{trial.model}: a batch of {size:,} is larger than the training split of {name}, "
            f"{n_train:,} images: each batch holds some of them several times"
        )


def _paired(model: str, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What super-resolution changes in a protocol: one sample per image of the split, and no noise."""
    if signature(model).card.task != "super-resolution":
        return {}
    return {"n_fake": protocol["n_real"], "draws": 1}


def _flag(spec: Spec, model: str) -> str:
    """The flag to name if a model cannot be built."""
    if spec.hyperparameters.get(model) or model in spec.variations:
        return "--set"
    return "--models" if spec.batch_size is None else "--batch-size"


def resolve(model: str, given: Mapping[str, Any], *, points: bool = False) -> dict[str, Any]:
    """All hyperparameters of a model: its defaults, on images or on points, changed by what was given.

    Raises:
        UsageError: no such model or hyperparameter, or a value of the wrong type.
    """
    from baselines import registry
    from baselines.gan import Choice
    from baselines.hyperparameters import defaults_of

    try:
        known = signature(model).hyperparameters
    except LookupError as error:
        ours = "" if ":" in model else f"; one of {', '.join(registry.names())}, or module:function"
        raise UsageError(f"--models: {error.args[0]}{ours}{registry.hint(model)}") from error
    except TypeError as error:
        raise UsageError(f"--models: {model} cannot be used: {error}") from error
    values = defaults_of(known, signature(model).card, points=points)
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"--set: {model}.{name} is not a hyperparameter; {model} has {', '.join(known)}"
                + nearest(name, known)
            )
        try:
            values[name] = known[name].parse(value)
        except ValueError as error:
            search = known[name].search
            options = map(str, search.values) if isinstance(search, Choice) else ()
            raise UsageError(
                f"--set: {model}.{name}={value!r}: allowed is {error}{nearest(str(value), options)}"
            ) from error
    return values


def check(model: str, values: Mapping[str, Any], dataset: Mapping[str, Any], flag: str) -> int:
    """Try a model with these hyperparameters on a data set, before hours are spent; returns its batch size.

    ``dataset`` is what a record says about it: :meth:`bench.data.datasets.Dataset.describe`.

    Raises:
        UsageError: it cannot be trained; names the model, the data set and the reason.
    """
    from baselines import probe, registry

    refuse_unlabelled(model, dataset)
    factory, name = registry.get(model), dataset["name"]
    data = datasets.spec_of(dataset)
    labelled = "label" in registry.card(factory).needs
    try:
        trial = probe.try_out(factory, data, values, labelled=labelled)
    except ValueError as error:
        why = probe.first_line(error)
        raise UsageError(f"{flag}: {model} cannot be built on {name}: {why}") from error
    if trial.problems:
        raise UsageError(f"{flag}: {model} cannot be trained on {name}: {trial.problems[0]}")
    _report_once(model, *registry.side_effects(factory), *trial.changed)
    assert trial.gan is not None  # without one there is a problem
    return trial.gan.batch_size


def refuse_unlabelled(model: str, dataset: Mapping[str, Any]) -> None:
    """Raise a UsageError if a model needs labels and the data set has none."""
    from baselines import registry

    if "label" in signature(model).card.needs and not dataset["n_classes"]:
        others = [name for name in registry.names() if "label" not in signature(name).card.needs]
        raise UsageError(
            f"--models: {model} needs labels and data set {dataset['name']!r} has none; "
            f"take one of {', '.join(datasets.LABELLED)}, or a model without labels: {', '.join(others)}"
        )


@dataclass(frozen=True)
class Trial:
    """One model to be tried on one data set: the arguments of :func:`check`, which a process can be sent."""

    model: str
    values: Mapping[str, Any]
    dataset: Mapping[str, Any]
    flag: str

    def __call__(self) -> int:
        """Try it; as :func:`check`."""
        return check(self.model, self.values, self.dataset, self.flag)


Trials = list[Trial]


@cache
def _report_once(model: str, *changed: str) -> None:
    if changed:
        what = "; ".join(dict.fromkeys(changed))
        print(f"{model} changes the whole process, which is put back: {what}", file=sys.stderr)


def _scores_of(dataset: datasets.Dataset, n_real: int, context: RunContext) -> dict[str, Any]:
    """The settings of the scores that a data set has."""
    from bench.scoring import sizes

    if dataset.points:
        from bench.scoring import points

        return points.protocol(n_real)
    if dataset.channels is not None:
        from bench.scoring import per_channel

        return sizes.protocol(n_real) | per_channel.protocol(dataset.channels, context.cache)
    return sizes.protocol(n_real) | sizes.protocol_of_memorisation(len(dataset.train))


def build_protocol(
    spec: Spec, dataset: datasets.Dataset, context: RunContext, *, dry_run: bool = False
) -> dict[str, Any]:
    """The protocol of a request on one data set. Loads each extractor to hash its weights."""
    from bench.scoring.own_scores import load_all

    if spec.scores and dataset.points:
        raise UsageError(f"--scores: {dataset.name} is points in the plane, which have their own scores")
    own = {score.score.name: score.describe() for score in load_all(spec.scores)}
    reference = dataset.val if spec.scored_on == "val" else dataset.test
    assert reference is not None
    return {
        "dataset": dataset.describe(),
        "scored_on": spec.scored_on,
        "select": spec.select,
        "weights": spec.select_weights,
        "precision": spec.precision,
        **({"threads": spec.threads} if spec.threads > 1 else {}),
        "draws": spec.draws,
        "extractors": {
            name: extractors.describe(name, dataset, train=not dry_run, **context.for_extractors("cpu"))
            for name in extractors.resolve(spec.features, dataset)[0]
        },
        **({"scores": own} if own else {}),
        **_scores_of(dataset, len(reference), context),
        "d_acc_tolerance": spec.d_acc_tolerance,
        "code": fingerprint.short(fingerprint.scoring_code()),
    }
