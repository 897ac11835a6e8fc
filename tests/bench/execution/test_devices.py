"""Several GPUs on one machine, and which flags go with which executor; no GPU is needed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import run, where
from bench.errors import UsageError
from bench.execution.devices import devices
from bench.execution.run_source import Runs
from bench.execution.signals import Interrupt
from bench.plan import RunContext
from bench.scoring import inception
from bench.store.jobs import Job
from bench.store.leases import Leases
from bench.store.records import write_failure

MODELS = ("--models", "vanilla", "dcgan")


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has three."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


def slots(*words: str) -> tuple[str, list[str]]:
    context, found = where.context_of(run.parser().parse([*MODELS, *words]))
    return context.device, found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["cuda:0", "cuda:1", "cuda:2"]),
        (("--device", "cuda"), ["cuda:0", "cuda:1", "cuda:2"]),
        (("--device", "cuda:0,2"), ["cuda:0", "cuda:2"]),
        (("--device", "cuda:2"), ["cuda:2"]),
        (("--device", "cuda:0,2", "--workers", "4"), ["cuda:0", "cuda:2", "cuda:0", "cuda:2"]),
        (("--device", "cuda:0,2", "--workers", "1"), ["cuda:0"]),
        (("--device", "cpu", "--workers", "2"), ["cpu", "cpu"]),
    ],
)
def test_one_worker_per_gpu_or_as_many_as_asked_for(
    three_gpus: None, words: tuple[str, ...], expected: list[str]
) -> None:
    assert slots(*words) == (expected[0], expected)


@pytest.mark.parametrize("device", ["cuda:3", "cuda:0,7", "cuda:x", "cuda:-1", "cuda:²"])
def test_a_gpu_that_is_not_there_is_named(three_gpus: None, device: str) -> None:
    with pytest.raises(UsageError, match=f"--device: '{device}' is not on this machine, which has 3 CUDA"):
        devices(device)


def test_a_gpu_named_twice_is_refused(three_gpus: None) -> None:
    with pytest.raises(UsageError, match="--device: 'cuda:0,0' names a device twice"):
        devices("cuda:0,0")


@pytest.mark.parametrize(("n_workers", "stack"), [("2", 3), ("4", 2)])
def test_stacks_are_shared_out_among_the_gpus(
    three_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_workers: str, stack: int
) -> None:
    """Six seeds of two models on GPUs 0 and 2: a stack per worker, several per GPU where asked for."""
    noted: list[tuple[str, str, list[int]]] = []

    def supervise(source: Runs, context: RunContext, slots: Sequence[str], *_: Any, **__: Any) -> None:
        """Each worker takes work, and records at once."""
        with ExitStack() as workers:
            leases = {slot: workers.enter_context(Leases()) for slot in dict.fromkeys(slots)}
            for slot in itertools.cycle(slots):
                task = source.take(leases[slot], replace(context, device=slot))
                if task is None:
                    return
                noted.append((slot, task.jobs[0].model, [job.seed for job in task.jobs]))
                for job in task.jobs:
                    write_failure(job, context.out, "made up", 1)

    monkeypatch.setattr(where, "supervise", supervise)
    monkeypatch.setattr(run, "unstackable", lambda jobs: set())
    args = run.parser().parse(
        [*MODELS, "--device", "cuda:0,2", "--workers", n_workers, "--out", str(tmp_path)]
    )
    context, found = where.context_of(args)
    jobs = [Job(model, {}, "digits", seed, 1, 1, {}, {}) for model in MODELS[1:] for seed in range(6)]
    run._execute(args, jobs, context, found, Interrupt(), whole=jobs)
    assert [seed for _, model, seeds in noted for seed in seeds if model == "dcgan"] == list(range(6))
    assert {len(seeds) for _, _, seeds in noted} == {stack}
    used = [device for device, _, _ in noted]
    assert used.count("cuda:0") == used.count("cuda:2") > 0


# ------------------------------------------------------------------ executors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--executor", "slrum"), "--executor: 'slrum' is not allowed; .*; did you mean 'slurm'"),
        (("--slurm", "partition=gpu"), "--slurm: is for --executor slurm, not local"),
        (("--detach", "--executor", "ray"), "--detach: is for --executor slurm, not ray"),
        (("--ray-gpus", "0.5"), "--ray-gpus: is for --executor ray, not local"),
        (("--executor", "slurm", "--slurm", "=3"), "--slurm: '=3' is not allowed; write an option"),
        (
            ("--executor", "slurm", "--device", "cuda:1"),
            "--device: 'cuda:1' is not allowed with --executor slurm",
        ),
        (("--executor", "slurm", "--device", "gpu"), "--device: 'gpu' .*; did you mean 'cuda'"),
        (("--executor", "ray", "--workers", "0"), "--workers: 0 runs in this process"),
    ],
)
def test_a_wrong_request_is_one_line_that_names_the_flag(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        slots(*words)


def test_options_of_sbatch_come_from_flags_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text('executor = "slurm"\n[slurm]\npartition = "gpu"\ncpus_per_task = 2\nexclusive = true\n')
    args = run.parser().parse([*MODELS, "--config", str(file)])
    assert dict(args.slurm) == {"partition": "gpu", "cpus_per_task": "2", "exclusive": True}
    args = run.parser().parse([*MODELS, "--executor", "slurm", "--slurm", "gres=gpu:1", "hold"])
    assert dict(args.slurm) == {"gres": "gpu:1", "hold": True}
    assert where.on_gpus(args, RunContext())
    again = run.parser().parse([*MODELS, *where.words(args)])
    assert (again.executor, again.slurm) == (args.executor, args.slurm)


@pytest.mark.parametrize(
    ("executor", "module", "message"),
    [
        (
            "slurm",
            "submitit",
            r"--executor slurm: submitit is not installed; in the checkout: pip install '\.\[slurm\]'",
        ),
        ("ray", "ray", r"--executor ray: ray is not installed; in the checkout: pip install '\.\[ray\]'"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, module: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=message):
        where._engine(run.parser().parse([*MODELS, "--executor", executor]), tmp_path)


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--executor slurm: there is no sbatch on this machine"):
        where._engine(run.parser().parse([*MODELS, "--executor", "slurm"]), tmp_path)


@pytest.mark.parametrize(("gigabytes", "images"), [(4, 32), (16, 128), (80, 256)])
def test_inception_looks_at_as_many_images_as_surely_fit(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, images: int
) -> None:
    gpu = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert inception.batch_size(torch.device("cuda:0")) == images
