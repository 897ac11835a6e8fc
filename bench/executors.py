"""Where jobs run: worker processes on this machine.

One pool of one process per slot (a CPU core or a GPU): a slot keeps its device, a worker that dies
takes nothing else with it, and a worker is started once, not once per run. Run folders are the only
truth about what was done; a worker's word is used to go on, never as a result.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from bench import record, store
from bench.spec import Job, Place

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

Outcome = tuple[Literal["done", "stopped", "failed"], str]
"""How an attempt ended, and why in one line."""


@dataclass
class Task:
    """A stack of jobs on its way through the workers."""

    jobs: Sequence[Job]
    attempt: int = 1


class Interrupt:
    """SIGINT and SIGTERM become a request to stop; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.watchers: list[Callable[[], None]] = []

    def __call__(self, number: int, frame: object) -> None:
        if self.signal is not None:
            os._exit(128 + number)  # workers notice that their parent is gone
        self.signal = number
        for watcher in self.watchers:
            watcher()

    @contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Handle both signals within the block."""
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_here(tasks: Sequence[Task], place: Place, interrupt: Interrupt, *, retries: int) -> None:
    """Run every task in this process, one after the other: for debugging (``--workers 0``)."""
    from bench.job import StoppedError, run

    for task in tasks:
        for attempt in range(1, retries + 2):
            try:
                run(task.jobs, place, attempt=attempt, stop=lambda: interrupt.signal is not None)
                break
            except StoppedError:
                return
            except Exception as error:
                _log(task.jobs, place)
                if attempt > retries:
                    for job in task.jobs:
                        record.write_failure(job, place.out, one_line(error), attempt)


def run_local(
    tasks: Sequence[Task],
    place: Place,
    slots: Sequence[str],
    interrupt: Interrupt,
    *,
    retries: int,
    timeout: float | None,
    tick: Callable[[], None],
) -> None:
    """Run every task in worker processes, one per slot; a slot is the name of a device.

    Returns when all are recorded, or when ``interrupt`` was signalled and every worker has written
    its checkpoint. ``tick`` is called a few times a second.
    """
    from multiprocessing import get_context

    from pebble import ProcessPool

    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers: read when their libraries load
    context = get_context("spawn")
    stop = context.Event()
    interrupt.watchers.append(stop.set)
    waiting = deque(tasks)
    running: dict[int, tuple[Task, Any]] = {}
    with ExitStack() as pools:
        pool = [
            pools.enter_context(
                ProcessPool(1, context=context, initializer=_start_worker, initargs=(os.getpid(), stop))
            )
            for _ in slots
        ]
        while running or (waiting and not stop.is_set()):
            for slot, device in enumerate(slots):
                if slot not in running and waiting and not stop.is_set():
                    task = waiting.popleft()
                    arguments = (task.jobs, replace(place, device=device), task.attempt)
                    running[slot] = (task, pool[slot].schedule(_attempt, args=arguments, timeout=timeout))
            tick()
            time.sleep(0.1)
            for slot, (task, future) in list(running.items()):
                if future.done():
                    del running[slot]
                    outcome, reason = _outcome(future, timeout)
                    if outcome == "failed" and task.attempt <= retries and not stop.is_set():
                        waiting.append(Task(task.jobs, task.attempt + 1))
                    elif outcome == "failed":
                        for job in task.jobs:
                            record.write_failure(job, place.out, reason, task.attempt)
        tick()


def _outcome(future: Any, timeout: float | None) -> Outcome:
    """How an attempt ended, whatever ended it."""
    from concurrent.futures import TimeoutError as FutureTimeoutError

    from pebble import ProcessExpired

    try:
        outcome: Outcome = future.result()
    except FutureTimeoutError:
        return "failed", f"took longer than --run-timeout {timeout:g} s"
    except ProcessExpired as error:
        code = error.exitcode
        how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        return "failed", f"worker {how}"
    return outcome


# ------------------------------------------------------------------ in the worker

_stop: Event | None = None


def _start_worker(parent: int, stop: Event) -> None:
    """Leave signals to the parent, and end when the parent is gone."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _attempt(jobs: Sequence[Job], place: Place, attempt: int) -> Outcome:
    from bench.job import StoppedError, run

    stop = _stop
    assert stop is not None
    try:
        run(jobs, place, attempt=attempt, stop=stop.is_set)
    except StoppedError:
        return "stopped", ""
    except Exception as error:
        _log(jobs, place)
        return "failed", one_line(error)
    return "done", ""


def _log(jobs: Sequence[Job], place: Place) -> None:
    """Keep the traceback beside the runs that it ended."""
    text = traceback.format_exc()
    for job in jobs:
        try:
            path = job.folder(place.out) / "error.log"
            store.write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        except OSError:
            print(text, file=sys.stderr)


def one_line(error: BaseException) -> str:
    """``ValueError: what went wrong``, on one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
