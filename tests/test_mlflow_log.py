import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ftransfer import FtransferError
from ftransfer.cli import main
from ftransfer.report.mlflow_log import check_mlflow, log_to_mlflow


class StandIn:
    """The few functions of MLflow that are called; notes down each call with the depth of its run."""

    __spec__ = SimpleNamespace(name="mlflow")

    def __init__(self):
        self.calls, self.depth = [], 0

    def __getattr__(self, name):
        return lambda *args: self.calls.append((self.depth, name, *args))

    def start_run(self, run_name, nested=False):
        assert nested == (self.depth > 0)
        self.calls.append((self.depth, "start_run", run_name))
        return self

    info = SimpleNamespace(run_id="7")

    def __enter__(self):
        self.depth += 1
        return self

    def __exit__(self, *_):
        self.depth -= 1

    def of(self, name, depth):
        return [call[2] for call in self.calls if call[:2] == (depth, name)]


@pytest.fixture
def asked(feature_set, tmp_path):
    given = ["fit", str(feature_set.folder), "--source", "day", "--target", "night", "--json"]
    return [*given, "--pipeline", "coral_svm", "--set", "coral__ridge=5", "--out", str(tmp_path / "run")]


def test_a_run_is_logged_with_its_setting_its_numbers_and_its_files(asked, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", stand_in := StandIn())
    said = CliRunner().invoke(main, [*asked, "--mlflow", "trial"], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    results = json.loads(said.stdout)
    assert stand_in.calls[0] == (0, "set_experiment", "trial")
    [params], [metrics] = stand_in.of("log_params", 1), stand_in.of("log_metrics", 1)
    assert params["pipeline"] == results["recommendation"]["pipeline"]
    assert params["target"] == "night"
    assert metrics["score"] == pytest.approx(results["recommendation"]["score"])
    assert metrics["target_accuracy"] == pytest.approx(results["counted"]["recommended"])
    files = {path.rsplit("/", 1)[-1] for path in stand_in.of("log_artifact", 1)}
    assert files == {p.name for p in (tmp_path / "run").iterdir() if p.name != ".lock"}
    nested = [each["pipeline"] for each in stand_in.of("log_params", 2)]
    assert nested == stand_in.of("start_run", 1)
    assert sorted(nested) == sorted({row["pipeline"] for row in results["candidates"]})
    assert all(isinstance(v, float | int) for each in stand_in.of("log_metrics", 2) for v in each.values())


def test_a_server_that_fails_costs_no_run(asked, tmp_path, monkeypatch):
    stand_in = StandIn()
    stand_in.set_experiment = lambda name: 1 / 0
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    said = CliRunner().invoke(main, [*asked, "--mlflow", "trial"], catch_exceptions=False)
    assert said.exit_code == 0
    assert "could not be logged to MLflow: ZeroDivisionError" in said.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def test_without_mlflow_nothing_is_run(asked, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = CliRunner().invoke(main, [*asked, "--mlflow", "trial"])
    assert said.exit_code == 1
    assert 'pip install "ftransfer[mlflow]"' in said.stderr
    assert not (tmp_path / "run").exists()
    with pytest.raises(FtransferError, match="needs the package mlflow"):
        log_to_mlflow({}, tmp_path, "trial")


def test_mlflow_itself_takes_what_is_logged(asked, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: the extra [mlflow]")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    check_mlflow()
    said = CliRunner().invoke(main, [*asked, "--mlflow", "trial"], catch_exceptions=False)
    assert "could not be logged" not in said.stderr
    runs = mlflow.search_runs(experiment_names=["trial"])
    results = json.loads(said.stdout)
    top = runs[runs["tags.answer"].notna()].iloc[0]
    assert top["metrics.score"] == pytest.approx(results["recommendation"]["score"])
    assert len(runs) == 1 + len({row["pipeline"] for row in results["candidates"]})
