"""The report's page as a reader has it: in a browser, from a file, with the keyboard, and without a network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from layerhub_conformance.report import Cell, Finding, Result, Run, write
from layerhub_conformance.report.figures import figures
from layerhub_conformance.report.page import page as whole_page
from layerhub_conformance.report.sample import sample

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
).split()
PATIENCE = 60
"""Seconds to wait for anything; how long a busy machine may take says nothing about the page."""
AS_PIPES = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts the browser with its debugging pipes at the numbers that it expects, 3 and 4."""
MIDDLE = """selector => {
    const element = document.querySelector(selector);
    element.scrollIntoView({ block: "center", inline: "center" });
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
}"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")


class Browser:
    """Chromium by the DevTools protocol, over pipes: one page."""

    def __init__(self, home: str) -> None:
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()
        command = [sys.executable, "-c", AS_PIPES, str(theirs_in), str(theirs_out), str(CHROMIUM), *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={home}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.unread, self.number, self.session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command; its result. What the browser says meanwhile is kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        os.write(
            self.to, json.dumps({**message, "sessionId": self.session} if self.session else message).encode() + b"\0"
        )
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            assert select.select([self.back], [], [], PATIENCE)[0], "the browser does not answer"
            part = os.read(self.back, 1 << 16)
            assert part, "the browser ended"
            self.unread += part
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        os.close(self.to)
        os.close(self.back)

    def look(self, width: int = 1400, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Set the window, the colour scheme and the medium."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file anew, and wait until its matrix is drawn."""
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.as_uri() + fragment)
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """The value of an expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        place = self.run(f"({MIDDLE})({json.dumps(selector)})")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key where the focus is."""
        said = {"key": key, "code": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", type="keyDown", **said)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Write where the focus is."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, whole: bool = False) -> None:
        """Save what is seen."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings on the console, and requests for anything but this one file."""
        self.run("0")
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "about:")):
                found.append(params["request"]["url"])
            if method in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                found.append(json.dumps(params))
        return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        started = Browser(home)
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sample, beside a run in which one of its faults was not yet there."""
    now = sample(layers=24, cases=8)
    before = replace(now, results=[healed(r) for r in now.results], seconds=1.0)
    out = tmp_path_factory.mktemp("report")
    write(now, out, before)
    return out


def healed(result: Result) -> Result:
    return replace(result, verdict="pass") if result.subject == "Conv2DTranspose" else result


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Browser]:
    """The page, opened anew; no test may leave a complaint behind."""
    browser.look()
    browser.open(folder / "index.html")
    yield browser
    assert not browser.complaints()


CONTRAST = """(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const channels = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = (colour) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = [...channels(colour)].map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        while (element && channels(getComputedStyle(element).backgroundColor)[3] < 255) element = element.parentElement;
        return element ? getComputedStyle(element).backgroundColor : "white";
    };
    let least = 21;
    const seen = new Set();
    for (const element of document.body.querySelectorAll("*")) {
        const pair = [getComputedStyle(element).color, behind(element)];
        if (!element.innerText || !element.offsetParent || seen.has(pair.join())) continue;
        seen.add(pair.join());
        const [a, b] = pair.map(light).sort((x, y) => y - x);
        least = Math.min(least, (a + 0.05) / (b + 0.05));
    }
    return least;
})()"""
"""The least contrast of any text with what is behind it (WCAG 2.2, 1.4.3 asks for 4.5)."""

FAULTY = '#grid [data-cell*="Conv2DTranspose"].v-fail'
SHOWN = "[...document.querySelectorAll('#grid tbody .name')].map(name => name.textContent)"
COLUMNS = "[...document.querySelectorAll('#grid thead tr:last-child th')].length"


def rows(page: Browser) -> list[str]:
    """The specs that the matrix shows."""
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    return page.run(SHOWN)


def test_forty_thousand_trials_open_in_two_seconds(browser, tmp_path):
    large, path = sample(), tmp_path / "index.html"
    path.write_text(whole_page(large, figures(large)), encoding="utf-8")
    # The time of the page's thread: what else the machine does meanwhile is not the page's.
    browser.call("Performance.enable", timeDomain="threadTicks")
    browser.open(path)
    metrics = {m["name"]: m["value"] for m in browser.call("Performance.getMetrics")["metrics"]}
    assert metrics["ThreadTime"] < 2
    assert browser.run("data.results.text.case.length") == 40_000


def test_what_would_be_a_complaint_is_seen(browser, folder):
    browser.open(folder / "index.html")
    assert not browser.complaints()
    browser.run("console.error('one')")
    browser.run("new Image().src = 'https://example.invalid/two'")
    browser.run("setTimeout(() => { throw new Error('three') })")
    browser.run("new Promise(done => setTimeout(done, 50))")
    complaints = browser.complaints()
    assert all(any(word in complaint for complaint in complaints) for word in ("one", "two", "three"))


def test_the_matrix_has_the_whole_registry(page):
    names = rows(page)
    total = page.run("data.specs.length")
    assert len(names) == total and page.run("find('count').textContent") == f"{total:,} of {total:,} specs shown."
    assert {"Dense", "Adam", "InputLayer"} <= set(names)
    assert page.run(COLUMNS) == 16
    idle = (
        "[...document.querySelectorAll('#grid tr')].find(row => row.textContent.startsWith('InputLayer')).textContent"
    )
    assert page.run(idle) == "InputLayernot run"


def test_a_cell_opens_its_cases_and_escape_closes_them(page):
    page.click(FAULTY)
    assert page.run("dialog.open") and page.run("dialog.querySelector('h2').textContent").startswith(
        "✗ Conv2DTranspose on torch"
    )
    card = page.run("dialog.querySelector('article').innerText")
    for said in (
        "gradient of kernel",
        "412 × its bound",
        "one channel",
        "at",
        "reference",
        "bound",
        "served by torch.conv",
    ):
        assert said in card
    assert "layerhub conformance --backend torch" in card
    assert page.run("location.hash").startswith("#cell=")
    page.press("Escape", 27)
    page.until("!dialog.open && location.hash === ''")
    assert page.run("document.activeElement.matches('#grid button.v-fail')")


def test_other_backends_are_one_click_away(page):
    page.click(FAULTY)
    page.click(".peers button:first-child")
    assert page.run("dialog.querySelector('h2').textContent").startswith("✓ Conv2DTranspose on numpy")
    assert page.run("dialog.querySelectorAll('article').length") == 0
    assert page.run("dialog.querySelector('details').open && dialog.querySelectorAll('tbody tr').length") == 16


def test_a_trial_that_fails_in_the_other_direction_passes_here(page):
    page.click('#grid [data-cell*="Conv2DTranspose"][data-cell*="torch"][data-cell*="forward"]')
    assert page.run("dialog.querySelector('summary').textContent") == "✓ 16 pass"
    assert page.run("dialog.innerText.match(/fail in the other direction/g).length") == 2


def test_the_replay_line_is_copied(page):
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.click(FAULTY)
    page.click("article .copy")
    page.until("document.querySelector('article .copy').textContent === 'Copied'")
    line = page.run("document.querySelector('article .replay code').textContent")
    assert line.startswith("layerhub conformance ") and page.run("navigator.clipboard.readText()") == line


def test_the_replay_line_is_copied_where_the_clipboard_is_not_granted(page):
    page.run("document.addEventListener('copy', () => { window.copied = String(document.activeElement.value); })")
    page.run("navigator.clipboard.writeText = () => Promise.reject(new Error('denied'))")
    page.click(FAULTY)
    page.click("article .copy")
    page.until("document.querySelector('article .copy').textContent === 'Copied'")
    assert page.run("window.copied === document.querySelector('article .replay code').textContent")


def test_filters(page):
    page.click("#filters [name=text]")
    page.write("conv2d")
    assert set(rows(page)) == {"Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"}
    page.run("form.elements.text.value = '^Conv2D$'; form.dispatchEvent(new Event('input'))")
    assert rows(page) == ["Conv2D"]
    page.run("form.elements.text.value = '('; form.dispatchEvent(new Event('input'))")
    assert rows(page) == []
    page.click("#filters [type=reset]")
    assert len(rows(page)) > 200
    page.click("#filters [name=run] + span")
    assert "InputLayer" not in rows(page) and "Dense" not in rows(page) and "Dot" in rows(page)
    page.click("#filters [name=failing] + span")
    assert set(rows(page)) == set(
        page.run("data.specs.filter(s => ['fail', 'mistrusted'].includes(s[2])).map(s => s[1])")
    )
    for value in ("numpy", "torch", "jax", "float64", "gradient"):
        page.click(f"#filters [value={value}] + span")
    assert rows(page) == ["DepthwiseConv2D", "Dot"] and page.run(COLUMNS) == 1
    page.click("#filters [type=reset]")
    page.run("form.elements.kind.value = 'loss'; form.dispatchEvent(new Event('input', { bubbles: true }))")
    assert "Huber" in rows(page) and "Dense" not in rows(page)


def test_the_keyboard_reaches_everything(page):
    stops = "document.querySelectorAll('#grid [tabindex=\"0\"]').length"
    assert page.run(stops) == 1
    page.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    first = page.run("document.activeElement.dataset.cell")
    for key, code in (("ArrowRight", 39), ("ArrowDown", 40)):
        page.press(key, code)
    second = page.run("document.activeElement.dataset.cell")
    assert json.loads(first)[1] < json.loads(second)[1] and json.loads(second)[4] == "gradient"
    assert page.run(stops) == 1 and page.run("document.activeElement.tabIndex") == 0
    page.press("End", 35)
    assert json.loads(page.run("document.activeElement.dataset.cell"))[2] == "jax"
    page.press("Home", 36)
    page.press("Enter", 13, "\r")
    assert page.run("dialog.open && dialog.contains(document.activeElement)")
    page.press("Tab", 9)
    assert page.run("dialog.contains(document.activeElement)")
    page.press("Escape", 27)
    page.until("!dialog.open")
    assert json.loads(page.run("document.activeElement.dataset.cell"))[1:3] == [json.loads(second)[1], "numpy"]


def test_every_cell_is_told_aloud_and_marked_without_colour(page):
    told = "button.ariaLabel.includes(': ') && button.querySelector('.mark').textContent"
    assert page.run(f"[...grid.querySelectorAll('button')].every(button => {told})")
    spoken = page.run(f"document.querySelector('{FAULTY}').ariaLabel")
    assert spoken.startswith(
        "Conv2DTranspose on torch, float64, gradient: fail, 14 of 16 trials passed, worst error 412 of its bound"
    )


def test_who_disagrees_leads_to_the_cell(page):
    heads = page.run("[...document.querySelectorAll('#who summary b')].map(b => b.textContent)")
    assert heads[0] == "all 4 backends: suspect the reference" and "tensorflow alone" in heads
    page.click("#who .link[data-cell*=DepthwiseConv2D]")
    assert page.run("dialog.querySelector('h2').textContent").startswith("✗ DepthwiseConv2D on tensorflow")


def test_two_runs_are_compared(page):
    text = page.run("document.getElementById('compared').innerText")
    assert "Newly failing" in text and "Conv2DTranspose" in text and "Fixed: none" in text


def test_a_link_to_a_cell_opens_it(page, folder):
    page.click(FAULTY)
    fragment = page.run("location.hash")
    page.open(folder / "index.html", fragment)
    assert page.run("dialog.querySelector('h2').textContent").startswith("✗ Conv2DTranspose on torch")


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_never_scrolls_sideways_and_can_be_read(page, folder, width, dark):
    page.look(width, 900, dark)
    page.open(folder / "index.html")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("find('matrix-box').scrollWidth > find('matrix-box').clientWidth")
    page.run("find('matrix-box').scrollTo(200, 800)")
    inside = "(e => ['x', 'y'].map(k => e.getBoundingClientRect()[k] - find('matrix-box').getBoundingClientRect()[k]))"
    assert page.run(f"{inside}(grid.querySelector('thead'))")[1] < 2
    assert page.run(f"{inside}(grid.querySelector('tbody .name'))")[0] < 2
    assert page.run(CONTRAST) >= 4.5
    page.run(f"document.querySelector('{FAULTY}').click()")
    assert page.run("dialog.scrollWidth <= innerWidth && document.querySelector('.sheet').scrollWidth <= innerWidth")
    assert page.run(CONTRAST) >= 4.5


def test_it_prints(page):
    page.look(media="print")
    assert page.run("['nav', '#filters'].every(s => getComputedStyle(document.querySelector(s)).display === 'none')")
    assert page.run("getComputedStyle(find('matrix-box')).maxHeight") == "none"
    assert base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"]).startswith(b"%PDF")


def test_what_is_hostile_stays_text(browser, tmp_path):
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    finding = Finding(evil, "forward", False, 2.0, got=1.0, expected=0.0, bound=0.5, pattern=evil, detail=evil)
    result = Result(
        evil,
        evil,
        "layer",
        evil,
        evil,
        "numpy",
        "float32",
        "kernel",
        "eager",
        "fail",
        evil,
        findings=(finding,),
        replay=evil,
    )
    cell = Cell(evil, "numpy", "float32", "forward", "fail", run=1, failed=1, worst=2.0, reasons=(evil,))
    write(Run("now", evil, evil, evil, evil, registry={"layer": [evil]}, results=[result], cells=[cell]), tmp_path)
    browser.open(tmp_path / "index.html")
    browser.click("#grid button")
    assert browser.run("dialog.innerText.split('onerror').length") > 6
    assert browser.run("document.images.length") == 0 and not browser.complaints()
