"""The page: one HTML file that asks nothing of the network, complete without its few lines of JavaScript."""

import base64
import hashlib
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ftransfer.report import pictures
from ftransfer.report.numbers import Findings, best_source_only, brief, setting
from ftransfer.report.section import SECTIONS

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "gallery.js", "map.js")  # one script in the page; each leans on those before it


def draw_or_tell(draw: Callable[..., str], *args: Any) -> str:
    """Draw a page; of a fault in drawing make a page that tells it, and warn: a run is worth more than its page."""
    try:
        return draw(*args)
    except Exception:
        told = traceback.format_exc()
        warnings.warn(
            "the report page could not be drawn because of a bug in ftransfer; everything else was written, "
            f"and report.html has the details: {told.splitlines()[-1]}",
            RuntimeWarning,
            stacklevel=3,
        )
        return pictures.fill(
            '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>not drawn</title>\n'
            "<p>This page could not be drawn because of a bug in ftransfer. The model, predictions and "
            "tables are in the same folder.</p>\n<pre>{}</pre></html>",
            told,
        )


def draw_page(found: Findings, results: dict) -> str:
    """Draw the page from what was found and its numbers, as `Findings.results` gives them."""
    script = "".join((HERE / name).read_text("utf-8") for name in SCRIPTS)
    source_only = best_source_only(found.race)
    shared = {
        **results,
        "score_name": results["score"]["name"].replace("_", " "),
        "source_only": source_only,
        "compared": source_only is not None and results["recommendation"]["adaptation"] != "source only",
    }
    sections = []
    for section in SECTIONS:
        values = section.draw(found, results)
        if values is not None:
            html = load_template(f"sections/{section.name}.html").render(**shared, **values)
            sections.append({"name": section.name, "title": section.title, "html": Markup(html)})
    return load_template("page.html").render(
        **shared,
        title=f"{' + '.join(results['task']['sources'])} to {results['task']['target']}"
        + (f", {results['task']['label']}" if results["task"]["label"] else ""),
        style=read_style(),
        hues=pictures.HUES,
        script=Markup(script),
        script_hash=digest(script),
        sections=sections,
        images=_images(found),
    )


def _images(found: Findings) -> dict:
    """The images that the page shows one by one, as data for its script."""
    task = found.task
    labels = task.y.copy()
    labels[~task.is_source] = task.answers.codes
    before = found.predicted if found.before is None else found.before
    return found.shown.as_data(labels, [before, found.predicted], found.probability)


def digest(script: str) -> str:
    """Return the hash by which the content policy of a page allows its script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def load_template(name: str, folder: Path = HERE, **filters: Callable[..., str]) -> jinja2.Template:
    """Load a page of a folder, by default this one, with the filters that write numbers and with others.

    It may include what lies here, such as sections.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda v: "" if v is None else f"{v:.1%}",
        "points": lambda v: "" if v is None else f"{100 * v:+.1f}".replace("+0.0", "0.0"),
        "number": lambda v: "" if v is None else f"{v:.3f}",
        "figure": lambda v: "" if v is None else f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.3g}",
        "setting": setting,
        "value": brief,
        "change": lambda pair: pictures.draw_change(*pair),
    } | filters
    return environment.get_template(name)


def read_style() -> Markup:
    """Read the style sheet that all pages share."""
    return Markup("\n").join(Markup((HERE / name).read_text("utf-8")) for name in ("page.css", "grid.css"))
