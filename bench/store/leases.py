"""Leases: who computes what, where several processes on one machine or many share a results folder.

A lease on a folder is a file in it, ``lease-<n>``, created exclusively: of all who try one succeeds, also on
network file systems without reliable locks. Its holder renews its time stamp every ``BEAT_S`` seconds. A
stale lease is left alone: whoever wants the work creates ``lease-<n + 1>``, and the highest number counts.
A lease is stale

- when its process is gone, seen from the same machine;
- when whoever waits for it has seen its stamp stand still for a minute (``STALE_S``) by an own clock that
  nobody sets: right whatever clocks other machines have;
- at the first look, when its stamp is older than that beside the stamp of a file made just now.

Stamps are never given, always those of "now", which the file system sets: a network one by its server's
clock. Both stamps of the last rule are then of one clock. Where a file system takes its clients' clocks
instead, and the holder's is slow by more than ``STALE_S``, the work is done twice; a clock that is fast
costs only the quick look: a stamp from the future is waited for by the second rule.

The process of a lease is the supervisor of the worker that took it: it knows first that a worker died, and
gives up the worker's leases.

A holder that was suspended for longer than ``STALE_S`` and then goes on computes the run a second time.
To compute a run twice harms nothing: every file is written whole, and both write the same numbers.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import printable
from bench.store.files import read_json, writing

BEAT_S = 5.0
STALE_S = 60.0

Notify = Callable[[str, Path], object]
"""Is told ``"took"`` or ``"released"``, and the folder."""


class Leases:
    """The leases that this process holds; within the ``with`` block a thread renews them."""

    def __init__(
        self,
        *,
        command: str = "",
        owner: int | None = None,
        stale_s: float | None = None,
        notify: Notify = lambda what, folder: None,
    ) -> None:
        """``command`` names the command that the work is for, ``owner`` the process that answers for it."""
        self.command, self.owner, self.notify = command, owner or os.getpid(), notify
        self.stale_s = stale_s
        self.lost: dict[Path, str] = {}
        """Folder -> holder, of leases that were taken over from a dead process of the same command."""
        self.held: dict[Path, Path] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Leases:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for folder in list(self.held):
            self.release(folder)

    def take(self, folder: Path) -> bool:
        """Take the lease on a folder; False while somebody else has it.

        Raises:
            UnwritableError: no lease can be written there, or that which is there cannot be read.
        """
        if folder in self.held:
            return True
        with writing(folder / "lease"):
            newest = _newest(folder)  # looked up once: the next number may not skip anybody's
            if newest and not _stale(folder / f"lease-{newest}", self.stale_s):
                return False
            mine = folder / f"lease-{newest + 1}"
            folder.mkdir(parents=True, exist_ok=True)
            said = {"host": here(), "pid": self.owner, "command": self.command}
            before = _read(folder / f"lease-{newest}") if newest else {}
            self.notify("took", folder)
            try:
                with mine.open("x", encoding="utf-8") as file:
                    self.held[folder] = mine
                    json.dump(said, file)
            except OSError as error:
                self.notify("released", folder)
                if isinstance(error, FileExistsError):
                    return False
                raise
        if self.command and before.get("command") == self.command:
            self.lost[folder] = _shown(before)
        return True

    def release(self, folder: Path) -> None:
        """Give up a lease, and remove the stale ones below it."""
        mine = self.held.pop(folder, None)
        self.lost.pop(folder, None)
        if mine is not None:
            _remove(folder, _number(mine))
            self.notify("released", folder)

    def _renew(self) -> None:
        while not self.over.wait(min(BEAT_S, (self.stale_s or STALE_S) / 12)):
            for lease in list(self.held.values()):
                with suppress(OSError):
                    os.utime(lease)  # to "now": see above; unlike touch, it makes no file


def is_mine(folder: Path) -> bool:
    """Whether the lease on a folder is this process's, or that of a worker of it."""
    found = _read(folder / f"lease-{_newest(folder)}")
    return found.get("host") == here() and found.get("pid") == os.getpid()


def give_up(folder: Path) -> None:
    """Remove this process's leases on a folder: the worker that took them is gone."""
    if is_mine(folder):
        _remove(folder, _newest(folder))


def _remove(folder: Path, newest: int) -> None:
    for path in list(folder.glob("lease-*")):
        if 0 < _number(path) <= newest:
            with suppress(OSError):
                path.unlink()


def is_leased(folder: Path, stale_s: float | None = None) -> bool:
    """Whether somebody alive works on a folder."""
    newest = _newest(folder)
    return newest > 0 and not _stale(folder / f"lease-{newest}", stale_s)


def holder(folder: Path) -> str:
    """Who works on a folder: ``process 123 on somehost``, for people to read."""
    return _shown(_read(folder / f"lease-{_newest(folder)}"))


def _shown(found: dict[str, Any]) -> str:
    host = str(found.get("host")).partition(" ")[0]
    return printable(f"process {found.get('pid')} on {host}")[:200]


def _newest(folder: Path) -> int:
    """The highest number among a folder's leases; 0 where there is none."""
    return max((_number(path) for path in folder.glob("lease-*")), default=0)


def _number(path: Path) -> int:
    digits = path.name.removeprefix("lease-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


_seen: dict[Path, tuple[int, float]] = {}
"""Others' leases: the stamp, and since when by this process's own clock it has been that."""


def _stale(lease: Path, stale_s: float | None = None) -> bool:
    try:
        found = _read(lease)
        gone = found.get("host") == here() and not alive(found.get("pid"))
        return gone or _silent(lease, STALE_S if stale_s is None else stale_s)
    except FileNotFoundError:
        _seen.pop(lease, None)
        return True  # given up just now


def _silent(lease: Path, stale_s: float) -> bool:
    """Whether a lease was not renewed for too long."""
    stamp, now = lease.lstat().st_mtime_ns, time.monotonic()
    before, since = _seen.get(lease, (None, now))
    if stamp != before:
        _seen[lease] = stamp, now
        return _age(lease) > stale_s
    return now - since > stale_s


def _read(lease: Path) -> dict[str, Any]:
    """What a lease says; nothing while it is being written, or where it is damaged."""
    try:
        found = read_json(lease)
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


def _age(lease: Path) -> float:
    """Seconds since a lease was renewed, by the clock that stamps files there: hosts' own may differ."""
    with tempfile.NamedTemporaryFile(dir=lease.parent, prefix=".now-") as now:
        return os.fstat(now.fileno()).st_mtime - lease.lstat().st_mtime


@cache
def here() -> str:
    """This machine since it was started, as far as its process numbers mean the same."""
    parts = [os.uname().nodename]
    with suppress(OSError):  # Linux; elsewhere the name must do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
