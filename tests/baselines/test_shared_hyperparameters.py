"""Hyperparameters that models share: declared once as a group, a flat list everywhere else."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch

from baselines import lsgan, registry
from baselines.family import Setup, SetupWithoutNorm, Training
from baselines.gan import Adam, DataSpec, Gan, Linear, Log, card
from baselines.groups import grouped
from baselines.hyperparameters import declared
from baselines.training.trainer import Trainer
from baselines.vanilla import vanilla
from bench import listing
from bench.plan import resolve
from bench.search import space
from bench.store.jobs import digest

DATA = DataSpec(1, 8, 8, 10)
LIST = Path(__file__).parents[1] / "support" / "listed_models.txt"
IDENTITIES = {
    "vanilla": "c291b7604417",
    "dcgan": "d9d81fae8dd7",
    "cgan": "68086921fbab",
    "acgan": "2f8eab6085f4",
    "srgan": "cf78be4be94e",
    "mmgan": "069e3b89e4fc",
    "nsgan": "ad80d424fd15",
    "lsgan": "5bbeb1c0f370",
    "wgan": "4fd38cfa8a2d",
    "wgan_gp": "ff12a55d7235",
    "dragan": "4b430628753d",
    "hinge": "deba91e79208",
    "r3gan": "9c8ab200e72d",
    "pacgan": "f9ea3667a609",
    "began": "d58b6e9d9ee5",
    "vae": "dfadde2f9e94",
    "sngan": "05df79361f78",
    "sngan_projection": "ce0abdf5981b",
    "infogan_mi": "562adc67ad71",
}
FAMILY = ("mmgan", "nsgan", "lsgan", "wgan", "wgan_gp", "dragan", "hinge", "r3gan")
WITHOUT_NORM = ("wgan_gp", "dragan", "r3gan")


# ---------------------------------------------------------------- the mechanism


@dataclass(frozen=True)
class Widths:
    width: Annotated[int, Log(1, 64)] = 8
    depth: int = field(default=2, init=False)


@dataclass(frozen=True)
class Steps:
    lr: Annotated[float, Log(1e-5, 1e-2)] = 1e-3
    beta: Annotated[float, Linear(0.0, 0.9)] = 0.5


@card(paper="None", year=2020)
@grouped
def model(
    data: DataSpec,
    *,
    first: int = 1,
    widths: Widths = Widths(),
    clip: float = 0.1,
    steps: Steps = Steps(beta=0.0),
) -> Gan:
    """What it is."""
    seen.append((data, first, widths, clip, steps))
    return vanilla(data)


seen: list[tuple[Any, ...]] = []


def given(*args: Any, **keywords: Any) -> tuple[Any, ...]:
    model(*args, **keywords)
    return seen.pop()[1:]


def test_a_grouped_factory_declares_the_fields_of_its_groups_in_place() -> None:
    found = {name: (h.kind, h.default, h.search) for name, h in declared(model).items()}
    assert list(found.items()) == [
        ("first", (int, 1, None)),
        ("width", (int, 8, Log(1, 64))),
        ("clip", (float, 0.1, None)),
        ("lr", (float, 1e-3, Log(1e-5, 1e-2))),
        ("beta", (float, 0.0, Linear(0.0, 0.9))),
    ]
    assert list(inspect.signature(model).parameters) == ["data", *found]
    assert (model.__name__, model.__doc__) == ("model", "What it is.")
    assert registry.card(model).year == 2020


def test_it_is_called_with_flat_keywords_whole_groups_or_both() -> None:
    assert given(DATA) == (1, Widths(), 0.1, Steps(beta=0.0))
    assert given(data=DATA, width=3, lr=0.01, first=2) == (2, Widths(3), 0.1, Steps(0.01, 0.0))
    assert given(DATA, steps=Steps(lr=0.01)) == (1, Widths(), 0.1, Steps(0.01, 0.5))
    assert given(DATA, steps=Steps(lr=0.01), beta=0.7) == (1, Widths(), 0.1, Steps(0.01, 0.7))
    values = {name: h.default for name, h in declared(model).items()}
    assert given(DATA, **values) == given(DATA)


@pytest.mark.parametrize("name", ["depth", "widht"])
def test_a_fixed_field_and_a_wrong_name_are_no_keywords(name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        model(DATA, **{name: 3})


def test_two_groups_cannot_declare_the_same_name() -> None:
    def twice(data: DataSpec, *, lr: float = 0.1, steps: Steps = Steps()) -> Gan:
        raise NotImplementedError

    with pytest.raises(ValueError, match="duplicate parameter name: 'lr'"):
        grouped(twice)


# ---------------------------------------------------------------- what commands and records see


def test_the_list_is_unchanged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, order, defaults and ranges of every model, as ``bench.run --list`` prints them."""
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    listing.print_list()
    assert capsys.readouterr().out == LIST.read_text()


def test_identities_of_runs_are_unchanged() -> None:
    """Model and hyperparameters as they enter the name of a run's folder."""
    found = {name: digest({"model": name, "hyperparameters": resolve(name, {})}) for name in registry.OURS}
    assert found == IDENTITIES


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_is_set_searched_and_recorded_as_before(name: str) -> None:
    words = {"net": "conv", "prior": "uniform", "latent_dim": "32", "n_critic": "2"}
    words |= {"lr": "3e-4", "beta1": "0.25", "beta2": "0.95", "batch_size": "128"}
    values = resolve(name, words)
    plain = {"net": "conv", "prior": "uniform", "latent_dim": 32, "n_critic": 2}
    plain |= {"lr": 3e-4, "beta1": 0.25, "beta2": 0.95, "batch_size": 128}
    assert {key: values[key] for key in plain} == plain
    assert all(type(values[key]) is type(plain[key]) for key in plain)
    assert ("disc_norm" in values) is (name not in WITHOUT_NORM)
    found = space.spaces([name], {}, {})[name]
    assert found["net"] == space.Options(("mlp", "conv", "infogan"))
    assert found["n_critic"] == space.Options((1, 2, 5))
    assert found["latent_dim"] == space.Range(16, 256, log=True, whole=True)
    assert found["lr"] == space.Range(1e-5, 1e-2, log=True, whole=False)
    assert found["beta1"] == space.Range(0.0, 0.9, log=False, whole=False)
    assert found["beta2"] == space.Range(0.9, 0.999, log=False, whole=False)
    assert found["batch_size"] == space.Range(32, 512, log=True, whole=True)


def test_a_member_s_own_defaults_stand_in_its_signature() -> None:
    def defaults(name: str, *names: str) -> list[Any]:
        return [declared(registry.get(name))[each].default for each in names]

    assert defaults("wgan", "disc_norm", "n_critic", "lr", "beta1") == ["none", 5, 5e-5, 0.5]
    assert defaults("wgan_gp", "n_critic", "lr", "beta1", "beta2") == [5, 1e-4, 0.0, 0.9]
    assert defaults("hinge", "disc_norm", "lr", "batch_size") == ["spectral", 2e-4, 64]


# ---------------------------------------------------------------- the same model


def weights(gan: Gan) -> dict[str, torch.Tensor]:
    images = torch.randint(0, 256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    trainer = Trainer(gan, images.to(torch.uint8), None, [0])
    trainer.advance(3)
    return {f"{net}.{key}": v for net, held in trainer.weights().items() for key, v in held.items()}


@pytest.mark.parametrize("name", FAMILY)
def test_flat_keywords_and_groups_train_the_same_bits(name: str) -> None:
    factory: Any = registry.get(name)
    kind = SetupWithoutNorm if name in WITHOUT_NORM else Setup
    setup = kind(latent_dim=16, n_critic=2)
    training = Training(lr=1e-3, beta1=0.3, beta2=0.95, batch_size=8)
    flat = {"latent_dim": 16, "n_critic": 2}
    flat |= {"lr": 1e-3, "beta1": 0.3, "beta2": 0.95, "batch_size": 8}
    if name not in WITHOUT_NORM:
        flat["disc_norm"] = "own"
    a, b = weights(factory(DATA, **flat)), weights(factory(DATA, setup=setup, training=training))
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
    uniform = weights(factory(DATA, **flat, prior="uniform"))
    assert any(not torch.equal(a[key], value) for key, value in uniform.items())


def test_every_shared_hyperparameter_reaches_the_model() -> None:
    gan = lsgan.lsgan(DATA, training=Training(1e-3, 0.1, 0.95, 16), setup=Setup(n_critic=3, latent_dim=7))
    assert gan.optim["disc"] == gan.optim["gen"] == Adam(1e-3, (0.1, 0.95))
    assert gan.batch_size == 16
    assert [update.net for update in gan.updates] == ["disc"] * 3 + ["gen"]
    assert gan.noise["z"].shape == (7,)
