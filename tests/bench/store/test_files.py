"""Files that are whole, names that stay inside, damage that is seen: never trusted, never a wrong number."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import pytest
import torch
from commands import compute, numbers, quick_scores, resumptions, run_here
from hypothesis import given, settings
from hypothesis import strategies as st

import reports
from bench.execution import checkpoints
from bench.plan import RunContext, Spec, plan
from bench.scoring import metrics
from bench.store import files, records
from bench.store.jobs import Job, run_folder
from reports import build

CPU = torch.device("cpu")


# ------------------------------------------------------------------ whole files


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    files.write_atomic(path, lambda temporary: temporary.write_text("old"))

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        assert path.read_text() == "old"
        temporary.write_text("new")

    files.write_atomic(path, write)
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("x"), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    expected = files.UnwritableError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught:
        files.write_atomic(path, write)
    if isinstance(caught.value, files.UnwritableError):
        assert (caught.value.filename, caught.value.strerror) == (str(path), "No space left on device")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("flushed"), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("renamed"), replace(self, to)))
    files.write_json(tmp_path / "a.json", {})
    assert done == ["flushed", "renamed"]
    files.write_json(tmp_path / "progress.json", {}, durable=False)
    assert done[2:] == ["renamed"]


def test_set_aside_never_overwrites(tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "x").write_text(text)
        files.set_aside(tmp_path / "x")
    assert (tmp_path / "x.damaged-0").read_text() == "first"
    assert (tmp_path / "x.damaged-1").read_text() == "second"


# ------------------------------------------------------------------ names


NASTY = st.one_of(
    st.text(max_size=300),
    st.sampled_from(
        [
            "..",
            "../../x:y",
            "/etc/passwd",
            "a/../../b",
            "~",
            "C:\\\\x",
            "\0",
            ".",
            "",
            "-rf",
            "CON",
            "a" * 999,
        ]
    ),
)


@pytest.mark.slow
@settings(max_examples=1000, derandomize=True, deadline=None)
@given(NASTY, NASTY, st.integers(0, 10**30))
def test_no_name_escapes_the_results_folder(model: str, dataset: str, seed: int) -> None:
    out = Path("/results")
    folder = run_folder(out, model, dataset, "0123456789ab", seed)
    assert Path(os.path.normpath(folder)) == folder
    assert folder.relative_to(out).parts[0] == "runs"
    assert len(folder.relative_to(out).parts) == 3
    assert all(len(part.encode()) < 256 and not part.startswith((".", "-")) for part in folder.parts[1:])
    assert str(folder).isascii()
    assert str(folder).isprintable()


@pytest.mark.slow
def test_no_name_in_a_record_leads_out_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, root = "../../../x", tmp_path / "a" / "b" / "c"
    monkeypatch.setitem(fake_runs.FLOOR_FID, "x/y", 2.0)
    fake_runs.run(root, model=name, dataset=name, extractors=["classifier", "x/y"], n_evals=2)
    before = set(tmp_path.rglob("*"))
    build.build([root], root / "report", ("markdown", "csv", "latex", "html"))
    written = set(tmp_path.rglob("*")) - before - {root / "report"}
    assert len(written) > 5
    assert {path.parent for path in written} == {root / "report"}


def test_names_that_look_alike_on_disk_are_different_runs(tmp_path: Path) -> None:
    jobs = [
        Job(model, {}, "digits", 0, 1, 1, {"dataset": {"n_val": 0}}, {})
        for model in ("a:b", "a-b", "a/b", "a b")
    ]
    assert len({each.folder(tmp_path) for each in jobs}) == 4


def test_a_failure_is_counted_among_the_runs_of_its_task(tmp_path: Path) -> None:
    protocol = {"dataset": {"n_val": 0}}
    for model, task in (("vanilla", "generation"), ("srgan", "super-resolution")):
        it = Job(model, {}, "digits", 0, 1, 1, protocol, {})
        records.write_failure(it, tmp_path, "x", 1)
        assert (records.read_record(it.folder(tmp_path)) or {})["task"] == task


# ------------------------------------------------------------------ damaged records


def flips(data: bytes, n: int, seed: int = 0) -> list[bytes]:
    """n copies with one bit flipped, or cut off, or with a part overwritten by zeros."""
    draw = random.Random(seed)
    found = []
    for k in range(n):
        copy, at = bytearray(data), draw.randrange(len(data))
        if k % 10 == 8:
            copy = copy[:at]
        elif k % 10 == 9:
            copy[at : at + 512] = bytes(len(copy[at : at + 512]))
        else:
            copy[at] ^= 1 << draw.randrange(8)
        if copy != data:
            found.append(bytes(copy))
    return found


def test_no_damaged_record_is_trusted(tmp_path: Path) -> None:
    """1,000 damaged copies: each is refused by name, or says the same (a blank that became another)."""
    folder = fake_runs.run(tmp_path)
    path = folder / "run.json"
    data, intact = path.read_bytes(), records.read_record(folder)
    refused = []
    for copy in flips(data, 1000):
        path.write_bytes(copy)
        try:
            assert records.read_record(folder) == intact
        except (records.DamagedRecordError, files.UnreadableError) as error:  # the latter: schema 9, say
            refused.append(str(error))
    assert len(refused) > 950
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in refused)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", "nan", "[" * 10**5, "9" * 10**4, '"\\ud800"', '{"schema": 1}'),
        *('{"schema": 0}', '{"schema": true}', '{"schema": "1"}', '{"schema": [1]}', '{"schema": 1e400}'),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(records.DamagedRecordError):
        records.read_record(tmp_path)


def test_an_edited_record_is_refused(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path)
    text = (folder / "run.json").read_text()
    edited = json.loads(text)
    edited["metrics"]["classifier"]["fid"] /= 2
    (folder / "run.json").write_text(json.dumps(edited))
    with pytest.raises(records.DamagedRecordError, match="damaged or edited"):
        records.read_record(folder)
    frame = reports.load(tmp_path)
    assert len(frame) == 0
    assert frame.attrs["skipped"] == [
        f"{folder / 'run.json'}: its checksum does not match: damaged or edited"
    ]


# ------------------------------------------------------------------ damaged run folders


Run = tuple[Job, RunContext, dict[str, Any], dict[str, bytes]]


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    """Scores are the slow part."""
    with pytest.MonkeyPatch.context() as patch:
        quick_scores(patch)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A job, where it ran whole, its numbers, and the files that it had left when it was stopped midway."""
    context = RunContext(tmp_path_factory.mktemp("whole"), offline=True, checkpoint_every=0)
    (it,) = plan(Spec(["faults:faulty"], ["digits"], [0], steps=150, eval_every=50, draws=1), context)
    compute([it], context)
    other = dataclasses.replace(context, out=tmp_path_factory.mktemp("stopped"), cache_root=context.out)
    folder = it.folder(other.out)
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += (folder / "samples-000050.png").exists()
        return looks >= 4

    compute([it], other, stop=stop)
    midway = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"checkpoint.pt", "checkpoint-before.pt"} <= midway.keys()
    return it, context, numbers(it.folder(context.out)), midway


def stopped(run: Run, fast_path: Path) -> tuple[Job, RunContext, Path]:
    """The run, stopped midway, in a folder of its own."""
    it, context, _, midway = run
    here = RunContext(fast_path, offline=True, checkpoint_every=0, cache_root=context.out)
    folder = it.folder(fast_path)
    folder.mkdir(parents=True)
    for name, data in midway.items():
        (folder / name).write_bytes(data)
    return it, here, folder


@pytest.mark.slow
def test_no_damaged_checkpoint_is_trusted(run: Run, fast_path: Path) -> None:
    """2,000 damaged copies: each is refused, or holds exactly what was written."""
    _, _, folder = stopped(run, fast_path)
    path = folder / "checkpoint.pt"
    data, intact = path.read_bytes(), checkpoints.load_checkpoint(path, CPU)
    refused = 0
    for copy in flips(data, 2000):
        path.write_bytes(copy)
        try:
            loaded = checkpoints.load_checkpoint(path, CPU)
        except Exception:  # whatever the reader raises, its caller sets the file aside
            refused += 1
        else:
            assert same(loaded, intact)
    assert refused > 1500


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[k], other[k]) for k in one)
        )
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    """That of another seed."""
    state = checkpoints.load_checkpoint(path, CPU)
    notes = json.loads(state["notes"])
    notes["run"][1] += 1
    checkpoints.save(path, state | {"notes": json.dumps(notes)})


class Malicious:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(TRAP),)


TRAP = Path(os.environ.get("TMPDIR", "/tmp")) / f"trap-{os.getpid()}"


def malicious(path: Path) -> None:
    state = checkpoints.load_checkpoint(path, CPU)
    torch.save(state | {"position": Malicious()}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "newest_only"),
    [(damage, True) for damage in (cut, flip, empty, foreign, malicious, bare_pickle)]
    + [(damage, False) for damage in (cut, malicious)],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_run_is_exact_all_the_same(
    run: Run,
    fast_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    newest_only: bool,
) -> None:
    """It goes on from the checkpoint before, or begins anew; nothing in the file is executed."""
    it, context, folder = stopped(run, fast_path)
    resumed = resumptions(monkeypatch)
    names = ["checkpoint.pt"] if newest_only else ["checkpoint.pt", "checkpoint-before.pt"]
    for name in names:
        damage(folder / name)
    run_here([it], context, retries=0)
    said = capfd.readouterr().err.splitlines()
    assert not TRAP.exists()
    assert len(said) == len(names)
    for name, line in zip(names, said, strict=True):
        assert line.startswith(f"{folder / name} is damaged (")
        assert line.endswith(f"kept as {name}.damaged-0")
        assert (folder / f"{name}.damaged-0").exists()
    assert numbers(folder) == run[2]
    assert len(resumed) == 1
    assert (resumed[0] > 0) == newest_only


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was_stopped(
    run: Run, fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, context, folder = stopped(run, fast_path)
    at = checkpoints.load_checkpoint(folder / "checkpoint.pt", CPU)["step"]
    resumed = resumptions(monkeypatch)
    run_here([it], context, retries=0)
    assert resumed == [at]
    assert 50 < at < it.steps
    assert numbers(folder) == run[2]


def test_the_trap_would_have_sprung(tmp_path: Path) -> None:
    torch.save({"position": Malicious()}, tmp_path / "x")
    torch.load(tmp_path / "x", weights_only=False)
    assert TRAP.exists()
    TRAP.rmdir()


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_set_aside_for_the_next_attempt(run: Run, fast_path: Path) -> None:
    """Intact, this run's, but of another shape: one attempt fails, the next one begins anew."""
    it, context, folder = stopped(run, fast_path)
    for name in ("checkpoint.pt", "checkpoint-before.pt"):
        state = checkpoints.load_checkpoint(folder / name, CPU)
        state["weights"]["gen"]["0.weight"] = torch.zeros(3, 3)
        checkpoints.save(folder / name, state)
    run_here([it], context, retries=1)
    found = numbers(folder)
    assert found["record"].pop("attempts") == 2
    assert found == run[2] | {"record": {k: v for k, v in run[2]["record"].items() if k != "attempts"}}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip, empty])
@pytest.mark.parametrize("name", ["run.json", "history.csv"])
def test_a_damaged_record_or_history_is_set_aside_and_computed_again(
    run: Run, fast_path: Path, capfd: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    it, context, expected, _ = run
    folder = it.folder(fast_path)
    shutil.copytree(it.folder(context.out), folder)
    damage(folder / name)
    frame = reports.load(fast_path)
    assert len(frame) == 0, "no report trusts it"
    assert str(folder / "run.json") in frame.attrs["skipped"][0]
    here = RunContext(fast_path, offline=True, checkpoint_every=0, cache_root=context.out)
    run_here([it], here, retries=0)
    assert "kept as run.json.damaged-0" in capfd.readouterr().err
    assert numbers(folder) == expected


def test_a_record_without_its_history_still_counts(run: Run, fast_path: Path) -> None:
    it, context, _, _ = run
    folder = it.folder(fast_path)
    shutil.copytree(it.folder(context.out), folder)
    (folder / "history.csv").unlink()
    assert records.read_record(folder) == records.read_record(it.folder(context.out))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["samples.png", "samples-000150.png", "history.csv"])
@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_no_damaged_file_beside_a_record_breaks_a_report(
    run: Run, fast_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    it, context, _, _ = run
    shutil.copytree(context.out / "runs", fast_path / "runs")
    damage(it.folder(fast_path) / name)
    if name == "history.csv":
        with pytest.raises(build.NoUsableRecordError, match=r"none of 1 runs can be used; .*run\.json"):
            build.build([fast_path], fast_path / "report", ("markdown", "html"), quick=True)
    else:
        report = build.build([fast_path], fast_path / "report", ("markdown", "html"), quick=True)
        assert len(report.runs) == 1


def test_history_is_written_as_its_checksum_says(tmp_path: Path) -> None:
    history = {"d_loss": np.linspace(0, 1, 2500, dtype=np.float32)}
    digest = records.write_history(tmp_path / "history.csv", history, 2500)
    assert digest == files.file_digest(tmp_path / "history.csv")
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert rows[:2] == ["step,d_loss", "2,0.00020008"]
    assert len(rows) == 1251


def test_metrics_are_never_silent_about_what_is_not_a_number() -> None:
    assert issubclass(metrics.ScoreError, Exception)
    with pytest.raises(ValueError, match="Out of range float values"):
        files.write_json(Path("never"), {"fid": float("nan")})
    assert not Path("never").exists()
