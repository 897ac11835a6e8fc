"""The networks that torch-fidelity registers: what they compute, and where their weights come from."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extractor_checks import pixels, stripes
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_fidelity import feature_extractor_clip as clip
from torch_fidelity import registry
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torchvision.models import vgg16

from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.errors import UsageError
from bench.scoring import dinov2, extractors, fidelity, metrics, pretrained
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Extractor

CLIP, DINO = "clip-vit-b-32", "dinov2-vit-s-14"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=Path("unused"))


class SmallClip(nn.Module):
    """What OpenAI's files hold: the network of images, and some of that of texts. One small block."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = clip.CLIPVisual(8, 64, 1, 64, 32).visual
        self.text_projection = nn.Parameter(torch.zeros(5, 8))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Any:
        return self.visual(images)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Small files of weights of the right names and shapes, each of another kind."""
    folder = tmp_path_factory.mktemp("weights")
    found = {name: folder / name for name in (CLIP, DINO, "clip-script", "vgg16")}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is to go
        torch.manual_seed(0)
        net = SmallClip().eval()
        save_file(net.state_dict(), found[CLIP])
        torch.jit.trace(net, torch.zeros(1, 3, 64, 64)).save(found["clip-script"])
        torch.save(small_dino(), found[DINO])
        torch.save(small_vgg16(), found["vgg16"])
    return found


def small_dino() -> dict[str, Tensor]:
    """Weights of DINOv2's smallest network, at random."""
    with torch.device("meta"):
        return few_numbers(dinov2.VisionTransformer(384, 12, 1 + 37**2, gated=False))


def small_vgg16() -> dict[str, Tensor]:
    """Weights of VGG16, at random."""
    with torch.device("meta"):
        return few_numbers(vgg16())


def few_numbers(net: nn.Module) -> dict[str, Tensor]:
    """Weights of the shapes of a network. Each is a view of few numbers, so that the file is small."""
    rng = torch.Generator().manual_seed(0)
    found = {}
    for name, value in net.state_dict().items():
        scale = 1 / max(1, value[0].numel()) ** 0.5
        numbers = scale * torch.randn(sum(value.shape) + 1, generator=rng, device="cpu")
        found[name] = numbers.as_strided(value.shape, [1] * value.ndim)
    return found


def load(name: str, dataset: Dataset, file: Path) -> Extractor:
    return load_extractor(name, dataset, cache=Path("unused"), weights={name: file})


def test_every_extractor_that_torch_fidelity_registers_has_its_name_here() -> None:
    theirs = {name for name in registry.FEATURE_EXTRACTORS_REGISTRY if name != fidelity.PASS_THROUGH}
    assert {extractors.INCEPTION, *extractors.PRETRAINED} == theirs & {*extractors.NAMES}
    assert {name for name in theirs if name.startswith(("vgg", "clip", "dino", "inception"))} <= {
        *extractors.NAMES
    }
    assert extractors.named("fd-dinov2") == "dinov2-vit-l-14"
    for name in extractors.PRETRAINED:
        url, known = fidelity.published(name)
        assert url.startswith("https://")
        assert name.startswith("dinov2") or re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", known)


def test_clip_is_torch_fidelitys_from_each_kind_of_file(
    files: Mapping[str, Path], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = files["clip-script"]
    with pytest.raises(UsageError, match="is TorchScript, which is code, and its SHA-256") as error:
        load(CLIP, digits, script)
    assert "\n" not in str(error.value)
    sha256 = hashlib.sha256(script.read_bytes()).hexdigest()
    monkeypatch.setattr(fidelity, "published", lambda name: ("https://nowhere", sha256))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = clip.FeatureExtractorCLIP(CLIP, ["clip"], feature_extractor_weights_path=str(script))
    images = pixels(3, 1, 8, 8)
    expected = theirs(images.expand(-1, 3, -1, -1))[0]
    assert expected.std() > 0
    trusted, plain = load(CLIP, digits, script), load(CLIP, digits, files[CLIP])
    for loaded in (trusted, plain):
        found = loaded(images)
        assert found.logits is None
        assert torch.allclose(found.features, expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(found.features, loaded(images, 2).features, rtol=1e-4, atol=1e-5)
    assert trusted.info == {"feature_dim": 8, "logits": False, "official": True}
    assert plain.info == {"feature_dim": 8, "logits": False, "official": False}
    described = extractors.describe(
        CLIP, digits, train=True, cache=Path("unused"), weights={CLIP: files[CLIP]}
    )
    assert described == {"sha256": plain.sha256, **plain.info}
    scores = metrics.score(plain(pixels(12, 1, 8, 8)), plain(pixels(12, 1, 8, 8)), seed=0)
    assert {"fid", "kid_mean", "precision", "recall"} <= scores.keys()
    assert not {"isc_mean", "isc_std"} & scores.keys()


@pytest.mark.slow
def test_dinov2_is_torch_fidelitys_around_our_network(
    files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = dinov2.network(DINO, small_dino()).eval()
    monkeypatch.setattr(torch.hub, "load", lambda repo, name: net)
    theirs = FeatureExtractorDinoV2(DINO, ["dinov2"])
    images = pixels(1, 3, 20, 20)
    loaded = load(DINO, stripes(), files[DINO])
    with torch.inference_mode():
        expected = theirs(images)[0]
    found = loaded(images).features
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert loaded.info == {"feature_dim": 384, "logits": False}
    # What the authors' code (facebookresearch/dinov2) gives for the same weights and images.
    assert found[0, :4].tolist() == pytest.approx(GOLDEN, rel=1e-3, abs=1e-4)


GOLDEN = [1.596516, 0.573037, 1.207798, -0.365735]


@pytest.mark.slow
def test_vgg16_is_torch_fidelitys(files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureExtractorVGG16, "INPUT_IMAGE_SIZE", 64)  # of both; time
    for name in ("kaiming_uniform_", "kaiming_normal_", "normal_"):  # seconds, and the weights are replaced
        monkeypatch.setattr(nn.init, name, lambda *_, **__: None)
    theirs = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=files["vgg16"])
    images = pixels(1, 3, 20, 20)
    expected = theirs(images)[0]
    found = load("vgg16", stripes(), files["vgg16"])(images)
    assert found.features.shape == (1, 4096)
    assert expected.std() > 0
    assert torch.allclose(found.features, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert found.logits is None


class Malice:
    """Unpickling this makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_files_that_are_not_its_weights_are_refused_in_one_line(
    files: Mapping[str, Path], tmp_path: Path, digits: Dataset
) -> None:
    trace = tmp_path / "executed"
    bad = {
        name: tmp_path / name for name in ("missing", "text", "tensor", "other", "malice", "folder", "cut")
    }
    bad["text"].write_text("not weights")
    torch.save(torch.zeros(3), bad["tensor"])
    torch.save({"conv.weight": torch.zeros(3)}, bad["other"])
    bad["malice"].write_bytes(pickle.dumps(Malice(trace), protocol=2))
    bad["folder"].mkdir()
    bad["cut"].write_bytes(files[CLIP].read_bytes()[:-7])
    for name in ("vgg16", CLIP, DINO):
        for path in bad.values():
            with pytest.raises(UsageError, match=f"^--weights {name}: {re.escape(str(path))} [^\n]*$"):
                load(name, digits, path)
    assert not trace.exists()
    with pytest.raises(
        UsageError, match="weights of dinov2-vit-l-14 \\(384 features and 12 blocks, not 1024"
    ):
        load("dinov2-vit-l-14", digits, files[DINO])


def test_other_numbers_of_channels_are_refused(files: Mapping[str, Path]) -> None:
    images = np.zeros((4, 2, 8, 8), dtype=np.uint8)
    with pytest.raises(UsageError, match="1 or 3 channels; those of 'stripes' have 2"):
        load(CLIP, replace(stripes(), train=Images(images, None), test=Images(images, None)), files[CLIP])


def test_published_weights_are_kept_and_checked(
    files: Mapping[str, Path], tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an address that is a file here: what is downloaded is checked, kept, and not downloaded again."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source = tmp_path / "source.pt"
    source.write_bytes(files[CLIP].read_bytes())
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    monkeypatch.setattr(fidelity, "published", lambda name: (source.as_uri(), sha256))
    kept = tmp_path / "checkpoints" / f"{CLIP}-{sha256}.pt"

    def found(*, offline: bool = False) -> Extractor:
        return load_extractor(CLIP, digits, cache=Path("unused"), offline=offline)

    with pytest.raises(UsageError, match=f"is missing, and --offline forbids .* by --weights {CLIP}=FILE"):
        found(offline=True)
    assert found().info["official"]
    source.write_bytes(b"other")
    assert found(offline=True).sha256 == sha256
    kept.write_bytes(b"damaged")
    with pytest.raises(UsageError, match="is damaged; delete it, then put the file"):
        found()
    kept.unlink()
    with pytest.raises(UsageError, match="the server sent something that is not the file"):
        found()
    source.unlink()
    with pytest.raises(UsageError, match="is missing and cannot be downloaded"):
        found()
    assert not kept.exists()


def test_kinds_of_files_are_told_apart(files: Mapping[str, Path], tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    with (tmp_path / "old").open("rb") as file:
        assert pretrained.read_weights(file, trusted=False)["a"].tolist() == [1, 1]
