"""Density, coverage, AuthPct and C_T, against the papers' definitions written out one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from bench.scoring import memorisation
from bench.scoring.metrics import ScoreError

Points = NDArray[np.float64]
K = 5


def cloud(n: int, dims: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Three Gaussian heaps of different widths."""
    rng = np.random.default_rng([seed, n, dims])
    heaps = rng.integers(0, 3, n)
    points = rng.normal(size=(n, dims)) * (1 + heaps[:, None]) + 6 * heaps[:, None] + shift
    return torch.from_numpy(points.astype(np.float32))


def scored(train: Tensor, held_out: Tensor, fake: Tensor) -> dict[str, float]:
    return memorisation.scores(train, memorisation.prepare(train, held_out), fake)


# ---------------------------------------------------------------- the papers, equation by equation


def distance(a: Points, b: Points) -> float:
    return float(np.sqrt(np.sum((a - b) ** 2)))


def of_naeem(real: Points, fake: Points) -> dict[str, float]:
    """Equations 4 and 5 of arXiv:2002.09797."""
    radii = [sorted(distance(x, other) for other in real)[K] for x in real]  # the first is x itself
    inside = np.array([[distance(y, x) < r for y in fake] for x, r in zip(real, radii, strict=True)])
    return {"density": inside.sum() / (K * len(fake)), "coverage": inside.any(axis=1).mean()}


def of_alaa(train: Points, fake: Points) -> float:
    """Section 4.3 of arXiv:2102.08921."""
    authentic = 0
    for y in fake:
        nearest = min(range(len(train)), key=lambda i: distance(y, train[i]))
        own = min(distance(train[nearest], x) for i, x in enumerate(train) if i != nearest)
        authentic += own < distance(y, train[nearest])
    return 100 * authentic / len(fake)


def of_meehan(train: Points, held_out: Points, fake: Points) -> float:
    """C_T of arXiv:2004.05675, with the authors' half added to U; three cells, of more than 20 samples."""
    if train.shape[1] > 64:
        pca = PCA(64, svd_solver="full").fit(train)
        train, held_out, fake = (pca.transform(each) for each in (train, held_out, fake))
    kmeans = KMeans(3, n_init=10, random_state=0).fit(train)
    cells = [kmeans.predict(each) for each in (train, held_out, fake)]
    scores, weights = [], []
    for k in range(3):
        images, p, q = (each[cell == k] for each, cell in zip((train, held_out, fake), cells, strict=True))
        if len(q) > 20:
            of_q, of_p = ([min(distance(y, x) for x in images) for y in each] for each in (q, p))
            u = mannwhitneyu(of_q, of_p, alternative="less", method="asymptotic").statistic
            n = len(p) * len(q)
            scores.append((u - (n / 2 - 0.5)) / np.sqrt(n * (len(p) + len(q) + 1) / 12))
            weights.append(len(p))
    return float(np.average(scores, weights=weights))


@pytest.mark.parametrize("dims", [6, 70])
def test_scores_are_those_of_the_papers(dims: int) -> None:
    """Near copies, fresh points and points that lie off, in one set of samples; 70 dimensions are reduced."""
    train, held_out = cloud(150, dims), cloud(90, dims, seed=1)
    copies = train[:40] + 0.3 * cloud(40, dims, seed=2) / 10
    fake = torch.cat([copies, train[:5], cloud(60, dims, seed=3), cloud(30, dims, seed=4, shift=1.5)])
    found = scored(train, held_out, fake)
    a, b, c = (each.double().numpy() for each in (train, held_out, fake))
    expected = {**of_naeem(a, c), "authpct": of_alaa(a, c), "c_t": of_meehan(a, b, c)}
    assert found == pytest.approx(expected, rel=1e-9)
    assert 0.1 < found["coverage"] < 1, "the comparison means something"
    assert 5 < found["authpct"] < 95


# ---------------------------------------------------------------- what they tell


@pytest.fixture(scope="module")
def many() -> dict[str, dict[str, float]]:
    """What 600 fresh points, copies, half copies, near copies and noise get against 1,500 training points."""
    train, held_out, fresh = cloud(1500), cloud(600, seed=1), cloud(600, seed=2)
    prepared = memorisation.prepare(train, held_out)
    samples = {
        "fresh": fresh,
        "half": torch.cat([fresh[:300], train[:300]]),
        "near": train[:600] + 0.02 * fresh,
        "copies": train[:600],
        "one copy": train[:1].repeat(600, 1),
        "off": fresh + 40 * torch.tensor([1, -1, 1, -1, 1, -1]),
    }
    return {name: memorisation.scores(train, prepared, each) for name, each in samples.items()}


def test_fresh_samples_get_what_the_definitions_promise(many: dict[str, dict[str, float]]) -> None:
    fresh = many["fresh"]
    assert fresh["density"] == pytest.approx(1, abs=0.1)
    assert fresh["coverage"] == pytest.approx(1 - (1500 / 2100) ** K, abs=0.04)
    assert abs(fresh["c_t"]) < 3


def test_copies_differ_from_fresh_samples_at_a_glance(many: dict[str, dict[str, float]]) -> None:
    fresh, half, copies = many["fresh"], many["half"], many["copies"]
    assert copies["authpct"] == 0
    assert half["authpct"] == pytest.approx(fresh["authpct"] / 2, abs=4)
    assert copies["c_t"] < half["c_t"] < -5 < fresh["c_t"]
    assert copies["coverage"] > fresh["coverage"] + 0.03
    assert copies["density"] == pytest.approx(1, abs=0.02), "copies on the edge of a ball are not inside"
    assert many["near"]["authpct"] < 5
    assert many["near"]["c_t"] < -15
    assert many["one copy"]["coverage"] < 0.01
    assert many["off"]["authpct"] > 99
    assert many["off"]["c_t"] > 15
    assert many["off"]["density"] < 0.2


# ---------------------------------------------------------------- degenerate input


def test_equal_images_are_never_inside_a_ball_nor_authentic() -> None:
    same = torch.full((40, 3), 2.5)
    assert scored(same, same, same) == {
        "density": 0,
        "coverage": 0,
        "authpct": 0,
        "c_t": pytest.approx(0, abs=0.02),
    }
    off = scored(same, same, same + 1)
    assert (off["density"], off["coverage"], off["authpct"]) == (0, 0, 100)
    assert off["c_t"] > 5


def test_rounding_is_no_distance() -> None:
    """In float32 or without care, equal points far from the origin would seem to lie apart."""
    train = cloud(200, 33) + 1000
    assert scored(train, train, train[:50])["authpct"] == 0
    twice = torch.cat([train, train])
    assert scored(twice, train, train[:50] + 1e-2)["authpct"] == 100, "twins are at distance 0"


def test_the_last_digits_of_features_decide_nothing() -> None:
    """Features of a copy can differ from those of its image by rounding in float32."""
    train, held_out = cloud(500) + 20, cloud(100, seed=1) + 20
    rounded = train * (1 + 1e-7 * torch.sign(cloud(500, seed=5)))
    assert not torch.equal(rounded, train)
    exact, found = scored(train, held_out, train), scored(train, held_out, rounded)
    assert found["density"] == pytest.approx(exact["density"], abs=1e-3)
    assert (found["coverage"], found["authpct"]) == (exact["coverage"], exact["authpct"]) == (1, 0)


def test_cells_without_samples_or_held_out_images_are_left_out() -> None:
    """Three heaps far from each other. Below 21 samples in every cell, the cells are pooled."""
    rng = np.random.default_rng(0)

    def heaps(*sizes: int) -> Tensor:
        parts = [rng.normal(size=(n, 2)) + 100 * k for k, n in enumerate(sizes)]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))

    train = heaps(100, 100, 100)
    both = heaps(60, 60)
    copies = train[:60]
    few_more = torch.cat([copies, train[100:120]])
    first, second = scored(train, both, copies)["c_t"], scored(train, both, few_more)["c_t"]
    assert first == pytest.approx(second), "20 samples in the second cell are too few"
    assert scored(train, heaps(0, 60), torch.cat([copies, train[100:130]]))["c_t"] < -5
    assert scored(train, both, train[[*range(10), *range(100, 110)]])["c_t"] < -4, "pooled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, held, fake: (train[:9], held, fake), "9 training images cannot be scored"),
        (lambda train, held, fake: (train, held[:3], fake), "3 held-out images cannot be scored"),
        (lambda train, held, fake: (train, held, fake[:1]), "1 generated images cannot be scored"),
        (lambda train, held, fake: (train, held, fake / 0), "of 20 of 20 generated images are not finite"),
    ],
)
def test_too_few_or_infinite_features_are_refused(
    change: Callable[..., tuple[Tensor, Tensor, Tensor]], message: str
) -> None:
    with pytest.raises(ScoreError, match=message):
        scored(*change(cloud(20), cloud(20, seed=1), cloud(20, seed=2)))


def test_fewer_training_images_than_samples() -> None:
    found = scored(cloud(12), cloud(50, seed=1), cloud(400, seed=2))
    assert found["coverage"] > 0.9
    assert np.isfinite(list(found.values())).all()


# ---------------------------------------------------------------- blocks, order, choice


def test_scores_do_not_depend_on_blocks_or_order(monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out, fake = cloud(300), cloud(100, seed=1), cloud(200, seed=2)
    first = scored(train, held_out, fake)
    assert scored(train, held_out, fake.flip(0)) == pytest.approx(first, rel=1e-9)
    monkeypatch.setattr(memorisation, "BLOCK", 7 * 300)
    assert scored(train, held_out, fake) == pytest.approx(first, rel=1e-9)


def test_a_part_of_the_held_out_images_can_be_chosen() -> None:
    train, held_out, fake = cloud(300), cloud(100, seed=1), cloud(200, seed=2)
    chosen = torch.arange(0, 100, 2)
    part = memorisation.scores(train, memorisation.prepare(train, held_out), fake, chosen)
    assert part == scored(train, held_out[chosen], fake)
    assert part != scored(train, held_out, fake)


def test_what_is_prepared_survives_the_cache(tmp_path: Path) -> None:
    from bench.store import cache

    train, held_out = cloud(100, 70), cloud(50, 70, seed=1)
    made = memorisation.prepare(train, held_out)
    kept, _ = cache.keep(tmp_path / "entry", made, {})
    fake = cloud(60, 70, seed=2)
    assert memorisation.scores(train, kept, fake) == memorisation.scores(train, made, fake)
