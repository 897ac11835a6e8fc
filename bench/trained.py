"""A finished run with its generator: what :func:`bench.load` gives.

Letters beside arrays: n images, H height, W width, C channels. M: samples in a draw of the scores
(``protocol.n_fake`` of the record).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.gan import Card, Gan, Nets
from baselines.training import settings
from baselines.training.step import DataBatch, to_uint8
from bench import interpolation
from bench.data import datasets
from bench.errors import UsageError
from bench.execution import environment
from bench.scoring.evaluator import SAMPLE_BATCH, Evaluator, draw_noise
from bench.store.records import Record

if TYPE_CHECKING:
    import pandas as pd

Pixels = NDArray[Any]
"""(n, H, W, C), uint8, 0 to 255. Of points in the plane: coordinates (n, 2), float32."""

Labels = int | Sequence[int] | NDArray[np.integer[Any]]
"""One class for all images, or one for each."""


@dataclass(frozen=True)
class Trained:
    """A finished run, with its networks as they were after the last step."""

    folder: Path
    record: Record
    """The content of ``run.json``: see ``docs/records.md``."""
    gan: Gan
    card: Card
    nets: Nets
    device: torch.device
    data_root: Path

    def __repr__(self) -> str:
        of = f"{self.record['model']} on {self.record['dataset']}, seed {self.record['seed']}"
        return f"<{of}, {self.record['steps']} steps, on {self.device}>"

    @cached_property
    def history(self) -> pd.DataFrame:
        """Losses and accuracies along training: :func:`reports.history` of this run."""
        from reports import frames

        return frames.history(self._row).drop(columns=list(frames.RUN))

    @cached_property
    def evals(self) -> pd.DataFrame:
        """The scores of each evaluation: :func:`reports.evals` of this run."""
        from reports import frames

        return frames.evals(self._row).drop(columns=list(frames.RUN))

    @property
    def _row(self) -> pd.DataFrame:
        from reports.runs import frame

        return frame([self.record], [str(self.folder)])

    # ------------------------------------------------------------------ sampling

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int | None = None,
        labels: Labels | None = None,
        images: Pixels | None = None,
    ) -> Pixels:
        """Samples of the generator (n, H, W, C), uint8, or points (n, 2), float32; 64 by default.

        ``seed`` is that of the noise. By default it is the run's own: then the first M images are those that
        were scored, to the bit on the machine that computed them. Another seed gives samples that no score
        has seen. ``sample(10)`` are the first images of ``sample(64)``.

        ``labels`` is for conditional models: one class for all images, or one for each. Without it the
        labels are drawn as for the scores, which needs the data set; :meth:`labels` gives them.

        ``images`` (n, H, W, C), uint8, as large as the data set's, is for super-resolution: they are shrunk
        as in training, and restored. Without it they are the first images of the split that was scored.

        Raises:
            UsageError: an argument does not fit the model; or the data set is needed, and missing.
        """
        n, seed = _count(n, labels, images), self._seed(seed)
        with _as_in_workers(self.device):
            if self.gan.low_resolution is not None:
                self._refuse_labels(labels)
                return self._pixels(self._restored(n, images))
            if images is not None:
                raise UsageError(f"images: {self.record['model']} makes images from noise, not from images")
            asked = self._asked(n, seed, labels)
            return np.concatenate([self._pixels(batch) for batch in self._from_noise(n, seed, asked)])

    def labels(self, n: int, *, seed: int | None = None) -> NDArray[np.int64] | None:
        """The labels (n,) that ``sample(n, seed=seed)`` asks for; ``None`` for a model without labels."""
        asked = self._asked(n, self._seed(seed), None)
        return None if asked is None else asked[:n].cpu().numpy()

    def interpolate(
        self,
        n: int | None = None,
        *,
        points: int = 4,
        frames: int = 12,
        seed: int | None = None,
        labels: Labels | None = None,
    ) -> Pixels:
        """``n`` images that change: (points · frames, n, H, W, C), uint8. The last frame leads to the first.
        Of points in the plane (points · frames, n, 2), float32.

        Each image passes through those of ``points`` noise vectors, ``frames`` frames apart, on a path that
        :mod:`bench.interpolation` describes. A label stays as it is. Arguments are as for :meth:`sample`.

        Raises:
            UsageError: an argument does not fit the model, or it has no noise.
        """
        if not self.gan.noise:
            raise UsageError(f"{self.record['model']} has no noise, so there is nothing to interpolate")
        n, seed = _count(n, labels, None), self._seed(seed)
        with _as_in_workers(self.device):
            asked = self._asked(n, seed, labels)
            draws = [draw_noise(self.gan, max(n, self._draw), seed, k, self.device) for k in range(points)]
            ends = [{name: noise[:n] for name, noise in drawn.items()} for drawn in draws]
            path = interpolation.closed_path(self.gan.noise, ends, frames)
            return np.stack([self._pixels(torch.cat(list(self._batches(noise, asked)))) for noise in path])

    def _pixels(self, images: Tensor) -> Pixels:
        """(B, C, H, W) in [-1, 1] -> (B, H, W, C); of points the coordinates (B, 2)."""
        if datasets.spec_of(self.record["protocol"]["dataset"]).points:
            return images.flatten(1).cpu().numpy()
        return np.ascontiguousarray(to_uint8(images).permute(0, 2, 3, 1).cpu().numpy())

    def _seed(self, seed: int | None) -> int:
        return int(self.record["seed"]) if seed is None else seed

    @property
    def _draw(self) -> int:
        """M."""
        return int(self.record["protocol"]["n_fake"])

    def _from_noise(self, n: int, seed: int, labels: Tensor | None) -> Iterator[Tensor]:
        """n images, batch by batch (B, C, H, W).

        Noise is drawn, and batches are cut, as for the scores: both can change the last bit of an image.
        """
        for k in range(-(-n // self._draw)):
            left, first = n - k * self._draw, k * self._draw
            noise = draw_noise(self.gan, self._draw, seed, k, self.device)
            asked = None if labels is None else labels[first : first + self._draw]
            for images in self._batches(noise, asked, most=left):
                yield images[:left]
                left -= len(images)

    def _batches(
        self, noise: Mapping[str, Tensor], labels: Tensor | None, most: int | None = None
    ) -> Iterator[Tensor]:
        """The images of these noise vectors, in whole batches, up to the one with the last of ``most``."""
        n = len(next(iter(noise.values())))
        for rows in torch.split(torch.arange(n, device=self.device), SAMPLE_BATCH):
            if most is not None and rows[0] >= most:
                return
            batch = {} if labels is None else {"label": labels[rows]}
            try:
                yield self.gan.generate(self.nets, batch, {name: z[rows] for name, z in noise.items()})
            except KeyError as error:
                asks = f"{self.record['model']}: its generator reads {error} of a batch"
                raise UsageError(f"{asks}; only noise and labels can be given here") from error

    def _restored(self, n: int, images: Pixels | None) -> Tensor:
        if images is None:
            originals = self._evaluator.images[:n]
            if len(originals) < n:
                raise UsageError(f"n: {n} is not allowed; there are {len(originals)} images to restore")
        else:
            c, h, w = self.record["protocol"]["dataset"]["shape"]
            given = np.asarray(images)
            if given.dtype != np.uint8 or given.shape != (n, h, w, c):
                raise UsageError(
                    f"images: {given.dtype} {given.shape} is not allowed; uint8 (n, {h}, {w}, {c})"
                )
            originals = torch.from_numpy(given).permute(0, 3, 1, 2).to(self.device)
        rows = torch.split(torch.arange(n, device=self.device), SAMPLE_BATCH)
        return torch.cat([self.gan.generate(self.nets, DataBatch(originals, None, k), {}) for k in rows])

    # ------------------------------------------------------------------ labels

    def _asked(self, n: int, seed: int, given: Labels | None) -> Tensor | None:
        """The labels to ask for, for whole draws, n or more; ``None`` for a model without labels."""
        if "label" not in self.card.needs:
            self._refuse_labels(given)
            return None
        whole = -(-n // self._draw) * self._draw
        if given is None:
            return self._evaluator.labels_of_samples(self.gan, seed, whole)
        dataset = self.record["protocol"]["dataset"]
        labels = np.asarray(given)
        if labels.dtype.kind not in "iu" or labels.shape not in ((), (n,)):
            raise UsageError(f"labels: one whole number, or one for each of {n} images, is allowed")
        for label in np.unique(labels):
            if not 0 <= label < dataset["n_classes"]:
                last = dataset["n_classes"] - 1
                raise UsageError(f"labels: {label} is not a class of {dataset['name']}; 0 to {last}")
        each = np.broadcast_to(labels, n).astype(np.int64)
        return torch.from_numpy(np.pad(each, (0, whole - n), mode="edge")).to(self.device)

    def _refuse_labels(self, given: Labels | None) -> None:
        if given is not None:
            raise UsageError(f"labels: {self.record['model']} is not conditional, so it takes none")

    @cached_property
    def _evaluator(self) -> Evaluator:
        """What gives generators their conditions for the scores. It needs the data set, but no extractor."""
        dataset = self.record["protocol"]["dataset"]
        source = self.record["environment"].get("source") or self.record["dataset"]
        holdout = bool(dataset["n_val"])
        found = datasets.load(source, data_root=self.data_root, offline=True, holdout=holdout)
        if found.sha256 != dataset["sha256"]:
            raise UsageError(f"data set {source!r} has changed since {self.folder} was trained on it")
        return Evaluator(found, self.record["protocol"]["scored_on"], {}, Path(), self.device)


def _count(n: int | None, labels: Labels | None, images: Pixels | None) -> int:
    """How many images are wanted."""
    if n is None:
        given = labels if images is None else images
        n = 64 if given is None or isinstance(given, int) else len(given)
    if n < 1:
        raise UsageError(f"n: {n} is not allowed; a whole number, 1 or more")
    return n


@contextmanager
def _as_in_workers(device: torch.device) -> Iterator[None]:
    """Arithmetic as where runs are computed; the caller's settings and random streams come back."""
    with settings.isolated(), torch.inference_mode():
        environment.set_arithmetic(str(device))
        yield
