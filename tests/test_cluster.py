"""Extraction and race on a cluster: a real scheduler, real workers, and one of them killed."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import draw

from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images, load_task, race
from ftransfer import task as tasks
from ftransfer.cli import main
from ftransfer.cluster import connect, extract_on_cluster, extraction, job, race_on_cluster

distributed = pytest.importorskip("distributed", reason="Dask is not installed: the extra [cluster]")
connecting = sys.modules["ftransfer.cluster.connect"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")

LONG = 300  # seconds, an upper bound for what takes one

# Imports what is slow to import once, and forks a scheduler or a worker for each line of standard input. On a worker,
# parts have four rows; who loads the model is written down; where the file `armed` is there, the first to commit a part
# says who it is and waits for the file `go`, or dies, as `armed` says.
NURSERY = """
import json, os, pathlib, signal, sys, time
import ftransfer.extract.engine as engine
from distributed.cli import dask_scheduler, dask_worker
from ftransfer.cluster.job import Job
from ftransfer.features.feature_set import FeatureSet

control = pathlib.Path(sys.argv[1])
engine.PART_ROWS = 4
begin, write_part = Job.begin, FeatureSet.write_part

def begin_noted(self):
    if "blind" in sys.argv:  # as set for this worker alone, below
        self.paths.samples = [("/nowhere", "a.png", "0" * 64)]
    with open(control / "loads", "a") as loads:
        loads.write(f"{os.getpid()}\\n")
    begin(self)

def write_part_held(self, *rows):
    write_part(self, *rows)
    hold()

def hold():
    if not (control / "armed").exists():
        return
    if (control / "armed").read_text() == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    mine = control / f"waits-{os.getpid()}"
    mine.write_text(str(os.getpid()))
    try:
        os.link(mine, control / "waiting")
    except FileExistsError:
        return
    while not (control / "go").exists():
        time.sleep(0.02)

Job.begin, FeatureSet.write_part = begin_noted, write_part_held
for line in sys.stdin:
    what, *arguments = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(control / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1), os.dup2(1, 2)
        sys.argv += [arguments.pop()] if arguments[-1] == "blind" else []
        {"scheduler": dask_scheduler, "worker": dask_worker}[what].main(arguments)
        os._exit(0)
    print(pid, flush=True)
"""


class Cluster:
    """A scheduler and workers, a process each, on loopback."""

    def __init__(self, folder: Path, **env):
        self.folder, self.pids = folder, []
        self.nursery = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        )
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0")

    def _start(self, what, *options):
        options = ("--scheduler-file", str(self.folder / "scheduler.json"), "--no-dashboard", *options)
        self.nursery.stdin.write(json.dumps([what, *options]) + "\n")
        self.nursery.stdin.flush()
        self.pids.append(int(self.nursery.stdout.readline()))

    def add_workers(self, n, *options):
        for _ in range(n):
            self._start("worker", "--no-nanny", "--nthreads", "1", *options)

    @property
    def address(self):
        file = self.folder / "scheduler.json"
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), file.name)
        return json.loads(file.read_text())["address"]

    def wait_for_workers(self, n):
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(n, timeout=LONG)

    def n_workers(self):
        with distributed.Client(self.address, set_as_default=False) as client:
            return len(client.nthreads())

    def arm(self, how="wait"):
        (self.folder / "waiting").unlink(missing_ok=True)
        (self.folder / "go").unlink(missing_ok=True)
        (self.folder / "armed").write_text(how)

    def kill_who_waits(self):
        """Kill the worker that waits in the middle of a task, and let the others go on."""
        wait_until((self.folder / "waiting").exists, "a worker that waits")
        os.kill(int((self.folder / "waiting").read_text()), signal.SIGKILL)
        self.disarm()

    def disarm(self):
        (self.folder / "armed").unlink(missing_ok=True)
        (self.folder / "go").touch()

    def loads(self):
        return (self.folder / "loads").read_text().split()

    def close(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)  # a zombie at the least, until the nursery ends
        self.nursery.kill()
        self.nursery.communicate(timeout=LONG)


def wait_until(there, what):
    deadline = time.monotonic() + LONG
    while not there():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers of one thread, of which one is killed on the way."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.add_workers(2)
    cluster.wait_for_workers(2)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """23 pictures that can be read, of which two are the same, and a broken one."""
    root = tmp_path_factory.mktemp("images")
    for i in range(22):
        draw(root / ("day" if i < 12 else "night") / "ash" / f"{i:02}.png", i % 3, i)
    twin = root / "night" / "ash" / "twin.png"
    twin.write_bytes((root / "day" / "ash" / "01.png").read_bytes())
    (root / "night" / "ash" / "broken.png").write_bytes(b"no picture")
    return find_images(root)


@pytest.fixture(scope="module")
def backbone():
    return Backbone("small_cnn", device="cpu")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, images, backbone):
    return extract_features(images, tmp_path_factory.mktemp("alone") / "features", backbone, batch_size=4)


def assert_same(features, alone):
    """Check that two feature sets have the same manifest and the same rows, each once."""
    apart = features.manifest.drop(columns="mtime"), alone.manifest.drop(columns="mtime")
    pd.testing.assert_frame_equal(*apart)  # the time is missing for a file that has just been written
    rows = alone.manifest.query("status == 'ok'")
    assert features.load(rows).tobytes() == alone.load(rows).tobytes()
    keys = [key for _, keys, _ in features.parts() for key in keys.to_pylist()]
    assert len(keys) == len(set(keys)) == 22
    assert features.verify().wrong == []


def test_the_rows_and_the_manifest_are_those_of_one_machine(cluster, images, backbone, alone, tmp_path):
    seen = []
    options = {"shard_size": 3, "batch_size": 4, "progress": seen.append}
    features = extract_on_cluster(images, tmp_path / "features", backbone, cluster.address, **options)
    assert_same(features, alone)
    assert sum(seen) == len(images) == 24
    did, expected = features.summary, alone.summary
    assert (did.images, did.computed, did.reused, did.failed) == (24, 22, 1, expected.failed)
    assert did.runtime == expected.runtime
    assert len(cluster.loads()) == len(set(cluster.loads()))  # one model a process, of eight shards
    again = extract_on_cluster(images, tmp_path / "features", backbone, cluster.address).summary
    assert (again.computed, again.reused, len(again.failed)) == (0, 23, 1)


def test_a_mistake_that_a_user_can_mend_comes_back_from_a_shard_as_it_is(cluster, images, backbone, tmp_path):
    with pytest.raises(FtransferError, match="broken.png cannot be read: .* \\(--strict stops here\\)"):
        extract_on_cluster(
            images, tmp_path / "features", backbone, cluster.address, strict=True, shard_size=5
        )


def test_a_worker_that_does_not_see_the_images_is_named(cluster, images, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "_samples", lambda rows: [(str(tmp_path), "elsewhere.png", "0" * 64)])
    with pytest.raises(FtransferError, match=f"worker tcp://.* does not see {tmp_path} as this machine does"):
        extract_on_cluster(images, tmp_path / "features", backbone, cluster.address)


def test_a_race_finds_what_it_finds_on_one_machine(cluster, feature_set):
    task = load_task(feature_set, ["day"], "night")
    recipes = ["coral_logistic", "source_only_logistic", "scaled_logistic"]
    there = race_on_cluster(task, recipes, cluster=cluster.address)
    assert_same_race(there, race(task, recipes))


@pytest.fixture
def many_rows(feature_set, monkeypatch):
    """Task whose rows stay in the feature set, as if there were many."""
    monkeypatch.setattr(tasks, "IN_MEMORY", 50)
    return load_task(feature_set, ["day"], "night")


def test_workers_read_the_rows_of_a_large_task_from_the_feature_set(cluster, many_rows, monkeypatch):
    sent, dumps = [], cloudpickle.dumps

    def noted(*given, **options):
        sent.append(dumps(*given, **options))
        return sent[-1]

    monkeypatch.setattr(cloudpickle, "dumps", noted)
    there = race_on_cluster(many_rows, ["scaled_logistic"], cluster=cluster.address, max_rows=80)
    assert_same_race(there, race(many_rows, ["scaled_logistic"], max_rows=80))
    rows = np.asarray(many_rows.X)
    assert sent
    assert not [row for row in rows for content in sent if row.tobytes() in content]


def test_a_worker_that_does_not_see_the_feature_set_of_a_large_task_is_named(cluster, many_rows, monkeypatch):
    monkeypatch.setattr(FeatureSet, "__reduce__", lambda self: (FeatureSet, ("/nowhere",)))
    with pytest.raises(FtransferError, match="worker tcp://.*: /nowhere .* that all of them mount"):
        race_on_cluster(many_rows, ["scaled_logistic"], cluster=cluster.address)


def assert_same_race(there, here):
    tables = (found.table.drop(columns="seconds") for found in (there, here))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (there.chosen, there.adapt, there.reason) == (here.chosen, here.adapt, here.reason)
    assert (there.pipeline.predict(there.task.X) == here.pipeline.predict(here.task.X)).all()


def test_a_worker_killed_in_the_middle_of_a_shard_loses_no_row(cluster, images, backbone, alone, tmp_path):
    cluster.arm()
    killer = threading.Thread(target=cluster.kill_who_waits)
    killer.start()
    features = extract_on_cluster(
        images, tmp_path / "features", backbone, cluster.address, shard_size=8, batch_size=4
    )
    killer.join()
    assert_same(features, alone)
    assert features.summary.computed == 22


def test_a_worker_that_cannot_write_is_named(cluster, images, backbone, tmp_path, monkeypatch):
    out = tmp_path / "features"

    class Unwritable(job.SharedPaths):
        def fault(self):
            job.write_whole = read_only
            return super().fault()

    def read_only(file, content):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    monkeypatch.setattr(extraction, "SharedPaths", Unwritable)
    monkeypatch.setattr(
        extraction, "_on_all", lambda client, function, *given: {"tcp://w:1": function(*given)}
    )
    monkeypatch.setattr(extraction, "_describe_workers", lambda *_: ({"here": 1}, {}))
    monkeypatch.setattr(job, "write_whole", job.write_whole)  # put back at the end
    match = rf"worker tcp://w:1 cannot write to {out} \(Read-only file system\); images and features .* can write to$"
    with pytest.raises(FtransferError, match=match):
        extract_on_cluster(images, out, backbone, cluster.address)


def test_a_worker_that_joins_late_and_sees_no_images_is_left_out(
    cluster, images, backbone, alone, tmp_path, monkeypatch
):
    describe = extraction._refuse_workers_without

    def then_join(client, paths):
        describe(client, paths)
        fit.append(len(client.nthreads()))
        cluster.add_workers(2, "blind")
        client.wait_for_workers(fit[0] + 2, timeout=LONG)

    monkeypatch.setattr(extraction, "_refuse_workers_without", then_join)
    told, fit = [], []
    features = extract_on_cluster(
        images, tmp_path / "features", backbone, cluster.address, shard_size=2, batch_size=4, warn=told.append
    )
    for pid in cluster.pids[-2:]:
        os.kill(pid, signal.SIGKILL)
    assert_same(features, alone)
    assert 1 <= len(told) <= 2
    assert all(
        "does not see /nowhere" in line and "the other workers go on without it" in line for line in told
    )
    wait_until(lambda: cluster.n_workers() == fit[0], "the end of both")


def test_a_worker_that_would_compute_another_fingerprint_is_named(cluster, images, tmp_path):
    other = Backbone("small_cnn", device="cpu")
    other.fingerprint["decoder"] = "pillow 1.0"
    with pytest.raises(
        FtransferError, match="a different fingerprint: decoder is pillow .* there, and here pillow 1.0"
    ):
        extract_on_cluster(images, tmp_path / "features", other, cluster.address)


def test_a_backbone_that_was_sent_embeds_as_it_did(backbone):
    batch = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    for sent in (backbone.on("cpu"), pickle.loads(pickle.dumps(backbone.on("cpu"))).on("cpu")):
        assert sent.embed(batch).tobytes() == backbone.embed(batch).tobytes()
        assert sent.fingerprint == backbone.fingerprint


# ---------------------------------------------------------------- what can go wrong before


@pytest.mark.parametrize("command", [["extract", "."], ["fit", ".", "--source", "a", "--target", "b"]])
@pytest.mark.parametrize(
    "address",
    ["", "local:", "local:0", "local:many", "localhost:8786", "http://localhost:8786", "tcp://host"],
)
def test_an_address_that_is_none_is_said_before_anything_is_done(command, address, tmp_path):
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "out"), "--cluster", address])
    assert result.exit_code == 1
    assert result.output.startswith(
        f"error: '{address}' is not the address of a cluster; write tcp://HOST:PORT"
    )
    assert not (tmp_path / "out").exists()


def test_a_user_and_password_in_an_address_are_refused_and_not_shown():
    with pytest.raises(
        FtransferError, match="tcp://host:8786: a scheduler address must not contain a user or password"
    ) as error:
        connecting.check_address("tcp://me:secret@host:8786")
    assert "secret" not in str(error.value)


def test_a_scheduler_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1)
    with (
        pytest.raises(FtransferError, match="no Dask scheduler answered at tcp://127.0.0.1:9 within 1 s"),
        connect("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_cluster_without_workers_is_said(monkeypatch):
    monkeypatch.setattr(connecting, "WORKER_SECONDS", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as empty,
        pytest.raises(FtransferError, match="no worker joined tcp://.* within 0.2 s; start some"),
        connect(empty.scheduler_address),
    ):
        pass


class Packages:
    """What a Dask client says of the versions on a cluster."""

    def __init__(self, scheduler=(), worker=()):
        own = dict.fromkeys(["ftransfer", *connecting.LIBRARIES], "1.0")
        self.found = {
            "client": {"packages": own},
            "scheduler": {"packages": own | dict(scheduler)},
            "workers": {"tcp://a:1": {"packages": own}, "tcp://b:2": {"packages": own | dict(worker)}},
        }

    def get_versions(self, packages):
        assert set(packages) | {"python"} == {"ftransfer", *connecting.LIBRARIES}
        return self.found


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        (Packages(worker={"ftransfer": None}), "worker tcp://b:2 has no ftransfer; here it is 1.0: install"),
        (
            Packages(worker={"ftransfer": "0.9"}),
            "worker tcp://b:2 has ftransfer 0.9; here it is 1.0: install",
        ),
        (Packages({"ftransfer": None}), "the scheduler has no ftransfer; here"),
    ],
)
def test_another_release_of_ftransfer_is_refused(packages, message):
    with pytest.raises(FtransferError, match=message):
        connecting.check_versions(packages, pytest.fail)


def test_another_library_is_warned_of_where_it_computes():
    said = []
    connecting.check_versions(Packages(worker={"torch": "2.9", "openvino": None}), said.append)
    assert said == [
        "worker tcp://b:2 has torch 2.9 (here 1.0), openvino missing (here 1.0): results may differ slightly from "
        "those on this machine"
    ]
    connecting.check_versions(Packages(scheduler={"torch": None}), pytest.fail)


def test_a_missing_extra_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(connecting, "distributed", None)
    with pytest.raises(FtransferError, match=r'pip install "ftransfer\[cluster\]"'), connect("local:2"):
        pass


# ---------------------------------------------------------------- slower


# On a worker: every picture whose name begins with "late" can be read only once Ctrl-C was heard of.
LATE = """
import os, pathlib, time
import ftransfer.images.readers as readers
from ftransfer.cluster import broadcast

read = getattr(readers, "read_early", readers.read_bytes)  # Dask loads this file twice

def read_late(root, path):
    if "/late" in path:
        pathlib.Path(os.environ["CONTROL"], "late").touch()
        while not any(job.stopped.is_set() for job in broadcast._received.values()):
            time.sleep(0.02)
    return read(root, path)

readers.read_early, readers.read_bytes = read, read_late
"""

STARTED_BY_HAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background without it
from ftransfer.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_the_workers_have_embedded(tmp_path):
    for i in range(256):
        when = "late" if i % 64 >= 32 else "early"
        draw(tmp_path / "images" / "day" / f"{i // 64}" / f"{when}{i}.png", i % 3, i)
    (tmp_path / "late.py").write_text(LATE)
    out, preload = tmp_path / "features", str(tmp_path / "late.py")
    command = ["extract", str(tmp_path / "images"), "--out", str(out), "--backbone", "small_cnn"]
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED_BY_HAND, *command, "--batch-size", "8", "--cluster", "local:2"],
        env={**os.environ, "CONTROL": str(tmp_path), "DASK_DISTRIBUTED__WORKER__PRELOAD": preload},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (tmp_path / "late").exists() or process.poll() is not None, "a late picture")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    _, text = process.communicate(timeout=LONG)
    assert process.returncode == 130, text
    features = FeatureSet(out)
    kept = int((features.manifest["status"] == "ok").sum())
    assert f"interrupted: {kept} of 256 images are kept in {out}" in text
    assert 0 < kept == len(features.done()) < 256
    assert "Traceback" not in text


@pytest.fixture
def other_cluster(tmp_path, request):
    """A cluster of the test's own, still without workers; a task is given up after so many deaths and one."""
    (tmp_path / "other").mkdir()
    failures = str(getattr(request, "param", 3))
    cluster = Cluster(tmp_path / "other", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=failures)
    yield cluster
    cluster.close()


once = pytest.mark.parametrize("other_cluster", [0], indirect=True, ids=["once"])


@pytest.mark.slow
def test_workers_with_a_gpu_are_used_where_there_are_some(other_cluster, images, backbone, alone, tmp_path):
    other_cluster.add_workers(1, "--resources", "GPU=1")
    other_cluster.add_workers(1)
    other_cluster.wait_for_workers(2)
    features = extract_on_cluster(
        images,
        tmp_path / "features",
        backbone,
        other_cluster.address,
        device="cpu",
        shard_size=3,
        batch_size=4,
    )
    assert_same(features, alone)
    assert other_cluster.loads() == [str(other_cluster.pids[1])]


@once
@pytest.mark.slow
def test_a_shard_that_kills_its_workers_is_said_and_the_rest_kept(
    other_cluster, images, backbone, alone, tmp_path
):
    other_cluster.add_workers(1)
    other_cluster.wait_for_workers(1)
    other_cluster.arm("die")
    with pytest.raises(FtransferError, match="1 workers died one after another on the same shard"):
        extract_on_cluster(
            images, tmp_path / "features", backbone, other_cluster.address, shard_size=8, batch_size=4
        )
    other_cluster.disarm()
    assert len(FeatureSet(tmp_path / "features").done()) == 4
    assert_same(extract_features(images, tmp_path / "features", backbone, batch_size=4), alone)


@pytest.mark.slow
def test_a_cluster_that_loses_its_last_worker_is_given_up(
    other_cluster, images, backbone, tmp_path, monkeypatch
):
    other_cluster.add_workers(1)
    other_cluster.wait_for_workers(1)
    monkeypatch.setattr(connecting, "WORKER_SECONDS", 1)
    other_cluster.arm()
    killer = threading.Thread(target=other_cluster.kill_who_waits)
    killer.start()
    with pytest.raises(FtransferError, match="the cluster lost its last worker, and none joined within 1 s"):
        extract_on_cluster(
            images, tmp_path / "features", backbone, other_cluster.address, shard_size=8, batch_size=4
        )
    killer.join()


RECIPE = """
import os, pathlib, time
from sklearn.svm import SVC
from ftransfer import DomainScaler, make_pipeline

control = pathlib.Path({control!r})

class Held(SVC):
    def fit(self, X, y):
        mine = control / f"waits-{{os.getpid()}}"
        mine.write_text(str(os.getpid()))
        try:
            if (control / "armed").exists():
                os.link(mine, control / "waiting")
                while not (control / "go").exists():
                    time.sleep(0.02)
        except FileExistsError:
            pass
        return super().fit(X, y)

pipeline = make_pipeline(DomainScaler(), Held())
grid = {{"held__C": [0.1, 1.0, 10.0]}}
"""


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_race_loses_no_candidate(other_cluster, feature_set, tmp_path):
    other_cluster.add_workers(2)
    other_cluster.wait_for_workers(2)
    (tmp_path / "recipe.py").write_text(RECIPE.format(control=str(other_cluster.folder)))
    recipes = [tmp_path / "recipe.py", "source_only_logistic", "scaled_logistic"]
    task = load_task(feature_set, ["day"], "night")
    here = race(task, recipes)
    other_cluster.arm()
    killer = threading.Thread(target=other_cluster.kill_who_waits)
    killer.start()
    journal = tmp_path / "running"
    there = race_on_cluster(task, recipes, cluster=other_cluster.address, journal=journal)
    killer.join()
    assert_same_race(there, here)
    assert len(journal.read_text().splitlines()) == 1 + len(here.table)
    again = race_on_cluster(task, recipes, cluster=other_cluster.address, journal=journal)
    assert_same_race(again, here)
    assert len(journal.read_text().splitlines()) == 1 + len(here.table)  # nothing was fitted twice


@once
@pytest.mark.slow
def test_a_candidate_that_kills_its_worker_ends_the_race_with_one_line(other_cluster, feature_set, tmp_path):
    other_cluster.add_workers(1)
    other_cluster.wait_for_workers(1)
    deadly = RECIPE.replace("mine = control", "os.kill(os.getpid(), 9)\n        mine = control")
    (tmp_path / "recipe.py").write_text(deadly.format(control=str(other_cluster.folder)))
    task = load_task(feature_set, ["day"], "night")
    with pytest.raises(FtransferError, match="1 workers died one after another on the same candidate"):
        race_on_cluster(task, [tmp_path / "recipe.py"], cluster=other_cluster.address)
