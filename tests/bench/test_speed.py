"""The measurement: what is counted, what is compared, what is said."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from baselines.gan import DataSpec, Update
from baselines.training.step import to_float
from baselines.training.trainer import Trainer
from baselines.vanilla import vanilla
from bench import cli, run, speed, where
from bench.execution import environment
from bench.execution.signals import Interrupt
from bench.measuring import job, others, products, textbook, workloads
from bench.measuring.products import Products

IMAGES = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(90) % 10
GAN = vanilla(DataSpec(1, 8, 8), g_widths=(16, 32), d_widths=(32, 16), batch_size=16)


# ---------------------------------------------------------------- arithmetic


def dense_flops(widths: Sequence[int], batch_size: int) -> tuple[int, int, int]:
    """A dense network's forward pass, its weights' gradients, and its inputs' gradients but the first's."""
    each = [2 * batch_size * n_in * n_out for n_in, n_out in pairwise(widths)]
    return sum(each), sum(each), sum(each[1:])


def test_the_operations_of_an_iteration_are_those_of_its_products() -> None:
    """Both backward passes count, and D's first layer needs no gradient of its input but for G."""
    g_forward, g_weights, g_inputs = dense_flops((100, 256, 512, 1024, 784), 128)
    d_forward, d_weights, d_inputs = dense_flops((784, 512, 256, 1), 128)
    d_step = d_forward + d_weights + d_inputs
    g_step = g_forward + d_forward + d_inputs + 2 * 128 * 784 * 512 + g_weights + g_inputs
    expected = d_step + (g_forward + d_step) + g_step
    n_products = (3 + 3 + 2) + (4 + 3 + 3 + 2) + (4 + 3 + 3 + 4 + 3)
    assert workloads.count("vanilla") == {"flops": expected, "products": n_products}


def test_a_stack_has_the_operations_of_its_seeds() -> None:
    trainer, alone = Trainer(GAN, IMAGES, None, range(3)), Trainer(GAN, IMAGES, None, [0])
    with Products() as stacked:
        trainer.advance(2)
    with Products() as one:
        alone.advance(1)
    assert stacked.flops == 2 * 3 * one.flops > 0


@pytest.mark.parametrize("model", ["vanilla", "dcgan"])
def test_operations_are_those_that_pytorch_counts_and_can_be_repeated(model: str) -> None:
    trainer = Trainer(replace(workloads.gan(model), batch_size=4), *workloads.data("cpu"), [0])
    with FlopCounterMode(display=False) as counter, Products() as products:
        trainer.advance(1)
    with FlopCounterMode(display=False) as again:
        products()
    assert products.flops == counter.get_total_flops() == again.get_total_flops() > 0


def test_without_pytorchs_private_parts_nothing_is_counted_and_the_ceiling_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch.utils._python_dispatch", None)
            other = importlib.reload(products)
            patch.setattr(workloads, "Products", other.Products)
            assert workloads.count("vanilla") == {"flops": 0, "products": 0}
    finally:
        importlib.reload(products)
    rounds = [{name: rate for name, rate in ROUND.items() if "products" not in name}]
    text = speed.table("vanilla", figures(products=0, flops=0, **speed.summary(rounds, flops=0)))
    assert "this version of PyTorch cannot count the products of an iteration" in text
    assert "products alone" not in text
    assert "6.00" in text
    assert "advice: --workers 2 --stack 1" in text


def test_gradients_within_a_loss_are_counted() -> None:
    """WGAN-GP differentiates its critic's gradient: the products of a double backward pass."""
    penalised, plain = workloads.count("wgan_gp"), workloads.count("wgan")
    assert penalised["flops"] > 1.5 * plain["flops"]


def test_a_rate_is_units_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    done = []
    workloads.prepare("test", lambda: done.append(1) or 6.0)  # type: ignore[func-returns-value]
    assert len(done) == 1  # warm
    assert workloads.time_it("test", 3)[0] == 4.0  # looks at 1, 2 and 3 s: two lots in the three seconds
    assert len(done) == 3


# ---------------------------------------------------------------- the textbook loop


@pytest.mark.slow
@pytest.mark.parametrize("written", [textbook.textbook, textbook.lean])
def test_the_textbook_loop_learns_what_the_harness_learns(written: Callable[..., Any]) -> None:
    """Each update moves its own net; the logs bear the same names and, on average, the same values."""
    torch.manual_seed(0)
    loop = written(GAN, IMAGES, LABELS, "cpu")
    logged = [next(loop) for _ in range(60)]
    trainer = Trainer(GAN, IMAGES, LABELS, [0])
    trainer.advance(60)
    history = trainer.history()
    assert logged[0].keys() == history.keys()
    for key in ("g_loss", "d_acc_fake"):
        ours, theirs = history[key][-30:].mean(), sum(row[key] for row in logged[-30:]) / 30
        assert abs(ours - theirs) < 0.25, (key, ours, theirs)


def test_a_tutorial_detaches_fakes_and_wastes_the_discriminators_gradient() -> None:
    gen, disc = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    z = torch.ones(4, 2)
    fake = textbook.TextbookNet(gen, learns=False)(z)
    assert not fake.requires_grad
    textbook.TextbookNet(disc, learns=False)(textbook.TextbookNet(gen, learns=True)(z)).sum().backward()
    assert gen.weight.grad is not None
    assert disc.weight.grad is not None


def test_the_textbook_loop_sees_the_same_pixels() -> None:
    def loss(nets: Any, batch: Any, draw: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return nets["disc"](batch["image"]).sum(), {
            "d_loss": (batch["image"] * (1 + batch["label"])[:, None, None, None]).sum()
        }

    seen = next(
        textbook.textbook(replace(GAN, updates=(Update("disc", loss),), batch_size=90), IMAGES, LABELS, "cpu")
    )
    expected = (to_float(IMAGES) * (1 + LABELS)[:, None, None, None]).sum()
    assert seen["d_loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_the_textbook_loop_projects() -> None:
    clipped = replace(GAN, updates=(replace(GAN.updates[0], project=lambda p: p.zero_()),))
    assert isinstance(clipped.updates[0], Update)
    next(loop := textbook.textbook(clipped, IMAGES, LABELS, "cpu"))
    assert next(loop)["d_loss"] == pytest.approx(0.6931, abs=1e-4)  # ln 2: every logit is 0


# ---------------------------------------------------------------- rounds, stacks, words

ROUND = {
    "textbook": 10.0,
    "lean": 20.0,
    "one": 30.0,
    "one_products": 40.0,
    "placed": 60.0,
    "products": 80.0,
    "square": 5e9,
}


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down for a while slows all kinds down: the ratios stay."""
    rounds = [{name: value * pace for name, value in ROUND.items()} for pace in (1.0, 0.1, 0.5)]
    figures = speed.summary(rounds, flops=1000)
    assert figures["seed_steps_per_s"] == {
        "textbook": 5.0,
        "lean": 10.0,
        "one": 15.0,
        "placed": 30.0,
        "ceiling": 40.0,
    }
    assert figures["times_textbook"] == pytest.approx({"lean": 2, "one": 3, "placed": 6})
    assert figures["of_ceiling"] == {"one": pytest.approx(0.75), "placed": pytest.approx(0.75)}
    assert figures["flops_per_s"] == {"products": 40_000.0, "square": 2.5e9}


def test_rounds_beside_other_programs_count_in_no_ratio() -> None:
    quiet = [ROUND | {speed.OTHERS: 0.02}] * 3
    loud = [ROUND | {"placed": 6.0, speed.OTHERS: 1.4}] * 4
    found = speed.summary([*loud, *quiet], flops=1000)
    assert found["times_textbook"]["placed"] == pytest.approx(6)
    assert (found["rounds"], found["distorted_rounds"], found["others"]) == (7, 4, 1.4)
    text = speed.table("vanilla", figures(**found))
    assert "4 of 7 rounds are distorted: other programs used up to 1.4 cores" in text
    alone = figures(**speed.summary([*loud, *quiet[:2]], flops=1000))
    assert alone["times_textbook"] == alone["of_ceiling"] == {}
    text = speed.table("vanilla", alone)
    assert "no ratio and no advice: measure again when nothing else runs" in text
    assert "6.00" not in text
    assert "%" not in text


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not say what its cores do")
def test_what_others_use_is_what_is_not_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert others.busy_s() > 0
    times = iter([100.0, 107.0])
    monkeypatch.setattr(others, "busy_s", lambda: next(times))
    watch = others.Watch()
    watch.start = time.perf_counter() - 4
    assert watch.others(own_s=3.0) == pytest.approx(1.0, abs=0.01)


JOB = """
import json, sys, time
from pathlib import Path
print("5 runs", flush=True)
run = Path(sys.argv[sys.argv.index("--out") + 1], "runs", "a", "seed-0")
run.mkdir(parents=True)
(run / "progress.json").write_text(json.dumps({"step": 1}))
time.sleep(0.3)
(run / "run.json").write_text(json.dumps({"cost": {"train_s": 3.0, "eval_s": 2.0}}))
"""


def test_a_job_is_measured_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "COMMAND", (sys.executable, "-c", JOB))
    found = job.measure(["--models", "vanilla"])
    assert 0 < found["first_line_s"] <= found["first_step_s"] < found["last_record_s"] <= found["wall_s"]
    assert (found["training_s"], found["scoring_s"]) == (3.0, 2.0)
    assert 0 < found["processor_s"] < found["wall_s"] + 1
    assert "5 seeds as a job: first line after 0." in job.text(found)
    monkeypatch.setattr(job, "COMMAND", (sys.executable, "-c", "print('no'); raise SystemExit(2)"))
    with pytest.raises(SystemExit, match="error: the job failed: no"):
        job.measure([])


def test_any_data_set_has_its_sizes() -> None:
    assert speed.sizes_of("digits", Path("data")) == workloads.Sizes("digits", (1, 8, 8), 10, 1437, 360)
    assert workloads.data("cpu", workloads.Sizes("x", (3, 8, 9), 0, 7, 1))[0].shape == (7, 3, 8, 9)


def row(stack: int, eager: float, captured: float | None) -> dict[str, Any]:
    return {"stack": stack, "eager": eager, "captured": captured, "peak_memory_mb": 10.0}


@pytest.mark.parametrize(
    ("rates", "sizes"),
    [
        ([100, 190, 200, 400], [1, 2, 4]),  # 4 gains less than a tenth
        ([100, 190, None], [1, 2]),  # 4 does not fit
        ([100 * 2**k for k in range(20)], [1, 2, 4, 8, 16, 32, 64, 128, 256]),
    ],
    ids=["saturated", "out of memory", "largest"],
)
def test_stacks_grow_until_it_does_not_pay(rates: Sequence[float | None], sizes: Sequence[int]) -> None:
    answers = iter(rates)

    class Worker(speed.Group):
        def run(self, work: object, *arguments: Any) -> list[Any]:
            rate = next(answers)
            return [None if rate is None else row(arguments[2], rate / 3, rate)]

    worker = Worker([], Interrupt())
    assert [
        found["stack"] for found in speed.sweep(worker, "vanilla", "cuda:0", 1.0, workloads.MNIST)
    ] == sizes


def test_a_stack_that_cannot_be_captured_counts_with_its_eager_rate() -> None:
    assert speed.fastest(row(1, 20.0, None)) == 20.0
    assert speed.fastest(row(1, 20.0, 50.0)) == 50.0


def figures(**changed: Any) -> dict[str, Any]:
    return {
        "workers": 2,
        "stack": 1,
        "dataset": "mnist",
        "textbook_threads": 2,
        "products": 37,
        "flops": 2_400_000_000,
        "n_fake": 10_000,
        "score_s": 9.0,
        "metrics_s": 4.0,
        "environment": {"cpu": "A CPU × 2", "device": "cpu", "matmul": "highest"},
        **speed.summary([ROUND], 2_400_000_000),
    } | changed


def test_the_table_says_rates_ratios_and_advice() -> None:
    text = speed.table("vanilla", figures())
    for expected in (
        "vanilla on images as in mnist; A CPU × 2, cpu, float32 highest",
        "lean loop, one thread",
        "harness, 2 workers × 1",
        "6.00",
        "75%",
        "37 products, 2.40 GFLOP",
        "9.0 s on a worker, 4.0 s",
        "--workers 2 --stack 1; 5 seeds of 30,000 steps then train in about 42 min",
    ):
        assert expected in text
    stacks = [row(1, 100.0, 900.0), row(2, 200.0, None)]
    assert "as a CUDA graph not possible, 10 MB" in speed.table("vanilla", figures(stacks=stacks))


def test_workers_that_share_a_core_are_advised_against() -> None:
    slow = speed.summary([ROUND | {"placed": 33.0}], 1)
    assert speed.advice(figures(**slow)).startswith(
        "advice: --workers 1: 2 workers together do only 1.1 times"
    )


# ---------------------------------------------------------------- the command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bench.speed", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seconds", "0"], "--seconds: '0' is not allowed"),
        (["--json", "no/such/folder/x.json"], "there is no folder no/such/folder"),
        (["--device", "tpu"], "--device: 'tpu' is not allowed"),
        (["--modles", "vanilla"], "did you mean '--models'?"),
    ],
)
def test_a_wrong_request_is_one_line_and_code_2(
    arguments: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run_main(lambda: speed.main(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert not said.out


@pytest.mark.slow
def test_a_wrong_request_as_a_subprocess() -> None:
    done = command("--models", "vanila")
    assert done.returncode == 2
    assert "did you mean 'vanilla'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_help_comes_without_torch() -> None:
    code = (
        "import bench.speed as s, sys; s.parser().format_help(); print({'torch', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class Here:
    """Workers without processes."""

    def __init__(self, n: int) -> None:
        self.n = n

    def run(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        return [work(*arguments) for _ in range(self.n)]

    def member(self, k: int) -> Here:
        return Here(1)


def in_this_process(n: int, threads: int | None, interrupt: Interrupt) -> AbstractContextManager[Here]:
    return nullcontext(Here(n))


@pytest.mark.slow
def test_the_command_measures_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One short round in this process."""
    monkeypatch.setattr(speed, "workers", in_this_process)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(workloads, "MNIST", replace(workloads.MNIST, n_test=200))
    monkeypatch.setattr(others, "MOST", math.inf)  # tests do not run alone
    file = tmp_path / "speed.json"
    assert speed.main(["--device", "cpu", "--seconds", "1", "--json", str(file)]) == 0
    assert "advice: --workers" in capsys.readouterr().out
    found: Mapping[str, Any] = json.loads(file.read_text())["vanilla"]
    assert found["workers"] == where.context_of(run.parser().parse(["--device", "cpu"]))[1].count("cpu")
    assert found["products"] == 37
    assert found["environment"]["threads"] == 1
    assert all(rate > 0 for rate in found["seed_steps_per_s"].values())
    assert 0 < found["metrics_s"] < found["score_s"]
    assert found["flops_per_s"]["products"] == found["seed_steps_per_s"]["ceiling"] * found["flops"]


def test_json_may_stand_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed, "measure", lambda *_: figures())
    assert speed.main(["--models", "vanilla", "dcgan", "--device", "cpu", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {"vanilla": figures(), "dcgan": figures()}


def test_workers_are_processes_with_the_threads_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with speed.workers(2, 1, Interrupt()) as ours, speed.workers(1, None, Interrupt()) as plain:
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert ours.run(os.getenv, "OMP_NUM_THREADS") == ["1", "1"]
        assert plain.run(os.getenv, "OMP_NUM_THREADS") == [None]
        assert len({os.getpid(), *ours.run(os.getpid), *plain.run(os.getpid)}) == 4


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries cannot be told")
def test_large_tensors_keep_their_pages_in_a_worker() -> None:
    code = """if True:
        import resource, sys, torch
        from bench.execution import environment
        if "told" in sys.argv:
            environment.set_up("cpu")
        def faults():
            torch.ones(2**24)  # 64 MB
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        faults(), faults()
        before = faults()
        print(faults() - before)"""

    def n_faults(*arguments: str) -> int:
        line = [sys.executable, "-c", code, *arguments]
        return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)

    assert n_faults("told") < 1000 < n_faults()


def test_what_fails_in_a_worker_is_said_with_where_it_happened() -> None:
    with (
        speed.workers(1, 1, Interrupt()) as group,
        pytest.raises(SystemExit, match=r"(?s)error: in a worker: Traceback.*math domain error"),
    ):
        group.run(math.sqrt, -1)


def test_workers_end_with_a_command_that_is_killed() -> None:
    """Its output ends when the last process that holds it has ended."""
    code = """if True:
        import os, signal
        from bench import speed
        from bench.execution.signals import Interrupt
        if __name__ == "__main__":
            with speed.workers(1, 1, Interrupt()):
                os.kill(os.getpid(), signal.SIGKILL)"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("precision", "rounds"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_a_gpu_rounds_to_tf32_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, precision: str, rounds: bool
) -> None:
    """Neither products nor convolutions, which PyTorch by itself would round."""
    for name in ("init", "set_device", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *arguments: None)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    try:
        environment.set_up("cuda:0", precision)
        assert torch.backends.cudnn.deterministic, "else a run that is repeated may differ"
        assert torch.get_float32_matmul_precision() == ("high" if rounds else "highest")
        assert torch.backends.cudnn.allow_tf32 is rounds
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_a_cpu_does_not_pretend_to_round_to_tf32() -> None:
    with pytest.raises(ValueError, match="tf32 is a GPU's"):
        environment.set_up("cpu", "tf32")
