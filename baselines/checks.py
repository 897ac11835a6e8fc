"""Checks of hyperparameters for factories. Each raises ``ValueError`` with one clear line."""

from __future__ import annotations

from baselines.gan import DataSpec


def at_least(low: float, **values: float) -> None:
    """Raise ``ValueError`` for the first value below ``low``."""
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name}={value} must be at least {low}")


def positive(**values: float) -> None:
    """Raise ``ValueError`` for the first value that is not above zero."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be above 0")


def fraction(**values: float) -> None:
    """Raise ``ValueError`` for the first value outside [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value} must be at least 0 and below 1")


def widths_of(**values: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for the first tuple of layer widths that is empty or holds one below 1."""
    for name, widths in values.items():
        if not widths or min(widths) < 1:
            raise ValueError(f"{name}={widths} must be one or more widths of at least 1")


def multiples_of(n: int, data: DataSpec) -> None:
    """Raise ``ValueError`` where the images' sides are not multiples of ``n``, or the data are points."""
    if data.points:
        raise ValueError("it needs images, and these are points in the plane; take net=mlp, as nsgan has")
    if data.height % n or data.width % n:
        raise ValueError(
            f"images {data.width} wide and {data.height} high do not fit: both must be multiples of {n}"
        )


def labelled(data: DataSpec) -> None:
    """Raise ``ValueError`` where the data has no classes."""
    if data.n_classes < 1:
        raise ValueError("the model needs labels, and the data set has none")
