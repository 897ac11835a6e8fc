"""The search space: read from a factory, replaced from a file, points and grids."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines import registry
from baselines.gan import Choice, DataSpec, Gan, Linear, Log, card
from bench.errors import UsageError
from bench.search import space
from bench.search.space import Options, Range
from bench.toml import read_toml


@card(paper="a made-up one", year=2026)
def toy(
    data: DataSpec,
    *,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 1e-3,
    beta: Annotated[float, Linear(0.0, 0.9)] = 0.5,
    batch_size: Annotated[int, Log(32, 512)] = 64,
    loss: Literal["hinge", "bce"] = "bce",
    widths: Annotated[tuple[int, ...], Choice(((8, 8), (16,)))] = (16,),
    clip: float | None = None,
    depth: int = 3,
) -> Gan:
    """Never built."""
    raise NotImplementedError


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    factories = {"toy": toy}
    monkeypatch.setattr(registry, "get", factories.__getitem__)


def space_of(given: dict[str, Any] | None = None, *fixed: str) -> space.Space:
    return space.spaces(["toy"], given or {}, {"toy": fixed})["toy"]


def test_space_is_what_the_signature_declares() -> None:
    assert space_of() == {
        "lr": Range(1e-5, 1e-2, log=True, whole=False),
        "beta": Range(0.0, 0.9, log=False, whole=False),
        "batch_size": Range(32, 512, log=True, whole=True),
        "loss": Options(("hinge", "bce")),
        "widths": Options(("8,8", "16")),
    }


def test_fixed_parameters_are_not_searched() -> None:
    assert list(space_of(None, "lr", "beta", "widths")) == ["batch_size", "loss"]


def test_a_file_replaces_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        """
        lr = {low = 1e-4, high = 1e-3}
        depth = {low = 1, high = 4, log = false}
        [toy]
        batch_size = [64, 128]
        widths = {values = [[8], [4, 4]]}
        clip = {values = ["none", 1.0]}
        """
    )
    found = space_of(read_toml(path, "--space"), "beta", "loss")
    assert found == {
        "lr": Range(1e-4, 1e-3, log=True, whole=False),
        "batch_size": Options((64, 128)),
        "widths": Options(("8", "4,4")),
        "clip": Options((None, 1.0)),
        "depth": Range(1, 4, log=False, whole=True),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lrr": {"low": 1, "high": 2}}, "'lrr' is not a hyperparameter; .*did you mean 'lr'"),
        ({"toy": {"bath_size": {"values": [1]}}}, "'bath_size' is not .*did you mean 'batch_size'"),
        ({"lr": {"lo": 1, "high": 2}}, "lr has no 'lo'; low, high, log, values; did you mean 'low'"),
        ({"lr": {"low": 1e-3, "high": 1e-4}}, "lr: low = 0.001 is not below high = 0.0001"),
        ({"lr": {"low": 1e-3, "high": 1e-3}}, "lr: low = 0.001 is not below high = 0.001"),
        ({"lr": {"low": 0, "high": 1}}, "lr: low = 0 has no logarithm"),
        ({"lr": {"low": 1e-3}}, "lr needs both low and high"),
        ({"lr": {"low": "a", "high": 1}}, "lr: 'a' is not allowed; a finite number"),
        ({"batch_size": {"low": 1.5, "high": 4}}, "batch_size: 1.5 is not allowed; a whole number"),
        ({"batch_size": {"values": [32, "x"]}}, "batch_size: 'x' is not allowed; a whole number"),
        ({"loss": {"values": ["bce", "wgan"]}}, "loss: 'wgan' is not allowed; one of hinge, bce"),
        ({"loss": {"low": 1, "high": 2}}, "loss: 1 is not allowed; one of hinge, bce"),
        ({"widths": {"low": 1, "high": 2}}, "widths"),
        ({"lr": {"values": []}}, "values is a list with something in it"),
        ({"lr": {"values": [1], "low": 1}}, "values is a list with something in it, and stands alone"),
        ({"lr": {"values": [1, 1.0]}}, "a value is there twice"),
        ({"lr": {"low": 1, "high": 2, "log": "yes"}}, "lr: log = 'yes'; true or false"),
        ({"lr": 3}, "lr = 3; write"),
        ({"beta": {"low": 0, "high": 1}}, "beta of toy is fixed by --set"),
    ],
)
def test_a_wrong_space_is_one_clear_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^--space: .*{message}") as error:
        space_of(given, "beta")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("lr = {low = ")
    with pytest.raises(UsageError, match=r"--space .*x\.toml: "):
        read_toml(tmp_path / "x.toml", "--space")
    with pytest.raises(UsageError, match=r"--space .*none\.toml: "):
        read_toml(tmp_path / "none.toml", "--space")


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(UsageError, match="toy leaves nothing to search"):
        space_of(None, "lr", "beta", "batch_size", "loss", "widths")


def test_a_table_of_a_model_wins_over_a_key_for_all() -> None:
    general, own = {"low": 0.1, "high": 0.2}, {"low": 0.3, "high": 0.4}
    for content in ({"beta": general, "toy": {"beta": own}}, {"toy": {"beta": own}, "beta": general}):
        assert space_of(content)["beta"] == Range(0.3, 0.4, log=False, whole=False)


@given(
    low=st.floats(1e-6, 1e3), factor=st.floats(1.001, 1e3), log=st.booleans(), u=st.floats(0, 1),
    v=st.floats(0, 1),
)  # fmt: skip
def test_points_of_a_range_are_in_it_and_in_order(
    low: float, factor: float, log: bool, u: float, v: float
) -> None:
    where = Range(low, low * factor, log=log, whole=False)
    assert where.low <= where.at(min(u, v)) <= where.at(max(u, v)) <= where.high
    assert where.at(0) == pytest.approx(where.low)
    assert where.at(1) == pytest.approx(where.high)


@pytest.mark.parametrize("log", [True, False])
def test_whole_numbers_have_their_share_of_the_unit_interval(log: bool) -> None:
    where = Range(1, 4, log=log, whole=True)
    drawn = [where.at((k + 0.5) / 4000) for k in range(4000)]
    shares = [drawn.count(n) / 4000 for n in (1, 2, 3, 4)]
    edges = [math.log(e) if log else e for e in (0.5, 1.5, 2.5, 3.5, 4.5)]
    expected = [(b - a) / (edges[4] - edges[0]) for a, b in pairwise(edges)]
    assert shares == pytest.approx(expected, abs=1e-3)
    assert all(isinstance(n, int) for n in drawn)


def test_the_middle_of_a_logarithmic_range_is_its_geometric_mean() -> None:
    assert Range(1e-5, 1e-3, log=True, whole=False).at(0.5) == pytest.approx(1e-4)


def test_grid_is_the_product_of_ends_and_middles() -> None:
    grid = space.grid({"a": Range(0, 1, log=False, whole=False), "b": Options(("x", "y"))})
    assert grid == [{"a": a, "b": b} for a in (0, 0.5, 1) for b in ("x", "y")]
    assert space.grid({"n": Range(1, 2, log=False, whole=True)}) == [{"n": 1}, {"n": 2}]


def test_a_point_of_the_unit_cube_is_a_configuration() -> None:
    where: space.Space = {"a": Range(0, 10, log=False, whole=False), "b": Options(("x", "y"))}
    assert space.at(where, [0.25, 0.75]) == {"a": 2.5, "b": "y"}
    assert space.at(where, [1.0, 1.0]) == {"a": 10, "b": "y"}
