"""A headless Chromium for tests, driven over its DevTools protocol through a pair of pipes: no port, no driver.

Messages are JSON objects parted by a zero byte: https://chromedevtools.github.io/devtools-protocol/
"""

import contextlib
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
]


def find_chromium():
    """Return the path of the browser, or None. The environment variable CHROMIUM names one."""
    named = os.environ.get("CHROMIUM")
    for name in [named] if named else ["chromium", "chromium-browser", "google-chrome"]:
        if found := shutil.which(name):
            return found
    return None


class Chromium:
    """One browser process with one page.

    Attributes:
        events: what the browser reported since the last `open`, oldest first, as (method, parameters).
    """

    def __init__(self, program, folder, width=1280, height=900):
        self.events = []
        self._number = 0
        self._rest = b""
        self._session = None
        self._log = Path(folder) / "chromium.log"
        commands, self._to = os.pipe()
        self._from, replies = os.pipe()
        # The browser reads from 3 and writes to 4; numbers above 9 cannot be overwritten on the way there.
        self._pid = os.posix_spawn(
            program,
            [program, *FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={width},{height}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, commands, 10),
                (os.POSIX_SPAWN_DUP2, replies, 11),
                (os.POSIX_SPAWN_DUP2, 10, 3),
                (os.POSIX_SPAWN_DUP2, 11, 4),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(self._log), os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_CLOSE, 10),
                (os.POSIX_SPAWN_CLOSE, 11),
            ],
            setpgroup=0,
        )
        os.close(commands)
        os.close(replies)
        try:
            pages = self.call("Target.getTargets", timeout=60)["targetInfos"]
            page = next(target["targetId"] for target in pages if target["type"] == "page")
            self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
            self.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
        except BaseException:
            self.close()
            raise

    def call(self, method, timeout=30.0, **parameters):
        """Send one command and return its result; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        rest = memoryview(json.dumps(message).encode() + b"\0")
        while rest:
            rest = rest[os.write(self._to, rest) :]
        end = time.monotonic() + timeout
        while True:
            reply = self._read(end, method)
            if reply.get("id") == self._number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return reply["result"]

    def wait(self, event, timeout=30.0):
        """Return the parameters of the first event of this name since the last `open`, waiting for it."""
        return self.events[self._place_of(event, timeout)][1]

    def open(self, path):
        """Open a file in the page, through file://, and wait until it is loaded."""
        loader = self.call("Page.navigate", url=Path(path).resolve().as_uri())["loaderId"]
        first = self._place_of("Network.requestWillBeSent", loaderId=loader)
        del self.events[:first]  # what the page before has reported, up to the end
        self.wait("Page.loadEventFired")

    def _place_of(self, event, timeout=30.0, **like):
        """Return the place of the first event with this name and these parameters, waiting for it."""
        end = time.monotonic() + timeout
        while True:
            for place, (name, parameters) in enumerate(self.events):
                if name == event and like.items() <= parameters.items():
                    return place
            self._read(end, event)

    def js(self, expression):
        """Return the value of a JavaScript expression; a promise is awaited."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(reply["exceptionDetails"]["exception"].get("description", reply))
        return reply["result"].get("value")

    def mouse(self, kind, x, y, **more):
        """Move, press, release or turn the wheel at (x, y): kind is mouseMoved, mousePressed, ..."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        """Click the left button at (x, y)."""
        self.mouse("mouseMoved", x, y)
        for kind, buttons in (("mousePressed", 1), ("mouseReleased", 0)):
            self.mouse(kind, x, y, button="left", buttons=buttons, clickCount=1)

    def press(self, key, code=0, modifiers=0):
        """Press and release a key, such as "Tab" (code 9); a single character is typed. Modifiers: 8 is shift."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        named = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        common = {"key": key, "windowsVirtualKeyCode": code or named.get(key, 0), "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def close(self):
        """End the browser and all its processes."""
        self._session = None
        with contextlib.suppress(Exception):
            self.call("Browser.close", timeout=5)
        end = time.monotonic() + 5
        gone = 0
        while not gone and time.monotonic() < end:
            gone, _ = os.waitpid(self._pid, os.WNOHANG)
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        if not gone:
            os.waitpid(self._pid, 0)
        os.close(self._to)
        os.close(self._from)

    def _read(self, end, what):
        """Return the next message; an event is also kept."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._from, 1 << 16) if ready else b""
            if not chunk:
                why = "no answer in time" if not ready else "the browser has gone"
                raise TimeoutError(f"{what}: {why}\n{self._log.read_text(errors='replace')[-2000:]}")
            self._rest += chunk
        first, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(first)
        if "method" in message:
            self.events.append((message["method"], message.get("params", {})))
        return message
