"""Models without a discriminator, and with networks that have no optimizer, run from end to end.

What ``conformance`` calls fine runs; what cannot run is refused by both, with the same sentence.
"""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from typing import Any

import commands
import pytest
import torch

from baselines import conformance, registry
from baselines.gan import DataSpec
from baselines.training.trainer import Trainer

DATA = DataSpec(1, 8, 8, 10)
PARTIAL = ("balanced", "extracted", "regression")


def bench(folder: Path, model: str, *words: str, **options: Any) -> commands.Command:
    """``bench.run`` of one seed on digits, by default of four steps, in one process and without a report."""
    common = ("--seeds", "1", "--dataset", "digits", "--offline", "--device", "cpu", "--workers", "0")
    words = (*common, "--steps", "4", "--eval-every", "4", "--draws", "1", *words)
    return commands.run(
        folder, "--models", f"partial:{model}", *words, **{"before": commands.without_report, **options}
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTIAL)
def test_they_are_fine(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main([f"partial:{name}"]) == 0
    assert capsys.readouterr().out.count("fine") == len(conformance.SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"),
    [("balanced", "float32"), ("balanced", "bf16"), ("extracted", "bf16"), ("regression", "float32")],
)
def test_what_is_fine_runs(name: str, precision: str, fast_path: Path) -> None:
    done = bench(fast_path, name, "--precision", precision)
    assert (done.process.exitcode, done.err) == (0, "")
    (record,) = commands.records(fast_path)
    assert record["status"] == "finished"
    assert record["metrics"]["classifier"]["fid"] > 0
    (folder,) = commands.folders(fast_path)
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["weights"]
    assert set(weights) == set(record["parameters"])
    if name == "balanced":
        assert 0 < weights["balance"]["k"] < 1


@pytest.mark.slow
def test_without_a_discriminator_there_is_no_accuracy(fast_path: Path) -> None:
    done = bench(fast_path, "regression", "--select", "best", "--eval-every", "2", before=None)
    assert (done.process.exitcode, done.err) == (0, "")
    (record,) = commands.records(fast_path)
    assert record["d_accuracy"] == {}
    assert [entry["d_accuracy"] for entry in record["evals"]] == [None, None]
    (folder,) = commands.folders(fast_path)
    with (folder / "history.csv").open() as file:
        assert next(csv.reader(file)) == ["step", "g_loss"]
    written = [path for path in fast_path.glob("results/report/*") if path.suffix in {".csv", ".md", ".html"}]
    assert len(written) >= 3


@pytest.mark.parametrize("name", PARTIAL)
def test_a_seed_goes_on_from_its_state_alone_or_in_a_stack(name: str) -> None:
    gan = registry.get(f"partial:{name}")(DATA)
    images = torch.arange(40 * 64).remainder(256).to(torch.uint8).reshape(40, 1, 8, 8)

    def trainer(*seeds: int) -> Trainer:
        return Trainer(gan, images, None, seeds)

    whole = trainer(0, 1)
    whole.advance(3)
    saved = [whole.state_dict(lane) for lane in (0, 1)]
    whole.advance(2)
    again, alone = trainer(0, 1), trainer(1)
    again.load_state_dict(saved)
    alone.load_state_dict(saved[1:])
    again.advance(2)
    alone.advance(2)
    for net, tensors in whole.weights(1).items():
        assert set(saved[1]["weights"][net]) == set(tensors)
        for key, tensor in tensors.items():
            assert torch.equal(again.weights(1)[net][key], tensor)
            torch.testing.assert_close(alone.weights(0)[net][key], tensor)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_state_of_a_network_without_optimizer(fast_path: Path) -> None:
    marker = fast_path / "marker"
    words = ("--set", "partial:balanced.dies_at=60", "--steps", "100", "--checkpoint-every", "0")
    words += ("--eval-every", "100")
    for folder, code in (("killed", -signal.SIGKILL), ("killed", 0), ("whole", 0)):
        done = bench(fast_path / folder, "balanced", *words, PARTIAL_MARKER=str(marker))
        assert done.process.exitcode == code, done.err
    (one,), (other,) = commands.folders(fast_path / "killed"), commands.folders(fast_path / "whole")
    a, b = commands.numbers(one), commands.numbers(other)
    assert a == b


# ---------------------------------------------------------------- warnings


@pytest.mark.slow
def test_a_warning_while_a_model_is_built_is_let_through(fast_path: Path) -> None:
    done = bench(fast_path, "warning")
    assert done.process.exitcode == 0
    assert "an old name is used" in done.err
    assert "the networks are small" in done.err
    assert "error" not in done.err


def test_a_model_that_warns_is_fine() -> None:
    with pytest.warns(UserWarning, match=r"an old name|the networks") as caught:
        assert conformance.check(registry.get("partial:warning"), DATA) == []
    assert {str(one.message) for one in caught} == {"an old name is used", "the networks are small"}


# ---------------------------------------------------------------- what both refuse

REFUSED = {
    ("empty", ""): "a layer has no units: the parameter gen.3.weight has the shape (0, 16)",
    ("exits", "factory"): "Calling the factory: it ends the process with sys.exit(3)",
    ("exits", "build"): "Building the networks: it ends the process with sys.exit('no networks today')",
    ("exits", "loss"): "Training on noise: it ends the process with sys.exit(None)",
    ("logs_step", ""): "a loss logs 'step', a column of history.csv that the harness itself writes",
    ("accuracy_of_nothing", ""): "'d_acc_real' is logged, but the model has no discriminate",
    ("frozen_layer", ""): "the parameter disc.1.weight does not require gradients, but the optimizer moves",
}


@pytest.mark.parametrize(("name", "where"), REFUSED, ids=str)
def test_what_cannot_run_is_refused_by_both_in_one_line(name: str, where: str, fast_path: Path) -> None:
    says = REFUSED[name, where]
    hyper = {"where": where} if where else {}
    assert says in conformance.check(registry.get(f"partial:{name}"), DATA, **hyper)[0]
    words = ("--set", f"partial:{name}.where={where}") if where else ()
    done = bench(fast_path, name, *words)
    flag = "--set" if where else "--models"
    assert done.err.startswith(f"error: {flag}: partial:{name} cannot be trained on digits: {says}")
    assert done.err.count("\n") == 1
    assert done.process.exitcode == 2
    assert not (fast_path / "results" / "runs").exists()
