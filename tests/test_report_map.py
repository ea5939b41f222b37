"""The map, the matrix and the galleries of the report, driven in a real browser."""

import pytest
from browser import Browser, find_browser
from made_pages import make_page

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")

CARD = "(document.querySelector('.card:not([hidden])')?.innerText ?? '')"
VISIBLE = "[...document.querySelectorAll('svg.points')].at(-1).querySelectorAll('path:not([hidden])').length"
GALLERY = "document.querySelector('dialog[open]')"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports of ten classes with mistakes and pictures, and of five without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftransfer.report.numbers.compare_domains", _not_measured)
        folder = tmp_path_factory.mktemp("pages")
        return {kind: make_page(kind, folder / kind) for kind in ("demo-like", "no-thumbnails")}


def _not_measured(*_, **__):
    from ftransfer import FtransferError

    raise FtransferError("not measured in this test")


@pytest.fixture(scope="module")
def shared_browser():
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser, pages):
    shared_browser.problems = []
    shared_browser.open(pages["demo-like"], 1280)
    yield shared_browser
    assert shared_browser.problems == []


def mark_at(browser, which=0):
    """Where an image of the last map is on the screen, after the map was scrolled into sight."""
    return browser.run(f"""(() => {{
      const svg = [...document.querySelectorAll("svg.points")].at(-1);
      svg.scrollIntoView({{ block: "center", behavior: "instant" }});
      const box = svg.querySelectorAll("path")[{which}].getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    }})()""")


def mouse(browser, kind, x, y, **more):
    browser.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def click(browser, text):
    """Choose the button with a text."""
    browser.run(
        f"[...document.querySelectorAll('button')].find((b) => b.innerText.includes({text!r})).click()"
    )


def test_to_point_at_an_image_of_the_map_shows_it_with_path_label_prediction_and_probability(browser):
    last = browser.run(
        "[...document.querySelectorAll('svg.points')].at(-1).querySelectorAll('path').length - 1"
    )
    x, y = mark_at(browser, last)
    mouse(browser, "mouseMoved", x, y)
    said = browser.run(CARD)
    assert ".png" in said
    for term in ("domain", "label", "prediction", "probability"):
        assert term in said
    assert browser.run("document.querySelector('.card img').naturalWidth") == 24
    mouse(browser, "mouseMoved", 5, 5)
    assert browser.run(CARD) == ""


def test_a_tap_keeps_the_image_until_the_next_one(browser, pages):
    browser.open(pages["demo-like"], 400)
    x, y = mark_at(browser)
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        browser.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert ".png" in browser.run(CARD)
    box = "document.querySelector('.card:not([hidden])').getBoundingClientRect()"
    assert 0 <= browser.run(f"{box}.left") < browser.run(f"{box}.right") <= 400


def test_the_wheel_and_two_fingers_zoom_where_they_are_and_the_page_scrolls_on_at_the_end(browser, pages):
    x, y = mark_at(browser, 10)
    zoomed = "document.querySelectorAll('svg.points.zoomed').length"
    mouse(browser, "mouseWheel", x, y, deltaX=0, deltaY=-240)
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.run(zoomed) == 1
    after = mark_at(browser, 10)
    assert abs(after[0] - x) < 3
    assert abs(after[1] - y) < 3
    browser.run("[...document.querySelectorAll('[aria-label=\"Show all\"]')].at(-1).click()")
    assert browser.run(zoomed) == 0
    browser.open(pages["demo-like"], 400)
    x, y = mark_at(browser, 10)
    fingers = [[{"x": x - d, "y": y, "id": 0}, {"x": x + d, "y": y, "id": 1}] for d in (20, 30, 45, 60)]
    browser.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=fingers[0])
    for points in fingers[1:]:
        browser.ask("Input.dispatchTouchEvent", type="touchMove", touchPoints=points)
    browser.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert browser.run(zoomed) == 1


def test_the_buttons_take_source_target_and_mistakes_apart(browser):
    assert browser.run(VISIBLE) == 400
    click(browser, "day (source)")
    assert browser.run(VISIBLE) == 200
    click(browser, "only mistakes")
    wrong = browser.run(VISIBLE)
    assert 1 < wrong < 100
    assert (
        browser.run("document.querySelector('.tools [role=status]').textContent") == f"{wrong} images shown"
    )
    last = "[...document.querySelectorAll('svg.points')].at(-1)"
    assert browser.run(f"{last}.querySelectorAll('.solid:not([hidden])').length") == 0
    click(browser, "night (target)")
    assert browser.run(VISIBLE) == 0


def test_the_legend_takes_several_classes(browser):
    on = "[...document.querySelectorAll('svg.points')].at(-1).querySelectorAll('path.on').length"
    browser.run("document.querySelector('[data-class=c1] button').click()")
    one = browser.run(on)
    browser.run("document.querySelector('[data-class=c2] button').click()")
    assert browser.run(on) > one > 20
    assert browser.run("document.querySelectorAll('.legend [aria-pressed=true]').length") == 2


def test_the_map_is_walked_by_the_keyboard(browser):
    mark_at(browser)
    browser.ask("Page.bringToFront")
    browser.run("[...document.querySelectorAll('svg.points')].at(-1).focus()")
    seen = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        press(browser, key)
        seen.add(browser.run(CARD))
    assert len(seen) >= 3
    assert "" not in seen
    press(browser, "+")
    assert browser.run("document.querySelectorAll('svg.points.zoomed').length") == 1
    press(browser, "0")
    press(browser, "Escape")
    assert browser.run(CARD) == ""
    assert browser.run("document.querySelectorAll('svg.points.zoomed').length") == 0


def test_a_cell_of_the_matrix_opens_its_images(browser):
    counts = """[...document.querySelectorAll(".confusion tbody tr")].map((row) =>
      [...row.cells].slice(1).map((cell) => +cell.textContent))"""
    confusion = browser.run(counts)
    r, c = next((r, c) for r in range(10) for c in range(10) if r != c and confusion[r][c])
    cell = f"document.querySelectorAll('.confusion tbody tr')[{r}].cells[{c + 1}]"
    browser.run(f"{cell}.click()")
    assert browser.run(f"{GALLERY}.querySelector('h2').textContent") == f"class {r}, predicted as class {c}"
    shown = browser.run(f"[...{GALLERY}.querySelectorAll('li')].map((item) => item.innerText)")
    assert len(shown) == confusion[r][c]
    assert all(f"class {r}" in text and f"class {c}" in text and "mistake" in text for text in shown)
    assert browser.run(f"{GALLERY}.querySelectorAll('img').length") == len(shown)
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run(f"[...{GALLERY}.querySelectorAll('img')].every((i) => i.naturalWidth == 24)")
    browser.run("document.querySelector('.close').click()")
    assert browser.run(GALLERY) is None


def test_the_matrix_is_one_stop_of_the_tab_key_and_arrows_move_in_it(browser):
    assert browser.run("document.querySelectorAll('.confusion [tabindex=\"0\"]').length") == 1
    browser.run("document.querySelector('.confusion [tabindex=\"0\"]').focus()")
    for key in ("ArrowDown", "ArrowRight", "ArrowUp", "ArrowUp"):
        press(browser, key)
    assert browser.run("document.activeElement.cellIndex") == 2
    assert "Label class 0, prediction class 1" in browser.run(
        "document.querySelector('.readout').textContent"
    )
    for key in ("ArrowLeft", "Enter"):
        press(browser, key)
    assert browser.run(f"{GALLERY}.querySelector('h2').textContent") == "class 0, predicted as such"


def test_a_class_and_a_bar_of_the_calibration_open_their_images(browser):
    browser.run("document.querySelector('tr[data-class=\"3\"] button').click()")
    heads = browser.run(f"[...{GALLERY}.querySelectorAll('h3')].map((head) => head.textContent)")
    assert heads[-1] == "Source images"
    browser.run("document.querySelector('.close').click()")
    browser.run("document.querySelector('rect[data-bin]').dispatchEvent(new MouseEvent('click'))")
    title = browser.run(f"{GALLERY}.querySelector('h2').textContent")
    assert title.startswith("Probability 0.")
    assert browser.run(f"{GALLERY}.querySelectorAll('li').length") > 0


def test_without_pictures_a_gallery_and_the_map_still_say_what_is_known(browser, pages):
    browser.open(pages["no-thumbnails"], 1280)
    browser.run("document.querySelector('.confusion td.d').click()")
    said = browser.run(f"{GALLERY}.innerText")
    assert "Without a thumbnail" in said
    assert ".png" in said
    assert browser.run(f"{GALLERY}.querySelectorAll('img').length") == 0
