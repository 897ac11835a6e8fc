"""Real commands for tests: each is a process of its own, forked from a server that has imported everything.

Forking takes milliseconds where starting Python and importing PyTorch takes seconds. What depends on how a
process starts, as signals do, is tested with :func:`launch`, which starts Python as a user does.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.data import datasets
from bench.execution.recording import describe_baseline
from bench.execution.signals import Stop
from bench.plan import RunContext
from bench.scoring import sizes
from bench.scoring.evaluator import Evaluator
from bench.scoring.extractors import load_extractor
from bench.store.jobs import Job
from bench.store.records import read_record
from bench.torchvision_import import import_torchvision

import_torchvision()  # in the server, too

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "commands",
        *(
            "bench.run",
            "bench.execution.recording",
            "bench.search.request",
            "bench.closing",
            "reports.build",
            "reports.plots",
            "faults",
        ),
        *("matplotlib.pyplot", "scipy.stats", "seaborn", "torchvision.utils"),
        *("torch_fidelity.metric_fid", "torch_fidelity.metric_isc", "torch_fidelity.metric_kid"),
    ]
)

SMALL = (
    *("--models", "vanilla", "--set", "vanilla.g_widths=16", "vanilla.d_widths=16", "vanilla.batch_size=32"),
    *("--dataset", "digits", "--offline", "--device", "cpu"),
)
"""A run of about a second."""


def wait_for(condition: Callable[[], Any], *, seconds: float = 120) -> Any:
    """What ``condition`` returns once that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {condition}"
        time.sleep(0.03)  # not less: others compute meanwhile
    return value


@dataclass
class Command:
    """``python -m bench.run``, as a process that leads its own group; use :func:`start`."""

    printed: Path
    process: ForkServerProcess = field(repr=False)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def out(self) -> str:
        """What it printed so far."""
        return (self.printed / "stdout").read_text()

    @property
    def err(self) -> str:
        """What it printed on stderr so far."""
        return (self.printed / "stderr").read_text()

    def kill(self, number: int) -> None:
        """Signal the process alone."""
        os.kill(self.pid, number)

    def kill_group(self, number: int) -> None:
        """Signal all its processes, as a terminal does."""
        os.killpg(self.pid, number)

    def wait(self, *, seconds: float = 240) -> int:
        """Its exit code, negative where a signal ended it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s:\n{self.out}\n{self.err}"
        return self.process.exitcode


def start(
    folder: Path,
    *arguments: object,
    before: Callable[[], object] | None = None,
    to: Path | None = None,
    **variables: str,
) -> Command:
    """Start ``bench.run`` with ``folder`` as its working folder.

    ``before`` is called first in its process; ``to`` is the folder of what it prints; ``variables`` are
    added to the environment of its workers.
    """
    to = to or folder
    for each in (folder, to):
        each.mkdir(parents=True, exist_ok=True)
    ready, started = SERVER.Pipe(duplex=False)
    words = [str(argument) for argument in arguments]
    if not {"--out", "--dry-run", "--list", "--help"} & {*words}:
        with_known(folder)
    process = SERVER.Process(target=_command, args=(started, folder, to, words, before, variables))
    process.start()
    started.close()
    ready.recv()  # it leads its group, and what it prints goes to files
    ready.close()
    return Command(to, process)


def run(folder: Path, *arguments: object, **options: Any) -> Command:
    """Start a command and wait for its end."""
    command = start(folder, *arguments, **options)
    command.wait()
    return command


@cache
def known(split: str = "test") -> Path:
    """A cache with what is computed once of the real images of digits, made once in this process.

    As a user's second command finds it; it saves a second per command, and the import of scikit-learn.
    """
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    dataset = datasets.load("digits", data_root=folder, offline=True, holdout=split == "val")
    extractors = {"classifier": load_extractor("classifier", dataset, cache=folder)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FULL.items():  # whatever a test has changed
            patch.setattr(sizes, name, value)
        describe_baseline(Evaluator(dataset, split, extractors, folder, torch.device("cpu")))
    return folder


FULL = {name: getattr(sizes, name) for name in ("KID_SUBSETS", "n_fakes")}


def with_known(folder: Path, *splits: str) -> None:
    """Give the results of a command that was not started yet such a cache."""
    if not (folder / "results").exists():
        for split in splits or ("test",):
            shutil.copytree(known(split), folder / "results" / "cache", dirs_exist_ok=True)


def without_report() -> None:
    """For ``before``: the table is printed, the report is not written."""
    from reports import build

    build.build = lambda *arguments, **options: None  # type: ignore[assignment]


def quick_scores(patch: pytest.MonkeyPatch) -> None:
    """Scores in this process are of fewer samples and subsets, which take a tenth of the time."""
    patch.setattr(sizes, "KID_SUBSETS", 2)
    patch.setattr(sizes, "n_fakes", lambda n_real: n_real)


def without_privileges() -> None:
    """For ``before``: what the permissions of files say holds for the administrator too."""
    without_report()
    if os.geteuid() == 0:
        header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, nothing) == 0


def _command(
    started: Any,
    folder: Path,
    to: Path,
    arguments: Sequence[str],
    before: Callable[[], object] | None,
    variables: dict[str, str],
) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ.update(variables)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(to / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    started.send(None)
    started.close()
    if before is not None:
        before()
    from bench import cli, run

    cli.run_main(lambda: run.main(arguments))


# ------------------------------------------------------------------ as users start them


@dataclass
class Launched:
    """``python -m <module>``, which leads its own session; use :func:`launch`."""

    process: subprocess.Popen[bytes] = field(repr=False)
    terminal: int | None
    """The user's end of its terminal, if it has one."""
    heard: list[bytes] = field(default_factory=list, repr=False)

    @property
    def printed(self) -> str:
        """What it printed so far, on stdout and stderr."""
        return b"".join(self.heard).decode(errors="replace")

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Signal the process and all that it started: Ctrl-C in its terminal, if it has one."""
        if self.terminal is not None:
            assert number == signal.SIGINT
            os.write(self.terminal, b"\x03")
        else:
            os.killpg(self.process.pid, number)

    def wait(self, *, seconds: float = 120) -> int:
        """Its exit code as a shell shows it, once all that it printed was read."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"still running after {seconds} s:\n{self.printed}") from None
        self.reader.join(10)
        return code if code >= 0 else 128 - code

    def hang_up(self) -> None:
        """Stop listening; where it has a terminal, that is closed."""
        self.over.set()
        self.reader.join()

    def end(self) -> None:
        """Kill what is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.hang_up()

    def listen(self, source: int) -> None:
        """Read all that it prints, until it or :meth:`hang_up` closes."""
        self.over = threading.Event()

        def read() -> None:
            with suppress(OSError):  # that is how a terminal ends
                while not self.over.is_set():
                    if select.select([source], [], [], 0.05)[0]:
                        if not (text := os.read(source, 65536)):
                            break
                        self.heard.append(text)
            os.close(source)

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()


def launch(
    folder: Path,
    *arguments: object,
    terminal: bool = False,
    options: Sequence[str] = (),
    nohup: bool = False,
    **variables: str,
) -> Launched:
    """Start ``python -m arguments`` in ``folder``: with pipes, or in a terminal of its own."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    ours, theirs = pty.openpty() if terminal else os.pipe()

    def before() -> None:
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # which a shell ignores for what it runs in the background
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, *options, "-m", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdin=theirs if terminal else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=before,
    )
    os.close(theirs)
    command = Launched(process, ours if terminal else None)
    command.listen(ours)
    return command


# ------------------------------------------------------------------ what they left


def folders(folder: Path) -> list[Path]:
    """The run folders below a command's results, in order."""
    return sorted((folder / "results" / "runs").glob("*/seed-*"))


def records(folder: Path) -> list[dict[str, Any]]:
    """Their records; each is intact."""
    found = [read_record(path) for path in folders(folder)]
    return [record for record in found if record is not None]


def numbers(run_folder: Path) -> dict[str, Any]:
    """All of a run that may not differ between two computations of it on one machine."""
    record = read_record(run_folder)
    assert record is not None, f"{run_folder} has no record"
    kept = {k: v for k, v in record.items() if k not in {"cost", "environment", "checksum"}}
    kept["evals"] = [{k: v for k, v in entry.items() if k[-2:] != "_s"} for entry in record["evals"]]
    pictures = sorted(path.name for path in run_folder.glob("*.png"))
    weights = torch.load(run_folder / "checkpoint.pt", weights_only=True)["weights"]
    return {
        "record": kept,
        "history": (run_folder / "history.csv").read_bytes(),
        "pictures": {name: (run_folder / name).read_bytes() for name in pictures},
        "weights": {f"{net}.{k}": v.tolist() for net, held in weights.items() for k, v in held.items()},
    }


def progress(run_folder: Path) -> int:
    """The step that an unfinished run is at; 0 where it has not begun."""
    with suppress(OSError, ValueError):
        return int(json.loads((run_folder / "progress.json").read_text())["step"])
    return 0


def begun(folder: Path, n: int = 1) -> Callable[[], bool]:
    """Whether at least n runs below a command's results are being trained, with a checkpoint each."""
    return lambda: sum((path / "checkpoint.pt").exists() for path in folders(folder)) >= n


def processes(token: str) -> list[int]:
    """The living processes whose environment holds this text."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and token.encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def run_here(
    jobs: Sequence[Job],
    context: RunContext,
    *,
    retries: int = 0,
    stop: Stop = lambda: False,
    stack: int | None = None,
) -> None:
    """Compute runs in this process, as ``--workers 0`` does; seeds of one configuration as one stack."""
    from bench.execution.run_source import Runs
    from bench.execution.worker import work

    work(Runs(jobs, context.out, stack=stack or len(jobs), retries=retries), context, stop)


def compute(jobs: Sequence[Job], context: RunContext, *, stop: Stop = lambda: False) -> None:
    """The same; but an error in one is raised."""
    from bench.execution.run_source import Runs
    from bench.execution.worker import Notify, Task, work

    class Strict(Runs):
        def failed(self, task: Task, error: Exception, notify: Notify) -> None:
            raise error

    work(Strict(jobs, context.out, stack=len(jobs)), context, stop)


def resumptions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The step from which each stack goes on, from now on."""
    from bench.execution import training

    steps: list[int] = []
    restore = training.Stack.resume

    def restored(self: training.Stack, states: Any) -> None:
        try:
            restore(self, states)
        finally:
            steps.append(self.trainer.step)

    monkeypatch.setattr(training.Stack, "resume", restored)
    return steps
