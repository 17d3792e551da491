"""Headless Chromium, driven over a pair of pipes by its DevTools protocol: no driver and no package is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """The browser of this machine; none where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Tab:
    """One page. requests: every address that it asked for; faults: what its console said and what its scripts raised."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out = into, out
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self.requests: list[str] = []
        self.faults: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer; what happens in between is noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._out, 1 << 16)
            assert piece, "the browser is gone"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.faults.append(str(about["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            entry = about["entry"]
            if entry["level"] == "error" and entry["source"] in ("security", "javascript"):
                self.faults.append(str(entry))

    def show(self, url: str, width: int = 1280, dark: bool = False) -> None:
        """Opens an address in a window of this width."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression in the page gives; a promise is waited for."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.value(f"!!({script})"):  # an element itself is nothing that can be sent
            assert time.monotonic() < deadline, f"{script}: {self.text()} {self.faults}"
            time.sleep(0.05)

    def press(self, element: str) -> None:
        """A click of the mouse on an element, which may be in a frame of the same origin."""
        corner = "const r = e.getBoundingClientRect(); at = [at[0] + r.x, at[1] + r.y]; size ??= [r.width, r.height]"
        outwards = f"let e = {element}, at = [0, 0], size; while (e) {{ {corner}; e = e.ownerDocument.defaultView.frameElement }}"
        x, y = self.value(f"(() => {{ {outwards}; return [at[0] + size[0] / 2, at[1] + size[1] / 2] }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tabs(self) -> list[str]:
        """The addresses of all that is open."""
        return [each["url"] for each in self("Target.getTargets")["targetInfos"] if each["type"] == "page"]

    def text(self) -> str:
        """What a person reads."""
        return str(self.value("document.body.innerText"))

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextmanager
def tab(program: str, folder: Path) -> Iterator[Tab]:
    """A new browser with a profile in this folder; it and its children are gone afterwards."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # The browser reads from 3 and writes to 4. In the shell 8 and 9 first: the pipes themselves may be 3 and 4.
    command = f'exec 8<&{theirs_in} 9>&{theirs_out}; exec "$0" "$@" 3<&8 4>&9 8<&- 9>&-'
    arguments = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "browser.txt").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", command, *arguments],
            stdout=log, stderr=log, pass_fds=(theirs_in, theirs_out), start_new_session=True,
            env=os.environ | {"HOME": str(folder)},
        )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        os.close(ours_in)
        os.close(ours_out)
