"""A model that changes PyTorch for the whole process changes no other model's numbers, and is named."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from commands import folders, numbers

from baselines import conformance, registry
from baselines.gan import DataSpec
from baselines.training import settings

backends = torch.backends
CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "default dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        "the default dtype is torch.float64, not torch.float32",
    ),
    "default device": (lambda: torch.set_default_device("meta"), "the default device is meta, not None"),
    "threads": (lambda: torch.set_num_threads(7), "the number of threads is 7, not "),
    "grad": (lambda: torch.set_grad_enabled(False), "grad mode is False, not True"),
    "anomaly": (
        lambda: torch.autograd.set_detect_anomaly(True),
        "anomaly mode is (True, True), not (False, ",
    ),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        "deterministic algorithms is (True, True), not (False, False)",
    ),
    "denormals": (lambda: torch.set_flush_denormal(True), "flushing of denormals is True, not False"),
    "autocast": (lambda: torch.autocast("cpu").__enter__(), "autocast on cpu is True, not False"),
    "matmul": (
        lambda: torch.set_float32_matmul_precision("medium"),
        "float32 matmul precision is medium, not highest",
    ),
    "mixed switches": (
        lambda: setattr(backends.mkldnn.matmul, "fp32_precision", "bf16"),
        "float32 matmul precision is mixed, not highest",
    ),
    "tf32 of products": (
        lambda: setattr(backends.cuda.matmul, "allow_tf32", True),
        "float32 matmul precision is high, not highest",
    ),
    "tf32 of all": (
        lambda: setattr(backends, "fp32_precision", "tf32"),
        "torch.backends.fp32_precision is tf32, not none",
    ),
    "bf16 convolutions": (
        lambda: setattr(backends.mkldnn.conv, "fp32_precision", "bf16"),
        "mkldnn.conv.fp32_precision is bf16, not none",
    ),
    "tf32 of cudnn": (lambda: setattr(backends.cudnn, "allow_tf32", False), "cudnn.allow_tf32 is False, not"),
    "cudnn": (
        lambda: setattr(backends.cudnn.conv, "fp32_precision", "ieee"),
        "cudnn.allow_tf32 is mixed, not True",
    ),
    "mkldnn": (lambda: setattr(backends.mkldnn, "enabled", False), "mkldnn.enabled is False, not True"),
    "nnpack": (lambda: backends.nnpack.set_flags(False), "nnpack.enabled is False, not True"),
    "attention": (lambda: backends.cuda.enable_flash_sdp(False), "flash attention is False, not True"),
}


@pytest.fixture(autouse=True)
def nothing_stays_changed() -> Iterator[None]:
    before = settings.read()
    yield
    settings.put(before)


@pytest.mark.parametrize("what", CHANGES)
def test_every_setting_is_put_back_and_named(what: str) -> None:
    change, says = CHANGES[what]
    settings.start_afresh()
    with settings.isolated() as changed:
        change()
    assert [words.startswith(says) for words in changed] == [True], changed
    assert settings.read() == settings.FRESH
    change()
    settings.put(settings.FRESH)
    assert settings.read() == settings.FRESH


def test_a_mixture_that_was_there_before_is_there_again() -> None:
    backends.mkldnn.matmul.fp32_precision = "bf16"
    before = settings.read()
    with settings.isolated() as changed:
        assert settings.read() == settings.ONE_THREAD
    assert changed == []
    assert settings.read() == before


def test_the_global_streams_start_at_one_place_and_go_on_behind() -> None:
    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = drawn(), drawn()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    first = drawn()
    within = []
    for _ in range(2):
        with settings.isolated():
            within.append(drawn())
    assert within[0] == within[1]
    assert (first, drawn()) == expected


# ---------------------------------------------------------------- two models in one worker

RUDE = """
from dataclasses import replace

import numpy as np
import torch

from baselines.gan import DataSpec, Gan, Update, card
from baselines.vanilla import vanilla


def rudely():
    torch.set_flush_denormal(True)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("high")
    torch.backends.mkldnn.enabled = False
    torch.manual_seed(5)
    np.random.seed(5)


def very_rudely():
    rudely()
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)


very_rudely()


@card(paper="None", year=2020)
def rude(data: DataSpec) -> Gan:
    very_rudely()
    gan = vanilla(data, g_widths=(16,), d_widths=(16,), batch_size=16)
    d_real, *others = gan.updates

    def build():
        nets = gan.build()
        very_rudely()
        return nets

    def loss(*args):
        rudely()
        return d_real.loss(*args)

    return replace(gan, build=build, updates=(Update("disc", loss), *others))
"""
WITNESS = """
from dataclasses import replace

import numpy as np
import torch

from baselines.dcgan import dcgan
from baselines.gan import DataSpec, Gan, Update, card

AT_IMPORT = float(torch.rand(())) + np.random.rand()


@card(paper="None", year=2020)
def witness(data: DataSpec) -> Gan:
    gan = dcgan(data, width=8, batch_size=16)
    d_real, *others = gan.updates

    def loss(*args):
        value, logs = d_real.loss(*args)
        return value, {
            **logs,
            "at_import": torch.tensor(AT_IMPORT),
            "drawn": torch.rand(()) + np.random.rand(),
            "threads": torch.tensor(float(torch.get_num_threads())),
            "mkldnn": torch.tensor(float(torch.backends.mkldnn.enabled)),
            "deterministic": torch.tensor(float(torch.are_deterministic_algorithms_enabled())),
            "anomaly": torch.tensor(float(torch.is_anomaly_enabled())),
            "tiny": (torch.tensor(1e-40) * 1.0 > 0).float(),
        }

    return replace(gan, updates=(Update("disc", loss), *others))
"""


def models_are_here() -> None:
    """For ``before``: as ``python -m`` does."""
    commands.without_report()
    sys.path.insert(0, str(Path.cwd()))


@pytest.mark.slow
def test_a_model_has_the_same_numbers_before_after_and_without_a_rude_one(tmp_path: Path) -> None:
    """Alone, after it in this process, and before it in a worker that trains both."""
    found: list[dict[str, Any]] = []
    one, two = "witness:witness", "rude:rude"
    for workers, order in (("0", (one,)), ("0", (two, one)), ("1", (one, two))):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        (folder / "rude.py").write_text(RUDE)
        (folder / "witness.py").write_text(WITNESS)
        words = ("--dataset", "digits", "--offline", "--device", "cpu", "--steps", "4", "--draws", "1")
        more = ("--workers", workers, "--seeds", "1", "--eval-every", "2")
        done = commands.run(folder, "--models", *order, *words, *more, before=models_are_here, PYTHONPATH=".")
        assert done.process.exitcode == 0, done.err
        found.append({path.parent.name: numbers(path) for path in folders(folder)})
        at_plan = "rude:rude changes the whole process, which is put back: the default dtype is torch.float64"
        in_training = "rude:rude changed, in training, the whole process: "
        assert done.err.count(at_plan) == done.err.count(in_training) == (len(order) - 1)
        assert "witness" not in done.err
    alone, after, before = found
    assert before == after
    assert alone.items() <= before.items()


def test_conformance_names_what_a_model_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ruder.py").write_text(RUDE)
    monkeypatch.syspath_prepend(tmp_path)
    problems: Any = conformance.check(registry.get("ruder:rude"), DataSpec(1, 8, 8))
    says = "it changes the whole process: the default dtype is torch.float64, not torch.float32"
    assert says in problems
    assert "it changes the whole process: mkldnn.enabled is False, not True" in problems
    assert settings.read() == {**settings.read(), "the default dtype": torch.float32, "grad mode": True}


def test_what_an_import_changes_is_undone_at_once_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = RUDE.replace("    very_rudely()\n    gan", "    gan").replace("        very_rudely()\n", "")
    (tmp_path / "importer.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    before, drawn = settings.read(), torch.get_rng_state()
    factory = registry.get("importer:rude")
    assert settings.read() == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert "the default dtype is torch.float64, not torch.float32" in registry.side_effects(factory)
    assert "the default dtype is torch.float64, not torch.float32" in " ".join(
        conformance.check(factory, DataSpec(1, 8, 8))
    )
