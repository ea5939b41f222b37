"""The page on which a person labels images, clicked and typed through in a real browser."""

import base64
import io
import time

import numpy as np
import pandas as pd
import pytest
from browser import Browser, find_browser
from conftest import write_feature_set
from PIL import Image

from ftransfer import load_task
from ftransfer.report.labelling import draw_label_page
from ftransfer.task import read_target_labels

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")

EVIL = ["<img src=x onerror=alert(1)>", 'say "a, b" & <b>', "plain"]
N = 6


def picture(i):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (40 * i, 100, 200)).save(buffer, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def images(n=N):
    """Images with names that no table and no page should stumble over; the last one has no picture."""
    paths = ['a, "b".png', " blank .png", "<script>x</script>.png", *(f"{i}.png" for i in range(3, n))]
    return pd.DataFrame(
        {
            "path": paths,
            "why": ["random", "far"] * (n // 2),
            "sha256": [f"{i:064x}" for i in range(n)],
            "picture": [*(picture(i) for i in range(n - 1)), None],
        }
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of three classes, of ten digits, and of 100 classes."""
    folder = tmp_path_factory.mktemp("pages")
    many = [f"class {i:03d}" for i in range(98)] + ["maple", "mapleleaf"]
    for name, classes in (("few", EVIL), ("digits", list("0123456789")), ("many", many)):
        (folder / f"{name}.html").write_text(
            draw_label_page("night <b>", classes, images(), command="ftransfer fit")
        )
    return {name: folder / f"{name}.html" for name in ("few", "digits", "many")}


@pytest.fixture(scope="module")
def shared_browser():
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser, pages):
    """A browser that remembers nothing of an earlier test; the page may neither fail nor ask for anything."""
    shared_browser.open(pages["few"])
    shared_browser.run("localStorage.clear()")
    shared_browser.problems, shared_browser.requests = [], []
    yield shared_browser
    assert shared_browser.problems == []
    outside = [r for r in shared_browser.requests if not r.startswith(("file:", "data:", "blob:"))]
    assert outside == []


def press(browser, key, text=None, modifiers=0):
    """Press and release a key, as a person would."""
    pressed = {"key": key, "code": key, "modifiers": modifiers}
    browser.ask("Input.dispatchKeyEvent", type="keyDown", **pressed, **({"text": text} if text else {}))
    browser.ask("Input.dispatchKeyEvent", type="keyUp", **pressed)


def click(browser, selector):
    """Click with the mouse in the middle of what a selector finds."""
    x, y = browser.run(f"""(() => {{ const e = document.querySelector({selector!r});
      e.scrollIntoView({{ block: "center", behavior: "instant" }});
      const box = e.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; }})()""")
    for kind in ("mousePressed", "mouseReleased"):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def text(browser, which):
    return browser.run(f"document.getElementById({which!r}).textContent")


def download(browser, folder):
    """Click on Save and wait for the file."""
    session, browser.session = browser.session, None
    browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.session = session
    click(browser, "#save")
    file = folder / "labels.csv"
    for _ in range(100):
        if file.is_file() and file.stat().st_size:
            return file
        time.sleep(0.1)
    raise AssertionError("nothing was downloaded")


def test_a_person_labels_by_clicks_and_keys_undoes_skips_comes_back_and_saves(browser, pages, tmp_path):
    browser.open(pages["few"], 1280)
    assert text(browser, "counts") == "0 of 6 labelled"
    click(browser, "#classes button:nth-child(2)")
    assert text(browser, "counts") == "1 of 6 labelled"
    assert text(browser, "caption") == "2 of 6:  blank .png"
    assert text(browser, "status") == f"Image 1: {EVIL[1]}."
    press(browser, "1", "1")
    press(browser, "n", "n")
    press(browser, "3", "3")
    assert text(browser, "counts") == "4 of 6 labelled"
    press(browser, "u", "u")
    assert text(browser, "status") == "Undone: image 4 is without a label again."
    assert text(browser, "caption").startswith("4 of 6")
    press(browser, "s", "s")
    assert text(browser, "counts") == "3 of 6 labelled, 1 skipped"
    assert browser.run("document.getElementById('progress').value") == 3

    browser.open(pages["few"], 400)  # the page was closed, and is opened again
    assert text(browser, "counts") == "3 of 6 labelled, 1 skipped"
    assert text(browser, "caption").startswith("5 of 6"), "it goes on with the first image without a label"
    press(browser, "ArrowRight")
    assert browser.run("document.getElementById('missing').hidden") is False
    press(browser, "ArrowLeft")
    press(browser, "3", "3")
    click(browser, "#strip li:nth-child(1) button")
    assert (
        browser.run("document.querySelector('#classes button:nth-child(2)').getAttribute('aria-pressed')")
        == "true"
    )
    press(browser, "3", "3")  # a label can be changed

    file = download(browser, tmp_path)
    table = pd.read_csv(file, keep_default_na=False)
    assert table.columns.tolist() == ["path", "label", "why", "sha256"]
    assert table["path"].tolist() == [*images()["path"][:3], "4.png"]
    assert table["label"].tolist() == ["plain", EVIL[0], "none of these", "plain"]
    assert table["why"].tolist() == ["random", "far", "random", "random"]
    assert "1 images have no label yet" in text(browser, "status")


def test_what_the_page_saves_is_what_fit_reads(browser, pages, tmp_path):
    table = images()
    features = write_feature_set(
        tmp_path / "f",
        np.eye(12, dtype=np.float32),
        [*(EVIL * 2), *[None] * 6],
        np.repeat(["day", "night"], 6),
    )
    manifest = features.manifest
    manifest.loc[6:, "path"] = table["path"].to_numpy()
    manifest.loc[6:, "sha256"] = table["sha256"].to_numpy()
    manifest.loc[:5, "sha256"] = manifest["sha256"].iloc[6:].to_numpy()[::-1]
    features.write_manifest(manifest)
    browser.open(pages["few"])
    for key in "132n":
        press(browser, key, key)
    task = load_task(features, "day", "night")
    _, labels = read_target_labels(task, download(browser, tmp_path))
    classes = task.classes.tolist()
    assert labels.tolist() == [*(classes.index(EVIL[i]) for i in (0, 2, 1)), -2, -1, -1]


def test_digits_have_the_key_of_their_name(browser, pages):
    browser.open(pages["digits"])
    press(browser, "7", "7")
    assert text(browser, "status") == "Image 1: 7."
    press(browser, "0", "0")
    assert text(browser, "status") == "Image 2: 0."
    click(browser, "#keys")
    press(browser, "5", "5")
    assert text(browser, "counts") == "2 of 6 labelled", "shortcuts can be turned off"


def test_of_a_hundred_classes_one_is_found_by_typing(browser, pages):
    browser.open(pages["many"])
    assert browser.run("document.activeElement.id") == "filter"
    for letter in "maple":
        press(browser, letter, letter)
    offered = "[...document.querySelectorAll('#classes li')].map((item) => item.textContent)"
    assert browser.run(offered) == ["maple", "mapleleaf"]
    press(browser, "ArrowDown")
    active = (
        "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).textContent"
    )
    assert browser.run(active) == "mapleleaf"
    press(browser, "Enter")
    assert text(browser, "status") == "Image 1: mapleleaf."
    for letter in "042":
        press(browser, letter, letter)
    press(browser, "Enter")
    assert text(browser, "status") == "Image 2: class 042."
    press(browser, "z", modifiers=2)
    assert text(browser, "counts") == "1 of 6 labelled"
    for letter in "none o":
        press(browser, letter, letter)
    press(browser, "Enter")
    assert text(browser, "status") == "Image 2: none of these."
    press(browser, "Enter")
    assert text(browser, "counts") == "2 of 6 labelled", "nothing typed, nothing chosen"
    click(browser, "#classes li:nth-child(99)")
    assert text(browser, "status") == "Image 3: maple."


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["few", "many"])
def test_nothing_sticks_out_names_are_text_and_targets_are_large_enough(browser, pages, name, width):
    browser.open(pages[name], width)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("document.querySelectorAll('b, #classes img').length") == 0
    assert browser.run("document.querySelector('h1').textContent") == "Label 6 images of night <b>"
    sizes = "[...document.querySelectorAll('.work button')].map((b) => b.getBoundingClientRect().height)"
    assert min(browser.run(sizes)) >= 44
    unnamed = """[...document.querySelectorAll("button")]
      .filter((b) => !(b.getAttribute("aria-label") || b.innerText.trim())).length"""
    assert browser.run(unnamed) == 0


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_what_is_behind_it(browser, pages, dark):
    browser.open(pages["few"], 1280, dark)
    press(browser, "1", "1")
    ratio = """Math.min(...[...document.querySelectorAll("button:not(:disabled), p, figcaption, h2, kbd, span, pre")]
      .filter((e) => e.offsetParent && e.textContent.trim()).map((e) => {
        const parse = (c) => c.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r / 255, g / 255, b / 255]
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        let at = e, behind = [0, 0, 0, 0];
        while (at && (behind = parse(getComputedStyle(at).backgroundColor))[3] === 0) at = at.parentElement;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
      }))"""
    assert browser.run(ratio) >= 4.5


def test_where_the_browser_keeps_nothing_the_page_says_so_and_still_labels(browser, pages, tmp_path):
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused') } })"
    added = browser.ask("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        browser.open(pages["few"])
        assert "keeps no labels" in text(browser, "kept")
        press(browser, "3", "3")
        assert len(pd.read_csv(download(browser, tmp_path))) == 1
    finally:
        browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
