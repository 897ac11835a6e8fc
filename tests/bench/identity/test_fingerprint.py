"""The code is part of a run's identity: what changes a fingerprint, what does not, and who checks it."""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import commands
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from baselines import registry
from bench.errors import ChangedError, UsageError
from bench.execution import recording, training
from bench.execution.run_source import Runs
from bench.execution.signals import Interrupt
from bench.execution.supervisor import supervise
from bench.execution.worker import work
from bench.identity import fingerprint, modules
from bench.identity.fingerprint import NEUTRAL, SCORING, TRAINING, code_of
from bench.plan import RunContext, Spec, plan
from bench.reuse import explain
from bench.scoring import fitting
from bench.store import records
from bench.store.jobs import Job

ROOT = Path(__file__).resolve().parents[3]

MODEL = '''
"""A model."""
from dataclasses import replace

from baselines.gan import Update, card
from baselines.vanilla import d_fake, d_real, g, vanilla
from helper import W


def weighted(nets, batch, draw):
    """The generator's loss."""
    loss, logs = g(nets, batch, draw)
    return W * loss, {"g_loss": W * loss}


@card(paper="vanilla with a weight", year=2026)
def model(data, *, lr: float = 2e-4):
    updates = (Update("disc", d_real), Update("disc", d_fake), Update("gen", weighted))
    return replace(vanilla(data, lr=lr, g_widths=(16,), d_widths=(16,), batch_size=16), updates=updates)
'''
TINY = ("--dataset", "digits", "--offline", "--device", "cpu", "--steps", "20", "--seeds", "1")
TINY = (*TINY, "--eval-every", "20")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``model.py`` and ``helper.py``, where Python looks for modules first."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "helper.py").write_text("W = 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    commands.quick_scores(monkeypatch)
    forget()
    return tmp_path


def forget(*names: str) -> None:
    """Import these modules anew, as another process would."""
    for name in names or ("model", "helper"):
        sys.modules.pop(name, None)


# ------------------------------------------------------------------ what counts


def digest(source: str) -> str:
    import ast

    return modules.hashed(modules.canonical(ast.parse(source)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = 1  # one\n"),
        ("x = 1\ny = 2", "\n\nx = (1)\n\n\ny = 2"),
        ('def f():\n    """Doc."""\n    return 1', "def f():\n    return 1"),
        ('class A:\n    """Doc."""\n    x: int\n    """Its x."""', "class A:\n    x: int"),
        ("x = 'a' 'b'", 'x = "ab"'),
        ("x = u'a'", "x = 'a'"),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
    ],
)
def test_prose_and_layout_do_not_count(before: str, after: str) -> None:
    assert digest(before) == digest(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1.0", "x = -5.0"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = '1'", "x = 1"),
        ("x = b'1'", "x = '1'"),
        ("x = None", "x = 0"),
        ("x = ''", "x = '}'"),
        ("x = a + b", "x = a - b"),
        ("f(a, b)", "f(b, a)"),
        ("f(a=1)", "f(b=1)"),
        ("x = f'{a}'", "x = f'{b}'"),
        ("def f(a=1): pass", "def f(a=2): pass"),
        ("def f(): return 1", "def f(): yield 1"),
        ("@a\ndef f(): pass", "def f(): pass"),
        ("if a:\n  b()\nc()", "if a:\n  b()\n  c()"),
        ("x = [1, [2]]", "x = [[1], 2]"),
        ("import a", "import b"),
        ("from a import b", "from .a import b"),
    ],
)
def test_code_counts(before: str, after: str) -> None:
    assert digest(before) != digest(after)


CONSTANTS = st.floats(allow_nan=False) | st.integers() | st.text()


@settings(max_examples=200, deadline=None)
@given(
    a=st.floats(allow_nan=False) | st.integers() | st.text(),
    b=st.floats(allow_nan=False) | st.integers() | st.text(),
)
def test_other_constants_are_other_code(a: Any, b: Any) -> None:
    assert (digest(f"x = {a!r}") == digest(f"x = {b!r}")) == (repr(a) == repr(b))


def test_a_digest_is_the_same_in_every_version_of_python() -> None:
    source = """
import a
from .b import c as d
@card(year=2014)
def f(x: int = 1, /, *y, z: str = 'u', **w) -> None:
    return [f'{x!r:>{z}} {y}' for x in y if x] + {**w}
class A(B[int], metaclass=M):
    async def g(self): await self
x = lambda: (yield)
match x:
    case [1, *_] | {'a': b}: pass
try:
    pass
except* E as e:
    raise e from None
x: int
y = 1_000 + 1e-3j + -1.5 + ...
"""
    assert digest(source) == "b0805df3d8e359c3"


def test_deep_expressions_are_read() -> None:
    assert digest("x = " + "+".join(["1"] * 800)) != digest("x = " + "+".join(["1"] * 801))


# ------------------------------------------------------------------ which files


def test_a_model_reaches_its_helpers_wherever_they_are_imported(here: Path) -> None:
    package = here / "pack"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sub" / "__init__.py").write_text("from . import deep\n")
    (package / "sub" / "deep.py").write_text("from ..other import X\n")
    (package / "other.py").write_text("import model\nX = 1\n")  # in a circle
    (here / "late.py").write_text("")
    (here / "named.py").write_text("")
    (here / "typed.py").write_text("")
    (here / "unused.py").write_text("")
    (here / "helper.py").write_text(
        "import importlib, json, numpy, torch\nfrom typing import TYPE_CHECKING\nimport pack.sub\n"
        "if TYPE_CHECKING:\n    import typed\nW = 1.0\ndef f():\n    import late\n    import absent\n"
        "    importlib.import_module('named')\n"
    )
    files = code_of("model:model")["model"]
    assert {f for f in files if not f.startswith("baselines/")} == {
        *("model.py", "helper.py", "late.py", "named.py"),
        *("pack/__init__.py", "pack/sub/__init__.py", "pack/sub/deep.py", "pack/other.py"),
    }
    assert {f for f in files if f.startswith("baselines/")} == set(code_of("vanilla")["model"])


@pytest.mark.slow
def test_editing_a_file_changes_exactly_the_models_that_reach_it(tmp_path: Path) -> None:
    """A copy of the package, each file of it edited in turn."""
    script = (
        "import json\nfrom bench.identity.fingerprint import _files\n"
        "from bench.identity.modules import model_modules as modules\n"
        f"print(json.dumps({{name: _files(modules('baselines.' + name)) for name in {registry.OURS}}}))"
    )
    tree = tmp_path / "tree"
    for name in ("baselines", "bench"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))

    def codes() -> dict[str, dict[str, str]]:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tree, capture_output=True, text=True, check=True
        )
        found: dict[str, dict[str, str]] = json.loads(done.stdout)
        return found

    before = codes()
    for file, expected in (
        ("vanilla", set(before)),
        ("dcgan", set(before) - {"vanilla", "cgan", "srgan"}),
        ("wgan_gp", {"wgan_gp", "dragan"}),
        ("cgan", {"cgan", "acgan"}),
        ("conformance", set()),
    ):
        path = tree / "baselines" / f"{file}.py"
        original = path.read_text()
        path.write_text(f"{original}\n# a remark\nEDITED = 1\n")
        after = codes()
        assert {name for name in before if after[name] != before[name]} == expected, file
        path.write_text(original)


def test_installed_packages_do_not_count_but_an_installed_model_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in (("theirs", "import tools\n"), ("tools", "")):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(modules, "_installed", lambda: frozenset({tmp_path}))
    assert list(fingerprint._files(modules.model_modules("theirs"))) == ["theirs.py"]


def test_every_module_behind_a_score_is_on_a_list() -> None:
    """A new module that training or scoring imports is put where it belongs, or this fails."""

    def ours(name: str) -> bool:
        return name.partition(".")[0] in {"baselines", "bench"}

    listed = [*TRAINING, *SCORING, *NEUTRAL]
    reached = {*modules.closure([*TRAINING, *SCORING], ours)}
    assert {name for name in reached if name.startswith("bench")} <= {*listed}
    assert {*listed} <= reached, "what is gone, or is not imported any more, is on no list"
    assert len(listed) == len({*listed}), "each on one list"
    assert "baselines/vanilla.py" not in {**fingerprint.training_code(), **fingerprint.scoring_code()}


def test_every_module_of_the_scores_counts_but_for_pictures() -> None:
    folder = ROOT / "bench" / "scoring"
    names = {f"bench.scoring.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"}
    neutral = {f"bench.scoring.{name}" for name in ("film", "pictures", "protocols", "scores", "sensitivity")}
    assert names - {*SCORING} <= neutral


# ------------------------------------------------------------------ without source


def test_bytecode_is_read_where_there_is_no_source(here: Path) -> None:
    def compiled(weight: str) -> dict[str, Any]:
        forget()
        (here / "helper.py").write_text(f"W = {weight}\n")
        (here / "model.py").write_text(MODEL)
        assert compileall.compile_dir(here, legacy=True, force=True, quiet=2)
        (here / "model.py").unlink()
        return code_of("model:model")

    code = compiled("1.0")
    assert code["how"] == "bytecode"
    assert {"model.pyc", "helper.py", "baselines/vanilla.py"} <= {*code["model"]}
    assert compiled("1.0") == code
    assert compiled("-5.0") != code


def test_a_function_of_no_file_is_read_with_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cell of a notebook defines it."""

    def cell(source: str) -> dict[str, Any]:
        module = ModuleType("notebook")
        exec(compile(source, "<cell>", "exec"), vars(module))
        monkeypatch.setitem(sys.modules, "notebook", module)
        return code_of("notebook:model")

    source = MODEL.replace("from helper import W", "W = 1.0\nTHRESHOLDS = [1, (2, 3)]")
    code = cell(source)
    assert code["how"] == "bytecode"
    assert {"notebook:model", "baselines/vanilla.py"} <= {*code["model"]}
    assert cell(source) == code
    assert cell(source.replace("W = 1.0", "W = -5.0")) != code
    assert cell(source.replace('"""The generator\'s loss."""', '"""Its loss."""')) == code
    assert cell(source.replace("lr: float = 2e-4", "lr: float = 3e-4")) != code


def test_what_cannot_be_read_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Made:
        card = registry.card(registry.get("vanilla"))

        def __call__(self, data: Any) -> None: ...

    module = ModuleType("notebook")
    module.made = Made()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "notebook", module)
    with pytest.raises(UsageError, match=r"notebook:made cannot be read.*write it to a \.py file"):
        code_of("notebook:made")


def test_a_process_keeps_to_what_it_has_imported(here: Path) -> None:
    """Its file may change meanwhile: the run is still the one that was planned."""
    import importlib

    before = code_of("model:model")
    (here / "helper.py").write_text("W = 2.0  # longer\n")
    assert code_of("model:model") == before
    importlib.reload(sys.modules["helper"])
    assert fingerprint.differing_files(before, code_of("model:model")) == ["helper.py"]


# ------------------------------------------------------------------ who checks it


def beside() -> None:
    """For ``before``: modules are looked for in the working folder first, as ``python -m`` does."""
    sys.path.insert(0, str(Path.cwd()))
    commands.without_report()


@pytest.mark.slow
def test_an_edit_between_two_commands_is_computed_and_prose_is_reused(here: Path) -> None:
    def bench(*more: str) -> str:
        words = ("--models", "model:model", *TINY, "--workers", "0", "--draws", "1", *more)
        done = commands.run(here, *words, before=beside)
        assert done.process.exitcode == 0, done.err
        return done.out

    assert "0 reused, 1 to compute" in bench()
    (here / "model.py").write_text(MODEL.replace("The generator's loss", "Its loss") + "\n\n# a remark\n")
    assert "1 reused, 0 to compute" in bench()
    (here / "helper.py").write_text("W = -5.0\n")
    planned = bench("--dry-run")
    assert "model:model: its code changed since " in planned
    assert planned.splitlines()[-2].endswith(": helper.py")
    assert "0 reused, 1 to compute" in bench()
    found = [json.loads(path.read_text()) for path in here.glob("results/runs/*/seed-0/run.json")]
    assert len(found) == 2
    assert len({record["metrics"]["classifier"]["fid"] for record in found}) == 2
    assert len({record["code"]["model"]["helper.py"] for record in found}) == 2
    (here / "helper.py").write_text("W = 1.0\n")
    assert "1 reused, 0 to compute" in bench()


def planned(
    here: Path, *, dataset: str = "digits", model: str = "model:model"
) -> tuple[list[Job], RunContext]:
    context = RunContext(out=here / "results", data_root=here / "data", offline=True)
    return plan(Spec([model], [dataset], [0], steps=20, eval_every=20), context), context


def compute(jobs: list[Job], context: RunContext) -> None:
    """In this process."""
    work(Runs(jobs, context.out, retries=3), context, lambda: False)


@pytest.mark.slow
def test_a_worker_refuses_code_that_changed_while_the_job_waited(here: Path) -> None:
    jobs, context = planned(here)
    (here / "helper.py").write_text("W = -5.0\n")
    supervise(Runs(jobs, context.out, retries=3), context, ["cpu"], Interrupt())
    record = records.read_record(jobs[0].folder(context.out))
    assert record is not None
    assert record["status"] == "failed"
    assert record["reason"] == "code changed since this run was planned: helper.py"
    assert record["attempts"] == 1, "another attempt would find the same"
    assert not record["metrics"]
    assert not (jobs[0].folder(context.out) / "checkpoint.pt").exists(), "nothing was trained"


def test_a_worker_refuses_a_folder_that_changed_while_the_job_waited(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "MOST_STEPS", 3)
    images = here / "images"
    noise = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    for k, image in enumerate(noise):
        (images / str(k % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / str(k % 2) / f"{k}.png")
    context = RunContext(out=here / "results", data_root=here / "data", offline=True)
    jobs = plan(Spec(["vanilla"], [f"folder:{images}"], [0], steps=10), context)
    noise[0, 0, 0] ^= 1  # one pixel
    Image.fromarray(noise[0]).save(images / "0" / "0.png")
    compute(jobs, context)
    record = records.read_record(jobs[0].folder(context.out))
    assert record is not None
    assert record["status"] == "failed"
    assert record["reason"] == f"data set 'folder:{images}' changed since this run was planned"
    assert not (jobs[0].folder(context.out) / "checkpoint.pt").exists(), "nothing was trained"


@pytest.mark.slow
def test_the_plan_says_that_a_folder_changed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_STEPS", 3)
    images, context = here / "images", RunContext(out=here / "results", data_root=here / "data", offline=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    for k, image in enumerate(noise):
        (images / str(k % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / str(k % 2) / f"{k}.png")
    spec = Spec(["vanilla"], [f"folder:{images}"], [0], steps=10, eval_every=10)
    compute(plan(spec, context), context)
    (images / "0" / "0.png").unlink()
    said = explain(plan(spec, context), context.out)
    assert said[0].startswith(f"vanilla: data set folder:{images} changed since ")


def test_other_weights_of_an_extractor_are_refused(here: Path) -> None:
    jobs, context = planned(here, model="vanilla")
    extractors = {"classifier": {**jobs[0].protocol["extractors"]["classifier"], "sha256": "0" * 64}}
    other = replace(jobs[0], protocol={**jobs[0].protocol, "extractors": extractors})
    compute([other], context)
    record = records.read_record(other.folder(context.out))
    assert record is not None
    assert record["reason"].endswith("the weights of extractor classifier changed since this run was planned")


@pytest.mark.slow
def test_a_module_that_is_imported_late_is_checked_before_the_record(here: Path) -> None:
    """A helper that a loss imports when it is first called, edited between."""
    (here / "model.py").write_text(
        MODEL.replace("from helper import W", "").replace(
            "    loss, logs = g(nets", "    from helper import W\n    loss, logs = g(nets"
        )
    )
    jobs, context = planned(here)
    forget()  # as in a worker: to plan is to try the model, which has imported the helper
    stack = training.begin(jobs, context)
    (here / "helper.py").write_text("W = -5.0\n")
    while not stack.done:
        stack.train(lambda: False)
    with pytest.raises(ChangedError, match=r"helper\.py"):
        recording.record(stack, 0, 1)
    assert not (jobs[0].folder(context.out) / "run.json").exists()


@pytest.mark.slow
def test_the_plan_names_what_changed_beside_code(here: Path) -> None:
    """Data, and weights of an extractor."""
    jobs, context = planned(here, model="vanilla")
    compute(jobs, context)
    assert explain(jobs, context.out) == []
    data = {**jobs[0].protocol["dataset"], "sha256": "0" * 64}
    other = replace(jobs[0], protocol={**jobs[0].protocol, "dataset": data})
    assert explain([other], context.out)[0].startswith("vanilla: data set digits changed since ")
    weights = {"classifier": {**jobs[0].protocol["extractors"]["classifier"], "sha256": "0" * 64}}
    other = replace(jobs[0], protocol={**jobs[0].protocol, "extractors": weights})
    assert explain([other], context.out)[0].startswith("vanilla: the weights of classifier changed since ")
    code = {**jobs[0].code, "scoring": {**jobs[0].code["scoring"], "bench/scoring/metrics.py": "0" * 16}}
    other = replace(jobs[0], protocol={**jobs[0].protocol, "kid_subsets": 50, "code": "0" * 12}, code=code)
    assert explain([other], context.out)[0].endswith(": bench/scoring/metrics.py")
    assert explain([replace(jobs[0], steps=21)], context.out) == [], "another request"
