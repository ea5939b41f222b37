"""Measure what an extraction costs beside its images: start, a few more of them, converting the network, memory.

    python benchmarks/extract_costs.py running --images 600                    # beside decoding and the network alone
    python benchmarks/extract_costs.py start --images 20 --rounds 5            # a small job, with and without its cache
    python benchmarks/extract_costs.py more --images 10000 --models resnet18   # the same again, and 1 % more images
    python benchmarks/extract_costs.py convert                                 # when converting a network is repaid
    python benchmarks/extract_costs.py memory                                  # peak memory at 2,000 and 200,000 images

The images are those of benchmarks/extract.py, but for memory, where they are of 32 x 32. The network is ready to be
loaded when a clock starts; that it is made ready to compute is in the time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections import deque
from pathlib import Path

import numpy as np
from made_images import cpu_seconds, write_images


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["running", "start", "more", "convert", "memory"])
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50"], metavar="NAME")
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="[default: 2000]")
    parser.add_argument("--tiers", nargs="+", default=["fast", "exact"], help="for running and start")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="for running and start, of which the median counts"
    )
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="what they are made from")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="for convert  [default: the network's]"
    )
    parser.add_argument(
        "--times", type=int, default=9, metavar="N", help="for convert: calls of which the least counts"
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 200_000], help="images for memory")
    options = parser.parse_args()
    if options.what == "convert":
        return measure_conversion(options.models, options.image_size, options.times)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "memory":
            return measure_memory(Path(folder), options.counts)
        if options.what in ("running", "start"):
            measure = {"running": measure_running, "start": measure_start}[options.what]
            write_images(Path(folder) / "images", options.images, options.photographs)
            return measure(Path(folder), options.models, options.tiers, options.rounds)
        measure_more(Path(folder), options.models, options.images, options.photographs)


def measure_more(folder: Path, models, count: int, photographs):
    """Extract images, the same again, and with a hundredth more; print what each took of the first."""
    from ftransfer import Backbone, extract_features, find_images

    images = folder / "images" / "all"
    write_images(images, count, photographs)
    print(f"{'network':<12}{'':<12}{'computed':>9}{'seconds':>9}{'CPU s':>9}{'of the first':>14}")
    for model in models:
        backbone, first = Backbone(model, "random", device="cpu"), None
        for name in ("first", "again", "1 % more"):
            if name == "1 % more":
                for i in range(-(-count // 100)):
                    content = (images / f"{i:07d}.jpg").read_bytes()
                    (images / f"{model}-{i}.jpg").write_bytes(content + model.encode())
            wall, cpu = time.perf_counter(), cpu_seconds()
            features = extract_features(find_images(images, domain="all"), folder / model, backbone)
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            first = first or cpu
            did = features.summary.computed
            print(f"{model:<12}{name:<12}{did:9d}{wall:9.2f}{cpu:9.2f}{cpu / first:14.1%}", flush=True)


def measure_running(folder: Path, models, tiers, rounds):
    """Print what an image takes while many run, beside its floor: decoding and resizing alone, and the network alone.

    All are milliseconds of processor time: alone on one thread, the network in the best of some sizes of batches.
    Reading and hashing the file are not in the floor.
    """
    import torch

    from ftransfer import Backbone, extract_features, find_images
    from ftransfer.backbone.runtime import make_runtime

    torch.set_num_threads(1)
    table = find_images(folder / "images", domain="all")
    contents = [file.read_bytes() for file in sorted((folder / "images").iterdir())[:64]]
    columns = ["decode", "network", "floor", "running", "share", "images/s"]
    print(f"{'network':<20}{'tier':<7}" + "".join(f"{name:>10}" for name in columns))

    def per_image(call, images):
        begun = time.process_time()
        call()
        return 1000 * (time.process_time() - begun) / images

    def run(backbone):
        told = []
        with tempfile.TemporaryDirectory() as out:
            tell = lambda n: told.append((time.process_time(), time.perf_counter(), n))  # noqa: E731
            extract_features(table, out, backbone, progress=tell)
        cpu, wall, done = np.array(told).T
        done = np.cumsum(done)
        first, last = np.searchsorted(done, [done[-1] / 4, 3 * done[-1] / 4])
        images = done[last] - done[first]
        return 1000 * (cpu[last] - cpu[first]) / images, images / (wall[last] - wall[first])

    for model in models:
        for tier in tiers:
            backbone = Backbone(model, "random", device="cpu", tier=tier)
            prepare, best = backbone.preparation(), make_runtime(backbone, len(table)).batch_size
            networks = [make_runtime(backbone, len(table), size) for size in (1, best, 2 * best)]
            took = []
            for _ in range(rounds):
                decode = per_image(
                    lambda p=prepare: deque((p(content, "") for content in contents), 1), len(contents)
                )
                forward = []
                for network in networks:
                    buffer, times = network.buffer(), -(-48 // network.batch_size)
                    network(buffer)
                    go = lambda n=network, b=buffer, t=times: [n(b) for _ in range(t)]  # noqa: E731
                    forward.append(per_image(go, times * network.batch_size))
                running, speed = run(backbone)
                took.append((decode, min(forward), decode + min(forward), running, speed))
            decode, forward, floor, running, speed = np.median(took, axis=0)
            share = statistics.median(t[2] / t[3] for t in took)
            print(
                f"{model:<20}{tier:<7}{decode:10.2f}{forward:10.2f}{floor:10.2f}{running:10.2f}{share:10.0%}{speed:10.1f}",
                flush=True,
            )


STAGES = ["imports", "backbone", "network ready", "images", "drift", "end"]
START_PROGRAM = """
import json, os, sys, time
taken, begun = {}, 0.0
def stage(name):
    global begun
    now = time.process_time()
    taken[name], begun = taken.get(name, 0) + now - begun, now
if sys.argv[5] == "compiler":
    import torchvision
from ftransfer import Backbone, extract_features, find_images
from ftransfer.extract import extract, summary
stage("imports")
backbone = Backbone(sys.argv[1], "random", device="cpu", tier=sys.argv[2])
stage("backbone")
def between(before, after, call):
    def timed(*args):
        stage(before)
        made = call(*args)
        stage(after)
        return made
    return timed
extract.make_runtime = between("images", "network ready", extract.make_runtime)
summary.compare_tiers = between("images", "drift", summary.compare_tiers)
extract_features(find_images(sys.argv[3], domain="all"), sys.argv[4], backbone)
stage("images")
print(json.dumps(taken))
"""
# what is switched on: an import of torch's compiler, which torchvision asks for, and whether networks are kept
STARTS = {"as it was": ("compiler", "0"), "nothing kept": ("", "0"), "network kept": ("", "2")}


def measure_start(folder: Path, models, tiers, rounds):
    """Extract a few images in a process of its own; print processor seconds by stage, and seconds from start to end."""
    print(
        f"{'network':<20}{'tier':<7}{'':<14}"
        + "".join(f"{name:>14}" for name in [*STAGES, "CPU s", "wall s"])
    )
    for model in models:
        for tier in tiers:
            _start(folder, model, tier, *STARTS["network kept"])  # fills the cache
            took = {name: [] for name in STARTS}
            for _ in range(rounds):
                for name, settings in STARTS.items():
                    took[name].append(_start(folder, model, tier, *settings))
            for name, rows in took.items():
                print(
                    f"{model:<20}{tier:<7}{name:<14}"
                    + "".join(f"{x:14.2f}" for x in np.median(rows, axis=0)),
                    flush=True,
                )


def _start(folder: Path, model, tier, compiler, gigabytes):
    command = [sys.executable, "-W", "ignore", "-c", START_PROGRAM, model, tier, str(folder / "images")]
    command += [tempfile.mkdtemp(dir=folder), compiler]
    cache = {"FTRANSFER_CACHE": str(folder / "cache"), "FTRANSFER_NETWORKS_GB": gigabytes}
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = subprocess.run(command, env=os.environ | cache, capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    if result.returncode:
        sys.exit(result.stderr)
    stages = json.loads(result.stdout.splitlines()[-1])
    stages["end"] = cpu - sum(stages.values())
    return [*(stages.get(name, 0.0) for name in STAGES), cpu, wall]


def measure_conversion(models, image_size, times):
    """Print processor time of converting, of an image before and after, and from how many images on it is repaid."""
    import torch

    from ftransfer import Backbone
    from ftransfer.backbone.openvino_runtime import OpenVINORuntime
    from ftransfer.backbone.runtime import TorchRuntime, conversion_pays, giga_operations, make_runtime

    torch.set_num_threads(1)
    os.environ["FTRANSFER_NETWORKS_GB"] = "0"

    def seconds(call):
        """The least of some calls after a first one."""
        call()
        taken = []
        for _ in range(times):
            begun = time.process_time()
            call()
            taken.append(time.process_time() - begun)
        return min(taken)

    print(
        f"{'network':<44}{'10^9 op.':>9}{'convert s':>11}{'torch ms':>10}{'OpenVINO ms':>13}{'repaid':>8}{'rule':>6}"
    )
    for model in models:
        backbone = Backbone(model, "random", device="cpu", image_size=image_size)
        size = make_runtime(backbone, 0).batch_size
        plain, begun = TorchRuntime(backbone, size), time.process_time()
        converted = OpenVINORuntime(backbone, size)
        converted.difference()
        took = time.process_time() - begun
        before, after = (seconds(lambda r=r: r(r.buffer())) / size for r in (plain, converted))
        repaid = f"{took / (before - after):.0f}" if after < before else "never"
        rule = bisect(range(10**6), False, key=lambda images: conversion_pays(backbone, images))
        print(
            f"{model:<44}{giga_operations(backbone):9.2f}{took:11.2f}{1000 * before:10.2f}{1000 * after:13.2f}"
            f"{repaid:>8}{rule:6d}",
            flush=True,
        )


MEMORY_PROGRAM = """
import sys, resource
from ftransfer import Backbone, extract_features, find_images
table = find_images(sys.argv[1], domain="all")
backbone = Backbone("small_cnn", "random", device="cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
extract_features(table, sys.argv[2], backbone)
print(before // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def measure_memory(folder: Path, counts):
    """Extract images of 32 x 32 with small_cnn; print the peak of resident memory."""
    print(f"{'images':>9}{'MB before':>11}{'MB at peak':>12}")
    rng = np.random.default_rng(0)
    for count in counts:
        images = folder / f"{count}"
        for i in range(count):
            file = images / f"{i // 1000:04d}" / f"{i:07d}.ppm"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"P6 32 32 255\n" + rng.bytes(3072))
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            MEMORY_PROGRAM,
            str(images),
            str(folder / f"{count}-out"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(result.stderr)
        before, peak = map(int, result.stdout.split())
        print(f"{count:9d}{before:11d}{peak:12d}", flush=True)


if __name__ == "__main__":
    main()
