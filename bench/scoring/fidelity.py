"""FID, IS and KID of features, and networks of features, by torch-fidelity
(https://github.com/toshas/torch-fidelity).

This is the one file that uses parts of torch-fidelity that it does not document: the functions that turn
features into scores, and how its networks are filled with weights. Where a version of it lacks one of those
functions, the documented ``calculate_metrics`` gives the same numbers, only slower. ``pyproject.toml`` bounds
the version, and ``tests/support/golden.json`` holds the numbers.

Letters beside tensors: N and M images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bench.torchvision_import import import_torchvision

PASS_THROUGH = "gan-bench-pass-through"
"""The name under which :func:`_pass_through` is registered with torch-fidelity."""


def moments(features: Tensor) -> Any:
    """What FID needs of features (N, D): mean and covariance. They are for :func:`fid` alone."""
    statistics = _undocumented("metric_fid", "fid_features_to_statistics")
    distance = _undocumented("metric_fid", "fid_statistics_to_metric")
    return features if statistics is None or distance is None else statistics(features)


def fid(a: Any, b: Any) -> float:
    """Fréchet distance (Heusel et al. 2017, arXiv:1706.08500) between two :func:`moments`."""
    distance = _undocumented("metric_fid", "fid_statistics_to_metric")
    if distance is None or isinstance(a, Tensor):
        found = _documented(a, b, fid=True)
    else:
        found = distance(a, b, verbose=False)
    return float(found["frechet_inception_distance"])


def isc(logits: Tensor, *, splits: int, seed: int) -> tuple[float, float]:
    """Inception score (Salimans et al. 2016, arXiv:1606.03498) of logits (N, K).

    Returns its mean and standard deviation over splits.
    """
    if (score := _undocumented("metric_isc", "isc_features_to_metric")) is None:
        found = _documented(logits, None, isc=True, isc_splits=splits, rng_seed=seed)
    else:
        found = score(logits, splits=splits, shuffle=True, rng_seed=seed)
    return found["inception_score_mean"], found["inception_score_std"]


def kid(a: Tensor, b: Tensor, *, subsets: int, subset_size: int, seed: int) -> tuple[float, float]:
    """Kernel distance (Bińkowski et al. 2018, arXiv:1801.01401) of features (N, D) and (M, D).

    Returns its mean and standard deviation over subsets.
    """
    options = {"kid_subsets": subsets, "kid_subset_size": subset_size, "rng_seed": seed}
    if (score := _undocumented("metric_kid", "kid_features_to_metric")) is None:
        score, options = _documented, options | {"kid": True}
    found = score(a, b, verbose=False, **options)
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def _undocumented(module: str, name: str) -> Callable[..., Any] | None:
    """A function that torch-fidelity does not document; ``None`` where this version lacks it."""
    import_torchvision()  # torch-fidelity does
    try:  # here, not above: the import takes time, and a plan needs no scores
        return getattr(import_module(f"torch_fidelity.{module}"), name, None)
    except ImportError:
        return None


def _documented(a: Tensor, b: Tensor | None, **options: Any) -> dict[str, Any]:
    """Scores by torch-fidelity's documented way; its "images" are features already."""
    from torch_fidelity import calculate_metrics

    found: dict[str, Any] = calculate_metrics(
        input1=_Rows(a),
        input2=None if b is None else _Rows(b),
        feature_extractor=_pass_through(),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        **{"verbose": False, **options},
    )
    return found


class _Rows(Dataset[Tensor]):
    """The rows of a matrix, as torch-fidelity takes images."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, index: int) -> Tensor:
        return self.matrix[index]


@cache
def _pass_through() -> str:
    """Register, once, an extractor that returns what it is given. Returns its name."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class PassThrough(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str]:
            return ("rows",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "rows"

        def forward(self, rows: Tensor) -> tuple[Tensor]:
            return (rows,)

    register_feature_extractor(PASS_THROUGH, PassThrough)
    return PASS_THROUGH


# ------------------------------------------------------------------ networks of features


def published(name: str) -> tuple[str, str]:
    """Where torch-fidelity gets a network's weights, and the first digits, or all, of their SHA-256.

    Nobody has published the hashes of DINOv2: they are empty.
    """
    if name == "vgg16":
        from torchvision.models import VGG16_Weights

        url = VGG16_Weights.IMAGENET1K_V1.url
        return url, url.rpartition("-")[2].removesuffix(".pth")
    if name.startswith("clip-"):
        source = import_module("torch_fidelity.feature_extractor_clip")
        return source.MODEL_URLS[name], source.MODEL_METADATA[name]["hash"]
    file = name.removeprefix("dinov2-").replace("-", "")
    return f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{file}/dinov2_{file}_pretrain.pth", ""


def network(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """A network that torch-fidelity registers: uint8 images (B, 3, H, W) -> a tuple of features (B, D).

    ``vgg16``, ``clip-*`` and ``dinov2-*``, with the features on which torch-fidelity computes FID. Its own
    way to load weights is not used: it unpickles files of VGG16, takes those of CLIP as TorchScript alone,
    and none of DINOv2. What it does with images before its network is its own.

    Raises:
        ValueError, KeyError, RuntimeError: the weights are not those of this network.
    """
    from torch_fidelity import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    kind = FEATURE_EXTRACTORS_REGISTRY[name]
    net: Any = kind.__new__(kind)
    FeatureExtractorBase.__init__(net, name, [kind.get_default_feature_layer_for_metric("fid")])
    net.feature_extractor_internal_dtype = torch.float32  # the only one: its "float64" is float32, too
    if name == "vgg16":
        net.model = _vgg16(state)
    elif name.startswith("clip-"):
        # It takes keys out of what it is given.
        net.model = import_module("torch_fidelity.feature_extractor_clip").build_model(
            dict(state), torch.float32
        )
        net.resolution = net.model.visual.input_resolution
    else:
        from bench.scoring import dinov2

        net.model = dinov2.network(name, state)
    found: nn.Module = net.float().eval().requires_grad_(False)
    return found


def _vgg16(state: Mapping[str, Tensor]) -> nn.Module:
    """Without its last ReLU, dropout and classes."""
    from torchvision.models import vgg16

    with torch.device("meta"):  # the weights are assigned
        net: nn.Module = vgg16()
    net.load_state_dict(state, assign=True)
    net.classifier = nn.Sequential(*list(net.get_submodule("classifier").children())[:4])
    return net
