"""Programs that tests start: each in a child of one process that has imported what takes seconds to import."""

import atexit
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
# imported, but not used before the fork: threads would not come along
IMPORTS = (
    "ftransfer.cli.extract", "ftransfer.cli.fit", "ftransfer.compare.pairs", "ftransfer.extract.extract",
    "ftransfer.finetune.train", "ftransfer.model.predict", "ftransfer.regression.report", "ftransfer.report",
    "ftransfer.search.race", "matplotlib.pyplot", "openvino", "pillow_heif", "pyarrow.dataset", "skops.io",
    "torchvision.models",
)  # fmt: skip


class Nursery:
    """Run Python as `subprocess.run([sys.executable, ...])` does, without the imports."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        )

    def _ask(self, **wish):
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @contextmanager
    def start(self, *words, cwd=None, env=None):
        """Begin ``python WORDS``: a file, ``-m module`` or ``-c code``, and arguments; it ends with the block."""
        env = {**os.environ, **(env or {})}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(ROOT)]))  # this checkout
        with TemporaryDirectory() as folder:
            wish = {"words": [*map(str, words)], "cwd": str(cwd or Path.cwd()), "env": env, "folder": folder}
            for number in (1, 2):
                Path(folder, str(number)).touch()
            program = Program(self, self._ask(**wish), Path(folder))
            try:
                yield program
            finally:
                if program.returncode is None:
                    program.send_signal(signal.SIGKILL)
                    program.wait()

    def run(self, *words, cwd=None, env=None, timeout=1800):
        """Run a program to its end; it is killed after so many seconds."""
        with self.start(*words, cwd=cwd, env=env) as program:
            program.wait(timeout)
            return subprocess.CompletedProcess(words, program.returncode, program.stdout, program.stderr)

    def close(self):
        """End the process that forks."""
        self.process.kill()
        self.process.communicate()


class Program:
    """A program that runs, and what it has printed so far."""

    def __init__(self, nursery, pid, folder):
        self.nursery, self.pid, self.folder, self.returncode = nursery, pid, folder, None

    @property
    def stdout(self):
        return (self.folder / "1").read_text("utf-8")

    @property
    def stderr(self):
        return (self.folder / "2").read_text("utf-8")

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=120):
        """Wait for its end, or kill it after so many seconds; return its exit code, of a kill -9."""
        self.returncode = self.nursery._ask(wait=self.pid, timeout=timeout)
        return self.returncode

    def wait_for(self, text, seconds=120):
        """Wait until it has printed a text."""
        deadline = time.monotonic() + seconds
        while text not in self.stdout:
            assert time.monotonic() < deadline, self.stderr
            time.sleep(0.01)


def become(words, cwd, env, folder):
    """Make of a forked child the process that Python would have started."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        os.dup2(os.open(Path(folder, str(number)), os.O_WRONLY | os.O_APPEND), number)
    first, *rest = words
    beside = str(Path(first).resolve().parent) if not first.startswith("-") else cwd
    sys.path[:1] = [beside, *filter(None, map(os.path.abspath, env["PYTHONPATH"].split(os.pathsep)))]
    sys.argv = [first, *rest] if not first.startswith("-") else rest
    if env.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    if first == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(first, run_name="__main__")


def live(wish):
    """Run a program in this child, to its end as a process."""
    code = 1
    try:
        become(**wish)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
        os._exit(code)


def end_of(pid, timeout):
    """Wait for a child, and kill it after so many seconds; return its exit code."""
    deadline = time.monotonic() + timeout
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    for name in IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    Image.init()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, and for what they start
    for line in sys.stdin:
        wish = json.loads(line)
        if "wait" in wish:
            answer = end_of(wish["wait"], wish["timeout"])
        elif not (answer := os.fork()):
            live(wish)
        print(answer, flush=True)
