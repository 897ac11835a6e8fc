"""Who computes a run, where several commands on one machine or many share a results folder.

A claim is a file in the run's folder, ``claim-<n>``, created exclusively: of all who try one succeeds,
also on network file systems without reliable locks. Its holder renews its time stamp every ``BEAT_S``
seconds. A stale claim is left alone: whoever wants the run creates ``claim-<n + 1>``, and the highest
number counts. A claim is stale

- when its process is gone, seen from the same machine;
- when whoever waits for it has seen its stamp stand still for ``STALE_S`` seconds by an own clock that
  nobody sets: right whatever clocks other machines have;
- at the first look, when its stamp is older than ``STALE_S`` seconds beside that of a file made just now.

Stamps are never given, always those of "now", which the file system sets: a network one by its server's
clock. Both stamps of the last rule are then of one clock. Where a file system takes its clients' clocks
instead, and the holder's is slow by more than ``STALE_S``, the run is computed twice; a clock that is fast
costs only the quick look: a stamp from the future is waited for by the second rule.

A job of a cluster's engine carries a ticket. Its claims name it, so that the same job, begun again on
another machine, takes them over at once, as does whoever learns from the engine that the job is gone.

A holder that was suspended for longer than ``STALE_S`` and then goes on computes the run a second time.
To compute a run twice harms nothing: every file is written whole, and both write the same numbers.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Container
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import printable
from bench.store import files

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
            UnwritableError: no claim can be written there, or that which is there cannot be read.
        """
        if folder in self.held:
            return True
        with files.writing(folder / "claim"):
            newest = _newest(folder)  # looked up once: the next number may not skip anybody's
            if newest and not _stale(folder / f"claim-{newest}", self.void):
                return False
            mine = folder / f"claim-{newest + 1}"
            folder.mkdir(parents=True, exist_ok=True)
            said = {"host": here(), "pid": os.getpid(), "ticket": self.ticket}
            try:
                with mine.open("x", encoding="utf-8") as file:
                    self.held[folder] = mine
                    json.dump(said, file)
            except FileExistsError:
                return False
        return True

    def release(self, folder: Path) -> None:
        """Give up a claim, and remove the stale ones below it."""
        mine = self.held.pop(folder, None)
        if mine is not None:
            for path in list(folder.glob("claim-*")):
                if 0 < _number(path) <= _number(mine):
                    with suppress(OSError):
                        path.unlink()

    def _renew(self) -> None:
        while not self.over.wait(BEAT_S):
            for claim in list(self.held.values()):
                with suppress(OSError):
                    os.utime(claim)  # to "now": see above; unlike touch, it makes no file


def is_claimed(folder: Path) -> bool:
    """Whether somebody alive computes the run."""
    newest = _newest(folder)
    return newest > 0 and not _stale(folder / f"claim-{newest}")


def holder(folder: Path) -> str:
    """Who computes a run: ``process 123 on somehost``, for people to read."""
    found = _read(folder / f"claim-{_newest(folder)}")
    host = str(found.get("host")).partition(" ")[0]
    return printable(f"process {found.get('pid')} on {host}")[:200]


def _newest(folder: Path) -> int:
    """The highest number among a folder's claims; 0 where there is none."""
    return max((_number(path) for path in folder.glob("claim-*")), default=0)


def _number(path: Path) -> int:
    digits = path.name.removeprefix("claim-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


_seen: dict[Path, tuple[int, float]] = {}
"""Others' claims: the stamp, and since when by this process's own clock it has been that."""


def _stale(claim: Path, void: Container[str] = ()) -> bool:
    try:
        found = _read(claim)
        gone = found.get("host") == here() and not alive(found.get("pid"))
        return gone or str(found.get("ticket")) in void or _silent(claim)
    except FileNotFoundError:
        _seen.pop(claim, None)
        return True  # given up just now


def _silent(claim: Path) -> bool:
    """Whether a claim was not renewed for too long."""
    stamp, now = claim.lstat().st_mtime_ns, time.monotonic()
    before, since = _seen.get(claim, (None, now))
    if stamp != before:
        _seen[claim] = stamp, now
        return _age(claim) > STALE_S
    return now - since > STALE_S


def _read(claim: Path) -> dict[str, Any]:
    """What a claim says; nothing while it is being written, or where it is damaged."""
    try:
        found = files.read_json(claim)
    except (FileNotFoundError, ValueError):
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
        return os.fstat(now.fileno()).st_mtime - claim.lstat().st_mtime


@cache
def here() -> str:
    """This machine since it was started, as far as its process numbers mean the same."""
    parts = [os.uname().nodename]
    with suppress(OSError):  # Linux; elsewhere the name must do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
