"""Sample a generator, score the samples, and measure the accuracy of its discriminator.

Letters: N examples of the reference split, M fakes. There are more fakes than examples where the split is
small (:func:`bench.scoring.sizes.n_fakes`). A conditional generator is asked for the labels of training
examples, drawn with replacement, so it is given class frequencies of training, and none of the split that it
is scored on. A super-resolution generator is given the low-resolution input of each example of the split:
there, M is N.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.gan import Batch, Gan, Nets
from baselines.probe import wrong_output
from baselines.training.step import DataBatch, to_uint8
from baselines.training.streams import derive, draw
from bench.data.datasets import Dataset, Images
from bench.scoring import criterion, memorisation, metrics, per_channel, points, sizes
from bench.scoring.conditional import conditional_scores
from bench.scoring.features import Extractor, Features, cache_key, real_features
from bench.scoring.neighbours import Neighbours
from bench.scoring.own_scores import OwnScore
from bench.scoring.superresolution import bicubic, restoration_scores
from bench.store import cache as entries

SAMPLE_BATCH = 500
BASELINE_DRAWS = 5
"""Draws of real training images that are scored as if they were samples."""
CLASSIFIER = "classifier"
"""The extractor whose logits are the data set's own classes."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of one generator and discriminator."""

    metrics: dict[str, dict[str, float]]
    """Extractor -> score -> value."""
    d_accuracy: dict[str, float] | None
    """``real``, ``fake``, ``balanced`` on held-out reals and fresh fakes. ``None``: no discriminator."""
    images: Tensor
    """The fakes (M, C, H, W), uint8; points (M, 2, 1, 1), float32."""
    features: Mapping[str, Features]
    """Extractor -> their features, from which :meth:`Evaluator.memorisation` goes on."""


Draws = dict[str, dict[str, list[float]]]
"""Extractor -> score -> its values in several draws of samples."""


Training = tuple[Features, Mapping[str, Tensor]]
"""Features of all training images, and what :func:`memorisation.prepare` makes of them."""


class NonFiniteSamplesError(Exception):
    """The generator returned NaN or infinite pixels."""


class OutputError(Exception):
    """A model did not return one image, or one score, per example. The message says what it returned."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Examples in batches: images (N, C, H, W) uint8, and labels (N,) where there are any."""

    images: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self) -> Iterator[tuple[Tensor, Batch]]:
        """The numbers of the examples (B,), and the examples."""
        for rows in torch.split(torch.arange(len(self), device=self.images.device), SAMPLE_BATCH):
            yield rows, DataBatch(self.images, self.labels, rows)


@dataclass
class Evaluator:
    """Scores generators against one split (``test`` or ``val``) of one data set."""

    dataset: Dataset
    split: str
    extractors: Mapping[str, Extractor]
    cache: Path
    device: torch.device
    own: tuple[OwnScore, ...] = ()
    """A user's own scores."""
    reference: Images = field(init=False)
    real: dict[str, Features] = field(init=False)
    images: Tensor = field(init=False)
    labels: Tensor | None = field(init=False)
    neighbours: Neighbours | None = field(init=False, default=None)
    trained: dict[str, Training] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.reference = self.dataset.test if self.split == "test" else _held_out(self.dataset)
        self.images, self.labels = to_device(self.reference, self.device)
        host = torch.from_numpy(self.reference.images)
        self.real = {
            name: real_features(extractor, host, self.cache) for name, extractor in self.extractors.items()
        }
        if CLASSIFIER in self.extractors:  # so there are labels
            self.neighbours = Neighbours(self.dataset, self.device)

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def n_fake(self) -> int:
        """M, for models that are not of super-resolution."""
        if self.dataset.points:
            return points.N_SAMPLES
        return sizes.n_fakes(len(self)) if self.dataset.channels is None else per_channel.N_SAMPLES

    @cached_property
    def judges(self) -> per_channel.Judges | None:
        """Of the modes of images whose channels are drawn each on its own; None for other data."""
        channels = self.dataset.channels
        return None if channels is None else per_channel.Judges(channels, self.cache, self.device)

    def real_data_baseline(self) -> Draws:
        """The scores of real images in several draws: M training images in place of the samples.

        They are computed once per protocol and kept in the cache: they are the same for every run.
        """
        if self.dataset.points:
            return points.baseline(self.dataset, BASELINE_DRAWS)
        found = {}
        if (judges := self.judges) is not None:
            folder = self.kept("baselines", judges.classifier)
            found[per_channel.NAME] = judges.baseline(self.dataset, folder, BASELINE_DRAWS)
        return found | {name: self._baseline(extractor) for name, extractor in self.extractors.items()}

    def _baseline(self, extractor: Extractor) -> dict[str, list[float]]:
        def compute() -> entries.Entry:
            found = []
            for k in range(BASELINE_DRAWS):
                images, features = self._real_draw(extractor, k)
                scores = self.scores(extractor.name, images, features, seed=0)
                found.append(scores | self.memorisation(extractor.name, features))
            return {}, {"scores": {name: [one[name] for one in found] for name in found[0]}}

        _, record = entries.cached(self.kept("baselines", extractor), compute)
        scores: dict[str, list[float]] = record["scores"]
        return scores

    def kept(self, what: str, extractor: Extractor) -> Path:
        """The folder of the cache for results of this kind on this split."""
        key = hashlib.sha256(f"{cache_key(extractor)} {self.dataset.sha256} {self.split}".encode())
        key.update("".join(f" {own.source} {own.sha256}" for own in self.own).encode())
        return self.cache / what / key.hexdigest()

    def training(self, extractor: str) -> Training:
        """What scores of memorisation need of all training images, computed once and kept in the cache."""
        if extractor not in self.trained:
            its = self.extractors[extractor]
            every = real_features(its, torch.from_numpy(self.dataset.train.images), self.cache)

            def compute() -> entries.Entry:
                return memorisation.prepare(every.features, self.real[extractor].features), {}

            self.trained[extractor] = every, entries.cached(self.kept("training", its), compute)[0]
        return self.trained[extractor]

    def memorisation(
        self, extractor: str, fake: Features, held_out: Tensor | None = None
    ) -> dict[str, float]:
        """Scores of samples with these features against all training images, which take a while.

        ``held_out``: the numbers of the images of the split that count as held out; by default all.

        Empty where training images are stacks: there is no list of them to compare with.
        """
        if self.dataset.channels is not None:
            return {}
        every, prepared = self.training(extractor)
        return memorisation.scores(every.features, prepared, fake.features, held_out)

    def _real_draw(self, extractor: Extractor, k: int) -> tuple[Tensor, Features]:
        """M training examples, uint8, and their features: blocks of N, each drawn without replacement.

        Precision and recall are computed in these blocks; a repeated image would shrink its own ball.
        """
        if self.dataset.channels is not None:
            images = torch.from_numpy(self.dataset.drawn(self.n_fake, k).images)
            return images, extractor(images)
        generator = np.random.Generator(np.random.PCG64(k))
        n_train, n_blocks = len(self.dataset.train), -(-self.n_fake // len(self))
        blocks = [generator.permutation(n_train)[: len(self)] for _ in range(n_blocks)]
        chosen = np.concatenate(blocks)[: self.n_fake]
        return torch.from_numpy(self.dataset.train.images[chosen]), self.training(extractor.name)[0][chosen]

    def evaluate(self, gan: Gan, nets: Nets, seed: int, *, conditional: bool = False) -> Evaluation:
        """Sample, score and judge. Noise and labels depend on the run's seed alone: they are the same at
        every step.

        With ``conditional``, the model uses labels, and its conditional scores are computed, too.

        Raises:
            NonFiniteSamplesError: the generator's pixels are not finite.
            OutputError: the model does not return one image and one score per example.
        """
        with torch.inference_mode():
            asked = self._asked(gan, seed)
            fakes = self._sample(gan, nets, asked, seed)
            images = self._as_data(fakes)
            features = {name: extractor(images) for name, extractor in self.extractors.items()}
            scores = self._score(images, features, seed, asked.labels if conditional else None)
            if gan.low_resolution is not None:
                scores["super-resolution"] = self._restoration(gan, images)
            return Evaluation(scores, self._d_accuracy(gan, nets, asked, fakes), images, features)

    def draws(
        self, gan: Gan, nets: Nets, seed: int, first: Evaluation, n: int, *, conditional: bool = False
    ) -> Draws:
        """The scores of ``n`` draws of samples, those of memorisation too. ``first`` is the first draw."""
        more = [self.with_memorisation(first.metrics, first.features)]
        with torch.inference_mode():
            for k in range(1, n):
                asked = self._asked(gan, seed, k)
                images = self._as_data(self._sample(gan, nets, asked, seed, k))
                features = {name: extractor(images) for name, extractor in self.extractors.items()}
                scores = self._score(images, features, seed, asked.labels if conditional else None)
                more.append(self.with_memorisation(scores, features))
        return {
            extractor: {name: [scores[extractor][name] for scores in more] for name in its}
            for extractor, its in more[-1].items()
        }

    def with_memorisation(
        self, scores: Mapping[str, Mapping[str, float]], features: Mapping[str, Features]
    ) -> dict[str, dict[str, float]]:
        """Scores of samples with these features, by extractor, and those of memorisation beside them."""
        known = {name: self.memorisation(name, its) for name, its in features.items()}
        return {name: {**its, **known.get(name, {})} for name, its in scores.items()}

    def samples(self, gan: Gan, nets: Nets, seed: int, first: Evaluation, n: int) -> Tensor:
        """``n`` fakes (n, C, H, W), as the data are kept: first those that were scored, then further draws.

        A generator without noise (super-resolution) has only one image per example of the split.
        """
        found = [first.images]
        with torch.inference_mode():
            while gan.noise and len(first.images) * len(found) < n:
                found.append(self._as_data(self.sample(gan, nets, seed, len(found))))
        return torch.cat(found)[:n]

    def _as_data(self, fakes: Tensor) -> Tensor:
        """Fakes (N, C, H, W) as the data are kept, on the CPU: uint8 images, or points as they are."""
        return (fakes if self.dataset.points else to_uint8(fakes)).cpu()

    def labels_of_samples(self, gan: Gan, seed: int, n: int) -> Tensor:
        """The labels (n,) int64 that :meth:`samples` asks a conditional generator for."""
        found: list[Tensor] = []
        while sum(map(len, found)) < n:
            labels = self._asked(gan, seed, len(found)).labels
            assert labels is not None
            found.append(labels)
        return torch.cat(found)[:n]

    def sample(self, gan: Gan, nets: Nets, seed: int, draw_number: int = 0) -> Tensor:
        """M fakes (M, C, H, W) in [-1, 1]. Each ``draw_number`` has its own noise, and its own labels.

        Raises:
            OutputError: the generator's output has another shape.
            NonFiniteSamplesError: its pixels are not finite.
        """
        return self._sample(gan, nets, self._asked(gan, seed, draw_number), seed, draw_number)

    def _asked(self, gan: Gan, seed: int, draw_number: int = 0) -> Conditions:
        """The examples whose label, or low-resolution image, the generator is given."""
        if gan.low_resolution is not None:
            return Conditions(self.images, self.labels)
        # On the CPU, so that a run asks for the same labels on every device.
        generator = torch.Generator().manual_seed(derive(seed, f"conditions-{draw_number}"))
        n, size = self.dataset.per_example, (self.n_fake,)
        chosen = torch.randint(len(self.dataset.train), size if n == 1 else (*size, n), generator=generator)
        return Conditions(*to_device(self.dataset.examples(chosen.numpy()), self.device))

    def _sample(self, gan: Gan, nets: Nets, asked: Conditions, seed: int, draw_number: int = 0) -> Tensor:
        noise = draw_noise(gan, len(asked), seed, draw_number, self.device)
        fakes = torch.cat(
            [
                _checked(
                    "generate",
                    gan.generate(nets, batch, {name: value[rows] for name, value in noise.items()}),
                    (len(rows), *self.dataset.shape),
                    anywhere=self.dataset.points,
                )
                for rows, batch in asked.batches()
            ]
        )
        if not torch.isfinite(fakes).all():
            raise NonFiniteSamplesError("the generator's samples are not finite")
        return fakes

    def _score(
        self, images: Tensor, features: Mapping[str, Features], seed: int, asked: Tensor | None
    ) -> dict[str, dict[str, float]]:
        """``asked``: the labels (M,) that a conditional model was given."""
        scores = points.of(self.dataset, images) if self.dataset.points else {}
        if self.judges is not None:
            scores[per_channel.NAME] = self.judges(images)
        for name, its in features.items():
            scores[name] = self.scores(name, images, its, seed)
            if asked is not None and self.labels is not None and name == CLASSIFIER:
                scores[name] |= conditional_scores(self.real[name], self.labels, its, asked)
        return scores

    def scores(self, extractor: str, images: Tensor, fake: Features, seed: int) -> dict[str, float]:
        """The scores of images (N, C, H, W), uint8, of which these are the features."""
        scores = metrics.score(self.real[extractor], fake, seed=seed)
        labels, n_classes = self.reference.labels, self.dataset.n_classes
        if extractor == CLASSIFIER and self.neighbours is not None and labels is not None:
            assert fake.logits is not None
            scores |= metrics.mode_coverage(fake.logits.argmax(dim=1), labels, n_classes)
            scores |= metrics.mode_coverage(self.neighbours(images), labels, n_classes, "_knn")
        return scores | {own.score.name: own(self.real[extractor], fake) for own in self.own}

    def _restoration(self, gan: Gan, images: Tensor) -> dict[str, float]:
        assert gan.low_resolution is not None
        height = self.images.shape[-2]
        enlarged = []
        for _, batch in Conditions(self.images, self.labels).batches():
            low = gan.low_resolution(batch)
            enlarged.append(to_uint8(bicubic(low, height // low.shape[-2])).cpu())
        return restoration_scores(images.numpy(), torch.cat(enlarged).numpy(), self.reference.images)

    def _d_accuracy(self, gan: Gan, nets: Nets, asked: Conditions, fakes: Tensor) -> dict[str, float] | None:
        """On the split's images with their own labels, and on the fakes with those that were asked for."""
        discriminate = gan.discriminate
        if discriminate is None:
            return None

        def judged(rows: Tensor, batch: Batch) -> Tensor:
            return _checked("discriminate", discriminate(nets, batch), (len(rows),))

        reference = Conditions(self.images, self.labels)
        real = torch.cat([judged(rows, batch) for rows, batch in reference.batches()])
        fake = torch.cat([judged(rows, {**batch, "image": fakes[rows]}) for rows, batch in asked.batches()])
        scores_real, scores_fake = real.cpu().numpy(), fake.cpu().numpy()
        if gan.threshold is not None:
            return criterion.accuracy(scores_real, scores_fake, gan.threshold)
        # A critic: choose the threshold on every other example, judge on the rest.
        threshold = criterion.best_threshold(scores_real[::2], scores_fake[::2])
        return criterion.accuracy(scores_real[1::2], scores_fake[1::2], threshold)


def draw_noise(gan: Gan, n: int, seed: int, draw_number: int, device: torch.device) -> dict[str, Tensor]:
    """The noise (n, *shape) of one of the draws of samples that a run with this seed is scored on.

    It depends on ``n`` as well: samples are the same only where the whole draw is.
    """
    purpose = f"eval-{draw_number}" if draw_number else "eval"
    return draw(gan.noise, (n,), torch.Generator(device).manual_seed(derive(seed, purpose)))


def to_device(images: Images, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """A split as uint8 images (N, C, H, W) and int64 labels (N,) on the device."""
    labels = None if images.labels is None else torch.from_numpy(images.labels).to(device)
    return torch.from_numpy(images.images).to(device), labels


def _checked(name: str, output: Tensor, shape: tuple[int, ...], *, anywhere: bool = False) -> Tensor:
    if wrong := wrong_output(name, output, shape[0], shape[1:], anywhere=anywhere):
        raise OutputError(wrong)
    return output


def _held_out(dataset: Dataset) -> Images:
    if dataset.val is None:
        raise ValueError("this data set was loaded without a validation split")
    return dataset.val
