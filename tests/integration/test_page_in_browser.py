"""The page of the local Lambda in a real browser, with the forwarder and its three backends: `demo --page`.

UPDATE_SCREENSHOT=1 writes docs/images/page.png anew.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.browser import CONTROL, END, ENTER, LACKING, LEFT, Browser, browser

pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "page.png"
FUNCTION = """
def handler(event, context):
    line = event.get("line", "order 8841 was paid")
    print(line)
    return {"printed": line}
"""
HOSTILE = "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title = 'taken over'\"> & so on"

# In all scripts: the first record whose text begins with the first argument.
RECORD = """
    const record = [...document.querySelectorAll("#records .record")].find(
        (one) => one.querySelector(".text").textContent.startsWith(arguments[0]));
"""
IS_SHOWN_WITH = (
    RECORD
    + """
    const chips = record && [...record.querySelectorAll(".chip")].map((chip) => chip.className.slice("chip ".length));
    return record && chips.join() === arguments[1];
"""
)


@contextlib.asynccontextmanager
async def demo(folder: Path, *options: str) -> AsyncIterator[str]:
    """Run `telemetry-forwarder demo --page` with a function that prints what it is given; yield the page's address."""
    (folder / "app.py").write_text(FUNCTION)
    run = "from telemetry_forwarder.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", run, "demo", "--page", "--code", str(folder), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    reading = None
    try:
        async with asyncio.timeout(30):
            while (found := re.search(rb"http://\S+", line := await process.stdout.readline())) is None:
                assert line, "the command ended before it told an address"
        reading = asyncio.get_running_loop().create_task(process.stdout.read())  # else it would wait at a full pipe
        yield found[0].decode()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def invoke(page: Browser, line: str) -> None:
    event = '{"line": "' + line.replace("\\", "\\\\").replace('"', '\\"') + '"}'
    await page.type("#event", event)
    await page.click("#invoke button[type=submit]")


async def arrives(page: Browser, line: str, chips: str) -> None:
    """Wait until the record of `line` has these chips, one for each backend.

    Where the machine has much else to do the time in which an invocation is held may be too short to send in; then the
    next invocation sends, as on Lambda.
    """
    for _ in range(6):
        with contextlib.suppress(TimeoutError):
            await page.until(IS_SHOWN_WITH, line, chips, within_s=4.0)
            return
        await invoke(page, "another invocation")
    raise AssertionError(f"{line!r} is not shown with {chips}")


async def choose(page: Browser, destination: int, fault: str) -> None:
    await page.click(f".card:nth-child({destination}) option[value='{fault}']")


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path / "profile") as opened:
        yield opened


async def test_a_line_is_followed_into_three_backends_one_of_them_hangs_and_the_books_balance(
    page: Browser, tmp_path: Path
) -> None:
    report = tmp_path / "run.html"
    async with demo(tmp_path, "--report", str(report)) as url:
        await page.resize(1280, 1150)
        await page.go(url)
        await page.until("return document.querySelector('#about').textContent.endsWith('frozen')")

        await invoke(page, HOSTILE)
        await arrives(page, HOSTILE, "there,there,there")
        assert await page.run(RECORD + "return record.querySelector('.text').textContent", HOSTILE) == HOSTILE
        assert await page.run("return document.querySelectorAll('#records script, #records img').length") == 0

        await choose(page, 1, "hang")
        await invoke(page, "one more")
        await arrives(page, "one more", "disk,there,there")
        await page.until("return document.querySelector('#timeline .request.lasting')")
        assert int(await page.run(fact("splunk", "in the spool"))) > 0
        await page.until(fact("datadog", "in the spool") + "=== '0'")
        await page.until("return document.querySelector('#about').textContent.endsWith('frozen')")
        if os.environ.get("UPDATE_SCREENSHOT"):
            await _take_picture(page)

        await page.click("#shutdown")
        books = await page.until(
            "const rows = [...document.querySelectorAll('#ledger tbody tr')];"
            "return rows.length && rows.map((row) => [...row.children].map((cell) => cell.textContent));"
        )
        for name, offered, delivered, dropped, spilled, held, _, verdict in books:
            assert int(offered) == sum(map(int, (delivered, dropped, spilled, held))), name
            assert (held, verdict) == ("0", "✓ balances")
        assert [name for name, *_ in books] == ["splunk", "datadog", "cloudwatch"]
        assert int(books[0][3]) > 0  # what the backend that hangs did not take
        await page.until("return document.querySelector('#about').textContent.endsWith('ended')")
        assert await page.run("return document.title") == "sample: ended · Local Lambda"
        assert await page.complaints() == []
        await page.go("about:blank")  # the end of the command would be a complaint, and is none of the report's

    await page.go(report.as_uri())
    assert await page.until(RECORD + "return record && record.querySelector('.text').textContent", HOSTILE) == HOSTILE
    assert await page.run("return document.querySelectorAll('#ledger tbody tr').length") == 3
    assert not await page.run("return document.querySelector('#controls').checkVisibility()")
    assert await page.run("return document.title") == "sample: ended · Local Lambda"
    assert await page.complaints() == []


def fact(destination: str, name: str) -> str:
    """Return the script that reads a fact on the card of a backend."""
    return f"""
        const card = [...document.querySelectorAll(".card")].find((one) => one.dataset.id === "{destination}");
        const fact = [...card.querySelectorAll("dt")].find((one) => one.textContent === "{name}");
        return fact.nextSibling.textContent
    """


async def test_the_page_is_used_by_keyboard_and_fits_a_telephone(page: Browser, tmp_path: Path) -> None:
    async with demo(tmp_path) as url:
        await page.resize(400, 800)
        await page.go(url)
        await page.until("return document.querySelectorAll('#invocations tr').length")
        for scheme in ("light", "dark"):
            await page.prefer(scheme)
            width = await page.run("return Math.max(...[...document.querySelectorAll('body, section, header')]"
                                   ".map((one) => one.getBoundingClientRect().right))")  # fmt: skip
            assert width <= 400
            assert await page.run("return document.documentElement.scrollWidth") <= 400

        # Ctrl-Enter invokes; then the arrow keys find the invocation on the timeline, and Enter shows its records.
        await page.type("#event", '{"line": "by keyboard"}')
        await page.press(CONTROL, ENTER)
        await page.until(RECORD + "return record", "by keyboard")
        await page.run("document.querySelector('#timeline [tabindex=\"0\"]').focus()")
        await page.press(END)
        names = []
        while "INVOKE" not in (name := await page.run("return document.activeElement.getAttribute('aria-label')")):
            names.append(name)
            assert len(names) < 40, names
            await page.press(LEFT)
        await page.until(
            "return document.activeElement.getAttribute('aria-label') === document.querySelector('#span').textContent"
        )
        await page.press(ENTER)
        await page.until("return document.querySelector('#search').value.length === 36")
        shown = await page.until(
            "const all = [...document.querySelectorAll('#records .record')];"
            "return all.length < 10 && all.map((one) => one.querySelector('.text').textContent);"
        )
        assert "by keyboard" in shown
        assert await page.complaints() == []


async def _take_picture(page: Browser) -> None:
    await page.resize(1280, 1440)
    await page.click("#stream option:nth-child(2)")  # the function's own lines
    await page.run("document.querySelector('#timeline').scrollLeft = 1e6; window.scrollTo(0, 0)")
    await page.until("return document.querySelectorAll('#records .record').length < 5")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(await page.screenshot())
