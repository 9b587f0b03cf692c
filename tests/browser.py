"""A real headless browser, driven over its debugging pipe with no extra package."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --remote-debugging-pipe"
)


class Browser:
    """One page in headless Chromium; every error of the page is kept.

    Args:
        profile: A new folder for the browser's own files.
        size: Width and height of the window, in pixels.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1280, 1000)):
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._last, self._pending = 0, b""
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = [*_FLAGS.split(), f"--user-data-dir={profile}"]
        flags.append("--window-size={},{}".format(*size))
        wiring = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", wiring, CHROMIUM, *flags, "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._session = None
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(p["targetId"] for p in pages if p["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        self.send("Browser.close")
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)

    def open(self, page: Path) -> None:
        """Load a file and wait until its scripts have run."""
        self.send("Page.navigate", url=page.as_uri())
        while self.evaluate("document.readyState") != "complete":
            time.sleep(0.05)

    def evaluate(self, script: str):
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place of the window and let go at another."""
        mouse = {"button": "left", "clickCount": 1}
        for kind, (x, y) in (("Pressed", start), ("Moved", end), ("Released", end)):
            mouse["buttons"] = 0 if kind == "Released" else 1
            self.send(
                "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **mouse
            )

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def send(self, method: str, **params) -> dict:
        """Call a method of the DevTools protocol and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            self._note(answer)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise AssertionError(answer["error"])
                return answer["result"]

    def _note(self, event: dict) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded":
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def _receive(self, timeout: float = 120) -> dict:
        while b"\0" not in self._pending:
            if not select.select([self._read], [], [], timeout)[0]:
                raise TimeoutError(f"the browser was silent for {timeout} s")
            chunk = os.read(self._read, 1 << 16)
            if not chunk:
                raise EOFError("the browser ended")
            self._pending += chunk
        message, self._pending = self._pending.split(b"\0", 1)
        return json.loads(message)
