"""Signatures of models are read without PyTorch, and are the same as with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from baselines import registry
from bench.identity import signatures
from bench.identity.fingerprint import code_of

PLANNED = """
import sys
from pathlib import Path
from baselines import registry
from bench import run, tune
from bench.identity import signatures
from bench.identity.fingerprint import code_of

print({model: (signatures.quick(model), code_of(model)) for model in registry.OURS})
where = ["--dataset", "digits", "--offline", "--dry-run", "--out", sys.argv[1]]
assert run.main(["--models", *registry.OURS, *where]) == 0
assert tune.main(["--model", "vanilla", *where]) == 0
assert "torch" not in sys.modules
assert not {name for name in sys.modules if name.startswith("baselines.")} & {
    f"baselines.{model}" for model in registry.OURS
}
assert not Path(sys.argv[1]).exists()
"""


@pytest.mark.slow
def test_a_dry_run_needs_no_pytorch_and_plans_what_a_run_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = tmp_path_factory.mktemp("planned") / "results"
    done = subprocess.run(
        [sys.executable, "-c", PLANNED, str(out)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = {model: signatures._of(registry.get(model)) for model in registry.OURS}
    expected = {model: (found[model], code_of(model)) for model in registry.OURS}
    assert done.stdout.splitlines()[0] == str(expected)


def test_a_model_that_cannot_be_read_so_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: str) -> signatures.Signature:
        raise RuntimeError(model)

    monkeypatch.setattr(signatures, "STOOD_IN_FOR", "a package that is not imported")
    monkeypatch.setattr(signatures, "quick", fails)
    assert signatures.signature.__wrapped__("vanilla").card.year == 2014
