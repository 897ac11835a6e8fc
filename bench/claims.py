"""Who computes a run, where several commands on one machine or many share a results folder.

A claim is a file in the run's folder, ``claim-<n>``, created exclusively: of all who try one succeeds,
also on network file systems without reliable locks. Its holder renews its time stamp every ``BEAT_S``
seconds. It is stale when its process is gone (seen from the same machine), or was not renewed for
``STALE_S`` seconds (seen from anywhere). A stale claim is left alone: whoever wants the run creates
``claim-<n + 1>``, and the highest number counts.

A job of a cluster's engine carries a ticket. Its claims name it, so that the same job, begun again on
another machine, takes them over at once, as does whoever learns from the engine that the job is gone.

A holder that was suspended for longer than ``STALE_S`` and then goes on computes the run a second time.
That harms nothing: every file is written whole, and both write the same numbers.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Container
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import store

BEAT_S = 30.0
STALE_S = 600.0


class Claims:
    """The claims that this process holds; within the ``with`` block a thread renews them."""

    def __init__(self, ticket: str = "") -> None:
        self.ticket = ticket
        self.void = {ticket} - {""}
        """Tickets whose claims do not count."""
        self.held: dict[Path, Path] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Claims:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for folder in list(self.held):
            self.release(folder)

    def take(self, folder: Path) -> bool:
        """Claim a run folder; False while somebody else has it.

        Raises:
            UnwritableError: no claim can be written there.
        """
        if folder in self.held:
            return True
        with store.writing(folder / "claim"):
            newest = _newest(folder)  # looked up once: the next number may not skip anybody's
            if newest and not _stale(folder / f"claim-{newest}", self.void):
                return False
            mine = folder / f"claim-{newest + 1}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                mine.touch(exist_ok=False)
            except FileExistsError:
                return False
            self.held[folder] = mine
            said = {"host": here(), "pid": os.getpid(), "ticket": self.ticket}
            mine.write_text(json.dumps(said), encoding="utf-8")
        return True

    def release(self, folder: Path) -> None:
        """Give up a claim, and remove the stale ones below it."""
        mine = self.held.pop(folder, None)
        if mine is not None:
            for n in range(1, _number(mine) + 1):
                with suppress(OSError):
                    (folder / f"claim-{n}").unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self.over.wait(BEAT_S):
            for claim in list(self.held.values()):
                with suppress(OSError):
                    claim.touch()


def is_claimed(folder: Path) -> bool:
    """Whether somebody alive computes the run."""
    newest = _newest(folder)
    return newest > 0 and not _stale(folder / f"claim-{newest}")


def holder(folder: Path) -> str:
    """Who computes a run: ``process 123 on somehost``, for people to read."""
    found = _read(folder / f"claim-{_newest(folder)}")
    return f"process {found.get('pid')} on {str(found.get('host')).partition(' ')[0]}"


def _newest(folder: Path) -> int:
    """The highest number among a folder's claims; 0 where there is none."""
    return max((_number(path) for path in folder.glob("claim-*")), default=0)


def _number(path: Path) -> int:
    digits = path.name.removeprefix("claim-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


def _stale(claim: Path, void: Container[str] = ()) -> bool:
    found = _read(claim)
    gone = found.get("host") == here() and not alive(found.get("pid"))
    gone = gone or str(found.get("ticket")) in void
    try:
        return gone or _age(claim) > STALE_S
    except FileNotFoundError:
        return True  # given up just now


def _read(claim: Path) -> dict[str, Any]:
    """What a claim says; nothing while it is being written, or where it is damaged."""
    try:
        found = json.loads(claim.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def alive(pid: Any) -> bool:
    """Whether this machine has a process of this number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _age(claim: Path) -> float:
    """Seconds since a claim was renewed, by the clock that stamps files there: hosts' own may differ."""
    with tempfile.NamedTemporaryFile(dir=claim.parent, prefix=".now-") as now:
        return os.fstat(now.fileno()).st_mtime - claim.stat().st_mtime


@cache
def here() -> str:
    """This machine since it was started, as far as its process numbers mean the same."""
    parts = [os.uname().nodename]
    with suppress(OSError):  # Linux; elsewhere the name must do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
