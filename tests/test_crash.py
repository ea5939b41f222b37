"""Whatever stops an extraction, and whenever: started again, it ends as if nothing had happened."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import pytest
from conftest import draw

from ftransfer import FeatureSet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks, and sends SIGKILL")

# Imports torch once and forks a child for each line of standard input: {"argv": [...], "kill_after": seconds,
# "kill_at": n (the n-th call that touches a file), "pace": seconds to wait before each file is put in its place,
# "file_size": bytes}; answers with its exit code and output.
NURSERY = """
import builtins, fcntl, json, os, resource, signal, sys, tempfile, time
from contextlib import suppress
import pyarrow.dataset
from PIL import Image
import ftransfer.extract.engine as engine
for name in ("openvino", "pillow_heif"):  # what a child would import
    with suppress(ImportError):
        __import__(name)
Image.init()
from ftransfer.cli import main
engine.PART_ROWS = 4

def deadly(function, n, calls=[0]):
    def called(*args, **options):
        for moment in (0, 1):
            if moment:
                result = function(*args, **options)
            calls[0] += 1
            if calls[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    return called

def paced(function, seconds):
    return lambda *args, **options: (time.sleep(seconds), function(*args, **options))[1]

def run(argv, out, kill_at=None, pace=0, file_size=None, **_):
    os.dup2(out.fileno(), 1), os.dup2(out.fileno(), 2)
    os.replace = paced(os.replace, pace)
    if kill_at:
        import ftransfer.storage.writing
        for module, name in ((os, "fsync"), (os, "replace"), (fcntl, "flock"), (ftransfer.storage.writing, "open")):
            setattr(module, name, deadly(getattr(module, name, open), kill_at))
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.argv = ["ftransfer", *argv]
    main()

def wait(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)

for line in sys.stdin:
    children = []
    for wish in json.loads(line):
        out = tempfile.TemporaryFile("w+")
        pid = os.fork()
        if pid == 0:
            try:
                run(**wish, out=out)
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code or 0)
            finally:
                sys.stdout.flush()
                os._exit(99)
        children.append((pid, wish, out))
    answers = []
    for pid, wish, out in children:
        if not wait(pid, wish.get("kill_after", 60)):
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        answers.append((code, out.read()))
    print(json.dumps(answers), flush=True)
"""


@pytest.fixture(scope="module")
def nursery():
    """Run extractions, all those of one call at once; return (exit code, output) of each."""
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def run(*wishes):
        process.stdin.write(json.dumps(wishes) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory, nursery):
    """Folder with images/, 21 pictures of which 20 differ, and whole/, an undisturbed extraction of them."""
    place = tmp_path_factory.mktemp("crash")
    for i in range(20):
        draw(place / "images" / "day" / "ash" / f"{i}.png", i % 3, i)
    shutil.copy(place / "images" / "day" / "ash" / "3.png", place / "images" / "day" / "ash" / "twin.png")
    ((code, text),) = nursery(extraction(place, "whole"))
    assert code == 0, text
    return place


def extraction(place, out, images="images", kind="--json", **wish):
    command = ["extract", str(place / images), "--out", str(place / out), "--backbone", "small_cnn", kind]
    return {"argv": [*command, "--batch-size", "4"], **wish}


def bytes_of_rows(features):
    """The bytes of each row by its hash, after checking that none is there twice."""
    rows = [
        (k, v.tobytes())
        for _, keys, rows in features.parts()
        for k, v in zip(keys.to_pylist(), rows, strict=True)
    ]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def assert_undisturbed(place, out):
    features, whole = FeatureSet(place / out), FeatureSet(place / "whole")
    assert features.verify().wrong == []
    assert bytes_of_rows(features) == bytes_of_rows(whole)
    # the time of change is left out of a file that has just been written, as those of `whole` may be
    assert features.complete.drop(columns="mtime").equals(whole.complete.drop(columns="mtime"))
    names = {p.name for p in (place / out).rglob("*") if p.suffix != ".damaged"}
    assert {n for n in names if n.startswith(".")} == {".lock"}


def go_on(nursery, place, out):
    """Run it again undisturbed: only what was not committed is computed."""
    there = len(FeatureSet(place / out).done()) if (place / out / "fingerprint.json").exists() else 0
    ((code, text),) = nursery(extraction(place, out))
    assert code == 0, text
    assert json.loads(text)["computed"] == 20 - there
    assert_undisturbed(place, out)
    return there


def kill_at_each(nursery, place, steps):
    for n in steps:
        ((code, _),) = nursery(extraction(place, f"step{n}", kill_at=n))
        go_on(nursery, place, f"step{n}")
        shutil.rmtree(place / f"step{n}")
        if code != -9:
            assert code == 0
            return n
    return None


def test_killed_at_a_call_that_touches_a_file_nothing_is_lost_and_nothing_twice(place, nursery):
    assert kill_at_each(nursery, place, random.Random(0).sample(range(1, 90), 4)) is None


@pytest.mark.slow
def test_killed_at_any_call_that_touches_a_file_nothing_is_lost_and_nothing_twice(place, nursery):
    assert kill_at_each(nursery, place, range(1, 500, 7)) > 80


@pytest.mark.slow
def test_killed_at_random_instants_again_and_again_it_ends_as_if_undisturbed(place, nursery):
    began = time.perf_counter()
    ((code, text),) = nursery(extraction(place, "paced", pace=0.03))
    undisturbed = time.perf_counter() - began
    assert code == 0, text
    rng, killed, kept = random.Random(1), 0, set()
    for i in range(24):
        out = place / f"random{i % 4}"
        ((code, _),) = nursery(extraction(place, out.name, pace=0.03, kill_after=rng.uniform(0, undisturbed)))
        killed += code == -9
        assert code in (0, -9)
        if (out / "fingerprint.json").exists():
            kept.add(len(FeatureSet(out).done()))
            if code == 0:
                assert_undisturbed(place, out.name)
                shutil.rmtree(out)
    assert killed > 7
    assert kept & set(range(1, 20)), "no kill fell between the first part and the last"
    for i in range(4):
        go_on(nursery, place, f"random{i}")


def test_two_extractions_at_once_into_one_folder_both_end_well(place, nursery):
    (place / "other").mkdir()
    shutil.copytree(place / "images" / "day", place / "other" / "night")
    draw(place / "other" / "night" / "oak" / "new.png", 2, 50)
    answers = nursery(
        extraction(place, "shared"), extraction(place, "shared"), extraction(place, "shared", images="other")
    )
    assert [code for code, _ in answers] == [0, 0, 0], answers
    features = FeatureSet(place / "shared")
    assert features.verify().wrong == []
    assert len(bytes_of_rows(features)) == 21
    manifest = features.complete
    assert manifest["domain"].value_counts().to_dict() == {"day": 21, "night": 22}
    assert not manifest.duplicated(["root", "path"]).any()


def test_an_extraction_ends_well_beside_one_that_was_stopped_and_says_so(place, nursery):
    shutil.copytree(place / "images" / "day", place / "later" / "dusk")
    ((code, _),) = nursery(extraction(place, "beside", images="later", kill_at=60))
    assert code == -9
    ((code, text),) = nursery(extraction(place, "beside", kind="--tier=exact"))
    assert code == 0, text
    assert re.search(r"(?m)^\d+ images of another extraction into .* are still pending$", text), text


def test_one_of_two_extractions_at_once_is_killed_and_the_other_ends_well(place, nursery):
    for i, seconds in enumerate((0.15, 0.25, 0.35)):
        out = f"one-of-two{i}"
        first, second = nursery(extraction(place, out, kill_after=seconds), extraction(place, out))
        assert second[0] == 0, second
        assert go_on(nursery, place, out) == 20


@pytest.mark.parametrize("size", [300, 1000, 5000])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half_written(place, nursery, size):
    out = f"limit{size}"
    ((code, text),) = nursery(extraction(place, out, file_size=size))
    assert code == 1, text
    assert text.startswith(f"error: cannot write to {place / out}")
    assert "File too large" in text
    assert not [p for p in (place / out).rglob(".*") if p.name != ".lock"]
    go_on(nursery, place, out)


@pytest.mark.parametrize("kib", [8, 40])
def test_a_small_file_system_that_runs_full_is_mended_by_room(place, nursery, kib):
    disk = place / f"disk{kib}"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"a file system of {kib} KiB cannot be mounted here: {mount.stderr.strip()}")
    try:
        ((code, text),) = nursery(extraction(place, f"disk{kib}/out"))
        assert code == 1, text
        assert "No space left on device" in text
        assert len(text.splitlines()) == 1
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        go_on(nursery, place, f"disk{kib}/out")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("damage", ["tear", "flip", "empty", "grow"])
def test_a_damaged_part_is_found_set_aside_and_computed_again(place, nursery, damage):
    out = place / f"damaged-{damage}"
    shutil.copytree(place / "whole", out)
    file = sorted((out / "parts").glob("*.arrow"))[2]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(
        {"tear": content[:-100], "flip": content, "empty": b"", "grow": bytes(content) + b"\0"}[damage]
    )
    wrong = FeatureSet(out).verify().wrong
    assert f"parts/{file.name} is damaged" in wrong[0]
    assert "4 images have no valid embedding" in wrong[1] or "5 images" in wrong[1]
    ((code, text),) = nursery(extraction(place, out.name))
    assert (code, json.loads(text)["computed"]) == (0, 4), text
    assert file.with_name(f"{file.name}.damaged").exists()
    assert_undisturbed(place, out.name)
