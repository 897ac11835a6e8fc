"""The notebook of the documentation runs from top to bottom, and shows what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SHOWN = """
assert list(table["label"]) == ["vanilla", "cgan"] or list(table["label"]) == ["cgan", "vanilla"]
assert len(history) == 2 * 2 * 40
assert evals["step"].tolist() == 4 * [20, 40]
assert (images.shape, film.shape) == ((10, 8, 8, 1), (16, 1, 8, 8, 1))
assert reports.plot.curves(runs)._repr_png_().startswith(b"\\x89PNG")
"""


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its code cells in order, in a Python that knows nothing of notebooks."""
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "commit it without outputs"
    code = "\n".join(["".join(cell["source"]) for cell in cells])
    paths = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code + SHOWN],
        cwd=tmp_path,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
