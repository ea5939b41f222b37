"""Log a run to MLflow, for those who keep their experiments there (extra ``[mlflow]``)."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftransfer.errors import FtransferError
from ftransfer.report.numbers import brief

LONGEST = 500  # characters of a parameter, MLflow's own limit in older versions
FILES = ("report.html", "results.json", "results.csv", "classes.csv", "predictions.csv", "model.skops")


def check_mlflow() -> None:
    """Refuse where MLflow is not installed, before a race is run.

    Raises
    ------
    FtransferError
    """
    if find_spec("mlflow") is None:
        raise FtransferError(
            'logging to MLflow needs the package mlflow, which is not installed: pip install "ftransfer[mlflow]"'
        )


def log_to_mlflow(results: dict[str, Any], folder: str | Path, experiment: str) -> str:
    """Log what `write_report` wrote: one MLflow run, and one nested in it for the best setting of each recipe.

    Parameters
    ----------
    results : dict
        As `write_report` returns it.
    folder : str or path
        The run folder; its files are logged as artifacts.
    experiment : str
        Name of the experiment. The tracking server is what MLflow is set to, such as by the environment variable
        ``MLFLOW_TRACKING_URI``.

    Returns
    -------
    str
        The id of the MLflow run.

    Raises
    ------
    FtransferError
        If MLflow is not installed.
    """
    check_mlflow()
    import mlflow

    task, answer, folder = results["task"], results["recommendation"], Path(folder)
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"{'+'.join(task['sources'])}-to-{task['target']}") as run:
        given = {"sources": ", ".join(task["sources"]), "scorer": results["score"]["name"]}
        names = ("target", "label", "features", "backbone", "weights", "layers", "n_source", "n_target")
        given |= {name: task[name] for name in names} | {"n_classes": len(task["classes"])}
        given |= {name: answer[name] for name in ("pipeline", "adaptation")} | answer["params"]
        mlflow.log_params(_texts(given))
        mlflow.log_metrics(_metrics(results))
        mlflow.set_tags({"ftransfer": results["versions"]["ftransfer"], "answer": answer["sentence"]})
        for name in FILES:
            if (folder / name).is_file():
                mlflow.log_artifact(str(folder / name))
        seen: set[str] = set()
        for row in results["candidates"]:
            if row["score"] is None or row["pipeline"] in seen:
                continue
            seen.add(row["pipeline"])
            with mlflow.start_run(run_name=row["pipeline"], nested=True):
                mlflow.log_params(
                    _texts({"pipeline": row["pipeline"], "adaptation": row["adaptation"], **row["params"]})
                )
                wanted = ("score", "low", "high", "source_accuracy", "target_accuracy", "seconds")
                mlflow.log_metrics({name: row[name] for name in wanted if row[name] is not None})
    return str(run.info.run_id)


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: brief(value)[:LONGEST] for name, value in values.items() if value is not None}


def _metrics(results: dict[str, Any]) -> dict[str, float]:
    """Numbers of the recommended pipeline; those that are not known are left out."""
    answer, counted, expected = results["recommendation"], results["counted"] or {}, results["expected"] or {}
    found = {
        "score": answer["score"],
        "score_low": answer["low"],
        "score_high": answer["high"],
        "expected_accuracy": expected.get("value"),
        "target_accuracy": counted.get("recommended"),
        "source_only_target_accuracy": counted.get("source_only"),
        "adapt": float(answer["adapt"]),
        "settings": float(len(results["candidates"])),
    }
    return {name: float(value) for name, value in found.items() if value is not None}
