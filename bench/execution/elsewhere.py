"""Samples of a model that was trained elsewhere: scored as those of our own models, and put on record.

The record has no weights, no history, no accuracy of a discriminator and no cost. ``samples`` in it says
which images were scored: that marks the row wherever it is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.data.arrays import Read, Reading
from bench.execution import environment
from bench.execution.recording import describe_baseline
from bench.identity import fingerprint
from bench.plan import RunContext
from bench.scoring import infinity, per_channel, pictures
from bench.scoring.conditional import conditional_scores
from bench.scoring.evaluator import CLASSIFIER, Evaluator
from bench.scoring.extractors import load_extractor
from bench.scoring.own_scores import load_all, sources
from bench.store import records
from bench.store.jobs import Job

if TYPE_CHECKING:
    from bench.data.datasets import Dataset

ORDER_SEED = 0
"""Of the random but fixed order in which images are dealt into draws."""


def job_of(label: str, seed: int, dataset: Dataset, source: str, protocol: Mapping[str, Any]) -> Job:
    """The run that the samples of one training seed stand for; nothing of its training is known."""
    code = {"model": {}, "training": {}, "scoring": fingerprint.scoring_code(), "how": "source"}
    return Job(label, {}, dataset.name, seed, 0, 0, protocol, code, source)


def n_needed(protocol: Mapping[str, Any]) -> int:
    """How many samples a protocol scores."""
    return int(protocol["n_fake"] * protocol["draws"])


def content_sha256(read: Read) -> str:
    """The hash of the images that are scored, and of their labels."""
    digest = hashlib.sha256(f"{read.images.shape} {read.labels is not None}\n".encode())
    digest.update(read.images.data)
    if read.labels is not None:
        digest.update(read.labels.astype("<i8").data)
    return digest.hexdigest()


def describe(path: Path, how: Reading, read: Read) -> dict[str, Any]:
    """What a record says of its samples: where they were, which they are, and how they were read."""
    return {
        "file": path.name,
        "path": str(path.absolute()),
        "sha256": content_sha256(read),
        "n": len(read.images),
        "n_held": read.n_held,
        "labelled": read.labels is not None,
        "reading": asdict(how),
    }


def reading_of(samples: Mapping[str, Any]) -> Reading:
    """The :class:`Reading` in what :func:`describe` gave."""
    held = dict(samples["reading"])
    value_range = held.pop("value_range")
    return Reading(**held, value_range=None if value_range is None else (value_range[0], value_range[1]))


def evaluator_of(dataset: Dataset, protocol: Mapping[str, Any], context: RunContext) -> Evaluator:
    """The evaluator that the protocol names, for this process."""
    environment.set_up(context.device)
    extractors = {
        name: load_extractor(name, dataset, **context.for_extractors(context.device))
        for name in protocol["extractors"]
    }
    split = protocol["scored_on"]
    device, own = torch.device(context.device), load_all(sources(protocol))
    return Evaluator(dataset, split, extractors, context.cache, device, own)


def describe_scores(evaluator: Evaluator, read: Read, job: Job, *, with_infinity: bool) -> dict[str, Any]:
    """The scores of samples for their record: ``metrics``, their ``draws`` and, if asked for, ``infinity``.

    The images are dealt into as many draws as the protocol has, in a random but fixed order, so that it does
    not matter how they were sorted. ``metrics`` is the mean over draws. Labels are the classes that the model
    was asked for.

    Raises:
        ScoreError: some features are not finite, or there are too few samples for FID∞.
    """
    order = np.random.RandomState(ORDER_SEED).permutation(len(read.images))
    images = torch.from_numpy(read.images[order])
    asked = None if read.labels is None else torch.from_numpy(read.labels[order])
    parts = np.split(np.arange(len(images)), job.protocol["draws"])
    draws: dict[str, dict[str, list[float]]] = {}
    curves: dict[str, Any] = {}
    if evaluator.judges is not None:
        modes = [evaluator.judges(images[part]) for part in parts]
        draws[per_channel.NAME] = {name: [its[name] for its in modes] for name in modes[0]}
    for name, extractor in evaluator.extractors.items():
        features = extractor(images)
        found = []
        for part in parts:
            its = features[part]
            scores = evaluator.scores(name, images[part], its, job.seed) | evaluator.memorisation(name, its)
            if asked is not None and evaluator.labels is not None and name == CLASSIFIER:
                scores |= conditional_scores(evaluator.real[name], evaluator.labels, its, asked[part])
            found.append(scores)
        shared = [score for score in found[0] if all(score in scores for scores in found)]
        draws[name] = {score: [scores[score] for scores in found] for score in shared}
        if with_infinity:
            curves[name] = infinity.extrapolate(
                evaluator.real[name].features, features.features, seed=job.seed
            )
    metrics = {name: {score: mean(values) for score, values in its.items()} for name, its in draws.items()}
    for name, curve in curves.items():
        metrics[name]["fid_infinity"] = curve.pop("fid_infinity")
    several = {"draws": draws} if len(parts) > 1 else {}
    return {"metrics": metrics} | several | ({"infinity": curves} if with_infinity else {})


def record(
    folder: Path,
    job: Job,
    samples: Mapping[str, Any],
    read: Read,
    evaluator: Evaluator,
    *,
    with_infinity: bool,
) -> records.Record:
    """Score samples, of which :func:`describe` gave ``samples``, and write their record; returns it.

    Raises:
        ScoreError: as for :func:`describe_scores`.
    """
    result = records.blank(job, status="finished", reason=None, attempts=1, task="generation")
    result["samples"] = dict(samples)
    result["environment"] = environment.describe(str(evaluator.device)) | {"source": job.source or None}
    result |= describe_baseline(evaluator)
    result |= describe_scores(evaluator, read, job, with_infinity=with_infinity)
    folder.mkdir(parents=True, exist_ok=True)
    labels = None if read.labels is None else torch.from_numpy(read.labels)
    pictures.given_grid(torch.from_numpy(read.images), labels, evaluator, folder)
    records.write(folder, result)
    return result
