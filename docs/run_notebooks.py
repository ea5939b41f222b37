"""Run the notebooks of docs/notebooks, and keep what their cells print as their output.

    python docs/run_notebooks.py

Cells are plain Python that prints text, so that nothing but the package is needed. The documentation shows them as
pages.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "notebooks"


def run(notebook: dict) -> Iterator[tuple[dict, str]]:
    """Run the code cells of a notebook in the current folder; yield each with what it printed."""
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
            yield cell, printed.getvalue()


def as_page(text: str, name: str) -> str:
    """Write a notebook as Markdown, for the documentation."""
    parts = []
    for cell in json.loads(text)["cells"]:
        content = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(content)
            continue
        parts.append(f"```python\n{content}\n```")
        parts += [f"```text\n{''.join(each['text']).rstrip()}\n```" for each in cell["outputs"]]
    download = f"{{download}}`Download this notebook <{name}>`."
    return "\n\n".join([parts[0], download, *parts[1:]]) + "\n"


def main() -> None:
    for file in sorted(FOLDER.glob("*.ipynb")):
        notebook = json.loads(file.read_text("utf-8"))
        before = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                for count, (cell, printed) in enumerate(run(notebook), start=1):
                    stream = {
                        "name": "stdout",
                        "output_type": "stream",
                        "text": printed.splitlines(keepends=True),
                    }
                    cell |= {"execution_count": count, "outputs": [stream] if printed else []}
            finally:
                os.chdir(before)
        file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
