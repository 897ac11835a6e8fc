"""A figure that a notebook shows, and that looks the same whoever saves it."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure with the settings that it is drawn with."""

    def __init__(self, style: Mapping[Any, Any], **options: Any) -> None:
        super().__init__(**options)
        self.style = style

    def savefig(self, *arguments: Any, **options: Any) -> None:
        """As matplotlib does, with the figure's own settings."""
        with matplotlib.rc_context(dict(self.style)):
            super().savefig(*arguments, **options)

    def _repr_png_(self) -> bytes:
        """The figure as a PNG: IPython shows figures of pyplot by itself, and asks others."""
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
