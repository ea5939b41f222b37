"""Time the extraction of images side by side with a DataLoader loop and with thingsvision.

    python benchmarks/extract.py                                       # 2,000 images; takes half an hour
    python benchmarks/extract.py --quick                               # 1,000 images, no ceilings; about 6 minutes
    python benchmarks/extract.py --photographs FOLDER --repeats 3
    python benchmarks/extract.py --thingsvision ENVIRONMENT/bin/python  # thingsvision wants its own environment
    TMPDIR=/dev/shm python benchmarks/extract.py --device cuda --images 60000   # on a GPU; about 7 minutes
    python benchmarks/extract.py --more                                # the same again, and with 1 % more images
    python benchmarks/extract.py --convert                             # when converting a network is repaid
    python benchmarks/extract.py --memory                              # peak memory at 2,000 and 200,000 images

thingsvision 2.7.3 wants torchvision 0.15.2: `python3.11 -m venv ENVIRONMENT && ENVIRONMENT/bin/pip install
thingsvision==2.7.3`.

All get the same JPEG files, 640 x 480 of about 99 KB each, made from the photographs of a folder or else from
smooth noise, and networks with the same untrained weights. Each runs in a process of its own; they take turns. The
clock starts when torch is imported and the network is built, and stops when the features are there: conversion of
the network, reading, hashing and writing of parts are in our time.

Columns: images a second of wall time; the same while it runs, from a quarter of the images to three quarters; images a
second of processor time, that of child processes in it; the ratio of the latter (on a GPU, of the first) to that of
thingsvision, or of the DataLoader loop where there is none, in the same round, median with least and most; the
difference from the DataLoader loop's features: relative (the largest |a - b| / |b| of a row), and the mean centred
cosine. Last, what share of the lower of its two ceilings a tier reaches while it runs: on a GPU a run of many images
begins with a dozen seconds in which processes start.

* DataLoader: what one would write by hand, `torch.utils.data.DataLoader` with a worker a core, batches of 32 and
  the network in eager mode with torch's default threads.
* decode only, forward only: our own two halves by themselves, as ceilings; on a GPU in as many processes as the whole.
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, BYTES = (640, 480), 99_000
DISTINCT = 64  # pictures; further files have the same pixels and other bytes
OURS = ["exact", "fast"]
CONTENDERS = [
    "DataLoader",
    "thingsvision",
    *OURS,
    *(f"{half} only, {t}" for t in OURS for half in ("decode", "forward")),
]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, metavar="N", help="[default: 2000]")
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="rounds; in each, all take their turn"
    )
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50"], metavar="NAME")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="what the images are made from")
    parser.add_argument("--thingsvision", metavar="PYTHON", help="an interpreter that has thingsvision")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, or cuda")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, metavar="NAME", help="beside the DataLoader loop"
    )
    parser.add_argument("--quick", action="store_true", help="1,000 images, without the ceilings")
    parser.add_argument(
        "--more", action="store_true", help="time the same images again, and with 1 %% more of them"
    )
    parser.add_argument("--convert", action="store_true", help="measure when converting is repaid instead")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 200_000], help="images for --memory")
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(*options.run)
    if options.convert:
        return measure_conversion(options.models)
    options.images = options.images or (1000 if options.quick else 2000)
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            return measure_memory(Path(folder), options.counts)
        if options.more:
            return measure_more(Path(folder), options)
        compare(Path(folder), options)


def compare(folder: Path, options):
    write_images(folder / "images" / "all", options.images, options.photographs)
    size = statistics.mean(f.stat().st_size for f in (folder / "images" / "all").iterdir())
    print(f"{options.images} JPEGs of {SIZE[0]} x {SIZE[1]}, {size / 1000:.0f} KB; {os.cpu_count()} cores\n")
    print(
        f"{'network':<12}{'':<24}{'images/s':>9}{'running':>9}{'per CPU s':>11}{'ratio':>7}{'':18}{'relative':>9}"
        f"{'cosine':>9}"
    )
    for model in options.models:
        results = {name: [] for name in CONTENDERS if not (options.quick and " only, " in name)}
        if options.only:
            results = {name: [] for name in ["DataLoader", "thingsvision", *options.only]}
        for _ in range(options.repeats):
            for name in results:
                results[name].append(in_own_process(name, model, folder, options))
                print(f"{model}, {name}: {results[name][-1]}", file=sys.stderr, flush=True)
        for name, rounds in results.items():
            print(f"{model:<12}{name:<24}{describe(rounds, results, options)}", flush=True)
        for tier in OURS:
            halves = [half for half in results if half.endswith(tier) and "running" in results[half][0]]
            running = {half: median(results[half], "running") for half in halves}
            if len(running) == 3:
                share = running.pop(tier) / min(running.values())
                print(f"{model:<12}{tier:<24}{share:9.0%} of the lower ceiling", flush=True)


def median(rounds, which):
    return statistics.median(r[which] for r in rounds)


def describe(rounds, results, options):
    if "skipped" in rounds[0]:
        return f" skipped: {rounds[0]['skipped']}"
    wall, cpu = (options.images / median(rounds, which) for which in ("wall", "cpu"))
    baseline, reference = results["DataLoader"], results["thingsvision"]
    reference = baseline if "skipped" in reference[0] else reference
    kind = "cpu" if options.device == "cpu" else "wall"
    running = f"{median(rounds, 'running'):9.1f}" if "running" in rounds[0] else " " * 9
    ratios = [b[kind] / r[kind] for r, b in zip(rounds, reference, strict=True)]
    text = f"{wall:9.1f}{running}{cpu:11.1f}{statistics.median(ratios):7.2f}"
    text = f"{text} ({min(ratios):.2f} to {max(ratios):.2f})".ljust(54)
    if "file" in rounds[0] and rounds is not baseline:
        from ftransfer.fidelity import centred_cosine
        from ftransfer.runtime import relative_difference

        found, expected = np.load(rounds[0]["file"]), np.load(baseline[0]["file"])
        text += f"{relative_difference(found, expected):9.1e}{centred_cosine(expected, found):9.5f}"
    return text


def in_own_process(name, model, folder, options):
    python = sys.executable
    if name == "thingsvision":
        if options.thingsvision is None:
            return {"skipped": "name an interpreter that has it: --thingsvision PYTHON"}
        if model == "small_cnn":
            return {"skipped": "it has no small_cnn"}
        python = options.thingsvision
    command = [
        python,
        "-W",
        "ignore",
        __file__,
        "--run",
        name,
        model,
        str(folder / "images"),
        str(folder / name),
        options.device,
    ]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{name} with {model} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def run(name, model, images, out, device):
    """Run one contender in this process; print its seconds, and images a second once it runs, as JSON."""
    half, _, tier = name.partition(" only, ")
    files = sorted(Path(images).rglob("*.jpg"))
    if tier:
        return print(json.dumps(run_half(half, model, files, tier, device)))
    contender = {"DataLoader": loader_loop, "thingsvision": thingsvision_loop}.get(name, extract)
    go = contender(model, files, name, out, device)
    wall, cpu, batches = time.perf_counter(), cpu_seconds(), []
    features = go(lambda n: batches.append((time.perf_counter(), n)))
    answer = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    told, done = np.array([t for t, _ in batches]), np.cumsum([n for _, n in batches])
    first, last = np.searchsorted(done, [done[-1] / 4, 3 * done[-1] / 4]) if batches else (0, 0)
    if last - first > 3:
        answer["running"] = float((done[last] - done[first]) / (told[last] - told[first]))
    if features is not None:
        answer["file"] = f"{out}-{model}.npy"
        np.save(answer["file"], features)
    print(json.dumps(answer))


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def loader_loop(model, files, tier, out, device):
    import torch

    from ftransfer import Backbone

    backbone = Backbone(model, "random", device=device)

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            with Image.open(files[i]) as image:
                return backbone.preset(image.convert("RGB"))

    def go(progress):
        rows = []
        with torch.inference_mode():
            for batch in torch.utils.data.DataLoader(Images(), batch_size=32, num_workers=os.cpu_count()):
                (output,) = backbone.network(batch.to(device)).values()
                rows.append(output.cpu().numpy())
                progress(len(batch))
        return np.concatenate(rows)

    return go


def thingsvision_loop(model, files, tier, out, device):
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset

    extractor = get_extractor(model_name=model, source="torchvision", device=device, pretrained=False)
    backend = extractor.get_backend()

    def go(progress):
        data = ImageDataset(
            root=str(files[0].parent.parent),
            out_path=out,
            backend=backend,
            transforms=extractor.get_transformations(),
        )
        batches = DataLoader(dataset=data, batch_size=32, backend=backend)
        extractor.extract_features(
            batches=batches, module_name="avgpool", flatten_acts=True, output_type="ndarray"
        )

    return go  # its weights are other random ones: only its time is compared


def extract(model, files, tier, out, device):
    from ftransfer import Backbone, extract_features, find_images
    from ftransfer.devices import name_devices

    devices = name_devices(device, len(files))
    backbone = Backbone(model, "random", device=devices[0], tier=tier)

    def go(progress):
        with tempfile.TemporaryDirectory() as folder:
            table = find_images(files[0].parent, domain="all")
            features = extract_features(table, folder, backbone, devices=devices, progress=progress)
            return features.load(features.complete)

    return go


def run_half(half, model, files, tier, device):
    """Run one of our two halves by itself, in as many processes as the whole has; nothing that makes ready is in it."""
    import multiprocessing

    from ftransfer.devices import name_devices

    devices = name_devices(device, len(files))
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(len(devices) + 1), context.SimpleQueue()
    work = {"decode": decode_only, "forward": forward_only}[half]
    processes = [
        context.Process(target=work, args=(model, files[i :: len(devices)], tier, name, devices, ready, told))
        for i, name in enumerate(devices)
    ]
    for process in processes:
        process.start()
    ready.wait()
    wall = time.perf_counter()
    did = [told.get() for _ in processes]
    wall = time.perf_counter() - wall
    for process in processes:
        process.join()
    images = sum(n for n, _ in did)
    # what a batch holds more than there are images does not count
    return {
        "wall": len(files) * wall / images,
        "cpu": len(files) * sum(c for _, c in did) / images,
        "running": images / wall,
    }


def decode_only(model, files, tier, device, devices, ready, told):
    import torch

    from ftransfer import Backbone
    from ftransfer.readers import AT_ONCE, open_processes, processes_pay, read_image
    from ftransfer.runtime import one_torch_thread_each
    from ftransfer.shortcuts import GpuDecoder

    backbone = Backbone(model, "random", device=device, tier=tier)
    decoder = GpuDecoder(backbone.device, backbone.preset) if backbone.decodes_on_gpu else None
    prepare, side, local = backbone.preparation(), backbone.image_size, threading.local()
    workers, root = max(1, os.cpu_count() // len(devices)), str(files[0].parent)

    def read(places):
        return [read_image(*place, prepare, lambda sha256: False) for place in places]

    def go(some):
        places = [(root, file.name) for file in some]
        views = [
            found[3][0] for i in range(0, len(places), AT_ONCE) for found in read(places[i : i + AT_ONCE])
        ]
        if decoder is None:
            return
        if not hasattr(local, "stream"):
            local.stream = torch.cuda.Stream(backbone.device)
        with torch.inference_mode(), torch.cuda.stream(local.stream):
            batch = torch.empty((len(some), side, side, 3), dtype=torch.uint8, device=backbone.device)
            decoder(dict(enumerate(views)), batch)
            local.stream.synchronize()

    each = 128 if decoder else AT_ONCE
    with ExitStack() as stack:
        if processes_pay(backbone.device, len(files), [root]):
            read = stack.enter_context(open_processes(workers, prepare, ()))
        pool = stack.enter_context(one_torch_thread_each(workers, "decode"))
        list(pool.map(go, [files[:each]] * workers))  # warms up
        ready.wait()
        cpu = cpu_seconds()
        list(pool.map(go, [files[i : i + each] for i in range(0, len(files), each)]))
        told.put((len(files), cpu_seconds() - cpu))


def forward_only(model, files, tier, device, devices, ready, told):
    from ftransfer import Backbone
    from ftransfer.runtime import lanes, make_runtime

    backbone = Backbone(model, "random", device=device, tier=tier)
    runtime = make_runtime(backbone, len(files) * len(devices))
    batches = -(-len(files) // runtime.batch_size)
    with lanes(runtime) as pool:
        buffers = [runtime.buffer() for _ in range(runtime.lanes)]
        list(pool.map(runtime, buffers))
        ready.wait()
        cpu = cpu_seconds()
        list(pool.map(runtime, [buffers[i % len(buffers)] for i in range(batches)]))
        told.put((batches * runtime.batch_size, cpu_seconds() - cpu))


# ---------------------------------------------------------------- again, and a few more


def measure_more(folder: Path, options):
    """Extract images, the same again, and with a hundredth more; print what each took of the first."""
    from ftransfer import Backbone, extract_features, find_images

    images = folder / "images" / "all"
    write_images(images, options.images, options.photographs)
    print(f"{'network':<12}{'':<12}{'computed':>9}{'seconds':>9}{'CPU s':>9}{'of the first':>14}")
    for model in options.models:
        backbone, first = Backbone(model, "random", device=options.device), None
        for name in ("first", "again", "1 % more"):
            if name == "1 % more":
                for i in range(-(-options.images // 100)):
                    content = (images / f"{i:07d}.jpg").read_bytes()
                    (images / f"{model}-{i}.jpg").write_bytes(content + model.encode())
            wall, cpu = time.perf_counter(), cpu_seconds()
            features = extract_features(find_images(images, domain="all"), folder / model, backbone)
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            first = first or cpu
            did = features.summary.computed
            print(f"{model:<12}{name:<12}{did:9d}{wall:9.2f}{cpu:9.2f}{cpu / first:14.1%}", flush=True)


# ---------------------------------------------------------------- the conversion of a network


def measure_conversion(models):
    """Print processor time of converting, of an image before and after, and from how many images on it is repaid."""
    import torch

    from ftransfer import Backbone
    from ftransfer.runtime import (
        OpenVINORuntime,
        TorchRuntime,
        conversion_pays,
        giga_operations,
        make_runtime,
    )

    torch.set_num_threads(1)

    def seconds(call, times=9):
        """The least of some calls after a first one."""
        call()
        taken = []
        for _ in range(times):
            begun = time.process_time()
            call()
            taken.append(time.process_time() - begun)
        return min(taken)

    print(
        f"{'network':<20}{'10^9 op.':>9}{'convert s':>11}{'torch ms':>10}{'OpenVINO ms':>13}{'repaid':>8}{'rule':>6}"
    )
    for model in models:
        backbone = Backbone(model, "random", device="cpu")
        size = make_runtime(backbone, 0).batch_size
        plain, begun = TorchRuntime(backbone, size), time.process_time()
        converted = OpenVINORuntime(backbone, size)
        converted.difference()
        took = time.process_time() - begun
        before, after = (seconds(lambda r=r: r(r.buffer())) / size for r in (plain, converted))
        repaid = f"{took / (before - after):.0f}" if after < before else "never"
        rule = bisect(range(10**6), False, key=lambda images: conversion_pays(backbone, images))
        print(
            f"{model:<20}{giga_operations(backbone):9.2f}{took:11.2f}{1000 * before:10.2f}{1000 * after:13.2f}"
            f"{repaid:>8}{rule:6d}",
            flush=True,
        )


# ---------------------------------------------------------------- images


def write_images(folder: Path, count: int, photographs: Path | None) -> None:
    """Write `count` files; beyond the first few the pixels repeat, with some bytes after the end of the image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    found = sorted(f for f in photographs.rglob("*.jpg")) if photographs else []
    if photographs and not found:
        sys.exit(f"no .jpg in {photographs}")
    contents = []
    for i in range(min(count, DISTINCT)):
        if found:
            image = Image.open(found[i * len(found) // DISTINCT]).convert("RGB").resize(SIZE)
            pixels = np.asarray(image) + rng.normal(
                0, 6, (SIZE[1], SIZE[0], 1)
            )  # the grain that resizing took
        else:
            pixels = smooth_noise(rng)
        contents.append(jpeg(pixels))
    for i in range(count):
        (folder / f"{i:07d}.jpg").write_bytes(contents[i % DISTINCT] + i.to_bytes(4, "big"))


def smooth_noise(rng) -> np.ndarray:
    """Sum noise of all scales, as photographs have it."""
    pixels = rng.normal(0, 5, (SIZE[1], SIZE[0], 3))
    for step in (4, 8, 16, 32, 64, 128):
        for c in range(3):
            coarse = rng.normal(0, 4 * step**0.5, (SIZE[1] // step + 1, SIZE[0] // step + 1))
            pixels[..., c] += np.asarray(
                Image.fromarray(coarse.astype(np.float32)).resize(SIZE, Image.BICUBIC)
            )
    return pixels + 128


def jpeg(pixels: np.ndarray) -> bytes:
    """Compress to the largest quality within `BYTES`."""
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    low, high = 5, 98
    while low <= high:
        middle = (low + high) // 2
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=middle)
        low, high = (middle + 1, high) if buffer.tell() <= BYTES else (low, middle - 1)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=max(high, 5))
    return buffer.getvalue()


# ---------------------------------------------------------------- memory

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
