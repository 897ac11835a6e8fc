"""The examples of docs/writing-losses.md are models that conform, as they stand on the page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from baselines import conformance
from baselines.gan import DataSpec

PAGE = (Path(__file__).parents[1] / "docs" / "writing-losses.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODELS = {re.findall(r"def (\w+)\(data: DataSpec", block)[0]: block for block in BLOCKS if "@card" in block}


def test_the_page_has_its_examples() -> None:
    assert [*MODELS] == ["r1gan", "augmented_gan", "balanced_gan", "averaged_gan"]
    (sketch,) = set(BLOCKS) - set(MODELS.values())
    exec(sketch, {})


@pytest.mark.parametrize("name", MODELS)
def test_an_example_conforms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"page_{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    small = MODELS[name].replace("vanilla(data)", "vanilla(data, g_widths=(16, 32), d_widths=(16, 8))")
    assert small != MODELS[name]
    exec(compile(small, f"{name}.py", "exec"), vars(module))
    assert conformance.check(vars(module)[name], DataSpec(1, 8, 8)) == []
