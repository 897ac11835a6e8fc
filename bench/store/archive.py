"""A study as one zip file: written the same byte for byte from the same files, and opened with care.

``SHA256SUMS`` in it lists every other file, as the program ``sha256sum`` reads it.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bench.store.files import write_atomic

SUMS = "SHA256SUMS"
MOST_BYTES = 2**36
"""Of all files together, unpacked: 64 GB. A small file can claim to hold more than any disk."""
MOST_FILES = 10**6
CHUNK = 2**20


class ArchiveError(Exception):
    """An archive cannot be trusted. The message is one line."""


def write(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write an archive of these files, name -> content or where it is, and their checksums.

    The same members give the same bytes: names are sorted, and no time is in it.

    Raises:
        UnwritableError: the system refuses.
    """

    def fill(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            sums = [f"{_add(archive, name, members[name])}  {name}\n" for name in sorted(members)]
            _add(archive, SUMS, "".join(sums).encode())

    write_atomic(path, fill)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> str:
    """Add one file; returns its SHA-256."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    compressed = name.endswith((".png", ".pdf", ".pt", ".npz"))
    entry.compress_type = zipfile.ZIP_STORED if compressed else zipfile.ZIP_DEFLATED
    sha = hashlib.sha256()
    with archive.open(entry, "w", force_zip64=True) as target:
        if isinstance(content, bytes):
            sha.update(content)
            target.write(content)
        else:
            with content.open("rb") as source:
                while block := source.read(CHUNK):
                    sha.update(block)
                    target.write(block)
    return sha.hexdigest()


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into a new folder, and compare its files with their checksums.

    No file is written outside the folder, no link is made, and what takes more room than it says is not
    unpacked to its end.

    Raises:
        ArchiveError: it is no archive, or is damaged, or holds what it should not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _refuse(path, entries)
            found = {}
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                found[entry.filename] = _extract(archive, entry, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise ArchiveError(f"{path}: not a zip file, or damaged ({error})") from error
    except OSError as error:  # two entries that cannot both be there, a name that is too long
        raise ArchiveError(f"{path}: cannot be unpacked ({error.strerror or error})") from error
    _compare(path, folder, found)


def _refuse(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse names that lead out of the folder, what is not a file, and too much of all."""
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        kind = stat.S_IFMT(entry.external_attr >> 16)
        outside = not parts or parts[0] == "/" or ".." in parts or "\\" in entry.filename
        if outside or ":" in parts[0]:
            raise ArchiveError(f"{path}: {entry.filename!r} would be outside its folder")
        if kind not in (0, stat.S_IFREG):
            raise ArchiveError(f"{path}: {entry.filename!r} is not a file")
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise ArchiveError(f"{path}: holds more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ArchiveError(f"{path}: holds two files of one name")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> str:
    """Write one file of at most the size that the archive states; returns its SHA-256."""
    sha, size = hashlib.sha256(), 0
    with archive.open(entry) as source, target.open("xb") as file:
        while block := source.read(CHUNK):
            size += len(block)
            if size > entry.file_size:
                raise ValueError(f"{entry.filename} is larger than it says")
            sha.update(block)
            file.write(block)
    return sha.hexdigest()


def _compare(path: Path, folder: Path, found: Mapping[str, str]) -> None:
    if SUMS not in found:
        raise ArchiveError(f"{path}: no {SUMS} in it, so it is not an archive of this harness")
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    listed = {name: sha for sha, _, name in (line.partition("  ") for line in lines)}
    held = {name: sha for name, sha in found.items() if name != SUMS}
    if wrong := sorted(name for name in {*listed, *held} if listed.get(name) != held.get(name)):
        raise ArchiveError(f"{path}: {wrong[0]!r} does not match its checksum, or is missing, or was added")
