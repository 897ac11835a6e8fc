"""docs/reliability.md names the test of each promise. These tests exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named() -> list[tuple[str, str]]:
    """File and part of a test's name, of each test in the second column: ``leases: two_commands``."""
    found = []
    for line in (ROOT / "docs/reliability.md").read_text(encoding="utf-8").splitlines():
        cells = line.split("|")
        if len(cells) != 5:
            continue
        for part in cells[2].split(";"):
            file, colon, names = part.partition(":")
            names = re.sub(r"\(.*?(\)|$)|\[.*?\]", "", names)
            found += [(file.strip(), name.strip()) for name in names.split(",") if colon and name.strip()]
    return found


def test_every_test_that_the_page_names_exists() -> None:
    tests = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named()) > 150
    missing = [
        f"{file}: {name}"
        for file, name in named()
        if not re.search(rf"def test_\w*{re.escape(name)}", tests.get(f"test_{file}", ""))
    ]
    assert not missing
