"""Checkpoints: all that a run needs to go on exactly where it was.

``checkpoint.pt`` is the newest one, ``checkpoint-before.pt`` the one before: while some members of a stack
have the new one already, all of them still have the old one.
"""

from __future__ import annotations

import errno
import io
import json
import math
import sys
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from baselines.training.step import Tensors
from bench.errors import one_line, printable
from bench.store import files
from bench.store.jobs import Job

CHECKPOINTS = ("checkpoint.pt", "checkpoint-before.pt")
"""The newest, and the one before."""

State = dict[str, Any]
"""What a checkpoint holds: the trainer's state, and ``notes``, the run's own as JSON."""


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a run's newest checkpoint; the one that was newest is kept."""
    newest, before = (folder / name for name in CHECKPOINTS)
    with suppress(FileNotFoundError):
        files.refuse_others(before)
    if newest.exists():
        newest.replace(before)
    save(newest, state)


def write_weights(folder: Path, weights: Mapping[str, Any], average: Mapping[str, Any]) -> None:
    """A run is recorded: of its checkpoints only the weights are of use, and the averages of some."""
    newest, before = (folder / name for name in CHECKPOINTS)
    save(newest, {"weights": weights, "average": average})
    before.unlink(missing_ok=True)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()  # not the file: what torch.save raises on a full disk does not say so
    torch.save(state, buffer)
    files.write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def load_checkpoint(path: Path, device: torch.device) -> State:
    """What :func:`save` wrote, without executing any code that may be in it.

    What was in a GPU's memory comes to ``device``, the rest stays on the host.
    """

    def restored(storage: Any, where: str) -> Any:
        return storage if where == "cpu" else storage.to(device=device)

    with files.reading(path, most=math.inf) as file:
        with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums in its files
            if (name := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {name} does not match")
        file.seek(0)
        state: State = torch.load(file, map_location=restored, weights_only=True)
    return state


def group_by_checkpoint(
    jobs: Sequence[Job], out: Path, device: torch.device
) -> list[tuple[list[Job], list[State] | None]]:
    """Jobs that can go on together, with their checkpoints; the least advanced first. Reads each file once.

    If all have a checkpoint of one step, they are one group, else those that are equally far are.
    """
    found = [_checkpoints(job, job.folder(out), device, newest=len(jobs) == 1) for job in jobs]
    if common := set.intersection(*map(set, found)):
        step = max(common)
        _keep(step, jobs, found, out)
        return [(list(jobs), [states[step] for states in found])]
    groups: dict[int, list[int]] = {}
    for k, states in enumerate(found):
        groups.setdefault(max(states, default=0), []).append(k)
    grouped: list[tuple[list[Job], list[State] | None]] = []
    for step, members in sorted(groups.items()):
        anew = any(step not in found[k] for k in members)  # without a checkpoint they begin, at step 0
        grouped.append(([jobs[k] for k in members], None if anew else [found[k][step] for k in members]))
    return grouped


def _keep(step: int, jobs: Sequence[Job], found: Sequence[Mapping[int, State]], out: Path) -> None:
    """A run that is ahead of the others keeps the checkpoint that it goes on from as its newest."""
    for job, states in zip(jobs, found, strict=True):
        if max(states) > step:
            newest, before = (job.folder(out) / name for name in CHECKPOINTS)
            with suppress(FileNotFoundError):
                before.replace(newest)


def _checkpoints(job: Job, folder: Path, device: torch.device, *, newest: bool) -> dict[int, State]:
    """Step -> state, of each checkpoint of this run that is intact, or of the ``newest`` one alone.

    Damaged ones are set aside.

    Raises:
        UnreadableError: one cannot be read, or cannot go on on this device.
    """
    found: dict[int, State] = {}
    for path in (folder / name for name in CHECKPOINTS):
        if found and newest:
            break
        try:
            state = load_checkpoint(path, device)
            if "notes" not in state:  # of a run that was finished: weights alone
                continue
            if json.loads(state["notes"])["run"] != [job.run_id, job.seed]:
                raise ValueError("it is another run's")
            if state["stream"].shape != torch.Generator(device).get_state().shape:
                why = f"holds random numbers of another kind of device than {device.type}: go on there"
                raise files.UnreadableError(errno.ENODEV, f"{why}, or move it away to begin anew", str(path))
            found[int(state["step"])] = state
        except FileNotFoundError:
            continue
        except (OSError, MemoryError, torch.OutOfMemoryError):  # the file may be whole
            raise
        except Exception as error:  # whatever a damaged file makes its reader raise
            why = printable(f"{path} is damaged ({one_line(error)})")
            print(f"{why}; kept as {files.set_aside(path).name}", file=sys.stderr)
    return found


def copied(weights: Tensors) -> Tensors:
    """A copy of the weights, which further training does not change."""
    return {net: {name: value.clone() for name, value in held.items()} for net, held in weights.items()}
