"""Time the extraction of images side by side with a DataLoader loop and with thingsvision.

    python benchmarks/extract.py                                       # 2,000 images; takes half an hour
    python benchmarks/extract.py --quick                               # 1,000 images, no ceilings; about 6 minutes
    python benchmarks/extract.py --photographs FOLDER --repeats 3
    python benchmarks/extract.py --thingsvision ENVIRONMENT/bin/python  # thingsvision wants its own environment
    TMPDIR=/dev/shm python benchmarks/extract.py --device cuda --images 60000   # on a GPU; about 7 minutes

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
begins with some seconds in which processes start and the network is made ready.

* DataLoader: what one would write by hand, `torch.utils.data.DataLoader` with a worker a core, batches of 32 and
  the network in eager mode with torch's default threads; for a model of timm with timm's own transform and call.
* decode only, forward only: our own two halves by themselves, as ceilings; on a GPU in as many processes as the whole.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from made_images import SIZE, cpu_seconds, write_images
from PIL import Image

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
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(*options.run)
    options.images = options.images or (1000 if options.quick else 2000)
    with tempfile.TemporaryDirectory() as folder:
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
        from ftransfer.backbone.embedder import relative_difference
        from ftransfer.extract.drift import centred_cosine

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
    environment["FTRANSFER_NETWORKS_GB"] = "0"  # as in a first run
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


def loader_loop(model, files, tier, out, device):
    import torch

    from ftransfer import Backbone

    backbone = Backbone(model, "random", device=device)
    if model.startswith("timm:"):
        import timm

        network = backbone.network.module
        preset = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    else:
        network, preset = backbone.network, backbone.preset

    def embed(batch):
        if model.startswith("timm:"):
            return network.forward_head(network.forward_features(batch), pre_logits=True)
        (output,) = network(batch).values()
        return output

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            with Image.open(files[i]) as image:
                return preset(image.convert("RGB"))

    def go(progress):
        rows = []
        with torch.inference_mode():
            for batch in torch.utils.data.DataLoader(Images(), batch_size=32, num_workers=os.cpu_count()):
                rows.append(embed(batch.to(device)).cpu().numpy())
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
    from ftransfer.extract.devices import name_devices

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

    from ftransfer.extract.devices import name_devices

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
    from ftransfer.backbone.fast_pixels import GpuDecoder
    from ftransfer.backbone.runtime import one_torch_thread_each
    from ftransfer.images.readers import AT_ONCE, open_processes, processes_pay, read_image

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
    from ftransfer.backbone.runtime import lanes, make_runtime

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


if __name__ == "__main__":
    main()
