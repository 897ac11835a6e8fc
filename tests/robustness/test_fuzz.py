"""Whatever is asked and whatever lies in a results folder: an answer or one line, never a traceback.

Examples of flags, of TOML files and of record files: as many as ``EXAMPLES`` says.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_runs
import optuna
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from studies import run_all, shared_study

import reports
from bench import cli, run, tune
from bench.errors import UsageError
from bench.search import findings, study
from bench.search.addresses import StorageError
from bench.search.progress import StudyProgress
from bench.search.storage import open_storage
from bench.store import records
from bench.store.jobs import run_folder, slug
from reports import build, compare, groups, searches
from reports.tables import tables, text

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))
"""The counts in docs/reliability.md are of 1,000."""

THOROUGH = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


# ------------------------------------------------------------------ flags

NUMBERS = st.one_of(
    st.integers(-3, 40).map(str),
    st.sampled_from(
        ["0", "-1", "1e3", "1e-4", "nan", "inf", "-inf", "1_0", "٣", "0x10", "9" * 30, "1e999", "", "."]
    ),
)
WORDS = st.one_of(
    NUMBERS,
    st.text(max_size=12),
    st.sampled_from(
        ["-", "--", "---", "-x", "=", "%s", "{}", "\0", "\n", "~", "../../x:y", "True", "a,b", "auto"]
    ),
)
MODELS = st.sampled_from(
    [
        "vanilla",
        "dcgan",
        "wgan",
        "cgan",
        "srgan",
        "vanila",
        "os:system",
        "json:loads",
        ":",
        "a:b:c",
        "../../x:y",
    ]
)
SETTINGS = st.builds(
    "{}.{}={}".format,
    MODELS | st.text(max_size=4),
    st.sampled_from(["lr", "latent_dim", "g_widths", "d_widths", "batch_size", "beta1", "net", "x", ""]),
    WORDS,
)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "--models": MODELS,
    "--model": MODELS,
    "--dataset": st.sampled_from(
        ["digits", "auto", "mnist", "cifar10", "dgits", "folder:", "folder:/nowhere"]
    ),
    "--set": SETTINGS,
    "--features": st.sampled_from(["classifier", "inception-v3-compat", "clasifier"]),
    "--select": st.sampled_from(["final", "best", "last"]),
    "--device": st.sampled_from(["cpu", "cuda", "cuda:0,1", "cuda:", "cuda:x", "tpu", "auto"]),
}


SMALL = st.integers(1, 40).map(str)
ORDERLY = {
    **dict.fromkeys(("--seeds", "--eval-every", "--stack", "--workers", "--retries", "--trials"), SMALL),
    **dict.fromkeys(("--steps", "--batch-size", "--seed-list"), SMALL | st.just("4294967295")),
    **dict.fromkeys(
        ("--checkpoint-every", "--run-timeout", "--deadline"), st.sampled_from(["1", "2.5", "1e9"])
    ),
    "--d-acc-tolerance": st.sampled_from(["0", "0.5", "0.1"]),
    "--set": st.sampled_from(
        ["vanilla.lr=1", "vanilla.g_widths=4,5", "vanilla.latent_dim=1", "dcgan.lr=0.1", "vanilla.d_widths=0"]
    ),
    "--select": st.sampled_from(["final", "best"]),
    "--precision": st.sampled_from(["float32", "bf16", "tf32"]),
    "--models": st.sampled_from(["vanilla", "vanilla dcgan", "vanilla srgan", "vanilla nosuch"]),
    "--dataset": st.sampled_from(["digits", "auto", "digits mnist"]),
}
"""Values of which most are allowed, each alone."""


def flags(parser: Any, folder: str) -> st.SearchStrategy[list[str]]:
    """Command lines of this parser's flags: half of them orderly, half of them anything.

    At the end stand flags that keep them from computing, downloading and writing elsewhere.
    """
    names = sorted({name for action in parser._actions for name in action.option_strings})
    known = sorted(set(names) & set(ORDERLY))
    orderly = st.sampled_from(known).flatmap(lambda name: ORDERLY[name].map(lambda v: [name, *v.split()]))
    wild = (st.sampled_from(names) | st.text("-abcms", min_size=1, max_size=8)).flatmap(
        lambda name: st.lists(VALUES.get(name, WORDS) | WORDS, max_size=3).map(lambda words: [name, *words])
    )
    clauses = st.lists(orderly, max_size=4) | st.lists(orderly | wild, max_size=5)
    first = (("--models", "vanilla"), ("--dataset", "digits"))
    last = [
        "--dry-run",
        "--offline",
        "--device",
        "cpu",
        "--out",
        f"{folder}/out",
        "--data-root",
        f"{folder}/x",
    ]

    def line(some: Sequence[Sequence[str]]) -> list[str]:
        words = [word for clause in some for word in clause]
        lists = [[flag, value] for flag, value in first if flag not in words]
        return [*(word for pair in lists for word in pair), *words, *last]

    return clauses.map(line)


def answer(main: Any, arguments: Sequence[str]) -> None:
    """Run a command: it may answer, or refuse in one line; nothing else."""
    printed = io.StringIO()
    code: Any = 2
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        contextlib.suppress(UsageError, SystemExit),  # SystemExit: --help
    ):
        code = main(arguments)
    assert code in (0, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("command", [run, tune])
def test_no_flags_make_a_traceback(command: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("fuzz"))

    @settings(THOROUGH, max_examples=EXAMPLES if command is run else EXAMPLES // 2)
    @given(flags(command.parser(), folder))
    def check(arguments: list[str]) -> None:
        answer(command.main, arguments)

    check()


# ------------------------------------------------------------------ TOML files

KEYS = [action.option_strings[-1][2:] for action in run.parser()._actions if action.option_strings]
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-5, 40),
    st.just(10**30),
    st.floats(),
    st.text(max_size=8),
    VALUES["--models"],
    VALUES["--dataset"],
)
TABLES = st.dictionaries(
    st.sampled_from(["vanilla", "dcgan", "x", "models", "a.b"]) | st.text(max_size=3),
    PLAIN
    | st.dictionaries(
        st.sampled_from(["lr", "net", "g_widths", "x"]), PLAIN | st.lists(PLAIN, max_size=2), max_size=2
    ),
    max_size=2,
)
CONTENT = st.dictionaries(
    st.sampled_from(KEYS)
    | st.sampled_from(KEYS).map(lambda key: key.replace("-", "_"))
    | st.text(max_size=6),
    PLAIN | st.lists(PLAIN | TABLES, max_size=3) | TABLES,
    max_size=5,
)


def toml(value: Any) -> str:
    """A value in TOML's own words."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value).replace("\\ud", "\\u0").replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


@pytest.mark.slow
def test_no_configuration_makes_a_traceback(tmp_path: Path) -> None:
    folder, path = str(tmp_path), tmp_path / "a.toml"
    safe = [
        "--dry-run",
        "--offline",
        "--out",
        f"{folder}/out",
        "--data-root",
        f"{folder}/data",
        "--device",
        "cpu",
    ]

    def check(data: bytes) -> None:
        path.write_bytes(data)
        answer(run.main, ["--config", str(path), *safe])

    @THOROUGH
    @given(CONTENT)
    def meant(content: dict[str, Any]) -> None:
        check("\n".join(f"{toml(key)} = {toml(value)}" for key, value in content.items()).encode())

    @settings(THOROUGH, max_examples=max(20, EXAMPLES // 5))
    @given(st.binary(max_size=40) | st.text('[]{}="\n#a1.', max_size=40).map(str.encode))
    def garbled(data: bytes) -> None:
        check(data)

    meant()
    garbled()
    path.write_text('out = "a\\u0000"')
    with pytest.raises(UsageError, match="'out' holds a NUL character"):
        run.main(["--config", str(path)])


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "text",
    [
        "steps = " + DIGITS,
        "steps = 0x" + DIGITS,
        "seeds = [" + DIGITS + "]",
        "steps = 1e400",
        "steps = nan",
        "models = " + "[" * 50_000 + "]" * 50_000,
        "models = " + "[" * 50_000,
        "a" + ".a" * 5_000 + " = 1",
        "[set]\n" + "a = {" * 5_000,
        "[set.vanilla]\nlr = 0x" + DIGITS,
        'dataset = ["\\u001b[2J"]\nfeatures = ["\\u001b[2J"]',
        '"\\u001b[2J\\n" = 1',
    ],
)
@pytest.mark.parametrize(("command", "flag"), [(run, "--config"), (tune, "--config"), (tune, "--space")])
def test_an_absurd_configuration_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Any, flag: str, text: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    model = "--models" if command is run else "--model"
    rest = ["--offline", "--device", "cpu", "--dataset", "digits", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as caught:
        cli.run_main(lambda: command.main([flag, str(path), model, "vanilla", "--dry-run", *rest]))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {flag}")
    assert err.removesuffix("\n").isprintable()


# ------------------------------------------------------------------ studies


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "3", "null", '{"request": 1}', '{"request": {"protocol": []}}', "\udcff", "[" * 100_000),
        '{"request": ' + DIGITS + "}",
        '{"request": {"protocol": {"dataset": {"name": 1}}, "steps": 1e400, "seeds": 1, "objectives": []}}',
    ],
)
def test_no_summary_of_a_study_breaks_a_report(tmp_path: Path, text: str) -> None:
    path = tmp_path / "studies" / "a \x1b[2J" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    found, skipped = searches.load([tmp_path])
    assert not found
    assert len(skipped) == 1
    assert skipped[0].isprintable()


@pytest.mark.parametrize(
    "line",
    [
        *("[" * 100_000, "{}", "[]", "3", '{"op_code": 99}', '{"op_code": [1]}', "\udcff"),
        '{"op_code": 0, "worker_id": "x", "study_name": ' + DIGITS + "}",
        '{"op_code": 4, "worker_id": "x", "study_id": 1e400, "datetime_start": 7}',
        '{"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": "never"}',
        '{"op_code": 8, "worker_id": "x", "trial_id": 10000, "user_attr": 3}',
    ],
)
def test_no_line_of_a_journal_makes_a_traceback(tmp_path: Path, line: str) -> None:
    study.begin(open_storage(None, tmp_path), "a", ["minimize"], {"steps": 1})
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    with contextlib.suppress(StorageError):
        study.begin(open_storage(None, tmp_path), "a", ["minimize"], {"steps": 1})


@pytest.mark.parametrize(
    "marks",
    [
        *({"slot": [0]}, {"slot": 0}, {"slot": "0", "attempt": 1}, {"slot": 0, "attempt": {}}),
        *({"slot": 0, "attempt": 1}, {"slot": 0, "attempt": 1, "host": [], "pid": {}, "beat": {}}),
        {"slot": 0, "attempt": 1, "ending": "well", "reason": {}},
        {"slot": 0, "attempt": 1, "ending": ["complete"], "iterations": "many"},
        {"slot": 1e300, "attempt": 1},
        {"slot": 0, "attempt": 1, "ending": "complete"},
        {"slot": 0, "attempt": 10**30, "ending": "stopped", "alone": []},
        {"slot": -1, "attempt": 1},
    ],
)
@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL])
def test_no_marks_of_a_trial_stop_a_search(tmp_path: Path, marks: dict[str, Any], state: TrialState) -> None:
    """Whatever another version, or somebody, put there: every slot can still be settled."""
    shared = shared_study(tmp_path, total=2, enqueue=False)
    shared.storage.create_new_trial(shared.study_id, optuna.trial.create_trial(state=state, user_attrs=marks))
    shared.enqueue()
    run_all(shared)
    assert shared.finished
    with StudyProgress(shared, "fid"):
        pass
    assert len(findings.table([shared.slots()[k] for k in range(2)], ["fid"])) == 2


# ------------------------------------------------------------------ records

ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([10**30, -1, 0, 2**63]),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
        st.sampled_from(
            ["finished", "failed", "vanilla", "../..", "\\input{x}", "<script>", "a|b", "\n", "\0", "é" * 50]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a record."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [each for key, item in items for each in places(item, (*path, key))]


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any, how: str) -> None:
    """Replace, remove or add something at a path, where the path still leads somewhere."""
    inner: Any = record
    for key in path[:-1]:
        try:
            inner = inner[key]
        except (KeyError, IndexError, TypeError):
            return
    last = path[-1]
    if isinstance(inner, dict):
        if how == "remove":
            inner.pop(last, None)
        else:
            inner[last if how == "replace" else f"{last}.x"] = value
    elif isinstance(inner, list) and isinstance(last, int) and last < len(inner):
        inner[last] = value


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Made-up records of each kind."""
    root = tmp_path_factory.mktemp("samples")
    made = [
        fake_runs.run(root, seed=0, n_evals=2, images=False),
        fake_runs.run(root, model="dcgan", seed=1, select="best", n_evals=2, images=False),
        fake_runs.run(root, model="wgan", status="diverged", images=False),
        fake_runs.run(root, model="srgan", task="super-resolution", images=False),
        fake_runs.run(root, model="cgan", conditional=True, images=False),
    ]
    return [json.loads((folder / "run.json").read_text()) for folder in made]


Change = tuple[int, Any, str]
CHANGES = st.lists(
    st.tuples(st.integers(0, 10**6), ODD, st.sampled_from(["replace", "replace", "remove", "add"])),
    max_size=3,
)
TEN = st.tuples(*[CHANGES] * 10)
"""Record files are read together: ten at once is quicker, and one may spoil another."""


def write(root: Path, samples: list[dict[str, Any]], ten: Sequence[Sequence[Change]]) -> None:
    """Ten runs: samples with some fields changed, sealed again as if they were right.

    They are in the folders of the runs that they name, as far as they name any.
    """
    shutil.rmtree(root / "runs", ignore_errors=True)
    for k, changes in enumerate(ten):
        record = copy.deepcopy(samples[k % len(samples)]) | {"seed": k}
        for where, value, how in changes:
            paths = places(record)
            changed(record, paths[where % len(paths)], value, how)
        model, dataset, name = (slug(str(record.get(key))) for key in ("model", "dataset", "id"))
        seed = record.get("seed")
        folder = run_folder(root, model, dataset, name, seed if isinstance(seed, int) else k)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(records.sealed(record)))


def read(root: Path) -> None:
    """All that a report says in words."""
    runs = reports.load(root)
    assert all(line.isprintable() for line in runs.attrs["skipped"])
    assert len(runs) + len(runs.attrs["skipped"]) > 3, "each is read or named"
    for group in groups.groups(runs):
        compared = compare.comparisons(group, "vanilla")
        shown = (
            tables.scores(group),
            tables.training(group),
            tables.sources(group),
            tables.pairs(group, compared, baseline=True),
        )
        for table in shown:
            if table is not None:
                for written in (text.plain, text.markdown, text.latex):
                    assert written(table)


@pytest.mark.slow
def test_no_records_make_a_traceback(samples: list[dict[str, Any]], tmp_path: Path) -> None:
    warnings.simplefilter("error")

    @settings(THOROUGH, max_examples=max(8, EXAMPLES // 10))
    @given(TEN)
    def check(ten: Sequence[Sequence[Change]]) -> None:
        write(tmp_path, samples, ten)
        read(tmp_path)

    check()


@pytest.mark.slow
def test_no_records_make_a_traceback_in_a_whole_report(samples: list[dict[str, Any]], tmp_path: Path) -> None:
    """With figures and page: one, or a few, because drawing is slow."""

    @settings(THOROUGH, max_examples=max(1, EXAMPLES // 500))
    @given(TEN)
    def check(ten: Sequence[Sequence[Change]]) -> None:
        write(tmp_path, samples, ten)
        shutil.rmtree(tmp_path / "report", ignore_errors=True)
        with contextlib.suppress(UsageError, build.NoUsableRecordError):
            build.build([tmp_path], tmp_path / "report", quick=True)

    check()


@settings(THOROUGH)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | ODD.map(json.dumps).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"schema": 1, "checksum": "x", "a": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(b"9" * 5000)
@example(b'{"schema": 1e400}')
@example(b'{"schema": 1, "checksum": Infinity, "a": 1e400}')
@example(b'{"schema": 1, "checksum": NaN, "seed": ' + b"9" * 5000 + b"}")
@example(b'{"schema": 1, "a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}")
def test_no_bytes_are_a_record(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run.json").write_bytes(data)
        with pytest.raises(records.DamagedRecordError):
            records.read_record(Path(folder))
