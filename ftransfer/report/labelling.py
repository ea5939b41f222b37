"""Images of a finished run that are worth a label: as a table, and as one page to label them on."""

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ftransfer.cells import read_labels as clean
from ftransfer.cells import read_rows
from ftransfer.errors import FtransferError
from ftransfer.features.joined import open_features
from ftransfer.features.label_file import NONE, read_labels
from ftransfer.features.label_map import name_labels
from ftransfer.features.protocol import Features
from ftransfer.model.model import Model
from ftransfer.model.new_images import check_features
from ftransfer.report.page import HERE, digest, load_template, read_style
from ftransfer.report.thumbnails import READERS, thumbnail
from ftransfer.search.suggest import MOST_ROWS, Target, choose_rows, describe_rows, margins, rows_of
from ftransfer.storage.places import Place, local
from ftransfer.storage.reading import read_bytes, read_text
from ftransfer.storage.writing import write_whole, writing

SIDES = ((100, 384), (300, 256), (1000, 160))  # longer side of a picture in pixels, up to so many of them
SMALLEST_SIDE = 96
MOST_BYTES = 20_000_000  # of all pictures of a page
MOST_CONSIDERED = 50_000  # images of the target, drawn at random: as many embeddings fit into memory
MOST_KEYS = 10  # classes that have a key each; more are found by typing


@dataclass(frozen=True)
class Suggested:
    """What was written.

    Attributes
    ----------
    table : DataFrame
        As of `ftransfer.suggest_labels`.
    page : Path or None
        None where none of the images can be shown.
    file : Path
        ``to-label.csv``.
    command : str
        That takes the labels, as far as the run says how it was made.
    """

    table: pd.DataFrame
    page: Path | None
    file: Path
    command: str


class FinishedRun:
    """A run folder, and the features that it was fitted on, as they are now.

    Parameters
    ----------
    folder : str or path
    features : sequence of str or path
        The feature sets; default: where the run says that they were.
    trusted : sequence of str
        See `Model.load`.

    Attributes
    ----------
    results : dict
        As in results.json.
    model : Model
    features : FeatureSet or JoinedFeatures
    rows : DataFrame
        Manifest rows of the target's images: those of the run, and any that were added since.

    Raises
    ------
    FtransferError
        If it is not a run folder, one of several runs or of a regression; the target was left out of it; or the
        features are not there, or of another fingerprint.
    """

    def __init__(
        self, folder: str | Path, features: Sequence[str | Place] = (), trusted: Sequence[str] = ()
    ) -> None:
        self.folder = local(folder, "a run folder")
        self.results = _read_results(self.folder)
        self.task = self.results["task"]
        self.model = Model.load(self.folder, trusted=trusted)
        self.features = self._open(list(features))
        check_features(self.model, self.features)
        manifest = name_labels(self.features.complete, self.task["label"], None)
        manifest = manifest[manifest["status"] == "ok"]
        target = manifest[manifest["domain"] == self.task["target"]]
        known = target["label"].isna() | target["label"].isin(self.task["classes"])
        known |= target["sha256"].isin(target["sha256"].iloc[rows_of(self.predictions, target)])
        self.rows = target[known].reset_index(drop=True)
        self._source = manifest[manifest["domain"].isin(self.task["sources"]) & manifest["label"].notna()]
        if self.rows.empty or self._source.empty:
            raise FtransferError(
                f"{self.features.folder} has no images of '{self.task['target']}' and its sources any more; name the "
                f"feature set of the run with --features"
            )

    def _open(self, folders: list[str | Place]) -> Features:
        named = folders or self.task["features"].split(" + ")
        try:
            return open_features(named, balance="balanced" in self.results["fingerprint"])
        except FtransferError as problem:
            if folders:
                raise
            raise FtransferError(
                f"{problem}; {self.folder} was fitted on {self.task['features']}: name its place now with --features"
            ) from problem

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The table predictions.csv."""
        return _read_table(self.folder / "predictions.csv", ("root", "path", "label"))

    def labelled(self, files: Sequence[str | Path] = ()) -> np.ndarray:
        """Tell which of `rows` have a label: those of files, filled in, or given to the race; (n_target,) bool."""
        found = np.zeros(len(self.rows), dtype=bool)
        if files:
            found |= read_labels(files, self.rows, self.task["target"], self.task["classes"]).codes != -1
        used = [name for name in self.predictions if name.startswith("used")]
        given = (self.predictions[used] == "True").any(axis=1)
        found[rows_of(self.predictions[given], self.rows)] = True
        if self.decide is not None:
            filled = [label is not None for label in clean(self.decide["label"])]
            found[rows_of(self.decide[filled], self.rows)] = True
        return found

    @cached_property
    def decide(self) -> pd.DataFrame | None:
        """The table decide.csv, where two explanations are open."""
        file = self.folder / "decide.csv"
        return _read_table(file, ("path", "label")) if file.is_file() else None

    def suggest(self, n: int, files: Sequence[str | Path] = (), random_state: int = 0) -> pd.DataFrame:
        """Choose images as `ftransfer.suggest_labels` does."""
        some = np.random.default_rng(random_state).permutation(len(self._source))[:MOST_ROWS]
        X_source = self.features.load(self._source.iloc[np.sort(some)])
        labelled = self.labelled(files)
        drawn = np.random.default_rng(random_state).permutation(len(self.rows))[:MOST_CONSIDERED]
        at = np.union1d(drawn, np.r_[np.flatnonzero(labelled), rows_of(self.decide, self.rows)]).astype(int)
        rows = self.rows.iloc[at].reset_index(drop=True)
        X_target = self.features.load(self.rows.iloc[at])
        predicted = self.model.predict(X_target)
        known = Target(
            predicted=predicted,
            margin=margins(self.model.pipeline, X_target),
            contents=rows["sha256"].to_numpy(),
            labelled=labelled[at],
            undecided=rows_of(self.decide, rows),
        )
        table = describe_rows(choose_rows(X_source, X_target, known, n, random_state), rows, predicted)
        return table.assign(row=at[table["row"]])


def write_suggestions(
    run: FinishedRun,
    table: pd.DataFrame,
    folder: str | Path | None = None,
    *,
    files: Sequence[str | Path] = (),
    anywhere: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> Suggested:
    """Write ``to-label.csv`` and, where the images can be shown, ``label.html``, one page to label them on.

    Parameters
    ----------
    run : FinishedRun
    table : DataFrame
        As `FinishedRun.suggest` returns it.
    folder : str or path, optional
        Default: the run folder.
    files : sequence of str or path
        Files of labels that the command of the next fit takes, too.
    anywhere : bool, default=False
        Whether images of stores, of torchvision's data sets and outside of their root are read, too: only of a feature
        set that you trust.
    progress : callable
        Called with the number of pictures that were made since the last call.
    """
    folder = run.folder if folder is None else local(folder, "a folder")
    rows = run.rows.iloc[table["row"]].reset_index(drop=True)
    columns = ["path", "label", "predicted", "why"]
    if run.rows["path"].duplicated().any():  # a path alone would not tell
        columns.insert(0, "root")
    listed = table[columns].assign(sha256=rows["sha256"])
    command, name = _refit_command(run.results.get("command"), files)
    pictures = _draw_pictures(rows, progress, anywhere)
    page = folder / "label.html"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "to-label.csv"
        write_whole(file, listed.to_csv(index=False).encode("utf-8", "backslashreplace"))
        if any(pictures):
            data = listed.drop(columns=["label", "predicted"]).assign(picture=pictures)
            task = (run.task["target"], run.task["classes"])
            then = f"{command} --target-labels {name}"
            write_whole(page, draw_label_page(*task, data, command=then, name=name).encode())
        else:
            page.unlink(missing_ok=True)
    saved = name if any(pictures) else shlex.quote(str(file))
    shown = page if any(pictures) else None
    return Suggested(table, shown, file, f"{command} --target-labels {saved}")


def draw_label_page(
    target: str, classes: Sequence[str], images: pd.DataFrame, *, command: str = "", name: str = "labels.csv"
) -> str:
    """Draw the page on which a person labels images: one offline file that keeps its labels in the browser.

    Parameters
    ----------
    target : str
    classes : sequence of str
    images : DataFrame
        ``path, why, sha256``, ``root`` where paths alone are not unique, and ``picture``, a data URI or None.
    command : str
        That takes the labels.
    name : str
        Of the file that the page saves.
    """
    data = {
        "file": name,
        "classes": list(classes),
        "none": NONE,
        "images": images.replace({np.nan: None}).to_dict("records"),
        # labels are kept by content, so that a further page of the same task finds them again
        "key": "ftransfer " + hashlib.sha256(json.dumps([target, list(classes)]).encode()).hexdigest()[:16],
    }
    script = (HERE / "label.js").read_text("utf-8")
    return load_template("label.html").render(
        target=target,
        n=len(images),
        name=name,
        classes=list(classes),
        typing=len(classes) > MOST_KEYS,
        command=command,
        style=Markup((HERE / "label.css").read_text("utf-8")),
        shared_style=read_style(),
        data=data,
        script=Markup(script),
        script_hash=digest(script),
    )


def _draw_pictures(rows: pd.DataFrame, progress: Callable[[int], None], anywhere: bool) -> list[str | None]:
    """Draw the pictures of a page, as large as their number allows; None for an image that is no longer there."""
    side = next((side for most, side in SIDES if len(rows) <= most), SMALLEST_SIDE)

    def draw(row: tuple[str, str, str]) -> str | None:
        picture = thumbnail(*row, side=side, anywhere=anywhere)
        progress(1)
        return picture

    with ThreadPoolExecutor(READERS) as pool:
        named = rows[["root", "path", "sha256"]].astype(str).itertuples(index=False, name=None)
        pictures = list(pool.map(draw, named))
    fit = np.cumsum([len(picture or "") for picture in pictures]) <= MOST_BYTES
    return [picture if fits else None for picture, fits in zip(pictures, fit, strict=True)]


def _refit_command(command: str | None, files: Sequence[str | Path]) -> tuple[str, str]:
    """Write the command of a run with files of labels; a general one where the run was made in Python.

    Returns
    -------
    command : str
    name : str
        A name for the next file of labels that none of those before has.
    """
    before = command if command and command.startswith("ftransfer fit ") else "ftransfer fit ..."
    try:
        words = shlex.split(before)
    except ValueError:  # as someone has written it into the file
        words = before.split()
    given = [str(file) for file in files if str(file) not in words]
    taken = {Path(word).name for word in (*words, *given)}
    names = ("labels.csv", *(f"labels-{i}.csv" for i in range(2, len(taken) + 3)))
    name = next(each for each in names if each not in taken)
    return " ".join([before, *(f"--target-labels {shlex.quote(file)}" for file in given)]), name


def _read_results(folder: Path) -> dict[str, Any]:
    """Read results.json of a run to which labels of the target can be given."""
    file = folder / "results.json"
    if not file.is_file():
        raise FtransferError(
            f"{folder} is not a run folder: it has no results.json; name one that ftransfer fit wrote"
        )
    try:
        results = json.loads(read_text(file))
        if "runs" in results:
            members = ", ".join(str(folder / run["folder"]) for run in results["runs"].values())
            raise FtransferError(f"{folder} holds several runs; choose one: {members}")
        if results.get("kind") == "regression":
            raise FtransferError(f"{folder} is a regression; images are suggested for runs with classes")
        task = results["task"]
        if task.get("unseen"):
            raise FtransferError(
                f"the target was left out of {folder} (--leave-target-out), so that its labels have no use there; run "
                f"ftransfer fit without that option first"
            )
        needed = (task["sources"], task["target"], task["classes"], results["fingerprint"], task["label"])
        if not isinstance(task["features"], str) or not all(map(np.ndim, (needed[0], needed[2]))):
            raise ValueError("the task is damaged")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        if isinstance(problem, FtransferError):
            raise
        raise FtransferError(f"{file} cannot be read: {problem!r}"[:300]) from problem
    return results


def _read_table(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table of the run folder, each cell as text."""
    try:
        table = read_rows(read_bytes(file), file)
        return table.assign(**{name: table[name] for name in columns})
    except FtransferError:
        raise
    except (OSError, ValueError, KeyError) as problem:
        raise FtransferError(f"{file} cannot be read: {problem}; fit the run again") from problem
