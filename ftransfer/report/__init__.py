"""The run folder: a self-contained HTML page, and CSV, JSON and the model beside it."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ftransfer.errors import FtransferError
from ftransfer.features.protocol import Features
from ftransfer.report.numbers import Findings, setting
from ftransfer.report.page import draw_or_tell, draw_page
from ftransfer.report.results_table import results_table
from ftransfer.report.several import KINDS, name_folders, write_several
from ftransfer.search.outcome import Race
from ftransfer.storage.places import local
from ftransfer.storage.writing import hold, release, write_whole, writing

__all__ = [
    "KINDS",
    "PARTS",
    "name_folders",
    "run_folder",
    "setting",
    "start_run",
    "write_report",
    "write_several",
]

PARTS = 3  # model and predictions, the numbers, the page


def start_run(folder: Path) -> Path:
    """Make the run folder, before the work is done for it, and keep other processes out of it.

    It is this process's until `write_report` has ended, `storage.writing.release`, or the end of the process.

    Raises
    ------
    FtransferError
        If it holds something else than a run, cannot be written, or another process is writing to it.
    """
    folder = local(folder, "a run folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {p.name for p in folder.iterdir()} - {".lock"}
        if names and not names & {"results.json", "running"}:
            raise FtransferError(
                f"{folder} is not empty and not a run folder ({', '.join(sorted(names)[:3])}); choose "
                f"another with --out"
            )
        hold(folder, "ftransfer fit")
        (folder / "running").touch()  # the journal of a race that has not ended yet, or was stopped
    return folder


@contextmanager
def run_folder(folder: Path) -> Iterator[Path]:
    """Make the run folder as `start_run` does; if the block fails, let go of it, and remove it if it holds nothing.

    Yields
    ------
    Path
        The folder, which stays this process's after the block.
    """
    folder = start_run(folder)
    try:
        yield folder
    except BaseException:
        names, journal = {each.name for each in folder.iterdir()} - {".lock"}, folder / "running"
        if "running" in names and not journal.stat().st_size:
            if names == {"running"}:
                shutil.rmtree(folder, ignore_errors=True)
            elif "results.json" in names:
                journal.unlink()
        release(folder)
        raise


def write_report(
    race: Race,
    features: Features,
    folder: Path,
    *,
    command: str = "",
    progress: Callable[[int], None] = lambda n: None,
) -> dict:
    """Write report page, tables (CSV, JSON), predicted labels and model into the run folder.

    Parameters
    ----------
    race : Race
    features : FeatureSet
        What the task was taken from.
    folder : str or path
        The run folder; a previous run in it is replaced.
    command : str
        The command that reproduces the run, for the page.
    progress : callable
        Called with 1 for each of the `PARTS` that are done.

    Returns
    -------
    dict, as in results.json
    """
    folder = start_run(folder)
    try:
        return _write(Findings(race, features), folder, command, progress)
    finally:
        release(folder)


def _write(found: Findings, folder: Path, command: str, progress: Callable[[int], None]) -> dict:
    def write(name: str, table: pd.DataFrame) -> None:
        write_whole(folder / name, table.to_csv(index=False).encode())

    # what took longest first: no fault of what comes after, of the page least of all, can cost it
    with writing(folder):
        found.model.save(folder / "model.skops")
        write("predictions.csv", found.predictions())
        write("results.csv", results_table(found.race))
        write_decide(found.race.decide, folder)
    progress(1)
    results = found.results(command)
    results["suggest"] = suggest_command(found.race, folder)
    with writing(folder):
        write("classes.csv", pd.DataFrame(results["classes"]))
        write_whole(folder / "results.json", json.dumps(results).encode())
    progress(1)
    page = draw_or_tell(draw_page, found, results)
    with writing(folder):
        write_whole(folder / "report.html", page.encode())
        (folder / "running").unlink()
    progress(1)
    return results


def suggest_command(race: Race, folder: Path) -> str | None:
    """Write the command that chooses images to label, where the answer is not sure; None where it is.

    A target that was left out of the race gets none: its labels would have no use there.
    """
    sure = race.expected is not None and race.expected.words == "high" and race.decide is None
    return None if sure or race.task.unseen else f"ftransfer suggest {shlex.quote(str(folder))} --n 50"


def write_decide(table: pd.DataFrame | None, folder: Path) -> None:
    """Write the rows whose labels would decide between two answers, unless someone has filled in labels there.

    Parameters
    ----------
    table : DataFrame or None
        `Race.decide`; None takes the file away.
    folder : Path
    """
    file = folder / "decide.csv"
    if file.is_file():
        try:
            if pd.read_csv(file)["label"].notna().any():
                return
        except (KeyError, OSError, ValueError):
            return
    file.unlink(missing_ok=True)
    if table is not None:
        write_whole(file, table.to_csv(index=False).encode())
