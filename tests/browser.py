"""Drive a headless Chromium over its debugging pipe: no package is needed for it."""

import json
import os
import shutil
import subprocess
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    "--remote-debugging-pipe",
]


def find_browser() -> str | None:
    """Path of a Chromium, if one is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a headless browser; what it says and asks for is noted down.

    Attributes
    ----------
    problems : list of str
        Console errors and warnings, uncaught exceptions, and what the content policy refused.
    requests : list of str
        Addresses that the page asked for.
    """

    def __enter__(self):
        self.problems, self.requests, self.last = [], [], 0
        self.profile = tempfile.mkdtemp()
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        # the browser reads commands from descriptor 3 and writes answers to descriptor 4
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, find_browser(), *FLAGS, f"--user-data-dir={self.profile}"],
            pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.to, self.answers = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self.session = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.to.close()
        self.answers.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def ask(self, method: str, **params) -> dict:
        """Send a command and wait for its answer."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        answer = self.wait_for(lambda m: m.get("id") == self.last)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait_for(self, wanted) -> dict:
        """Read messages until one is wanted; note problems and requests on the way."""
        while True:
            message = json.loads(self._read())
            method, params = message.get("method"), message.get("params", {})
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                self.problems.append(str([a.get("value") for a in params["args"]]))
            elif method == "Runtime.exceptionThrown":
                self.problems.append(params["exceptionDetails"]["exception"].get("description", "exception"))
            elif method == "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            if wanted(message):
                return message

    def _read(self) -> bytes:
        content = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            content += byte
        return bytes(content)

    def open(self, file, width: int = 1100, dark: bool = False) -> None:
        """Open a file at a width in pixels, in one theme."""
        mobile = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[theme])
        self.ask("Page.navigate", url=file.resolve().as_uri())
        self.wait_for(lambda m: m.get("method") == "Page.loadEventFired")

    def run(self, script: str):
        """Evaluate JavaScript in the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")
