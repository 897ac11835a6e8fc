"""The page: what is on it, what cannot get onto it, and how it behaves in a browser where there is one."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fake_runs
import pytest

import reports
from reports import build, groups, page

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


class Outline(HTMLParser):
    """Open and close tags of a page, and all attributes."""

    VOID = frozenset({"meta", "img", "link", "br", "hr", "input", "source"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(text: str) -> Outline:
    """Parse a page; every element must be closed in order."""
    found = Outline()
    found.feed(text)
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on two protocols, a failed run, a hostile name and a broken record."""
    root = tmp_path_factory.mktemp("results")
    for folder in fake_runs.study(root, {"vanilla": 40, "dcgan": 20}, seeds=range(3), n_evals=2):
        shutil.copyfile(folder / "samples.png", folder / "neighbours.png")
    fake_runs.run(root, seed=3, status="diverged", fields={"reason": f"{HOSTILE} at step 3"})
    fake_runs.study(root, {"vanilla": 41}, seeds=range(2), fields={"protocol.n_fake": 100}, images=False)
    fake_runs.run(root, model=HOSTILE, hyperparameters={"lr": HOSTILE}, images=False)
    bad = fake_runs.run(root, model="broken")
    (bad / "run.json").write_text("{")
    build.build([root], root / "report", ("html",), quick=True)
    return root / "report" / "report.html"


@pytest.mark.slow
def test_the_page_is_whole(report: Path) -> None:
    text = report.read_text()
    found = outline(text)
    assert found.tags.count("h1") == 1
    assert found.tags.count("h2") == 3  # two groups, and the records that could not be used
    for content in ("generation on digits (n_fake 360)", "bench.run --models dcgan", "not JSON", "diverged"):
        assert content in text
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(report: Path) -> None:
    found = outline(report.read_text())
    sources = [value for _, name, value in found.attributes if name in {"src", "href", "action", "poster"}]
    assert sources
    sources += [value for _, name, value in found.attributes if name == "srcset"]
    assert all(value and value.startswith(("data:image/png;base64,", "#")) for value in sources)
    assert not {"link", "iframe", "object", "base", "form"} & set(found.tags)
    assert "@import" not in report.read_text()
    assert "url(" not in report.read_text()


def test_what_comes_from_a_record_is_text(report: Path) -> None:
    text = report.read_text()
    found = outline(text)
    assert found.tags.count("script") == 1
    assert "onerror" not in {name for _, name, _ in found.attributes}
    assert "&lt;/script&gt;" in text


def test_the_policy_allows_its_own_style_and_script_only(report: Path) -> None:
    found = outline(report.read_text())
    [policy] = [value for _, _, value in found.attributes if value and value.startswith("default-src")]
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[\w+/=]+'; script-src 'sha256-[\w+/=]+'",
        policy,
    )
    assert not [value for _, name, value in found.attributes if name == "style"]


def test_pictures_have_words(report: Path) -> None:
    found = outline(report.read_text())
    assert found.tags.count("img") == len(
        [1 for tag, name, value in found.attributes if name == "alt" and value]
    )


def test_trials_of_a_search_have_no_command_of_their_own(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False, fields={"protocol.scored_on": "val"})
    (group,) = groups.groups(reports.load(tmp_path))
    assert page.command(group, group.summary["id"][0]).startswith("# a trial of a search")


def test_the_command_gives_the_same_configuration(tmp_path: Path) -> None:
    settings = {"g_widths": [8, 16], "lr": 1e-3, "norm": None, "bias": True, "net": "it's; rm -rf"}
    fake_runs.study(
        tmp_path,
        {"vanilla": 40},
        seeds=(3, 7),
        n_evals=4,
        select="best",
        images=False,
        hyperparameters=settings,
        fields={"protocol.precision": "bf16", "protocol.threads": 2},
    )
    [group] = groups.groups(reports.load(tmp_path))
    words = shlex.split(page.command(group, group.summary["id"][0]))
    assert words[:3] == ["python", "-m", "bench.run"]
    flags = " ".join(words)
    for part in (
        "--models vanilla",
        "--dataset digits",
        "--seed-list 3 7",
        "--steps 400",
        "--eval-every 100",
        "--features classifier",
        "--select best",
        "--precision bf16",
        "--threads 2",
        "--d-acc-tolerance 0.15",
        "vanilla.g_widths=8,16",
        "vanilla.lr=0.001",
        "vanilla.bias=true",
        "vanilla.norm=none",
    ):
        assert part in flags
    assert "vanilla.net=it's; rm -rf" in words


# ---------------------------------------------------------------- in a browser


class Browser:
    """A page in headless Chromium, spoken to over a pipe in its DevTools protocol."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands = os.fdopen(commands, "wb", buffering=0)
        self.answers = answers
        self.unread = b""
        self.sent = 0
        self.session: str | None = None
        self.said: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way are kept in ``said``."""
        self.sent += 1
        message: dict[str, Any] = {"id": self.sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.said.append(answer)

    def receive(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.unread:
            read = os.read(self.answers, 1 << 20)
            assert read, "the browser went away"
            self.unread += read
        text, _, self.unread = self.unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, path: Path, *, width: int = 1200, scheme: str = "light") -> None:
        """Load a file at a width (CSS pixels) and colour scheme, and wait until it is there."""
        self.session, self.said = None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.said):
            self.said.append(self.receive())

    def js(self, expression: str) -> Any:
        """The value of an expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[dict[str, Any]]:
        """Errors, warnings and violated policies that the console shows, and whatever was fetched."""
        heard = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        fetched = [
            event["params"]["request"]["url"]
            for event in self.said
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [event for event in self.said if event.get("method") in heard] + [
            {"fetched": url} for url in fetched if not url.startswith(("file:", "data:"))
        ]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser of its own; the test is skipped where none is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --user-data-dir={shlex.quote(str(profile))}"
    )
    # The browser listens on descriptor 3 and answers on 4.
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            f"exec {program} {flags} --remote-debugging-pipe 3<&{read_commands} 4>&{write_answers}",
        ],
        pass_fds=(read_commands, write_answers),
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    browser = Browser(commands, answers)
    try:
        yield browser
    finally:
        process.terminate()
        process.wait(timeout=20)
        browser.commands.close()
        os.close(answers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


NAMES = "[...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[0].textContent)"


@pytest.mark.slow
def test_the_page_opens_without_a_complaint(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.js("document.title") == "GAN benchmark report"
    assert browser.js("document.images.length") > 0
    assert browser.js("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.complaints() == []


def test_heads_sort_and_say_so(browser: Browser, report: Path) -> None:
    browser.open(report)
    before = browser.js(NAMES)
    assert before[0] == "training images"
    fid = "document.querySelectorAll('table')[0].querySelectorAll('thead tr:last-child th')[1]"
    assert browser.js(f"{fid}.textContent") == "FID ↓"
    browser.js(f"{fid}.querySelector('button').click()")
    assert browser.js(f"{fid}.getAttribute('aria-sort')") == "ascending"
    up = browser.js(NAMES)
    browser.js(f"{fid}.querySelector('button').click()")
    assert browser.js(f"{fid}.getAttribute('aria-sort')") == "descending"
    down = browser.js(NAMES)
    assert up[0] == down[0] == "training images"  # references stay on top
    assert up[1:] == down[:0:-1] == before[1:]
    browser.js("document.querySelectorAll('table')[0].querySelector('thead tr:last-child button').click()")
    assert browser.js(f"{fid}.getAttribute('aria-sort')") == "none"
    assert browser.js(NAMES)[1:] == sorted(before[1:], key=str.casefold)


def test_a_keyboard_reaches_every_control(browser: Browser, report: Path) -> None:
    browser.open(report)
    controls = "document.querySelectorAll('button, summary, a, .scroll, pre')"
    assert browser.js(f"[...{controls}].every(control => control.tabIndex >= 0)")


@pytest.mark.parametrize("width", [360, 1200])
def test_only_tables_scroll_sideways(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("document.querySelectorAll('details').forEach(d => d.open = true)") is None
    assert browser.js("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [400, 1200])
def test_long_names_leave_room_for_the_scores(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    name = "[...document.querySelectorAll('tbody th')].find(th => th.textContent.includes('script'))"
    assert browser.js(f"{name}.offsetWidth") < 0.55 * width
    assert browser.js(f"{name}.offsetWidth") > 150  # wraps between words, not between letters
    corner = "getComputedStyle(document.querySelector('thead tr:first-child :first-child')).position"
    assert browser.js(corner) == ("static" if width < 600 else "sticky")


def test_marks_do_not_shift_digits(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.js("document.querySelectorAll('td')[20].innerHTML = '1<span class=\"mark\">†</span>'")
    assert browser.js("document.querySelector('.mark').getBoundingClientRect().width") == 0


@pytest.mark.parametrize("width", [400, 1300])
def test_figures_are_as_wide_as_the_column_and_never_cropped(
    browser: Browser, report: Path, width: int
) -> None:
    browser.open(report, width=width)
    images = "[...document.querySelectorAll('.figures .whole img')]"
    widths = browser.js(f"{images}.map(image => image.offsetWidth)")
    column = browser.js("document.querySelector('main').clientWidth")
    assert widths
    assert set(widths) == {column}
    assert column > 0.9 * (width - 20)


def test_no_table_is_clipped_on_a_laptop(browser: Browser, report: Path) -> None:
    browser.open(report, width=1300)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    clipped = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
    assert browser.js(f"{clipped}.map(box => box.getAttribute('aria-label'))") == []


def test_the_contents_lead_to_every_part(browser: Browser, report: Path) -> None:
    browser.open(report)
    hrefs = "[...document.querySelectorAll('nav a')].map(link => link.getAttribute('href'))"
    links = browser.js(hrefs)
    assert {"#group-1", "#figures-1", "#neighbours-1", "#cost-1", "#runs-1", "#group-2", "#skipped"} <= {
        *links
    }
    assert browser.js(f"{hrefs}.every(link => document.querySelector(link) !== null)")


def test_a_command_is_copied_or_selected(browser: Browser, report: Path) -> None:
    browser.open(report)
    command = browser.js("document.querySelector('pre').textContent")
    browser.js("document.querySelector('pre').closest('details').open = true")
    clipboard = "{writeText: async text => { window.got = text }}"
    browser.js(f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}}}) && 0")
    browser.js("document.querySelector('.copy').click()")
    assert browser.js("window.got") == command
    assert browser.js("document.querySelector('.copy').textContent") == "Copied"
    browser.js("navigator.clipboard.writeText = async () => { throw new Error('no') }; 0")
    browser.js("document.querySelector('.copy').click()")
    assert browser.js("getSelection().toString()").split() == command.split()


def test_the_history_of_a_run_opens_on_click(browser: Browser, report: Path) -> None:
    browser.open(report)
    seed = "document.querySelector('.history')"
    browser.js(f"{seed}.parentElement.open = true")
    assert browser.js(f"{seed}.querySelector('svg').checkVisibility()") is False
    browser.js(f"{seed}.querySelector('summary').click()")
    assert browser.js(f"{seed}.querySelector('svg').checkVisibility()") is True
    lines = browser.js(f"[...{seed}.querySelectorAll('polyline')].map(line => line.points.numberOfItems)")
    assert len(lines) == 4  # losses of both networks, accuracy on real and on fake images
    assert min(lines) > 10


def test_dark_and_light(browser: Browser, report: Path) -> None:
    ground, images = [], []
    for scheme in ("light", "dark"):
        browser.open(report, scheme=scheme)
        ground.append(browser.js("getComputedStyle(document.body).backgroundColor"))
        images.append(browser.js("[...document.images].map(image => image.currentSrc.length)"))
    assert ground == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]
    assert len(images[0]) == len(images[1])
    n = browser.js("document.querySelectorAll('.figures img').length")
    assert sum(a != b for a, b in zip(*images, strict=True)) == n > 0  # each figure has a dark variant


def test_the_policy_stops_what_would_be_injected(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    browser.js("const s = document.createElement('script')")
    browser.js("s.textContent = 'document.title=1'")
    browser.js("document.body.append(s)")
    assert browser.js("document.title") == "GAN benchmark report"
