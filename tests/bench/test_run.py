"""The command, with the network cut: as a user runs it, and in processes that have imported everything."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
from PIL import Image

from baselines import conformance
from bench import run, where
from bench.errors import UsageError
from bench.plan import RunContext, Spec, _settings, iterations, plan, resolve
from bench.store.leases import Leases
from bench.store.records import log, write_failure

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--models", "vanilla", "--dataset", "digits", "--steps", "40", "--eval-every", "20")
NARROW = ("--set", "vanilla.g_widths=16,32", "vanilla.d_widths=32,16", "vanilla.batch_size=16")

CUT = """
import socket
def refuse(*args, **kwargs):
    raise OSError("the network is cut")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which Python has no network."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "sitecustomize.py").write_text(CUT)
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "COLUMNS": "200"}


def bench(cut: dict[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    command = [sys.executable, "-m", "bench.run", *arguments]
    return subprocess.run(command, cwd=cwd, env=cut, capture_output=True, text=True, timeout=240, check=False)


def without_network() -> None:
    """For ``before``: no network, no report; a warning is an error."""
    for name in ("create_connection", "getaddrinfo"):
        setattr(socket, name, _refuse)
    socket.socket.connect = _refuse  # type: ignore[method-assign]
    warnings.simplefilter("error")
    commands.without_report()


def forked(cwd: Path, *arguments: str) -> commands.Command:
    """The same command in a process that has imported everything."""
    return commands.run(cwd, *arguments, before=without_network)


def records(out: Path) -> dict[int, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in out.glob("runs/*/seed-*/run.json")]
    return {record["seed"]: record for record in found}


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what may differ between two computations of it."""
    kept = {k: v for k, v in record.items() if k not in {"cost", "environment", "checksum", "attempts"}}
    kept["evals"] = [{k: v for k, v in entry.items() if k[-2:] != "_s"} for entry in record["evals"]]
    return kept


@pytest.fixture(scope="session")
def two(cut: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two seeds on two workers: the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("two")
    commands.with_known(folder)
    done = bench(cut, folder, *TINY, *NARROW, "--seeds", "2", "--workers", "2", "--save-samples", "30")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


@pytest.mark.slow
def test_a_run_leaves_its_record_history_and_pictures(two: tuple[Path, str]) -> None:
    folder, _ = two
    found = records(folder / "results")
    assert sorted(found) == [0, 1]
    for record in found.values():
        assert record["status"] == "finished"
        scores = record["metrics"]["classifier"]
        assert {"fid", "isc_mean", "isc_std", "kid_mean", "kid_std", "precision", "recall"} <= scores.keys()
        assert all(np.isfinite(value) for value in scores.values())
        assert record["floor"]["classifier"]["fid"] < scores["fid"]
        protocol = record["protocol"]
        assert (protocol["n_fake"], protocol["n_real"], protocol["draws"]) == (3600, 360, 3)
        assert protocol["dataset"]["n_test"] == 360
        assert 0 < record["floor_std"]["classifier"]["fid"] < record["floor"]["classifier"]["fid"]
        assert record["evals"][-1]["metrics"]["classifier"]["fid"] == record["draws"]["classifier"]["fid"][0]
        assert record["d_accuracy"].keys() >= {"train", "heldout", "near_half", "near_half_since"}
        assert [entry["step"] for entry in record["evals"]] == [20, 40]
        assert record["cost"]["train_s"] > 0
        assert record["parameters"]["disc"]["trainable"] == 64 * 32 + 32 + 32 * 16 + 16 + 16 + 1
    run = next((folder / "results" / "runs").glob("*/seed-0"))
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    for name in ("samples", "real"):
        with Image.open(run / f"{name}.png") as grid:
            assert grid.size == (10 * 58 + 2, 10 * 58 + 2)
    with Image.open(run / "neighbours.png") as grid:
        assert grid.size == (10 * 58 + 2, 2 * 58 + 2)
    with np.load(run / "samples.npz") as samples:
        assert samples["arr_0"].shape == (30, 8, 8, 1)
        assert samples["arr_0"].dtype == np.uint8


@pytest.mark.slow
def test_a_run_is_scored_on_several_sample_draws(two: tuple[Path, str]) -> None:
    """Its scores are their means; the report parts sampling from training variance by them."""
    folder, _ = two
    for record in records(folder / "results").values():
        for name, values in record["draws"]["classifier"].items():
            assert len(values) == 3
            assert record["metrics"]["classifier"][name] == pytest.approx(np.mean(values))
        assert len(set(record["draws"]["classifier"]["fid"])) == 3
    assert "Sources of spread" in (folder / "results" / "report" / "table.md").read_text()


@pytest.mark.slow
def test_the_table_and_the_report(two: tuple[Path, str]) -> None:
    folder, printed = two
    assert "training images" in printed
    assert printed.splitlines()[-1] == f"report: {folder / 'results' / 'report' / 'report.html'}"
    table = printed[printed.index("Scores: ") :].splitlines()
    assert max(map(len, table[:-1])) <= 200  # the width that the fixture names
    line = next(line for line in printed.splitlines() if line.startswith("vanilla  "))
    fids = [record["metrics"]["classifier"]["fid"] for record in records(folder / "results").values()]
    assert float(line.split()[1]) == pytest.approx(np.mean(fids), rel=0.01)
    assert "0/2" in line
    report = folder / "results" / "report"
    assert {"table.md", "table.csv", "curves-digits.png", "scores-digits.png", "report.html"} <= {
        p.name for p in report.iterdir()
    }


@pytest.mark.slow
def test_run_again_reuses_and_changes_nothing(two: tuple[Path, str]) -> None:
    folder, _ = two
    paths = list((folder / "results").glob("runs/*/seed-*/*"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    done = forked(folder, *TINY, *NARROW, "--seeds", "2")
    assert done.wait() == 0, done.err
    assert "2 reused, 0 to compute" in done.out
    assert {path: path.stat().st_mtime_ns for path in paths} == before


@pytest.mark.slow
def test_a_seed_is_the_same_whatever_runs_beside_it(two: tuple[Path, str], tmp_path: Path) -> None:
    """Alone, in this process, in other slices of work: the record of seed 1 is identical."""
    folder, _ = two
    done = forked(tmp_path, *TINY, *NARROW, "--seed-list", "1", "--workers", "0")
    assert done.wait() == 0, done.err
    assert numbers(records(tmp_path / "results")[1]) == numbers(records(folder / "results")[1])
    histories = [
        next(root.glob("results/runs/*/seed-1/history.csv")).read_bytes() for root in (folder, tmp_path)
    ]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_a_stack_of_seeds_has_the_records_of_its_seeds(two: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = two
    done = forked(tmp_path, *TINY, *NARROW, "--seeds", "2", "--stack", "2", "--workers", "0")
    assert done.wait() == 0, done.err
    stacked, solo = records(tmp_path / "results"), records(folder / "results")
    for seed in solo:
        assert stacked[seed]["cost"]["stack"] == 2
        assert stacked[seed]["id"] == solo[seed]["id"]
        assert stacked[seed]["metrics"]["classifier"]["fid"] == pytest.approx(
            solo[seed]["metrics"]["classifier"]["fid"], rel=0.02
        )


@pytest.mark.slow
def test_more_samples_than_the_split_has(two: tuple[Path, str], tmp_path: Path) -> None:
    """The scored ones first, then those of further draws."""
    words = (*TINY, *NARROW, "--seeds", "1", "--workers", "0", "--draws", "1", "--save-samples", "3700")
    done = forked(tmp_path, *words)
    assert done.wait() == 0, done.err
    arrays = []
    for folder in (two[0], tmp_path):
        with np.load(next(folder.glob("results/runs/*/seed-0/samples.npz"))) as file:
            arrays.append(file["arr_0"])
    assert [len(array) for array in arrays] == [30, 3700]
    assert (arrays[1][:30] == arrays[0]).all()
    assert not (arrays[1][3600:] == arrays[1][:100]).all()


def test_auto_beside_what_it_is(tmp_path: Path) -> None:
    context = RunContext(out=tmp_path, data_root=tmp_path, offline=True)
    with pytest.raises(UsageError, match="--dataset: 'auto' is 'digits', which is named already"):
        plan(Spec(["vanilla"], ["digits", "auto"], [0, 1]), context, log=lambda line: None)


@pytest.mark.slow
def test_fresh_takes_all_folders_or_none(two: tuple[Path, str], tmp_path: Path) -> None:
    """One of them is being computed: the others stay where they are."""
    folder = tmp_path / "results"
    shutil.copytree(two[0] / "results", folder)
    last = next(folder.glob("runs/*/seed-1"))
    with Leases() as leases:
        assert leases.take(last)
        before = sorted(folder.glob("runs/*/*"))
        with pytest.raises(UsageError, match=r"--fresh: .*seed-1 is being computed"):
            run.main([*TINY, *NARROW, "--seeds", "2", "--fresh", "--out", str(folder)])
        assert sorted(folder.glob("runs/*/*")) == before


@pytest.mark.slow
def test_precision_is_an_option_of_training_and_part_of_the_identity(
    two: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = two
    words = (*TINY, *NARROW, "--seed-list", "0", "--precision", "bf16", "--workers", "0")
    done = commands.run(tmp_path, *words)
    assert done.wait() == 0, done.err
    exact, rounded = records(folder / "results")[0], records(tmp_path / "results")[0]
    assert (exact["protocol"]["precision"], rounded["protocol"]["precision"]) == ("float32", "bf16")
    assert exact["id"] != rounded["id"]
    assert exact["floor"] == rounded["floor"]
    losses = [record["d_accuracy"]["train"]["real"] for record in (exact, rounded)]
    assert exact["metrics"] != rounded["metrics"]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
    assert "in bf16" in (tmp_path / "results" / "report" / "table.md").read_text()


@pytest.mark.slow
def test_several_threads_are_a_protocol_of_their_own_and_agree_within_rounding(
    two: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = two
    words = (*TINY, *NARROW, "--seed-list", "0", "--threads", "2", "--workers", "0", "--draws", "1")
    done = commands.run(tmp_path, *words)
    assert done.wait() == 0, done.err
    single, double = records(folder / "results")[0], records(tmp_path / "results")[0]
    assert ("threads" in single["protocol"], double["protocol"]["threads"]) == (False, 2)
    assert (single["environment"]["threads"], double["environment"]["threads"]) == (1, 2)
    fids = [record["evals"][0]["metrics"]["classifier"]["fid"] for record in (single, double)]
    assert fids[0] == pytest.approx(fids[1], rel=1e-3)


def test_idle_cores_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(where, "_cores", lambda: 16)

    def said(n_runs: int, *words: str) -> list[str]:
        args = run.parser().parse(["--models", "vanilla", "--device", "cpu", "--out", str(tmp_path), *words])
        context, slots = where.context_of(args)
        assert len(slots) == 16 // args.threads
        return where.idle_cores(args, context, n_runs)

    assert said(5)[0].startswith("16 cores for 5 runs: --threads 3 would use them")
    assert said(6) == said(0) == said(5, "--threads", "3") == []


@pytest.mark.slow
def test_a_critic_has_no_accuracy_in_training(tmp_path: Path) -> None:
    """It has no threshold: what is judged is held out, and is not shown as anything else."""
    words = ("--models", "wgan", "--dataset", "digits", "--steps", "2", "--seeds", "1", "--workers", "0")
    words += ("--eval-every", "2")
    assert forked(tmp_path, *words, "--device", "cpu", "--draws", "1").wait() == 0
    (record,) = records(tmp_path / "results").values()
    assert record["d_accuracy"]["threshold"] == "calibrated"
    assert record["d_accuracy"].keys() >= {"heldout", "near_half"}
    assert "train" not in record["d_accuracy"]


@pytest.mark.slow
def test_select_best_holds_out_validation(tmp_path: Path) -> None:
    done = forked(
        tmp_path, *TINY, *NARROW, "--seeds", "1", "--select", "best", "--workers", "0", "--draws", "1"
    )
    assert done.wait() == 0, done.err
    record = records(tmp_path / "results")[0]
    data = record["protocol"]["dataset"]
    assert (data["n_train"], data["n_val"], data["n_test"]) == (1077, 360, 360)
    assert {entry["scored_on"] for entry in record["evals"]} == {"val"}
    by_fid = {entry["metrics"]["classifier"]["fid"]: entry["step"] for entry in record["evals"]}
    assert record["best"]["step"] == by_fid[min(by_fid)]
    assert record["best"]["val"]["classifier"]["fid"] == min(by_fid)


@pytest.mark.slow
def test_a_config_file_is_the_flags_and_flags_win(two: tuple[Path, str]) -> None:
    folder, _ = two
    (folder / "two.toml").write_text(
        'models = ["vanilla"]\ndataset = "digits"\nsteps = 40\neval-every = 7\nseeds = 2\n'
        "[set.vanilla]\ng_widths = [16, 32]\nd_widths = [32, 16]\nbatch_size = 16\n"
    )
    done = forked(folder, "--config", "two.toml", "--eval-every", "20", "--dry-run")
    assert done.wait() == 0, done.err
    assert "2 runs: 0 to compute, 2 reused" in done.out


@pytest.mark.slow
def test_fresh_computes_again_and_keeps_the_old(tmp_path: Path) -> None:
    arguments = (*TINY, *NARROW, "--seeds", "1", "--workers", "0", "--draws", "1")
    assert forked(tmp_path, *arguments).wait() == 0
    first = records(tmp_path / "results")[0]
    done = forked(tmp_path, *arguments, "--fresh")
    assert done.wait() == 0, done.err
    again = records(tmp_path / "results")[0]
    assert numbers(again) == numbers(first)
    old = next((tmp_path / "results" / "runs").glob("*/old-seed-0-1/run.json"))
    assert json.loads(old.read_text()) == first


@pytest.mark.slow
def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    done = forked(tmp_path, *TINY, "--seeds", "2", "--dry-run")
    assert done.wait() == 0, done.err
    assert "2 runs: 2 to compute, 0 reused" in done.out
    assert not list(tmp_path.glob("results/*/*"))


@pytest.mark.slow
def test_list_and_help(tmp_path: Path) -> None:
    listed = forked(tmp_path, "--list").out
    assert "vanilla  [2014]" in listed
    assert "lr=0.0002 (1e-05…0.01, log)" in listed
    assert "fashion-mnist" in listed
    assert "--seed-list" in forked(tmp_path, "--help").out


@pytest.mark.slow
def test_auto_is_digits_without_a_network_and_says_so(tmp_path: Path) -> None:
    done = forked(tmp_path, "--models", "vanilla", "--seeds", "1", "--dry-run")
    assert done.wait() == 0, done.err
    assert "digits" in done.out.splitlines()[0]
    assert "MNIST" in done.out.splitlines()[0]


BAD = [
    (["--models", "vanila"], ["--models", "'vanila'", "did you mean 'vanilla'?"]),
    (["--models", "vanilla", "--sedes", "3"], ["'--sedes'", "did you mean '--seeds'?"]),
    (["--models", "vanilla", "--seeds", "0"], ["--seeds", "'0'", "between 1 and"]),
    (["--models", "vanilla", "--seeds", "two"], ["--seeds", "'two'", "whole number"]),
    (["--models", "vanilla", "--seeds", "1", "--seed-list", "1"], ["--seed-list", "--seeds"]),
    (["--models", "vanilla", "--dataset", "mnst"], ["--dataset", "'mnst'", "did you mean 'mnist'?"]),
    (["--models", "vanilla", "--dataset", "mnist", "--offline"], ["mnist", "missing"]),
    (["--models", "vanilla", "--dataset", "mnist"], ["mnist", "missing"]),
    (["--models", "vanilla", "--dataset", "folder:nowhere"], ["nowhere"]),
    (["--models", "vanilla", "--set", "vanilla.lrr=1"], ["vanilla.lrr", "did you mean 'lr'?"]),
    (["--models", "vanilla", "--set", "vanilla.lr=fast"], ["vanilla.lr", "'fast'", "a finite number"]),
    (["--models", "vanilla", "--set", "lr=1"], ["--set", "'lr=1'", "MODEL.PARAM=VALUE"]),
    (["--models", "vanilla", "--set", "vanila.lr=1"], ["'vanila'", "did you mean 'vanilla'?"]),
    ([*TINY, "--set", "vanilla.lr=0"], ["--set", "vanilla", "lr=0.0 must be above 0"]),
    ([*TINY, "--batch-size", "1"], ["--batch-size", "batch_size=1 must be at least 2"]),
    (["--models", "nsgan", "--set", "nsgan.net=convv"], ["nsgan.net='convv'", "did you mean 'conv'?"]),
    ([*TINY, "--workers", "0", "--run-timeout", "9"], ["--run-timeout", "--workers"]),
    ([*TINY, "--set", "vanilla.g_widths=0"], ["vanilla", "digits"]),
    (["--models", "vanilla", "--features", "inception"], ["--features", "'inception-v3-compat'?"]),
    (["--models", "vanilla", "--device", "gpu"], ["--device", "'gpu'", "cpu", "did you mean 'cuda'?"]),
    (["--models", "vanilla", "--dataset", "MNIST"], ["--dataset", "'MNIST'", "did you mean 'mnist'?"]),
    (["--models", "VANILLA"], ["--models", "'VANILLA'", "did you mean 'vanilla'?"]),
    (["--models", "vanilla", "--device", "cuda:99"], ["--device", "'cuda:99'"]),
    ([*TINY, "--precision", "fp16"], ["--precision", "'fp16'", "float32, tf32, bf16"]),
    ([*TINY, "--precision", "tf32", "--device", "cpu"], ["--precision", "'tf32'", "bf16"]),
    (["--models", "vanilla", "--models", "dcgan"], ["--models", "2 times"]),
    (["--models", "vanilla", "--seed-list", "3", "3"], ["--seed-list", "'3'", "twice"]),
    ([*TINY, "--batch-size", "8", "--set", "vanilla.batch_size=9"], ["--batch-size", "vanilla.batch_size"]),
    ([*TINY, "--steps", "9" * 20], ["--steps", "9" * 20]),
    ([*TINY, "--out", ""], ["--out", "''"]),
    ([*TINY, "--out", __file__], ["--out", "test_run.py", "not a folder"]),
    (["--models", "vanilla", "--select", "bets"], ["--select", "did you mean 'best'?"]),
    (["--models", "vanilla", "--d-acc-tolerance", "0.9"], ["--d-acc-tolerance", "0.5"]),
    (["--models", "vanilla", "vanilla"], ["--models", "twice"]),
    (["--models", "nopackage.gan:gan"], ["--models", "nopackage"]),
    (["--models", "baselines.gan:Normal"], ["baselines.gan:Normal", "card"]),
    (["--config", "nowhere.toml"], ["--config", "nowhere.toml"]),
    ([], ["--models"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda value: " ".join(value)[:50])
def test_a_wrong_request_is_one_line_and_code_2(
    arguments: list[str], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """In this process for speed; one of them also as a subprocess, below."""
    from bench.cli import run_main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.getaddrinfo", _refuse)
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: run.main(arguments))
    error = capfd.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    for part in said:
        assert part in error
    assert not (tmp_path / "results" / "runs").exists()


def _refuse(*args: object, **kwargs: object) -> None:
    raise OSError("the network is cut")


HEAD = """from typing import Annotated
from baselines.gan import DataSpec, Gan, Linear, card
from baselines.vanilla import vanilla

@card(paper="None", year=2026)
"""

MODEL_FILES = {
    "syntax": ("def mine(:", ["line 1", "SyntaxError"]),
    "raises": ("a = 1\nb = a / 0", ["line 2", "ZeroDivisionError"]),
    "exits": ("import sys\nsys.exit(3)", ["line 2", "SystemExit"]),
    "no_module": ("import nosuchpackage", ["nosuchpackage"]),
    "no_attribute": ("import math\nmath.nosuch", ["line 2", "AttributeError"]),
    "no_factory": ("a = 1", ["has no 'mine'"]),
    "positional": (HEAD + "def mine(data: DataSpec, a: int = 1) -> Gan: ...", ["a is not keyword-only"]),
    "no_default": (HEAD + "def mine(data: DataSpec, *, a: int) -> Gan: ...", ["a has no default"]),
    "no_annotation": (HEAD + "def mine(data: DataSpec, *, a=1) -> Gan: ...", ["a needs a type annotation"]),
    "dictionary": (HEAD + "def mine(data: DataSpec, *, a: dict = {}) -> Gan: ...", ["a: its default {}"]),
    "range": (
        HEAD + "def mine(data: DataSpec, *, a: Annotated[float, Linear(0, 1)] = 2.0) -> Gan: ...",
        ["a: its default is outside its range, a=2.0 (0…1)"],
    ),
    "no_gan": (HEAD + "def mine(data: DataSpec) -> Gan: ...", ["returns a NoneType, not a Gan"]),
}


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_model_file_that_cannot_be_used_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """For the runner and for conformance."""
    content, said = MODEL_FILES[name]
    (tmp_path / f"{name}_file.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError) as refused:
        run.main(["--models", f"{name}_file:mine", "--dataset", "digits", "--out", str(tmp_path / "out")])
    assert str(refused.value).startswith("--models: ")
    code = conformance.main([f"{name}_file:mine"])
    printed = capsys.readouterr()
    signature = ("positional", "no_default", "no_annotation", "dictionary", "range", "no_gan")
    assert code == (1 if name in signature else 2)
    for part in said:
        assert part in str(refused.value)
        assert part in printed.out + printed.err


@pytest.mark.slow
def test_a_wrong_request_as_a_subprocess(cut: dict[str, str], tmp_path: Path) -> None:
    done = bench(cut, tmp_path, "--models", "vanilla", "--dataset", "mnst")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_model_that_workers_refuse_leaves_nothing(cut: dict[str, str], tmp_path: Path) -> None:
    """The command itself does without PyTorch, and its workers try the models before anything is computed."""
    done = bench(
        cut, tmp_path, "--models", "nsgan", "vanilla", *TINY[2:], "--set", "vanilla.lr=0", "--workers", "1"
    )
    said = "error: --set: vanilla cannot be built on digits: lr=0.0 must be above 0\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sedes = 3", ["unknown key 'sedes'", "did you mean 'seeds'?"]),
        ("seeds = 0", ["--seeds", "'0'"]),
        ("seeds = ", ["three.toml"]),
        ("seeds = [1, 2, 3]", ["'2 3'", "more than a flag takes"]),
        ("fresh = 'false'", ["fresh = 'false'", "true or false"]),
        ("steps = false", ["steps = False", "a value"]),
        ("seeds = 2\nseed-list = [1]", ["--seed-list", "--seeds"]),
        ("models = 'vanila'", ["--models", "did you mean 'vanilla'?"]),
    ],
)
def test_a_wrong_config_file(content: str, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "three.toml"
    path.write_text(content)
    with pytest.raises(UsageError) as refused:
        run.main(["--config", str(path), "--out", str(tmp_path / "results")])
    for part in said:
        assert part in str(refused.value)


def followed(*arguments: str, protocol: str = "lucic2018") -> Spec:
    """The request under ``--protocol``."""
    return run._spec(run.parser().parse(["--protocol", protocol, *arguments]))


def test_a_published_protocol_fixes_what_the_paper_fixed() -> None:
    spec = followed("--models", "nsgan", "wgan", "--dataset", "mnist", "--set", "wgan.n_critic=1")
    fixed = {"net": "infogan", "prior": "uniform", "latent_dim": 64, "batch_size": 64, "beta2": 0.999}
    assert spec.hyperparameters == {"nsgan": fixed, "wgan": {**fixed, "optimizer": "adam", "n_critic": "1"}}
    assert spec.features == ["inception-v3-compat"]
    spec = followed("--models", "began", "vae", "--dataset", "mnist")
    without_prior = {name: value for name, value in fixed.items() if name != "prior"}
    assert spec.hyperparameters == {"began": {**fixed, "code_dim": 64}, "vae": without_prior}


def test_a_published_protocol_fixes_every_model_it_names_in_the_models_own_words() -> None:
    from bench.scoring.protocols import PROTOCOLS

    for protocol in PROTOCOLS.values():
        for model, dataset in product(protocol.models, protocol.updates):
            settings = protocol.settings(model, dataset)
            assert {name: resolve(model, settings)[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("dataset", "n_critic", "steps"),
    [("mnist", 1, 15_625), ("mnist", 5, 3_125), ("fashion-mnist", 2, 7_812), ("cifar10", 5, 15_625)],
)
def test_a_published_protocol_counts_discriminator_updates(dataset: str, n_critic: int, steps: int) -> None:
    """Their code makes one at every training step, and one of the generator at every n_critic-th."""
    request = ("--models", "wgan", "--dataset", dataset)
    spec = followed(*request, "--set", f"wgan.n_critic={n_critic}")
    assert iterations(spec.updates, {"n_critic": n_critic}) == steps


def test_each_model_of_a_plan_has_its_own_steps_unless_steps_says_otherwise(tmp_path: Path) -> None:
    request = {"models": ["nsgan", "wgan"], "datasets": ["digits"], "seeds": [0, 1]}
    context = RunContext(tmp_path / "results", tmp_path / "data", offline=True)
    jobs = plan(Spec(**request, updates=50), context)
    assert [(job.model, job.steps, job.eval_every) for job in jobs[::2]] == [
        ("nsgan", 50, 5),
        ("wgan", 10, 1),
    ]
    jobs = plan(Spec(**request, steps=30, updates=50), context)
    assert {job.steps for job in jobs} == {30}


def test_a_hyperparameter_with_several_values_makes_a_configuration_of_each(tmp_path: Path) -> None:
    words = "--models vanilla nsgan --dataset digits --seeds 1 --steps 5 --set nsgan.lr=1e-4 nsgan.lr=1e-3"
    more = "vanilla.latent_dim=3 nsgan.beta1=0 nsgan.beta1=0.5 nsgan.lr=1e-4"
    spec = run._spec(run.parser().parse([*words.split(), *more.split()]))
    jobs = plan(spec, RunContext(tmp_path / "results", offline=True))
    chosen = [(job.model, job.hyperparameters["lr"], job.hyperparameters["beta1"]) for job in jobs]
    assert chosen[0][0] == "vanilla"
    assert chosen[1:] == [("nsgan", lr, beta) for lr in (1e-4, 1e-3) for beta in (0.0, 0.5)]
    assert len({job.run_id for job in jobs}) == 5
    wrong = ["--models", "vanilla", "--dataset", "digits", "--set", "nsgan.lr=1", "nsgan.lr=2"]
    with pytest.raises(UsageError, match="--set: 'nsgan' is not among --models"):
        plan(run._spec(run.parser().parse(wrong)), RunContext())


@pytest.mark.parametrize(
    ("dataset", "steps", "net"),
    [("ring", 400_000, "plane"), ("grid", 400_000, "plane"), ("stacked-mnist", 500_000, "stacked_quarter")],
)
def test_pacgans_protocol_trains_every_packing_in_one_command(dataset: str, steps: int, net: str) -> None:
    packings = [f"pacgan.packing={m}" for m in (1, 2, 3, 4)]
    spec = followed("--models", "pacgan", "--dataset", dataset, "--set", *packings, protocol="pacgan2018")
    assert (spec.draws, spec.features, spec.updates) == (1, ["auto"], steps)
    configurations = _settings(spec, points=dataset in ("ring", "grid"))
    assert [values["packing"] for _, values in configurations] == [1, 2, 3, 4]
    for _, values in configurations:
        theirs = {"net": net, "prior": "normal", "n_critic": 1, "lr": 1e-4}
        assert values | theirs == values
        assert iterations(spec.updates, values) == steps


@pytest.mark.parametrize("text", ["256,512", "[256,512]", "[256, 512]", "(256, 512)"])
def test_a_list_may_stand_in_brackets(text: str) -> None:
    assert resolve("vanilla", {"g_widths": text})["g_widths"] == (256, 512)
    with pytest.raises(UsageError, match="numbers separated by commas, as in 256,512"):
        resolve("vanilla", {"g_widths": 256})


def test_a_batch_that_is_larger_than_the_data_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    context = RunContext(tmp_path / "results", tmp_path / "data", offline=True)
    for size in (1437, 1438):
        plan(Spec(["vanilla"], ["digits"], [0], steps=1, batch_size=size), context, said.append)
    (line,) = said
    assert line.startswith(
        "vanilla: a batch of 1,438 is larger than the training split of digits, 1,437 images"
    )


def test_the_line_of_a_failed_run_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reports.build.build", lambda *arguments, **options: None)
    context = RunContext(tmp_path / "results", tmp_path / "data", offline=True)
    jobs = plan(Spec(["vanilla"], ["digits"], [0, 1], steps=1), context)
    for job in jobs:
        job.folder(context.out).mkdir(parents=True)
        write_failure(job, context.out, "ValueError: no", 2)
    log(jobs[0].folder(context.out), "Traceback")
    assert run._close(jobs, context) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert (
        first == f"failed: vanilla digits seed 0: ValueError: no; see {jobs[0].folder(context.out)}/error.log"
    )
    assert second == "failed: vanilla digits seed 1: ValueError: no"


def test_a_published_protocol_refuses_what_the_models_refuse() -> None:
    for setting, said in (("wgan.n_critics=1", "did you mean 'n_critic'"), ("wgan.n_critic=x", "whole")):
        with pytest.raises(UsageError, match=said):
            plan(followed("--models", "wgan", "--dataset", "mnist", "--set", setting), RunContext())
    assert iterations(15_625, {"n_critic": 0}) == 15_625
    with pytest.raises(UsageError, match="--features: --protocol lucic2018 has inception-v3-compat"):
        followed("--models", "wgan", "--dataset", "mnist", "--features", "classifier")
    spec = followed("--models", "wgan", "--dataset", "mnist", "--set", "wgam.lr=1")
    assert "wgam" in spec.hyperparameters  # for the plan to refuse


@pytest.mark.parametrize(
    ("models", "dataset", "said"),
    [("vanilla", "mnist", "'vanilla' is not part of"), ("nsgan", "digits", "'digits' is not part of")],
)
def test_a_published_protocol_covers_what_the_paper_measured(models: str, dataset: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        followed("--models", models, "--dataset", dataset)
