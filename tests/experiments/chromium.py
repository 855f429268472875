"""A real headless Chromium for tests, driven by its DevTools protocol over two pipes: no driver package is needed.

with Browser(tmp_path) as browser:
    browser.open(page)
    browser.run("document.title")
    browser.problems                     # console errors, exceptions, and anything it tried to load
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

FOUND = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
_PATIENCE = 120.0


class Browser:
    """One Chromium process with an empty profile in `folder` and one page in it."""

    def __init__(self, folder: Path, *, width: int = 1366, height: int = 768, dark: bool = False) -> None:
        assert FOUND is not None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._session: str | None = None
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        self._waiting = b""
        arguments = [
            FOUND, "--headless", "--no-sandbox", "--disable-background-networking", "--disable-gpu", "--no-first-run",
            "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={folder}",
            f"--window-size={width},{height}", *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            "about:blank",
        ]  # fmt: skip
        # DevTools reads from descriptor 3 and writes to 4.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "chromium", *arguments],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)

    def __enter__(self) -> Browser:
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait()

    def open(self, page: Path, state: str = "") -> float:
        """Open a file from disk and wait until it has drawn; return the seconds that took."""
        started = time.perf_counter()
        self._call("Page.navigate", {"url": page.resolve().as_uri() + state})
        self.until("document.documentElement?.dataset.ready === '1'")
        return time.perf_counter() - started

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        given = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        result = self._call("Runtime.evaluate", given)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.run(expression):
            assert time.monotonic() < deadline, f"{expression} stayed false; problems: {self.problems}"
            time.sleep(0.02)

    def mouse(self, x: float, y: float, kind: str = "mouseMoved") -> None:
        """Move (or press) a real mouse at window coordinates."""
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self._call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **button})

    def click(self, x: float, y: float) -> None:
        """A whole click at window coordinates."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(x, y, kind)

    def key(self, key: str) -> None:
        """Press and release a key such as 'ArrowRight', 'Tab' or 'Enter'."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        given = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self._call("Input.dispatchKeyEvent", {"type": "rawKeyDown", **given})
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **given})

    def enter(self, selector: str, value: str) -> None:
        """Give an input or a menu a value, as if it had been typed or chosen."""
        self.run(
            f"(() => {{ const c = document.querySelector({json.dumps(selector)}); c.value = {json.dumps(value)};"
            " for (const name of ['input', 'change']) c.dispatchEvent(new Event(name)); })()"
        )

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is in the window after it was scrolled into sight: x, y, width, height."""
        chosen = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{chosen}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        found: dict[str, float] = self.run(
            f"(() => {{ const b = {chosen}.getBoundingClientRect();"
            " return {x: b.x, y: b.y, width: b.width, height: b.height}; })()"
        )
        return found

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of the window, or of the whole page."""
        given: dict[str, Any] = {"format": "png"}
        if whole:
            height = self.run("document.documentElement.scrollHeight")
            width = self.run("document.documentElement.clientWidth")
            given |= {
                "captureBeyondViewport": True,
                "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
            }
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", given)["data"]))
        return path

    def _call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": dict(parameters or {})}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            more = os.read(self._in, 1 << 20)
            assert more, "Chromium ended"
            self._waiting += more
        message, self._waiting = self._waiting.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
