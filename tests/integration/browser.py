"""A real browser for tests: Chromium, driven by ChromeDriver in the W3C WebDriver protocol, which is JSON over HTTP.

Sources: W3C WebDriver, https://www.w3.org/TR/webdriver2/; Chromium's own command `goog/cdp/execute` sets the size of
the window's content and the colour scheme. A client library would bring more to install than is written here.
"""

import asyncio
import base64
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in _NAMES if (path := shutil.which(name)) is not None), None)
DRIVER = shutil.which("chromedriver")
# Why there is no browser here; empty if there is one.
LACKING = "" if BROWSER and DRIVER else "needs Chromium and ChromeDriver (Debian: chromium, chromium-driver)"

_FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",  # as on a telephone, and for pictures
)
CONTROL, ENTER, END, LEFT = "\ue009", "\ue007", "\ue010", "\ue012"  # as the standard numbers the keys
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's reference, fixed by the standard


class Browser:
    """One window. A script is JavaScript with `arguments` and `return`."""

    def __init__(self, http: aiohttp.ClientSession, session: str) -> None:
        self._http = http
        self._session = session

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, driver: str, folder: Path) -> Self:
        flags = [*_FLAGS, f"--user-data-dir={folder}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium's sandbox does not run as root
        options = {"binary": BROWSER, "args": flags}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        opened = await _call(http, "POST", f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
        return cls(http, f"{driver}/session/{opened['sessionId']}")

    async def close(self) -> None:
        await _call(self._http, "DELETE", self._session)

    async def go(self, url: str) -> None:
        await self._do("POST", "url", {"url": url})

    async def run(self, script: str, *arguments: Any) -> Any:
        return await self._do("POST", "execute/sync", {"script": script, "args": list(arguments)})

    async def until(self, script: str, *arguments: Any, within_s: float = 20.0) -> Any:
        """Wait until `script` returns something true, and return it. Raises TimeoutError.

        The script is evaluated in the page, at each frame that it draws.
        """
        waiting = f"""
            const [within, ...given] = arguments;
            const done = given.pop();
            const wanted = function () {{ {script} }};
            const end = performance.now() + within * 1000;
            const look = () => {{
                const found = wanted.apply(null, given);
                if (found || performance.now() > end) done(found ?? null);
                else requestAnimationFrame(look);
            }};
            look();
        """
        found = await self._do("POST", "execute/async", {"script": waiting, "args": [within_s, *arguments]})
        if not found:
            raise TimeoutError(f"not true within {within_s} s: {script}")
        return found

    async def click(self, selector: str) -> None:
        """Click an element as a user does: it must be in view, and not covered."""
        await self._do("POST", f"element/{await self._find(selector)}/click", {})

    async def type(self, selector: str, text: str) -> None:
        """Replace the text of a field, key by key."""
        element = await self._find(selector)
        await self._do("POST", f"element/{element}/clear", {})
        await self._do("POST", f"element/{element}/value", {"text": text})

    async def press(self, *keys: str) -> None:
        """Press keys together where the focus is."""
        steps = [{"type": "keyDown", "value": key} for key in keys]
        steps += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        await self._do("POST", "actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    async def resize(self, width: int, height: int) -> None:
        """Give the page this many pixels, as a telephone's would be: a desktop window has a least width."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._devtools("Emulation.setDeviceMetricsOverride", size)

    async def prefer(self, scheme: str) -> None:
        """Prefer light or dark colours."""
        await self._devtools(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    async def screenshot(self) -> bytes:
        """Return a PNG of what is in view."""
        return base64.b64decode((await self._devtools("Page.captureScreenshot", {"format": "png"}))["data"])

    async def complaints(self) -> list[str]:
        """Return what the browser wrote to its console since the last call: errors, and what the policy refused."""
        entries = await self._do("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    async def _find(self, selector: str) -> str:
        found = await self._do("POST", "element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    async def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return await self._do("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    async def _do(self, method: str, command: str, body: dict[str, Any] | None = None) -> Any:
        return await _call(self._http, method, f"{self._session}/{command}", body)


async def _call(http: aiohttp.ClientSession, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    async with http.request(method, url, json=body) as response:
        value = (await response.json(content_type=None))["value"]
    if isinstance(value, dict) and "error" in value and "message" in value:
        raise AssertionError(f"{value['error']}: {value['message']}")
    return value


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """Start ChromeDriver and a browser whose files are in `folder`; end both, whatever happens."""
    assert DRIVER is not None
    process = await asyncio.create_subprocess_exec(
        DRIVER, "--port=0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while (started := re.search(rb"on port (\d+)\.", await process.stdout.readline())) is None:
                assert not process.stdout.at_eof(), "ChromeDriver did not start"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as http:
            one = await Browser.open(http, f"http://127.0.0.1:{int(started[1])}", folder)
            try:
                yield one
            finally:
                await one.close()
    finally:
        process.terminate()
        await process.wait()
