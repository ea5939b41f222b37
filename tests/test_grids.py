import json

import pytest
from click.testing import CliRunner
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, FtransferError, load_recipe, load_task, make_pipeline, race
from ftransfer.cli import main
from ftransfer.recipes import Recipe
from ftransfer.search.grids import read_grids, with_grids

ALIGNED = Recipe("aligned", make_pipeline(DomainScaler(), CORAL(), SVC()), {"coral__ridge": [1.0]})
SCALED = Recipe("scaled", make_pipeline(DomainScaler(), SVC()), [{"svc__C": [1.0]}, {"svc__gamma": [0.1]}])


def test_a_parameter_is_set_in_every_recipe_that_has_it():
    aligned, scaled = with_grids([ALIGNED, SCALED], {"svc__C": [3], "coral__ridge": [5, 6]})
    assert aligned.grid == {"coral__ridge": [5, 6], "svc__C": [3]}
    assert scaled.grid == [{"svc__C": [3]}, {"svc__gamma": [0.1]}]
    assert ALIGNED.grid == {"coral__ridge": [1.0]}


def test_a_recipes_grid_is_replaced_and_then_a_parameter_of_one_recipe_set():
    given = {"aligned": {"svc__gamma": [0.1]}, "aligned:svc__C": [7]}
    aligned, scaled = with_grids([ALIGNED, SCALED], given)
    assert aligned.grid == {"svc__gamma": [0.1], "svc__C": [7]}
    assert scaled is SCALED


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            {"coral__rigde": [1]},
            "no recipe or parameter in this race 'coral__rigde'; did you mean 'coral__ridge'",
        ),
        ({"alinged": {}}, "did you mean 'aligned'"),
        ({"alinged:svc__C": [1]}, "no recipe in this race 'alinged'; did you mean 'aligned'"),
        ({"scaled:coral__ridge": [1]}, "no recipe or parameter in this race 'coral__ridge'"),
        ({"svc__C": 3}, r"grid given for aligned must give svc__C a list of values, .* given 3"),
        ({"aligned": 3}, "grid given for aligned must be a dict or a list of dicts; given int"),
        ({"scaled": {"coral__ridge": [1]}}, "no parameter of the pipeline given for scaled 'coral__ridge'"),
    ],
)
def test_a_grid_that_fits_no_recipe_is_refused(given, match):
    with pytest.raises(FtransferError, match=match):
        with_grids([ALIGNED, SCALED], given)


def test_a_grid_file_is_yaml_or_json_and_its_numbers_are_numbers(tmp_path):
    (tmp_path / "g.yaml").write_text("aligned:\n  coral__ridge: [1, 1e-3]\nsvc__C: [0.5, none]\n")
    (tmp_path / "g.json").write_text(
        json.dumps({"aligned": {"coral__ridge": [1, 0.001]}, "svc__C": [0.5, None]})
    )
    found = read_grids(tmp_path / "g.yaml")
    assert found == {"aligned": {"coral__ridge": [1, 0.001]}, "svc__C": [0.5, None]}
    assert found == read_grids(tmp_path / "g.json")


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("g.json", "{", "g.json is not valid JSON"),
        ("g.yml", "a: [", "g.yml is not valid YAML"),
        ("g.yml", "- 1", "must map recipes to grids, or parameters to lists of values, .* it holds list"),
        ("none.yml", None, "cannot read the grid file .*none.yml: No such file"),
    ],
)
def test_a_grid_file_that_is_none_is_refused(tmp_path, name, text, match):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(FtransferError, match=match):
        read_grids(tmp_path / name)


def test_a_grid_file_named_as_a_pipeline_says_where_it_belongs():
    with pytest.raises(FtransferError, match="my.yaml is a grid, not a recipe: .* give it as --grid my.yaml"):
        load_recipe("my.yaml")


def test_a_race_searches_the_given_grids(feature_set):
    found = race(
        load_task(feature_set, "day", "night"), [ALIGNED, SCALED, "source_only_svm"], jobs=1,
        grids={"coral__ridge": [2, 3], "scaled": {}, "source_only_svm": {"svc__C": [4]}},
    )  # fmt: skip
    tried = found.table.groupby("pipeline")["params"].apply(list).to_dict()
    assert sorted(p["coral__ridge"] for p in tried["aligned"]) == [2, 3]
    assert tried["scaled"] == [{}]
    assert tried["source_only_svm"] == [{"source_only__svc__C": 4}]


def test_the_command_line_takes_a_file_and_sets_values_over_it(feature_set, tmp_path):
    (tmp_path / "g.yaml").write_text("coral_svm:\n  svc__C: [3]\nscaled_svm: {svc__C: [3]}\n")
    asked = ["fit", str(feature_set.folder), "--source", "day", "--target", "night", "--json"]
    asked += ["--pipeline", "coral_svm", "--pipeline", "scaled_svm", "--pipeline", "source_only_svm"]
    asked += ["--grid", str(tmp_path / "g.yaml"), "--out", str(tmp_path / "run")]
    said = CliRunner().invoke(main, [*asked, "--set", "coral__ridge=2,1e1"], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    rows = json.loads(said.stdout)["candidates"]
    tried = [row["params"] for row in rows if row["pipeline"] == "coral_svm"]
    assert sorted(tried, key=str) == [{"coral__ridge": 10.0, "svc__C": 3}, {"coral__ridge": 2, "svc__C": 3}]
    said = CliRunner().invoke(main, [*asked, "--set", "coral__ridge"])
    assert said.exit_code == 1
    assert (
        "--set takes PARAMETER=VALUE,VALUE,..., such as coral__ridge=1,10,100; given 'coral__ridge'"
        in said.stderr
    )


@pytest.mark.parametrize("labels", [[], ["--label-column", "label", "--label-column", "domain"]])
def test_a_wrong_name_leaves_no_run_folder(feature_set, tmp_path, labels):
    asked = [
        "fit",
        str(feature_set.folder),
        "--source",
        "day",
        "--target",
        "night",
        "--out",
        str(tmp_path / "run"),
    ]
    said = CliRunner().invoke(main, [*asked, *labels, "--set", "coral__rigde=2"])
    assert said.exit_code == 1
    assert "coral__rigde" in said.stderr
    assert not (tmp_path / "run").exists()


def test_a_wrong_name_leaves_an_older_run_as_it_was(feature_set, tmp_path):
    asked = [
        "fit",
        str(feature_set.folder),
        "--source",
        "day",
        "--target",
        "night",
        "--out",
        str(tmp_path / "run"),
    ]
    assert CliRunner().invoke(main, [*asked, "--pipeline", "coral_svm"]).exit_code == 0
    before = {p.name for p in (tmp_path / "run").iterdir()}
    assert CliRunner().invoke(main, [*asked, "--set", "coral__rigde=2"]).exit_code == 1
    assert {p.name for p in (tmp_path / "run").iterdir()} == before
