"""Does a model copy its training images? Density, coverage, AuthPct and C_T, from features alone.

All four compare samples with *all* images that the model was trained on. A subset would let a model pass that
copied only images outside of it. C_T compares with held-out images as well, which no model has seen.

- ``density`` and ``coverage`` (Naeem et al. 2020, arXiv:2002.09797, equations 4 and 5; k = 5). The ball of a
  training image reaches to its fifth nearest other training image. Density is the mean number of balls that a
  sample lies in, divided by k; coverage is the fraction of balls that any sample lies in. Recall already says
  how much of the held-out images is covered; here it is the training images, so that samples that lie on
  them, instead of between them, cover more than fresh images of the same distribution would.
- ``authpct`` (Alaa et al. 2022, arXiv:2102.08921): the percentage of samples that are authentic. A sample is
  not if it is as near to its nearest training image as that is to its own nearest one, or nearer.
- ``c_t`` (Meehan et al. 2020, arXiv:2004.05675): whether samples lie nearer to training images than held-out
  images do, as a z-score. Below zero they do: the model copies. Above, it lies further off: it underfits.

What a model that makes fresh images of the data's distribution would get: density 1, C_T 0, and a coverage of
about 1 - (N / (N + M))^k for N training images and M samples, 0.54 for 60,000 and 10,000. For AuthPct there
is no such number. So tables show what held-out images get.

The scores are defined on degenerate input, too. Where training images are equal, their ball has no inside:
it counts for nothing, as in the paper's strict inequality, and only exact copies of such an image are not
authentic. Where no cell of C_T has enough samples, all cells are taken together. A split of fewer than ten
images has no scores.

Distances are computed in float64, in blocks, so they depend on no batch size; below a millionth of the
largest training feature vector they are rounding, and taken as zero.

Letters beside tensors: N training images, M samples, H held-out images, D features, P axes of C_T, K cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.scoring import sizes
from bench.scoring.determinism import scoring
from bench.scoring.metrics import check_features

FEWEST_IN_CELL = 20
"""A cell of C_T counts where it has more samples than this."""
MOST_DIMENSIONS = 64
"""C_T is computed on so many principal components of the training features, where these have more."""
GROW_WITH_N = ("coverage",)
"""Scores whose value depends on how many samples there are."""
BLOCK = 2**24
"""Numbers of a distance matrix that are computed at once: 128 MB."""
ROUNDING = 1e-12
"""Squared distances below this fraction of the largest squared norm of training features are zero."""

EDGE = 1e-5
"""How far a squared distance must be below a squared radius, as a fraction of it, to be less. Features are
float32, and their last digits can depend on the batch that an image came in."""


def prepare(train: Tensor, held_out: Tensor) -> dict[str, Tensor]:
    """What the scores need of training features (N, D) and held-out ones (H, D), computed once.

    - ``nearest``, ``radii`` (N,): squared distance of each training image to its nearest and to its k-th
      nearest other training image;
    - ``axes`` (D, P), ``centres`` (K, P): the space and the cells of C_T;
    - ``held_out``, ``held_out_cell`` (H,): squared distance of each held-out image to the nearest training
      image of its cell, and the cell.

    Raises:
        ScoreError: there are fewer than ten images on a side, or a feature is not finite.
    """
    check_features("training", train)
    check_features("held-out", held_out)
    with torch.inference_mode(), scoring():
        # k + 1, as the nearest point is the point itself.
        least = torch.cat(
            [
                squares.topk(sizes.NEIGHBOURS + 1, largest=False).values[:, [1, sizes.NEIGHBOURS]]
                for _, squares in _distances(train, train)
            ]
        )
        axes = _axes(train.double())
        centres = _centres(train.double() @ axes)
        found = {
            "nearest": least[:, 0].clone(),
            "radii": least[:, 1].clone(),
            "axes": axes,
            "centres": centres,
        }
        distance, cell = _within_cells(train, found, held_out)
        return found | {"held_out": distance, "held_out_cell": cell}


def scores(
    train: Tensor, prepared: Mapping[str, Tensor], fake: Tensor, held_out: Tensor | None = None
) -> dict[str, float]:
    """``density``, ``coverage``, ``authpct`` and ``c_t`` of samples' features (M, D).

    ``prepared`` is what :func:`prepare` made of the training features ``train`` (N, D). ``held_out`` chooses
    some of the held-out images, by their numbers.

    Raises:
        ScoreError: there are fewer than ten samples, or a feature is not finite.
    """
    check_features("generated", fake)
    # An exact copy lies on the edge of some balls, where rounding would decide whether it is inside.
    nearest, radii = prepared["nearest"], (1 - EDGE) * prepared["radii"]
    within = authentic = 0
    covered = torch.zeros(len(train), dtype=torch.bool)
    with torch.inference_mode(), scoring():
        for _, squares in _distances(fake, train):
            distance, image = squares.min(dim=1)
            authentic += int((nearest[image] < distance).sum())
            inside = squares < radii
            within += int(inside.count_nonzero())  # sum() would take twenty times as long
            covered |= inside.any(dim=0)
        distance, cell = _within_cells(train, prepared, fake)
    known = slice(None) if held_out is None else held_out
    return {
        "density": within / (sizes.NEIGHBOURS * len(fake)),
        "coverage": covered.double().mean().item(),
        "authpct": 100 * authentic / len(fake),
        "c_t": _c_t(distance, cell, prepared["held_out"][known], prepared["held_out_cell"][known]),
    }


def _distances(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of points (A, D) to others (B, D), in blocks of rows: which rows, and (block, B)."""
    others = others.double()
    norms = others.square().sum(dim=1)
    zero = ROUNDING * float(norms.max())
    step = max(1, BLOCK // len(others))
    for start in range(0, len(points), step):
        rows = slice(start, start + step)
        block = points[rows].double()
        squares = torch.addmm(norms[None], block, others.T, alpha=-2)
        squares += block.square().sum(dim=1)[:, None]
        yield rows, F.threshold(squares, zero, 0.0, inplace=True)


# ---------------------------------------------------------------- C_T


def _axes(train: Tensor) -> Tensor:
    """The first 64 principal components (D, P) of features (N, D); the identity where there are no more."""
    if train.shape[1] <= MOST_DIMENSIONS:
        return torch.eye(train.shape[1], dtype=train.dtype)
    vectors: Tensor = torch.linalg.eigh(torch.cov(train.T)).eigenvectors
    return vectors[:, -MOST_DIMENSIONS:].contiguous()


def _centres(points: Tensor) -> Tensor:
    """The centres of the cells (K, P): k-means of training points (N, P), without cells that hold none."""
    from sklearn.cluster import KMeans  # imports take a second, and few commands score
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than cells
        found = KMeans(sizes.CELLS, n_init=10, random_state=0).fit(points.numpy())
    centres = torch.from_numpy(found.cluster_centers_)
    return centres[_cells(points, centres).bincount(minlength=sizes.CELLS) > 0]


def _cells(points: Tensor, centres: Tensor) -> Tensor:
    """The cell of each point (A, P) -> (A,): that of the nearest centre."""
    return torch.cat([squares.argmin(dim=1) for _, squares in _distances(points, centres)])


def _within_cells(train: Tensor, prepared: Mapping[str, Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """The squared distance of each point (A, D) to the nearest training image of its cell, and the cell."""
    axes, centres = prepared["axes"], prepared["centres"]
    projected, images = points.double() @ axes, train.double() @ axes
    cells, its = _cells(projected, centres), _cells(images, centres)
    found = torch.full((len(points),), torch.inf, dtype=torch.float64)
    for k in range(len(centres)):
        if (mine := torch.nonzero(cells == k).flatten()).numel():
            near = [squares.min(dim=1).values for _, squares in _distances(projected[mine], images[its == k])]
            found[mine] = torch.cat(near)
    return found, cells


def _c_t(fake: Tensor, fake_cell: Tensor, held_out: Tensor, held_out_cell: Tensor) -> float:
    """The mean over cells of :func:`_z`, weighted with the held-out images (H,) that each cell holds."""
    total = weight = 0.0
    for k in range(int(max(fake_cell.max(), held_out_cell.max())) + 1):
        ours, theirs = fake[fake_cell == k], held_out[held_out_cell == k]
        if len(ours) > FEWEST_IN_CELL and len(theirs):
            total += len(theirs) * _z(ours, theirs)
            weight += len(theirs)
    return total / weight if weight else _z(fake, held_out)


def _z(fake: Tensor, held_out: Tensor) -> float:
    """The Mann-Whitney U of distances (M,) and (H,), equal ones counted as half, as a z-score.

    Below zero where those of the samples are smaller. One half is added to U, as in the authors' code.
    """
    from scipy.stats import rankdata

    m, n = len(fake), len(held_out)
    ranks = rankdata(torch.cat([fake, held_out]).numpy())
    u = ranks[:m].sum() - m * (m + 1) / 2
    return float((u - n * m / 2 + 0.5) / np.sqrt(n * m * (n + m + 1) / 12))
