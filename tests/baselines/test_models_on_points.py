"""Models on points in the plane: which train, and that their networks fit points."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines import conformance, family, registry
from baselines.gan import DataSpec
from baselines.hyperparameters import defaults
from baselines.probe import first_line, try_out
from baselines.training.step import DataBatch
from baselines.training.trainer import build
from baselines.vanilla import vanilla

DATA = DataSpec(2, 1, 1, points=True)


def refusal(name: str) -> str:
    """Why a model cannot be built on points; nothing where it trains."""
    factory = registry.get(name)
    try:
        trial = try_out(factory, DATA, defaults(factory, points=True), labelled=False)
    except ValueError as error:
        return first_line(error)
    assert trial.problems == []
    return ""


def test_unconditional_models_train_on_points_or_refuse_in_words() -> None:
    names = [name for name in registry.OURS if "label" not in registry.card(registry.get(name)).needs]
    refused = {name: why for name in names if (why := refusal(name))}
    assert {"dcgan", "srgan"} <= set(refused)
    assert not {"vanilla", "mmgan", "nsgan", "lsgan", "wgan", "wgan_gp", "dragan", "hinge"} & set(refused)
    assert all("points" in why or why.startswith("images 1 wide") for why in refused.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vanilla", "wgan_gp"])
def test_models_conform_on_points(name: str) -> None:
    assert conformance.check(registry.get(name), DATA, **defaults(registry.get(name), points=True)) == []


def test_a_generator_of_points_ends_linear_and_has_no_batch_norm() -> None:
    for net in (build(vanilla(DATA), 0, torch.device("cpu"))["gen"], family.generator("mlp", 2, DATA)):
        assert not any(isinstance(layer, nn.Tanh | nn.BatchNorm1d) for layer in net.modules())
        z = torch.randn(7, next(net.parameters()).shape[1])
        assert net(z).shape == (7, 2, 1, 1)
        assert net(100 * z).abs().max() > 1


def test_networks_of_points_are_small_and_widths_that_are_given_win() -> None:
    hyper = defaults(vanilla, points=True)
    assert (hyper["latent_dim"], hyper["g_widths"], hyper["d_widths"]) == (2, (128, 128), (128, 128))
    assert defaults(vanilla)["g_widths"] == (256, 512, 1024)
    wgan_gp = registry.get("wgan_gp")
    assert [defaults(wgan_gp, points=points)["penalty"] for points in (False, True)] == [10, 0.1]
    for net in (family.generator("mlp", 2, DATA), family.discriminator("mlp", "own", DATA)):
        assert [layer.out_features for layer in net if isinstance(layer, nn.Linear)][:-1] == [128, 128]
    wide = build(vanilla(DATA, g_widths=(300,)), 0, torch.device("cpu"))["gen"]
    assert next(wide.parameters()).shape == (300, 100)


def test_coordinates_reach_the_losses_as_they_are() -> None:
    points = torch.tensor([[-4.0, 7.5], [0.25, 300.0]]).reshape(2, 2, 1, 1)
    assert torch.equal(DataBatch(points, None, torch.tensor([1, 0]))["image"], points.flip(0))
