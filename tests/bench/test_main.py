"""``gan-bench run`` is ``python -m bench.run``; files that would hide the packages are refused."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from baselines import conformance
from bench import __main__ as main
from bench.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script that pip installs for the entry point in pyproject.toml."""
    (point,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].items()
    name, (module, function) = point[0], point[1].split(":")
    path = tmp_path_factory.mktemp("bin") / name
    lines = ["import sys", f"sys.path[0] = {str(ROOT)!r}", f"from {module} import {function}"]
    path.write_text("\n".join([*lines, f"if __name__ == '__main__': sys.exit({function}())"]))
    return path


def call(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Python with these words, in a folder."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_lists_its_commands_at_once_and_passes_exit_codes_on(
    script: Path, tmp_path: Path
) -> None:
    start = time.perf_counter()
    shown = call(tmp_path, script, "--help")
    assert time.perf_counter() - start < 5  # 0.2 s where nobody else computes
    assert shown.returncode == 0
    for name, (module, _) in main.COMMANDS.items():
        assert f"  {name} " in shown.stdout
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    wrong = call(tmp_path, script, "rnu")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert (
        wrong.stderr
        == f"error: 'rnu' is not a command; one of {', '.join(main.COMMANDS)}; did you mean 'run'?\n"
    )
    wrong = call(tmp_path, script, "run", "--modles", "vanilla")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'--modles' is not a flag of bench.run; did you mean '--models'?" in wrong.stderr


@pytest.mark.slow
def test_importing_the_command_imports_no_pytorch(tmp_path: Path) -> None:
    code = "import sys; sys.path[0] = sys.argv[1]; import bench.__main__; print('torch' in sys.modules)"
    assert call(tmp_path, "-c", code, ROOT).stdout == "False\n"


def test_models_are_found_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_here.py").write_text("raise RuntimeError('it was read')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["gan-bench", "conformance", "mine_here:mine"])
    assert main._main() == 2
    assert "it was read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"), [("reports", "bench.run"), ("baselines", "bench.run"), ("bench", "reports.build")]
)
def test_a_file_that_hides_a_package_is_one_clear_line(name: str, module: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    code = "import os, runpy, sys; sys.path[0] = sys.argv.pop(1); sys.argv[0] = '-m'; "
    done = call(
        tmp_path, "-c", f"{code} runpy.run_module({module!r}, run_name='__main__', alter_sys=True)", ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = f"error: {name}.py in the working folder hides the package {name!r} of gan-bench"
    assert done.stderr == f"{said}: rename it, or work in another folder\n"


@pytest.mark.slow
def test_the_script_refuses_a_file_that_would_hide_the_package(script: Path, tmp_path: Path) -> None:
    (tmp_path / "bench.py").write_text("")
    done = call(tmp_path, script, "run", "--list")
    assert done.returncode == 2
    assert done.stderr.startswith("error: bench.py in the working folder hides")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("softgan.py", "softgan:softgan"),
        ("./softgan.py", "softgan:softgan"),
        ("models/softgan.py", "models.softgan:softgan"),
        ("softgan.py:soft", "softgan:soft"),
        ("softgan", "softgan:softgan"),
        ("VANILLA", "vanilla"),
    ],
)
def test_a_file_is_told_how_its_model_is_named(
    name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the runner and by conformance."""
    from bench import plan

    monkeypatch.chdir(tmp_path)
    Path("softgan.py").write_text("")
    with pytest.raises(UsageError) as refused:
        plan.resolve(name, {})
    assert str(refused.value).endswith(f"; did you mean {meant!r}?")
    assert conformance.main([name]) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {meant!r}?\n")
