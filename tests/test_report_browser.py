"""The report in a real browser: no error, no request, nothing that sticks out, and its few conveniences work."""

import hashlib

import numpy as np
import pytest
from browser import Browser, find_browser
from conftest import blobs, draw, write_feature_set
from made_pages import KINDS, make_page
from test_report import SURE

from ftransfer import load_task, race, write_report

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of 18 classes, one of them never predicted, with pictures, target labels and hostile names."""
    folder = tmp_path_factory.mktemp("report")
    X, y, labels = blobs(180, 126, 12, 18)
    X[(y == -1) & (labels == 3)] = X[(y == -1) & (labels == 4)]  # one class looks like another
    names = np.array(
        [f"class {i:02d}" for i in range(16)] + ["<script>alert(1)</script>", 'a"b & a long name']
    )
    domains = np.where(y == -1, "<img src=x onerror=alert(1)>", "s")
    features = write_feature_set(folder / "f", X, names[labels], domains)
    found = race(load_task(features, "s", domains[-1]), SURE)
    assert len(set(found.pipeline.predict(found.task.X_target))) < 18
    rows = found.task.rows
    rows["root"] = str(folder)
    for i in range(180, 306):
        draw(folder / rows["path"][i], labels[i], seed=i)
        rows.loc[i, "sha256"] = hashlib.sha256((folder / rows["path"][i]).read_bytes()).hexdigest()
    write_report(found, features, folder / "run", command="ftransfer fit 'a <b>'")
    return folder / "run" / "report.html"


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"many-rows"}))  # its race takes minutes
def test_a_page_of_any_kind_is_under_five_megabytes_and_fits_on_a_desktop_and_a_phone(
    browser, short_reports, tmp_path, kind
):
    file = make_page(kind, tmp_path)
    assert file.stat().st_size < 5e6
    for width in (1280, 400):
        assert watch(browser, file, width)[0] == []
        assert browser.run("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_without_an_error_or_a_request(browser, page, width, dark):
    problems, requests = watch(browser, page, width, dark)
    assert problems == []
    assert [address for address in requests if not address.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.run("document.querySelectorAll('.thumbs img').length") == 24
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth == 40)")


def watch(browser, file, width=1100, dark=False):
    """Open a page; return what went wrong and the addresses that it asked for."""
    browser.problems, browser.requests = [], []
    browser.open(file, width, dark)
    browser.run("new Promise((done) => setTimeout(done, 200))")
    return browser.problems, browser.requests


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<img src='http://127.0.0.1:9/x.png' alt=''>", "ERR_"),
        ("<script>console.error('broken')</script>", "broken"),
        ("<script>undefinedFunction()</script>", "undefinedFunction is not defined"),
        ("<style>@import 'http://127.0.0.1:9/x.css';</style>", "ERR_"),
    ],
)
def test_a_page_with_an_error_or_an_outside_request_would_be_found_out(browser, tmp_path, body, problem):
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title>{body}")
    problems, requests = watch(browser, tmp_path / "page.html")
    assert problem in " ".join(problems)
    assert ("127.0.0.1:9" in body) == any("127.0.0.1:9" in address for address in requests)


def test_the_content_policy_of_the_page_refuses_what_is_outside(browser, page, tmp_path):
    evil = page.read_text().replace(
        "<main>", "<main><img src='http://127.0.0.1:9/x.png' alt=''><script>alert(1)</script>"
    )
    (tmp_path / "page.html").write_text(evil)
    problems, _ = watch(browser, tmp_path / "page.html")
    assert len([p for p in problems if "Content Security Policy" in p]) == 2


@pytest.mark.parametrize("width", [1100, 390])
def test_nothing_sticks_out_and_text_stays_readable(browser, page, width):
    browser.open(page, width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    smallest = """Math.min(...[...document.querySelectorAll("svg text")].map((t) => {
      const svg = t.ownerSVGElement, view = svg.viewBox.baseVal.width;
      return parseFloat(getComputedStyle(t).fontSize) * (view ? svg.clientWidth / view : 1);
    }))"""
    assert browser.run(smallest) >= 8
    inside = """[...document.querySelectorAll("svg.points text, svg.fluid text")].every((t) => {
      const [a, b] = [t.getBoundingClientRect(), t.ownerSVGElement.getBoundingClientRect()];
      return a.left >= b.left - 2 && a.right <= b.right + 2;
    })"""
    assert browser.run(inside)


def test_a_click_on_a_head_sorts_and_a_field_filters(browser, page):
    browser.open(page)
    rows = "[...document.querySelectorAll('#classes ~ .tall tbody tr')]"
    predicted = f"{rows}.map((row) => parseFloat(row.cells[3].textContent))"
    click = "document.querySelectorAll('#classes ~ .tall th button')[3].click()"
    browser.run(click)
    down = browser.run(predicted)
    assert down == sorted(down, reverse=True)
    assert down[-1] == 0.0
    browser.run(click)
    assert browser.run(predicted) == sorted(down)
    browser.run("""{ const f = document.querySelector('#classes ~ input'); f.value = 'script';
      f.dispatchEvent(new Event('input')) }""")
    assert browser.run(f"{rows}.filter((row) => !row.hidden).length") == 1


def test_words_are_sorted_from_a_to_z_first_and_ranks_from_one(browser, page):
    browser.open(page)
    names = "[...document.querySelectorAll('#classes ~ .tall tbody th')].map((cell) => cell.textContent)"
    browser.run("document.querySelector('#classes ~ .tall th button').click()")
    up = browser.run(names)
    assert [name for name in up if "class" in name] == [f"class {i:02d}" for i in range(16)]
    browser.run("document.querySelector('#classes ~ .tall th button').click()")
    assert browser.run(names) == up[::-1]
    browser.run("document.querySelector('#race ~ .scroll th button').click()")
    ranks = "[...document.querySelectorAll('#race ~ .scroll tbody tr')].map((r) => +r.cells[0].textContent)"
    assert browser.run(ranks)[0] == 1


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory, short_reports):
    """The report of 65 classes whose long names begin alike."""
    return make_page("many-classes", tmp_path_factory.mktemp("many"))


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_whole_confusion_matrix_is_in_sight_on_a_desktop(browser, page, many_classes, width):
    for file, classes in ((page, 18), (many_classes, 65)):
        browser.open(file, width)
        cut_off = """[...document.querySelectorAll(".confusion td, .confusion th")].filter((cell) => {
          const [a, b] = [cell.getBoundingClientRect(), cell.closest(".scroll").getBoundingClientRect()];
          return a.width < 10 || a.right > b.right + 1 || a.bottom > b.bottom + 1 || a.right > innerWidth;
        }).length"""
        assert browser.run("document.querySelectorAll('.confusion tbody tr').length") == classes
        assert browser.run(cut_off) == 0
        heads = browser.run("[...document.querySelectorAll('.confusion thead th')].map((h) => h.textContent)")
        assert len(set(heads)) == classes


def test_on_a_phone_long_names_stick_out_nowhere_and_the_matrix_scrolls_under_its_names(
    browser, many_classes
):
    browser.open(many_classes, 400)
    assert browser.run("document.documentElement.scrollWidth") == 400
    browser.run("document.querySelector('.fit').scrollTo(600, 300)")
    name = "document.querySelector('.confusion tbody tr:nth-child(20) th').getBoundingClientRect().left"
    assert 0 <= browser.run(name) < 40
    assert browser.run("document.querySelector('.confusion tbody td').clientWidth") >= 22


def test_a_click_on_a_class_shows_it_alone(browser, page):
    browser.open(page)
    marks = "[...document.querySelectorAll('svg.points path')]"
    faint = f"{marks}.filter((mark) => getComputedStyle(mark).opacity < 0.5).length"
    assert browser.run(faint) == 0
    browser.run("document.querySelector('[data-class=c2] button').click()")
    assert browser.run(faint) > 0
    assert browser.run("document.querySelectorAll('svg.points path.on').length") >= 2
    browser.run("document.querySelector('[data-class=c2] button').click()")
    assert browser.run(faint) == 0


def test_the_keyboard_reaches_what_can_be_used_and_shows_where_it_is(browser, page):
    browser.open(page)
    browser.ask("Page.bringToFront")
    reached = set()
    for _ in range(40):
        for kind in ("keyDown", "keyUp"):
            browser.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(browser.run("document.activeElement.tagName"))
        assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert {"A", "BUTTON", "SUMMARY"} <= reached


def test_the_page_is_complete_without_javascript(browser, page):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        text = browser.run("document.body.innerText")
        assert browser.run("document.querySelectorAll('th button').length") == 0
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)
    for heading in ("The race", "Confusion matrix", "Calibration", "Grid search", "Reproduce this run"):
        assert heading in text
