"""Settings of Sphinx: `sphinx-build -W docs site`, with the package and its extra [docs] installed."""

import inspect
import re
import sys
from pathlib import Path

import click

from ftransfer import __version__, list_scorers, load_scorer
from ftransfer.cli import COMMANDS, main

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # for run_notebooks

project = "ftransfer"
author = copyright = "The ftransfer authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"ftransfer {__version__}"
html_theme_options = {"top_of_page_buttons": []}
html_copy_source = html_show_sourcelink = False
html_show_copyright = False
exclude_patterns = ["_build", "templates", "package-index.md"]  # the latter is what a package index shows
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
smartquotes = False  # they make one dash of the two before an option
default_role = "code"  # a single backtick in a docstring
SKLEARN = (  # whose methods, as every estimator has them, are left out
    "BaseEstimator, ClassifierMixin, TransformerMixin, MetaEstimatorMixin, Pipeline, _BaseComposition, "
    "_MetadataRequester, _SetOutputMixin"
)
autodoc_default_options = {"members": True, "inherited-members": SKLEARN}
autodoc_preserve_defaults = True
autodoc_typehints = "both"  # in the signature, and for parameters whose docstring has no type
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented_params"
autosummary_generate = True  # a page for each public name, in docs/reference
maximum_signature_line_length = 90
templates_path = ["templates"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes as a list


def describe_command(name: str) -> str:
    """Write a command's usage, description and options as Markdown, from what click knows of it."""
    command = main.get_command(None, name)
    context = click.Context(command, info_name=f"ftransfer {name}")
    lines = [f"## {name}", "", "```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
    lines += [plain(inspect.cleandoc(command.help)), ""]
    for option in command.params:
        if record := option.get_help_record(context) if isinstance(option, click.Option) else None:
            lines += [f"`{record[0]}`", f": {plain(record[1]) or 'See above.'}", ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Keep what Markdown would take for markup as it is."""
    return re.sub(
        r"([<>*_\[\]|])", r"\\\1", text.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
    )


def write_what_is_known(app, docname, source):
    """Put in what the library knows, so that it is never out of date, and the pages that no list names."""
    if docname == "cli":
        source[0] = source[0].replace("<!-- commands -->", "\n".join(map(describe_command, COMMANDS)))
    if docname == "choosing":
        scorers = [f"- **{name}**: {plain(load_scorer(name).meaning)}" for name in list_scorers()]
        source[0] = source[0].replace("<!-- scorers -->", "\n".join(scorers))
    if docname == "index":
        listed = source[0].splitlines()
        others = sorted(
            page.stem for page in HERE.glob("*.md") if page.stem not in [*listed, "index", "package-index"]
        )
        source[0] = source[0].replace("<!-- other pages -->", "\n".join(others))


def read_again(app, env, docnames):
    """Have these read again in every build: what they hold changes without their files."""
    docnames += {"choosing", "cli", "index"} - set(docnames)


def escape_underscores(app, what, name, obj, options, lines):
    """Keep `n_components_` from being taken for a link, wherever a docstring says it plainly."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith(".. "):
            parts = line.split("`")
            parts[::2] = [re.sub(r"(?<=\w)_(?!\w)", r"\\_", part) for part in parts[::2]]
            lines[i] = "`".join(parts)


def notebook_parser():
    """Make the parser that reads a notebook as a page."""
    from myst_parser.parsers.sphinx_ import MystParser  # not needed to read this file, as the tests do

    class NotebookParser(MystParser):
        supported = ("ipynb",)

        def parse(self, inputstring, document):
            from run_notebooks import as_page

            super().parse(as_page(inputstring, Path(document["source"]).name), document)

    return NotebookParser


def leave_out(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator."""
    return True if name.endswith("_request") else None


def setup(app):
    """Called by Sphinx."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(notebook_parser())
    app.connect("env-before-read-docs", read_again)
    app.connect("source-read", write_what_is_known)
    app.connect("autodoc-process-docstring", escape_underscores, priority=900)  # after napoleon
    app.connect("autodoc-skip-member", leave_out)
