"""A real headless Chromium for pages that people will look at: fixtures `browser` and `opened`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Browser:
    """A headless Chromium with one page, over the DevTools protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        from websocket import create_connection

        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
        )
        self._process = subprocess.Popen(
            [program, *flags.split(), "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port, path = self._address(profile / "DevToolsActivePort")
            self._socket = create_connection(
                f"ws://127.0.0.1:{port}{path}", timeout=60, suppress_origin=True, http_no_proxy=["127.0.0.1"]
            )
        except BaseException:
            self._end()
            raise
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def _address(self, file: Path) -> tuple[str, str]:
        for _ in range(600):
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            assert self._process.poll() is None, f"the browser ended with {self._process.returncode}"
            time.sleep(0.1)
        raise AssertionError("the browser opened no port within a minute")

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters, **session}))
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser on PATH: {', '.join(BROWSERS)}")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Opens a page and gives what the browser complained about or asked for."""

    def show(html: str) -> list[dict[str, Any]]:
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        browser.open(file.as_uri())
        browser.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        complaints = []
        for event in browser.events:
            url = event["params"].get("request", {}).get("url", "")
            asked = event["method"] == "Network.requestWillBeSent" and not url.startswith(("data:", file.as_uri()))
            if asked or event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                complaints.append(event)
        return complaints

    return show
