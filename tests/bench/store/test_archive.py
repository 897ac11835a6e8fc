"""Archives: the same bytes from the same files, and nothing outside the folder, whatever is in them."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from bench.store import archive
from bench.store.archive import ArchiveError

MEMBERS = {"runs/a/seed-0/run.json": b"{}", "report/page.png": b"\x00\x01" * 5000}


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    for name in ("a.zip", "b.zip"):
        archive.write(tmp_path / name, {**MEMBERS, "runs/a/seed-0/checkpoint.pt": tmp_path / "file"})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    archive.unpack(tmp_path / "a.zip", tmp_path / "here")
    held = {str(p.relative_to(tmp_path / "here")): p.read_bytes() for p in (tmp_path / "here").rglob("*.*")}
    assert held == {**MEMBERS, "runs/a/seed-0/checkpoint.pt": b"weights"}
    assert len((tmp_path / "here" / archive.SUMS).read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../outside", "would be outside its folder"),
        ("a/../../outside", "would be outside its folder"),
        ("/outside", "would be outside its folder"),
        ("C:/outside", "would be outside its folder"),
        ("a\\..\\outside", "would be outside its folder"),
    ],
)
def test_no_name_leads_out_of_the_folder(name: str, said: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(ArchiveError, match=said):
        archive.unpack(tmp_path / "bad.zip", tmp_path / "in" / "here")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="'link' is not a file"):
        archive.unpack(tmp_path / "bad.zip", tmp_path / "here")


def test_what_claims_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(tmp_path / "study.zip", {"zeros": bytes(10**6)})
    monkeypatch.setattr(archive, "MOST_BYTES", 10**5)
    with pytest.raises(ArchiveError, match="holds more than"):
        archive.unpack(tmp_path / "study.zip", tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_what_is_larger_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    """A bomb: the stated size is small."""
    path = tmp_path / "study.zip"
    archive.write(path, {"zeros": bytes(10**6)})
    size = (10**6).to_bytes(4, "little")
    content = path.read_bytes()
    assert size in content
    path.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="damaged"):
        archive.unpack(path, tmp_path / "here")
    assert not any(p.stat().st_size > 100 for p in (tmp_path / "here").rglob("*"))


@pytest.mark.parametrize(
    "damage", ["changed", "missing", "added", "no sums", "twice", "no zip", "a file as folder"]
)
def test_what_was_not_packed_so_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "study.zip"
    members = {**MEMBERS, archive.SUMS: b""}
    archive.write(path, MEMBERS)
    with zipfile.ZipFile(path) as file:
        members[archive.SUMS] = file.read(archive.SUMS)
    if damage == "changed":
        members["runs/a/seed-0/run.json"] = b"[]"
    elif damage == "missing":
        del members["runs/a/seed-0/run.json"]
    elif damage == "added":
        members["more"] = b""
    elif damage == "no sums":
        del members[archive.SUMS]
    elif damage == "a file as folder":
        members["report"] = b""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
        if damage == "twice":
            with pytest.warns(UserWarning, match="Duplicate"):
                file.writestr(archive.SUMS, b"")
    if damage == "no zip":
        path.write_bytes(b"PK nothing of the kind")
    with pytest.raises(ArchiveError) as refused:
        archive.unpack(path, tmp_path / "here")
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
