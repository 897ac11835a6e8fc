"""Scores against torch-fidelity's own, on known answers, and where they degenerate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_fidelity import registry

from bench.data import datasets
from bench.scoring import metrics, sizes
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Extractor, Features
from bench.scoring.metrics import ScoreError, mode_coverage, score
from bench.scoring.sizes import protocol

KEYS = {"fid", "isc_mean", "isc_std", "kid_mean", "kid_std", "precision", "recall"}


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits", data_root=Path("unused"))


@pytest.fixture(scope="module")
def classifier(digits: datasets.Dataset) -> Extractor:
    return load_extractor("classifier", digits, cache=Path("unused"))


@pytest.fixture(scope="module")
def test_split(digits: datasets.Dataset) -> Tensor:
    return torch.from_numpy(digits.test.images)


@pytest.fixture(scope="module")
def real(classifier: Extractor, test_split: Tensor) -> Features:
    return classifier(test_split)


@pytest.fixture(scope="module")
def floor(classifier: Extractor, digits: datasets.Dataset, real: Features) -> dict[str, float]:
    """Real training images in place of the samples: what no generator can beat."""
    chosen = torch.from_numpy(digits.train.images[np.random.RandomState(0).permutation(1437)[: len(real)]])
    return score(real, classifier(chosen), seed=0)


def noise(n: int, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)


def gaussian(n: int, d: int, seed: int, shift: float = 0.0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(
        torch.randn(n, d, generator=generator) + shift, 3 * torch.randn(n, 10, generator=generator)
    )


# ---------------------------------------------------------------- against torch-fidelity


class Images(torch.utils.data.Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@pytest.fixture
def registered(classifier: Extractor) -> Iterator[str]:
    """Our classifier as torch-fidelity's own feature extractor."""

    class Ours(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, str]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            by_name = dict(zip(("features", "logits"), classifier.forward(images), strict=True))
            return tuple(by_name[name] for name in self.features_list)

    torch_fidelity.register_feature_extractor("ours", Ours)
    yield "ours"
    del registry.FEATURE_EXTRACTORS_REGISTRY["ours"]


def reference(name: str, fake: Tensor, real: Tensor, seed: int) -> dict[str, float]:
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(fake),
        input2=Images(real),
        feature_extractor=name,
        **dict.fromkeys(("fid", "isc", "kid", "prc", "save_cpu_ram"), True),
        kid_subset_size=min(len(fake), len(real)) // 2,
        rng_seed=seed,
        cuda=False,
        cache=False,
        verbose=False,
    )
    return {
        "fid": theirs["frechet_inception_distance"],
        "isc_mean": theirs["inception_score_mean"],
        "isc_std": theirs["inception_score_std"],
        "kid_mean": theirs["kernel_inception_distance_mean"],
        "kid_std": theirs["kernel_inception_distance_std"],
        "precision": theirs["precision"],
        "recall": theirs["recall"],
    }


@pytest.mark.parametrize("seed", [0, 2020])
def test_scores_are_torch_fidelitys_on_the_same_images(
    classifier: Extractor, test_split: Tensor, real: Features, registered: str, seed: int
) -> None:
    # Half of it real digits, brightened a little; half of it noise.
    fake = torch.cat([(test_split[:180].int() + 16).clamp(max=255).to(torch.uint8), noise(120)])
    ours = score(real, classifier(fake), seed=seed)
    assert ours == pytest.approx(reference(registered, fake, test_split, seed), rel=1e-5, abs=1e-6)
    assert set(ours) == KEYS
    assert 0.3 < ours["precision"] < 0.95  # the comparison is not one of trivial values


@pytest.mark.parametrize(("n_fake", "n_real", "d"), [(300, 500, 8), (70, 40, 3), (400, 400, 64)])
def test_precision_and_recall_in_blocks_are_torch_fidelitys(
    monkeypatch: pytest.MonkeyPatch, n_fake: int, n_real: int, d: int
) -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(metrics, "BLOCK", 64)
    fake, real = gaussian(n_fake, d, seed=1, shift=0.5), gaussian(n_real, d, seed=2)
    theirs = prc_features_to_metric(fake.features[:n_real], real.features, verbose=False)
    ours = score(real, fake, seed=0)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert 0 < ours["recall"] < 1


def test_what_is_kept_of_one_reference_is_not_used_for_another() -> None:
    fake = gaussian(50, 4, seed=1)
    near, far = gaussian(50, 4, seed=2), gaussian(50, 4, seed=2, shift=9.0)
    first = score(near, fake, seed=0)
    assert score(far, fake, seed=0)["fid"] > 100
    assert score(near, fake, seed=0) == first


# ---------------------------------------------------------------- known answers


def test_the_real_images_against_themselves(real: Features) -> None:
    scores = score(real, real, seed=0)
    assert scores["fid"] == pytest.approx(0, abs=1e-3)
    assert (scores["precision"], scores["recall"]) == (1, 1)


def test_fid_of_a_shift_is_its_squared_length() -> None:
    real = gaussian(500, 16, seed=0)
    shifted = Features(real.features + 0.75, real.logits)
    assert score(real, shifted, seed=0)["fid"] == pytest.approx(16 * 0.75**2, rel=1e-4)


@pytest.mark.slow
def test_fid_of_a_scaled_copy_of_a_known_covariance() -> None:
    # Sigma_2 = s^2 Sigma_1: the traces leave (1 - s)^2 tr Sigma_1.
    real = gaussian(500, 16, seed=0)
    centred = real.features - real.features.mean(dim=0)
    trace = float(np.trace(np.cov(centred.numpy(), rowvar=False)))
    scores = score(Features(centred, real.logits), Features(3 * centred, real.logits), seed=0)
    assert scores["fid"] == pytest.approx(4 * trace, rel=1e-5)


def test_precision_and_recall_by_hand() -> None:
    # On a line, k = 3. Real points 0..19: each ball reaches 2 or 3. Fake points: twelve of them at
    # 100, 101, …, far from all, and one at 8.5, whose ball reaches to its third neighbour, at 102.
    real = torch.arange(20.0)[:, None] * torch.tensor([1.0, 0.0])
    fake = torch.tensor([*range(100, 112), 8.5])[:, None] * torch.tensor([1.0, 0.0])
    logits = torch.zeros(20, 2)
    scores = score(Features(real, logits), Features(fake, logits[:13]), seed=0)
    assert scores["precision"] == pytest.approx(1 / 13)
    assert scores["recall"] == 1
    # Without the one in the midst, no real point is reached.
    scores = score(Features(real, logits), Features(fake[:12], logits[:12]), seed=0)
    assert (scores["precision"], scores["recall"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 10])
def test_is_of_sure_and_balanced_predictions_is_the_number_of_classes(n_classes: int) -> None:
    logits = 1e4 * torch.eye(n_classes).repeat(1000, 1)
    scores = score(gaussian(100, 4, seed=0), Features(torch.randn(len(logits), 4), logits), seed=0)
    assert scores["isc_mean"] == pytest.approx(n_classes, rel=0.01)


@pytest.mark.slow
def test_noise_and_collapse_are_far_worse_than_the_floor(
    classifier: Extractor, real: Features, floor: dict[str, float], test_split: Tensor
) -> None:
    assert floor["precision"] > 0.85
    assert floor["recall"] > 0.85
    assert floor["isc_mean"] > 8
    one_digit = test_split[:1].expand(len(test_split), -1, -1, -1)
    for images in (noise(360), torch.full((360, 1, 8, 8), 128, dtype=torch.uint8), one_digit):
        scores = score(real, classifier(images), seed=0)
        assert scores["fid"] > 20 * floor["fid"]
        assert scores["kid_mean"] > 20 * abs(floor["kid_mean"])
        assert scores["recall"] < 0.2


def test_the_order_of_the_samples_does_not_matter(real: Features, classifier: Extractor) -> None:
    fake = classifier(noise(100))
    turned = Features(fake.features.flip(0), fake.logits.flip(0))
    one, other = score(real, fake, seed=0), score(real, turned, seed=0)
    for name in ("fid", "precision", "recall"):
        assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_the_seed_chooses_subsets_and_splits() -> None:
    real, fake = gaussian(100, 4, seed=1), gaussian(100, 4, seed=2)
    scores = [score(real, fake, seed=seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0]["kid_mean"] != scores[2]["kid_mean"]
    assert scores[0]["isc_mean"] != scores[2]["isc_mean"]
    for name in ("fid", "precision", "recall"):
        assert scores[0][name] == scores[2][name]


# ---------------------------------------------------------------- degenerate cases


def finite(scores: dict[str, float]) -> bool:
    return set(scores) == KEYS and all(np.isfinite(value) for value in scores.values())


def test_constant_samples_are_a_point_mass(real: Features) -> None:
    n = 100
    fake = Features(real.features[:1].expand(n, -1), real.logits[:1].expand(n, -1))
    scores = score(real, fake, seed=0)
    features = real.features.double()
    trace = torch.trace(torch.cov(features.T))
    expected = (features.mean(dim=0) - features[0]).square().sum() + trace
    assert finite(scores)
    assert scores["fid"] == pytest.approx(expected.item(), rel=1e-4)
    assert scores["isc_mean"] == pytest.approx(1)
    assert scores["recall"] < 0.02  # its own place alone
    assert scores["precision"] == 1  # and that place is real


def test_dead_features_and_constant_reals() -> None:
    constant = Features(torch.zeros(20, 64), torch.zeros(20, 10))
    scores = score(constant, constant, seed=0)
    assert finite(scores)
    assert scores["fid"] == 0
    assert scores["isc_mean"] == pytest.approx(1)
    assert (scores["precision"], scores["recall"]) == (1, 1)


@pytest.mark.parametrize("n", [10, 11, 64])
def test_fewer_images_than_features(n: int) -> None:
    real, fake = gaussian(n, 256, seed=1), gaussian(n + 3, 256, seed=2)
    scores = score(real, fake, seed=0)
    assert finite(scores)
    assert scores["fid"] > 0


@pytest.mark.parametrize("d", [2, 64, 256])
def test_rounding_does_not_make_fid_negative(d: int) -> None:
    for seed in range(3):
        same = gaussian(40, d, seed)  # with singular covariances, rounding is about -1e-5
        assert 0 <= score(same, same, seed=0)["fid"] < 1e-6


def test_a_single_class_has_an_is_of_one() -> None:
    logits = torch.zeros(50, 10)
    logits[:, 3] = 1e6
    scores = score(gaussian(50, 4, seed=0), Features(gaussian(50, 4, seed=1).features, logits), seed=0)
    assert scores["isc_mean"] == pytest.approx(1)
    assert scores["isc_std"] == pytest.approx(0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", ["real", "generated"])
@pytest.mark.parametrize("part", ["features", "logits"])
def test_what_is_not_finite_is_named(bad: float, side: str, part: str) -> None:
    good, spoilt = gaussian(20, 4, seed=0), gaussian(20, 4, seed=1)
    getattr(spoilt, part)[7, 2] = bad
    pair = (spoilt, good) if side == "real" else (good, spoilt)
    with pytest.raises(ScoreError, match=f"the {part} of 1 of 20 {side} images are not finite"):
        score(*pair, seed=0)


def test_overflow_is_named() -> None:
    huge = gaussian(20, 4, seed=0)
    with pytest.raises(ScoreError, match=r"too large: .*kid_mean"):
        score(gaussian(20, 4, seed=1), Features(huge.features * 1e30, huge.logits), seed=0)


@pytest.mark.parametrize("n", [1, 9])
def test_too_few_images_are_named(n: int) -> None:
    few, enough = gaussian(n, 4, seed=0), gaussian(10, 4, seed=1)
    assert finite(score(enough, enough, seed=0))
    with pytest.raises(ScoreError, match=f"{n} generated images cannot be scored"):
        score(enough, few, seed=0)
    with pytest.raises(ScoreError, match=f"{n} real images cannot be scored"):
        score(few, enough, seed=0)


def test_the_protocol_says_what_is_done() -> None:
    settings = {"kid_subsets": 100, "isc_splits": 10, "prc_k": 3}
    assert protocol(360) == {"n_fake": 3600, "n_real": 360, "kid_subset_size": 180, **settings}
    for n_real, n_fake in ((10_000, 10_000), (3_000, 10_000), (26_000, 26_000)):
        assert protocol(n_real) == {"n_fake": n_fake, "n_real": n_real, "kid_subset_size": 1000, **settings}


# ---------------------------------------------------------------- unequal sides, and several draws


def test_samples_in_blocks_have_the_precision_and_recall_of_equal_sides() -> None:
    """Ten times as many samples have the mean over ten blocks. All at once, recall would differ."""
    real, blocks = gaussian(50, 6, seed=0), [gaussian(50, 6, seed=1 + k) for k in range(10)]
    equal = [score(real, block, seed=0) for block in blocks]
    many = Features(torch.cat([b.features for b in blocks]), torch.cat([b.logits for b in blocks]))
    found = score(real, many, seed=0)
    for name in ("precision", "recall"):
        assert found[name] == pytest.approx(np.mean([one[name] for one in equal]))


def test_kid_has_a_spread_where_the_sides_are_small() -> None:
    scores = score(gaussian(40, 4, seed=1), gaussian(40, 4, seed=2), seed=0)
    assert scores["kid_std"] > 0.01


@pytest.mark.parametrize("stratified", [False, True])
def test_kid_of_equal_distributions_is_zero_and_below_where_both_sides_are_stratified(
    stratified: bool,
) -> None:
    """Unbiased over independent draws; two sides with fixed class counts are more alike than chance."""
    rng = np.random.default_rng(0)

    def side() -> Features:
        classes = np.repeat(np.arange(5), 12) if stratified else rng.integers(0, 5, 60)
        points = rng.normal(size=(60, 5)) + 3 * np.eye(5)[classes]
        return Features(torch.from_numpy(points), torch.zeros(60, 2))

    found = [score(side(), side(), seed=0)["kid_mean"] for _ in range(30)]
    mean, error = np.mean(found), np.std(found) / np.sqrt(30)
    assert mean < -8 * error if stratified else abs(mean) < 3 * error


# ---------------------------------------------------------------- mode coverage


def covered(fake: list[int], real: list[int]) -> dict[str, float]:
    """The coverage of a histogram of fakes against one of real images."""
    return mode_coverage(torch.from_numpy(labels(fake)), labels(real), len(real))


def labels(counts: list[int]) -> Any:
    return np.repeat(np.arange(len(counts)), counts)


def test_a_perfect_histogram_covers_everything() -> None:
    counts = [100, 50, 10]
    assert covered(counts, counts) == {"modes": 3, "mode_kl": 0}


def test_a_collapse_to_one_of_ten_classes() -> None:
    result = covered([0] * 9 + [50], [100] * 10)
    assert result["modes"] == 1
    assert result["mode_kl"] == pytest.approx(np.log(10))


def test_a_class_counts_from_a_tenth_of_its_share_on() -> None:
    # Shares of one half each: a tenth of that is 5 of 100.
    assert covered([95, 5], [30, 30])["modes"] == 2
    assert covered([96, 4], [30, 30])["modes"] == 1


def test_kl_by_hand() -> None:
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert covered([30, 10], [7, 7])["mode_kl"] == pytest.approx(expected)


def test_a_class_without_real_images_is_no_mode_and_leaves_kl_finite() -> None:
    result = covered([50, 50], [20, 0])
    assert result["modes"] == 1
    assert result["mode_kl"] == pytest.approx(0.5 * np.log(0.5 * 20.5 / 20) + 0.5 * np.log(0.5 * 20.5 / 0.5))


@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any),
    st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any),
)
def test_mode_coverage_is_within_its_bounds(fake: list[int], real: list[int]) -> None:
    k = max(len(fake), len(real))
    fake, real = (counts + [0] * (k - len(counts)) for counts in (fake, real))
    result = covered(fake, real)
    assert 0 <= result["modes"] <= sum(count > 0 for count in real)
    assert result["modes"] <= sum(count > 0 for count in fake)
    assert 0 <= result["mode_kl"] < np.inf


# ---------------------------------------------------------------- on the real MNIST


@pytest.mark.slow
def test_mnist_floor_and_noise(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "KID_SUBSETS", 5)  # time
    mnist = datasets.load("mnist", data_root=mnist_root, offline=True)
    classifier = load_extractor("classifier", mnist, cache=Path("unused"))
    real = classifier(torch.from_numpy(mnist.test.images[:2000]))
    floor = score(real, classifier(torch.from_numpy(mnist.train.images[:2000])), seed=0)
    against_noise = score(real, classifier(noise(2000, shape=(1, 28, 28))), seed=0)
    assert floor["isc_mean"] > 9
    assert min(floor["precision"], floor["recall"]) > 0.75
    assert against_noise["fid"] > 30 * floor["fid"]
    assert against_noise["precision"] < 0.1
