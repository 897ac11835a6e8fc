"""The cost of a run: energy, as a GPU's own counter has it (there is a stand-in), and processor time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import compute

from baselines.training.trainer import Trainer
from bench.execution import environment, training
from bench.plan import RunContext, Spec, plan
from bench.scoring import sizes
from bench.scoring.evaluator import Evaluator
from bench.store import records
from bench.store.jobs import Job


class NVMLError(Exception):
    pass


def nvml(millijoules: int | None) -> SimpleNamespace:
    """pynvml as it answers for the GPU ``GPU-abc``; ``None``: the GPU has no counter."""

    def total(handle: str) -> int:
        if millijoules is None or handle != "GPU-abc":
            raise NVMLError("Not Supported")
        return millijoules

    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=total,
        NVMLError=NVMLError,
    )


@pytest.mark.parametrize(("counter", "joules"), [(12_345, 12.345), (None, None)])
def test_energy_is_the_gpus_counter_in_joules(
    counter: int | None, joules: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(counter))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    assert environment.energy_j("cuda:0") == joules
    assert environment.energy_j("cpu") is None


def test_without_its_library_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert environment.energy_j("cuda:0") is None


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    monkeypatch.setattr(sizes, "KID_SUBSETS", 2)
    small = {"vanilla": {"g_widths": "8", "d_widths": "8", "batch_size": "32"}}
    spec = Spec(["vanilla"], ["digits"], [0, 1], steps=4, eval_every=4, hyperparameters=small)
    return plan(spec, RunContext(tmp_path, offline=True))


@pytest.mark.slow
def test_each_run_has_its_share_across_a_stop(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = 1000.0
    monkeypatch.setattr(environment, "energy_j", lambda device: reading)
    context = RunContext(tmp_path, offline=True)
    advance = training.Stack.advance

    def using_energy(stack: training.Stack) -> None:
        nonlocal reading
        reading += 30.0
        advance(stack)

    monkeypatch.setattr(training.Stack, "advance", using_energy)
    compute(jobs, context, stop=lambda: reading > 1000.0)
    assert reading == 1030.0
    reading = 5000.0  # others used the GPU meanwhile
    compute(jobs, context)
    shares = []
    for each in jobs:
        record = records.read_record(each.folder(tmp_path))
        assert record is not None
        shares.append(record["cost"]["energy_j"])
    assert shares[0] == shares[1] == (30.0 + reading - 5000.0) / 2
    assert reading > 5000.0


def test_on_a_cpu_there_is_none(jobs: list[Job], tmp_path: Path) -> None:
    compute(jobs[:1], RunContext(tmp_path, offline=True))
    record = records.read_record(jobs[0].folder(tmp_path))
    assert record is not None
    assert record["cost"]["energy_j"] is None


def test_processor_time_is_counted_where_a_busy_machine_does_not_matter() -> None:
    start, before = time.perf_counter(), environment.compute_s("cpu")
    time.sleep(0.3)
    assert environment.compute_s("cpu") - before < 0.1 < time.perf_counter() - start
    before = environment.compute_s("cuda:0")  # nobody counts what one process uses of a GPU
    time.sleep(0.1)
    assert environment.compute_s("cuda:0") - before >= 0.1


@pytest.mark.slow
def test_each_run_has_its_own_compute_across_a_stop(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is shared by the lanes of a stack, scoring is each one's own."""
    clock = 1000.0
    monkeypatch.setattr(environment, "compute_s", lambda device: clock)

    def slower(owner: type, name: str, seconds: float) -> None:
        method = getattr(owner, name)

        def slow(self: object, *arguments: Any, **options: Any) -> Any:
            nonlocal clock
            clock += seconds
            return method(self, *arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    slower(Trainer, "advance", 30.0)
    slower(training.Stack, "evaluated", 5.0)
    slower(Evaluator, "real_data_baseline", 1000.0)
    context = RunContext(tmp_path, offline=True)
    compute(jobs, context, stop=lambda: clock > 1000.0)
    trained, clock = (clock - 1000.0) // 30, 5000.0
    compute(jobs, context)
    trained += (clock - 5000.0 - 2 * 1000.0 - 2 * 5.0) / 30
    for each in jobs:
        record = records.read_record(each.folder(tmp_path))
        assert record is not None
        assert record["evals"][-1]["compute_s"] == record["cost"]["train_compute_s"] == trained * 30 / 2
        assert record["cost"]["compute_s"] == trained * 30 / 2 + 5
