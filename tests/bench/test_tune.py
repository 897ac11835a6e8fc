"""The search command: real processes, really killed and stopped; what it leaves; wrong requests."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import tomllib
from collections import Counter
from pathlib import Path

import commands
import pandas as pd
import pytest
from commands import Command, progress, quick_scores, wait_for
from small_searches import (
    LONG,
    QUICK,
    attempts,
    here,
    run_folders,
    start,
    study_folder,
    summary,
    trains,
    trial_runs,
)
from studies import shared_study, take

from bench import run, tune, where
from bench.data import datasets
from bench.errors import UsageError
from bench.search import request, study
from bench.search.progress import StudyProgress
from bench.search.trial import Group
from bench.store.leases import Leases

# ------------------------------------------------------------------ one study, several processes

FULL = ("--retrain-steps", "6")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Command]]:
    """Five trials of two seeds by two commands that were started at once, winner and default retrained."""
    folder = tmp_path_factory.mktemp("searched")
    words = (*QUICK, "--trials", "5", "--seeds", "2", "--retrain", "2", "--workers", "0", *FULL)
    both = [start(folder, *words, to=name, plots=name == "a") for name in ("a", "b")]
    for command in both:
        assert command.wait(seconds=600) == 0, command.err
    return folder, both


@pytest.mark.slow
def test_two_commands_at_once_run_exactly_the_trials_asked_for(searched: tuple[Path, list[Command]]) -> None:
    folder, both = searched
    assert attempts(folder) == {slot: ["complete"] for slot in range(5)}
    records = trial_runs(folder)
    assert len(records) == 5 * 2
    assert Counter(record["seed"] for record in records) == {1000: 5, 1001: 5}
    assert all(record["protocol"]["scored_on"] == "val" for record in records)
    for command in both:
        assert "vanilla spent 5 trials (5 complete), 40 iterations" in command.out


@pytest.mark.slow
def test_the_winner_and_the_default_are_compared_on_test_over_fresh_seeds(
    searched: tuple[Path, list[Command]],
) -> None:
    folder, both = searched
    records = commands.records(folder)
    assert len(records) == 4
    assert {(record["seed"], record["protocol"]["scored_on"]) for record in records} == {
        (0, "test"), (1, "test"),
    }  # fmt: skip
    assert all(record["protocol"]["dataset"]["n_val"] == 0 for record in records)
    assert {record["steps"] for record in records} == {6}
    best = summary(folder)["best"][0]["params"]
    means = {}
    for which, values in (("best", best), ("default", {"lr": 2e-4, "beta1": 0.5})):
        fids = [
            record["metrics"]["classifier"]["fid"]
            for record in records
            if all(record["hyperparameters"][name] == value for name, value in values.items())
        ]
        assert len(fids) == 2
        means[which] = sum(fids) / 2
        told = summary(folder)["test"]["scores"]["fid"][which]
        assert (sorted(told["values"]), told["mean"]) == (sorted(fids), pytest.approx(means[which]))
    for command in both:
        assert "on test, fresh seeds 0 to 1 of 6 steps, best against default configuration:" in command.out
        line = r"  fid: ([\d.]+) ± [\d.]+ against ([\d.]+) ± [\d.]+ \(lower is better\), permutation p = "
        (said,) = re.findall(line, command.out)
        assert [float(mean) for mean in said] == pytest.approx([means["best"], means["default"]], rel=0.05)


@pytest.mark.slow
def test_the_best_is_the_trial_with_the_least_mean_over_seeds(searched: tuple[Path, list[Command]]) -> None:
    folder, _ = searched
    means: dict[float, list[float]] = {}
    for record in trial_runs(folder):
        fid = record["metrics"]["classifier"]["fid"]
        means.setdefault(record["hyperparameters"]["lr"], []).append(fid)
    lr, fids = min(means.items(), key=lambda item: sum(item[1]))
    best = summary(folder)["best"][0]
    assert best["params"]["lr"] == lr
    assert best["values"]["fid"] == pytest.approx(sum(fids) / 2)
    frame = pd.read_csv(study_folder(folder) / "trials.csv")
    assert frame["trial"].tolist() == [0, 1, 2, 3, 4]
    assert set(frame["state"]) == {"complete"}
    assert frame["lr"].iloc[int(frame["fid"].argmin())] == lr


@pytest.mark.slow
def test_artefacts(searched: tuple[Path, list[Command]]) -> None:
    folder, _ = searched
    left = {path.name for path in study_folder(folder).iterdir()}
    assert left == {
        *(
            "journal.log",
            "leases",
            "runs",
            "trials.csv",
            "best.toml",
            "default.toml",
            "summary.json",
            "summary.md",
        ),
        *("expected.csv", "expected.png", "history.png", "importances.png", "parallel.png", "slice.png"),
        "edf.png",
    }
    found = summary(folder)
    assert found["request"]["sampler"] == "random"
    assert found["request"]["seeds"] == [1000, 1001]
    assert found["request"]["space"]["lr"] == {"low": 1e-5, "high": 1e-2, "log": True, "whole": False}
    assert found["spent"]["iterations"] == 5 * 2 * 4
    assert found["versions"]["optuna"]
    assert found["storage"].endswith("journal.log")
    text = (study_folder(folder) / "summary.md").read_text()
    for part in (
        f"# Search {found['study']}",
        "| searched | latent_dim 16…256, log; lr 1e-05…0.01, log; beta1 0…0.9; beta2 0.9…0.999 |",
        "| fixed | g_widths (16,); d_widths (16,); batch_size 32 |",
        "| sampler | random, seed 0; pruner none |",
        "| budget | 5 trials × 2 seeds × 4 steps, scored every 4 on validation |",
        found["request"]["protocol"]["dataset"]["sha256"],
        found["storage"],
        "best on validation: trial ",
        "  fid: ",
    ):
        assert part in text


@pytest.mark.slow
def test_the_best_configuration_is_what_the_main_command_takes_as_it_is(
    searched: tuple[Path, list[Command]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = searched
    path = study_folder(folder) / "best.toml"
    assert (
        tomllib.loads(path.read_text())["set"]["vanilla"]["lr"] == summary(folder)["best"][0]["params"]["lr"]
    )
    for file in (path, path.with_name("default.toml")):
        assert not re.search(r"[\"' :]/", file.read_text())  # no absolute path: it may be published
    monkeypatch.chdir(folder)
    quick_scores(monkeypatch)  # as in the searches
    assert run.main(["--config", str(path), "--dry-run"]) == 0
    assert "2 runs: 0 to compute, 2 reused" in capsys.readouterr().out


@pytest.mark.slow
def test_a_finished_study_is_not_searched_again_and_a_larger_total_goes_on(
    searched: tuple[Path, list[Command]],
) -> None:
    folder, _ = searched
    words = (*QUICK, "--seeds", "2", "--retrain", "2", "--workers", "0", *FULL)
    before = {record["id"] for record in trial_runs(folder)}
    again = start(folder, *words, "--trials", "5", to="again")
    assert again.wait() == 0, again.err
    assert "; 5 done" in again.out
    assert "2 runs, 2 reused, 0 to compute" in again.out
    assert {record["id"] for record in trial_runs(folder)} == before
    more = start(folder, *words, "--trials", "6", "--retrain", "0", to="more")
    assert more.wait() == 0, more.err
    assert attempts(folder) == {slot: ["complete"] for slot in range(6)}


# ------------------------------------------------------------------ killed and stopped


@pytest.mark.slow
def test_killed_in_a_trial_another_command_takes_it_over_at_once(fast_path: Path) -> None:
    """The other one waits for it; the worker of the killed process ends with it."""
    words = (*LONG, "--trials", "1", "--checkpoint-every", "0")
    victim = start(fast_path, *words, "--workers", "1", to="victim")
    wait_for(lambda: trains(fast_path))
    other = start(fast_path, *words, "--workers", "0", "--deadline", "600", to="other")
    wait_for(lambda: "; 0 done" in other.out)
    victim.kill(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert other.wait(seconds=60) == 0, other.err
    assert attempts(fast_path) == {0: ["lost", "complete"]}
    assert re.search(rf"trial 0: attempt lost \(process {victim.pid} on \S+ is gone\)", other.out)
    assert [record["attempts"] for record in trial_runs(fast_path)] == [2]
    assert summary(fast_path)["attempts lost"] == 1
    assert pd.read_csv(study_folder(fast_path) / "trials.csv")["attempts"].tolist() == [2]


@pytest.mark.slow
def test_a_trial_of_a_host_that_is_gone_is_taken_over_after_the_deadline(
    fast_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    words = (*QUICK, "--trials", "1", "--study", "mine", "--deadline", "1")
    with monkeypatch.context() as patch:
        patch.setattr(Group, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            here(fast_path, *words)
    assert attempts(fast_path) == {0: ["RUNNING"]}
    lease = study_folder(fast_path) / "leases" / "slot-0" / "lease-1"
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    begun = time.monotonic()
    assert here(fast_path, *words) == 0
    assert time.monotonic() - begun > 1
    assert attempts(fast_path) == {0: ["lost", "complete"]}
    assert "trial 0: attempt lost (process " in capsys.readouterr().out


@pytest.mark.slow
def test_a_suspended_command_that_wakes_up_harms_nothing(fast_path: Path) -> None:
    words = (*LONG, "--trials", "1", "--workers", "0", "--deadline", "1")
    first = start(fast_path, *words, to="first")
    wait_for(lambda: trains(fast_path))
    first.kill(signal.SIGSTOP)
    second = start(fast_path, *words, to="second")
    assert second.wait() == 0, second.err
    assert attempts(fast_path) == {0: ["lost", "complete"]}
    (record,) = trial_runs(fast_path)
    first.kill(signal.SIGCONT)
    assert first.wait() == 0, first.err
    assert attempts(fast_path) == {0: ["lost", "complete"]}
    assert [found["metrics"] for found in trial_runs(fast_path)] == [record["metrics"]]


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_attempt(fast_path: Path) -> None:
    command = start(fast_path, *LONG, "--trials", "2", "--workers", "1", "--checkpoint-every", "0")
    wait_for(lambda: trains(fast_path))
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc/…/children")
    workers = [int(pid) for pid in children.read_text().split()]
    spawned = [pid for pid in workers if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(spawned[0], signal.SIGKILL)
    assert command.wait() == 0, command.err
    assert attempts(fast_path) == {0: ["lost", "complete"], 1: ["complete"]}
    assert "trial 0: attempt lost (worker killed by SIGKILL)" in command.out
    assert {record["attempts"] for record in trial_runs(fast_path)} == {1, 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, "1"), (signal.SIGTERM, "0")],
    ids=["SIGINT", "SIGTERM"],
)
def test_stopped_it_says_how_to_go_on_and_goes_on(
    fast_path: Path, number: int, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = fast_path / "awake"
    monkeypatch.setenv("FAULTS_MARKER", str(awake))  # until then each step sleeps: twelve seconds a trial
    words = (*LONG, "--steps", "120", "--eval-every", "120")
    words += ("--trials", "2", "--workers", workers, "--retries", "0")
    command = start(fast_path, *words, to="first")
    wait_for(lambda: trains(fast_path) and any(map(progress, run_folders(fast_path))))
    command.kill(number)
    assert command.wait() == 128 + number
    assert command.err == "interrupted: 2 trials are left; the same command goes on\n"
    assert attempts(fast_path) == {0: ["stopped"]}
    (checkpoint,) = fast_path.glob("results/studies/*/runs/*/seed-*/checkpoint.pt")
    awake.touch()
    again = start(fast_path, *words, "--workers", "0", to="second")
    assert again.wait() == 0, again.err
    assert attempts(fast_path) == {0: ["stopped", "complete"], 1: ["complete"]}
    assert not checkpoint.exists()
    assert len(trial_runs(fast_path)) == 2


@pytest.mark.slow
def test_half_a_line_in_its_journal_stops_no_search(fast_path: Path) -> None:
    """Left by another command that was killed while it wrote."""
    words = (*LONG, "--trials", "2", "--workers", "0")
    command = start(fast_path, *words, to="first")
    wait_for(lambda: trains(fast_path))
    with (study_folder(fast_path) / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":8,"worker')
    assert command.wait() == 0, command.err
    assert attempts(fast_path) == {0: ["complete"], 1: ["complete"]}
    again = start(fast_path, *words, to="second")
    assert again.wait() == 0, again.err
    assert "; 2 done" in again.out


# ------------------------------------------------------------------ other searches


@pytest.mark.slow
def test_several_models_have_a_study_each_and_equal_budgets(
    fast_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = fast_path / "space.toml"
    space.write_text("lr = {low = 1e-4, high = 1e-3}\nbatch_size = {values = [16, 32]}\n")
    fixed = [f"{m}.{p}" for m in ("vanilla", "lsgan") for p in ("beta1=0.5", "beta2=0.9", "latent_dim=8")]
    fixed += ["lsgan.net=mlp", "lsgan.prior=normal", "lsgan.disc_norm=own", "lsgan.n_critic=1"]
    words = ["--models", "vanilla", "lsgan", "--set", *fixed, "--space", str(space), "--sampler", "qmc"]
    words += ["--dataset", "digits", "--offline", "--device", "cpu", "--seeds", "1", "--retrain", "0"]
    assert here(fast_path, *words, "--steps", "2", "--eval-every", "2", "--trials", "2") == 0
    out = capsys.readouterr().out
    for model in ("vanilla", "lsgan"):
        assert f"{model} spent 2 trials (2 complete), 4 iterations" in out
    folders = sorted((fast_path / "results" / "studies").iterdir())
    assert [folder.name.split("-")[0] for folder in folders] == ["lsgan", "vanilla"]
    lrs = [pd.read_csv(folder / "trials.csv")["lr"].tolist() for folder in folders]
    assert lrs[0] == lrs[1]
    assert all(1e-4 <= lr <= 1e-3 for lr in lrs[0])


@pytest.mark.slow
def test_several_objectives_give_a_front(fast_path: Path) -> None:
    url = f"sqlite:///{fast_path / 'study.db'}"
    words = [word for word in QUICK if word not in ("--pruner", "none")]
    assert here(fast_path, *words, "--trials", "3", "--storage", url, "--objective", "fid", "recall") == 0
    folder = study_folder(fast_path)
    trials, front = pd.read_csv(folder / "trials.csv"), pd.read_csv(folder / "pareto.csv")
    for point in front.itertuples():
        assert not ((trials["fid"] < point.fid) & (trials["recall"] > point.recall)).any()
    assert trials["fid"].min() == front["fid"].min() == summary(fast_path)["best"][0]["values"]["fid"]
    assert (folder / "pareto.png").exists()
    assert not (folder / "journal.log").exists()
    assert summary(fast_path)["storage"] == url


@pytest.mark.slow
def test_a_grid_ends_where_all_of_it_was_run(fast_path: Path) -> None:
    space = fast_path / "space.toml"
    space.write_text("lr = {values = [1e-4, 1e-3]}\nlatent_dim = {values = [4, 8]}\n")
    words = ["--set", "vanilla.beta1=0.5", "vanilla.beta2=0.9", "--sampler", "grid", "--space", str(space)]
    assert here(fast_path, *QUICK, *words, "--trials", "50") == 0
    frame = pd.read_csv(study_folder(fast_path) / "trials.csv")
    assert sorted(zip(frame["lr"], frame["latent_dim"], strict=True)) == [
        (1e-4, 4), (1e-4, 8), (1e-3, 4), (1e-3, 8),
    ]  # fmt: skip


FAULTY = (
    *("--model", "faults:faulty", "--dataset", "digits", "--offline", "--device", "cpu", "--steps", "8"),
    *("--eval-every", "8"),
    *("--sampler", "grid", "--retrain", "0", "--seeds", "1"),
)


@pytest.mark.slow
def test_failures_are_counted_and_named(fast_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = fast_path / "space.toml"
    space.write_text('fault = {values = ["none", "raises", "nan"]}\n')
    words = (*FAULTY, "--space", str(space), "--set", "faults:faulty.at=3", "faults:faulty.batch_size=16")
    assert here(fast_path, *words) == 0
    out = capsys.readouterr().out
    assert "failed (ValueError: a fault, made on purpose)" in out
    assert "diverged (seed 1000: a loss is not finite at step 3)" in out
    assert summary(fast_path)["trials"] == {"complete": 1, "failed": 1, "diverged": 1}
    assert summary(fast_path)["best"][0]["params"]["fault"] == "none"


@pytest.mark.slow
def test_trials_train_together_and_one_that_fails_costs_no_other(
    fast_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = fast_path / "space.toml"
    space.write_text('at = {values = [3, 5]}\nfault = {values = ["none", "raises"]}\n')
    words = (*FAULTY, "--space", str(space), "--set", "faults:faulty.batch_size=16")
    assert here(fast_path, *words, "--stack", "4") == 0
    assert summary(fast_path)["trials"] == {"complete": 2, "failed": 2}
    assert "failed (ValueError: a fault, made on purpose)" in capsys.readouterr().out


@pytest.mark.slow
def test_trials_that_train_together_are_one_stack(fast_path: Path) -> None:
    assert here(fast_path, *QUICK, "--trials", "3", "--stack", "3", "--space", str(numbers(fast_path))) == 0
    records = trial_runs(fast_path)
    assert [record["cost"]["stack"] for record in records] == [3] * 3
    frame = pd.read_csv(study_folder(fast_path) / "trials.csv")
    assert frame["lr"].nunique() == 3
    assert frame["fid"].nunique() == 3


def numbers(folder: Path) -> Path:
    """A space of the optimizer's numbers alone."""
    space = folder / "space.toml"
    space.write_text("latent_dim = {values = [8]}\n")
    return space


def test_nothing_found_is_said(fast_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = fast_path / "space.toml"
    space.write_text('fault = {values = ["raises"]}\n')
    words = (*FAULTY, "--space", str(space), "--set", "faults:faulty.at=3", "faults:faulty.batch_size=16")
    assert here(fast_path, *words) == 1
    assert "no trial was completed: ValueError: a fault, made on purpose" in capsys.readouterr().out
    assert (study_folder(fast_path) / "summary.json").exists()


@pytest.mark.slow
def test_a_storage_that_fails_on_the_way_is_one_line(fast_path: Path) -> None:
    command = start(fast_path, *LONG, "--trials", "3", "--workers", "1")
    wait_for(lambda: trains(fast_path))
    (study_folder(fast_path) / "journal.log").unlink()
    assert command.wait() == 1
    assert command.err.count("\n") == 1
    said = "journal.log cannot be used: No such file or directory; the same command goes on"
    assert said in command.err


def test_progress_asks_the_study_once_a_second_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tick`` comes twenty times a second, and a database is slow."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shared = shared_study(tmp_path, total=2)
    looks: list[float] = []
    slots = study.SharedStudy.slots
    monkeypatch.setattr(study.SharedStudy, "slots", lambda self: looks.append(now[0]) or slots(self))
    with Leases() as leases, StudyProgress(shared, "fid") as progress:
        looks.clear()
        for now[0] in (0.1, 0.2, 1.1, 1.2, 2.3):
            progress.tick()
        assert looks == [1.1, 2.3]
        claim = take(shared, leases)
        shared.end(claim.number, study.Result("lost", reason="killed"))
        progress.tick()
        assert not capsys.readouterr().out
    assert capsys.readouterr().out.strip() == "trial 0: attempt lost (killed)"


# ------------------------------------------------------------------ requests

DIGITS = ("--model", "vanilla", "--dataset", "digits")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "vanilla", "--objective", "psnr"], "--objective: vanilla has no 'psnr'"),
        (["--model", "vanilla", "--objective", "cond_accuracy"], "has no 'cond_accuracy'.*needs label"),
        (["--model", "srgan", "--objective", "class_fid"], "--objective: srgan has no 'class_fid'"),
        (["--model", "vanilla", "--study", ""], "--study: '' is not allowed"),
        (["--model", "vanila"], "'vanila' is not a model.*did you mean 'vanilla'"),
        (["--model", "vanilla", "vanilla"], "--models: 'vanilla' is named twice"),
        ([], "--model: name at least one"),
        (["--model", "vanilla", "--set", "vanilla.lt=1"], "vanilla.lt is not a hyperparameter; vanilla has"),
        (["--model", "vanilla", "--set", "dcgan.lr=1"], "'dcgan' is not among"),
        (
            ["--model", "vanilla", "--objective", "fidd"],
            "objective.*'fidd'.*did you mean 'fid'",
        ),
        (["--model", "vanilla", "--objective", "fid", "fid"], "--objective: 'fid' is named twice"),
        (["--model", "vanilla", "--sampler", "tpee"], "sampler.*'tpee' is not allowed.*did you mean 'tpe'"),
        (["--model", "vanilla", "--pruner", "mdian"], "pruner.*'mdian'.*did you mean 'median'"),
        (["--model", "vanilla", "--trials", "0"], "trials.*'0' is not allowed"),
        (["--model", "vanilla", "--seeds", "x"], "seeds.*'x' is not allowed"),
        (["--model", "vanilla", "--retrain", "1001"], "retrain.*'1001' is not allowed; .*between 0 and 1000"),
        (["--model", "vanilla", "--trails", "3"], "'--trails' is not a flag.*did you mean '--trials'"),
        (["--model", "vanilla", "--objective", "fid", "recall", "--sampler", "cmaes"], "--sampler: 'cmaes'"),
        (["--model", "vanilla", "--objective", "fid", "recall", "--pruner", "median"], "--pruner: 'median'"),
        (["--models", "vanilla", "dcgan", "--study", "mine"], "--study: names one model's study"),
        (["--model", "vanilla", "--dataset", "digit"], "'digit' is not a data set.*did you mean 'digits'"),
        (["--model", "vanilla", "--space", "nowhere.toml"], "--space nowhere.toml: "),
        (
            ["--model", "vanilla", "--dataset", "digits", "--storage", "sqlite:////no/where.db"],
            "unable to open",
        ),
        (
            ["--model", "vanilla", "--dataset", "digits", "--storage", "study.db"],
            "--storage 'study.db' cannot",
        ),
    ],
)
def test_a_wrong_request_is_one_clear_line(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        here(tmp_path, *words, "--device", "cpu", "--offline")
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "batch_size = {low = -5, high = 0, log = false}",
            "--space: vanilla cannot be built on digits: batch_size=-5",
        ),
        ("lrr = {low = 1e-4, high = 1e-3}", "'lrr' is not a hyperparameter; .*did you mean 'lr'"),
        ("lr = {low = 1e-3, high = 1e-4}", "low = 0.001 is not below high = 0.0001"),
    ],
)
def test_a_wrong_space_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        here(tmp_path, "--model", "vanilla", "--space", str(path), "--offline", "--device", "cpu")


@pytest.mark.slow
def test_another_request_under_the_same_name_is_refused(fast_path: Path) -> None:
    words = (*QUICK, "--study", "mine", "--trials", "1")
    assert here(fast_path, *words) == 0
    with pytest.raises(UsageError, match="--study: 'mine' was begun with sampler = random, not tpe"):
        here(fast_path, *words, "--sampler", "tpe")


def test_a_dry_run_says_what_would_be_searched_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data set is decoded once: for MNIST that takes a second."""
    decoded: list[str] = []
    read = datasets._read
    monkeypatch.setattr(datasets, "_read", lambda name, *rest: decoded.append(name) or read(name, *rest))
    assert here(tmp_path, *QUICK, "--trials", "7", "--dry-run") == 0
    assert decoded == ["digits"]
    out = capsys.readouterr().out
    assert "7 trials × 1 seeds × 4 steps of vanilla on digits" in out
    assert "  lr: 1e-05…0.01, log\n" in out
    assert "g_widths" not in out
    assert not (tmp_path / "results" / "studies").exists()


@pytest.mark.slow
def test_edited_code_begins_another_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of two versions of a model do not mix; a study that is named is refused."""
    from bench.identity import fingerprint

    words = ["--model", "vanilla", "--dataset", "digits", "--offline", "--device", "cpu"]
    args = tune.parser().parse([*words, "--out", str(tmp_path)])
    context, _ = where.context_of(args)

    def names() -> list[str]:
        return [search.study for search in request.searches(args, context)]

    before = names()
    assert names() == before
    code_of = fingerprint.code_of
    edited = {"model": {"baselines/vanilla.py": "0" * 16}}
    monkeypatch.setattr(fingerprint, "code_of", lambda model: code_of(model) | edited)
    assert names() != before
