"""Which runs train together: a model that cannot be stacked trains one seed at a time, and says so."""

from __future__ import annotations

import sys
from pathlib import Path

import commands
import pytest

MODEL = """
from dataclasses import replace

from baselines.gan import DataSpec, Gan, Update, card
from baselines.vanilla import d_real, vanilla


def d(nets, batch, draw):
    loss, logs = d_real(nets, batch, draw)
    if loss > 1:
        loss = 2 * loss
    return loss, logs


@card(paper="None", year=2020)
def model(data: DataSpec) -> Gan:
    gan = vanilla(data, g_widths=(16,), d_widths=(16,))
    return replace(gan, updates=(Update("disc", d), *gan.updates[1:]))
"""


def prepared() -> None:
    """For ``before``: the model is here, and no report is written."""
    commands.without_report()
    sys.path.insert(0, str(Path.cwd()))


@pytest.mark.slow
def test_a_model_that_cannot_be_stacked_trains_one_seed_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    models = ("--models", "mine:model", "vanilla", "--set", "vanilla.g_widths=16", "vanilla.d_widths=16")
    words = (*models, "--dataset", "digits", "--offline", "--steps", "4", "--draws", "1")
    words += ("--eval-every", "4")
    done = commands.run(tmp_path, *words, "--seeds", "2", "--stack", "2", before=prepared)
    assert done.process.exitcode == 0
    said = [line for line in done.err.splitlines() if "cannot be stacked" in line]
    assert len(said) == 1
    assert said[0].startswith(
        "mine:model cannot be stacked, so its seeds train one at a time: Training a stack"
    )
    assert said[0].endswith("(mine.py, line 10): choose with torch.where, not with if")
    stacks = {(record["model"], record["cost"]["stack"]) for record in commands.records(tmp_path)}
    assert stacks == {("mine:model", 1), ("vanilla", 2)}
