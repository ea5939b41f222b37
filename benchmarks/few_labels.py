"""Measure what a few target labels buy: accuracy against their number, by how they were chosen and what is fitted.

    python benchmarks/few_labels.py pacs office ftransfer-demo/features --out few_labels --picture docs/few-labels.png

The feature sets are those of benchmarks/proving_ground.py. For each ordered pair of domains the blind race is run once.
Then labels are drawn: at random, or as `ftransfer suggest` proposes (half at random, half where they change the model);
the race fits, chooses and estimates with them. Accuracy in per cent on the target rows without a label:

0           the blind choice
chosen      what the labels chose, fitted on all of them
unadapted   source and labels without adaptation
target      the better of the two classifiers on labels alone, by cross-validation as the race has it
best        the best of these candidates, in hindsight

*within* is the share of draws in which the 95 % interval holds the accuracy of what was chosen on the whole target,
each labelled row predicted by a fit without its label. That includes the rows the interval rests on, so it flatters
where they are many. *rest* is the same for the accuracy on the rows without a label, easier where `suggest` has
taken the hard ones. *below* is the share of draws with the chosen more than a point below target only, and ± the
standard error of the mean over the draws. What is done is kept in --out, a line a draw, and found there by a second
run; --part 0/2 and --part 1/2 run in two processes; --summary only counts.
"""

import argparse
import json
import warnings
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from proving_ground import draw, load_sets, make_task

from ftransfer.features.label_file import RANDOM, TargetLabels
from ftransfer.search.labelled import STEP, TARGET_ONLY
from ftransfer.search.race import choose, fit_on_labels, prepare, run, sum_up
from ftransfer.search.settings import RaceSettings
from ftransfer.search.suggest import suggest_labels
from ftransfer.task import Answers

NUMBERS = (50, 200, 20, 100, 10)
WAYS = ("random", "suggest")
RECIPES = (
    "source_only_logistic",
    "source_only_svm",
    "scaled_logistic",
    "scaled_svm",
    "coral_logistic",
    "pseudo_logistic",
    "mixture_scaled",
)
HUES = {"chosen": "#1f5fa8", "unadapted": "#b25e00", "target": "#4d7d2a"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", nargs="*", metavar="FEATURES", help="folder of a feature set")
    parser.add_argument("--out", type=Path, default=Path("few_labels"), metavar="FOLDER")
    parser.add_argument("--rows", type=int, default=300, metavar="N", help="most rows of a domain (300)")
    parser.add_argument("--draws", type=int, default=5, metavar="N")
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS, metavar="N")
    parser.add_argument("--only", metavar="TEXT", help="only tasks with this in their name")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every n-th task, from the i-th on")
    parser.add_argument("--summary", action="store_true", help="only count what is there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw accuracy against labels")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.summary:
        part, parts = map(int, options.part.split("/"))
        tasks = [t for t in list_tasks(options.features, options.rows) if (options.only or "") in t[0]]
        with open(options.out / f"part{part}.jsonl", "a") as file:
            for row in measure(tasks[part::parts], options, read(options.out)):
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"{row['task']:<32}{row['way']:<9}{row['n']:5d}{row['chosen']:7.1f}", flush=True)
    table = read(options.out)
    if len(table):
        summarise(table)
        if options.picture:
            draw_picture(table, options.picture)


def read(folder):
    files = sorted(folder.glob("part*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return pd.DataFrame(rows).drop_duplicates(["task", "way", "n", "draw"]) if rows else pd.DataFrame()


def list_tasks(folders, rows):
    """List the ordered pairs of domains: name, number and task of each."""
    tasks = []
    for name, X, y, domain in load_sets(folders, None):
        for number, (source, target) in enumerate(permutations(np.unique(domain), 2)):
            sides = draw(y, domain == source, domain == target, "as it is", rows, number)
            tasks.append((f"{name} {source} > {target}", number, make_task(X, y, sides)))
    return tasks


def measure(tasks, options, done):
    """Yield a row a draw; the first draw of all tasks comes first."""
    seen = set() if done.empty else set(zip(done["task"], done["way"], done["n"], done["draw"], strict=True))
    blind = {}
    for turn in range(options.draws):
        for n in options.numbers:
            for name, number, task in tasks:
                for way in WAYS:
                    if (name, way, n, turn) in seen or n > 0.7 * len(task.X_target):
                        continue
                    if name not in blind:
                        blind[name] = run_blind(task)
                    row = count(task, *blind[name], choose_labels(task, blind[name][2], way, n, turn))
                    yield {"task": name, "number": number, "way": way, "n": n, "draw": turn, **row}


def run_blind(task):
    """Run the race without labels; return the contest, its trials and what came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contest = prepare(task, RECIPES, RaceSettings(jobs=1))
        trials = run(contest, progress=lambda n: None, announce=lambda n: None, bind=partial)
        return contest, trials, sum_up(contest, trials, choose(contest, trials))


def choose_labels(task, race, way, n, seed):
    """Label rows of the target: array of codes, and which of them were drawn at random."""
    truth = task.answers.codes
    codes, random = np.full(len(truth), -1), np.zeros(len(truth), dtype=bool)
    if way == "random":
        rows = np.random.default_rng(seed).choice(len(truth), n, replace=False)
        random[rows] = True
    else:
        table = suggest_labels(
            replace(task, answers=Answers(np.full(len(truth), -1))), race, n, random_state=seed
        )
        rows = table["row"].to_numpy()
        random[rows] = (table["why"] == RANDOM).to_numpy()
    codes[rows] = truth[rows]
    return TargetLabels(codes, random)


def count(task, contest, trials, race, labels):
    """Fit and choose with labels; count the accuracy on the other rows."""
    contest.labels = labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        choice = fit_on_labels(contest, trials, choose(contest, trials))
    rest = labels.codes == -1
    truth = task.answers.codes

    def accuracy(predicted):
        return round(100 * float(np.mean((np.asarray(predicted) == truth)[rest])), 2)

    fitted = [each for each in choice.ranked if each.step == STEP]
    found = {each.pipeline: accuracy(each.result.predicted) for each in fitted}
    alone = max((c for c in fitted if c.adaptation == TARGET_ONLY), key=lambda c: c.hits.mean(), default=None)
    plain = next((each for each in fitted if each.adaptation == "source only"), None)
    expected = choice.expected
    return {
        "zero": accuracy(race.pipeline.predict(task.X_target)),
        "chosen": accuracy(choice.chosen.result.predicted),
        "unadapted": None if plain is None else found[plain.pipeline],
        "target": None if alone is None else found[alone.pipeline],
        "best": max(found.values(), default=None),
        "overall": round(
            100
            * (
                np.sum((np.asarray(choice.chosen.result.predicted) == truth)[rest])
                + np.sum(getattr(choice.chosen, "hits", np.nan))
            )
            / len(truth),
            2,
        ),
        "pipeline": choice.chosen.pipeline,
        "candidates": found,
        "hits": {each.pipeline: [each.hits.astype(int).tolist(), each.n_held_back] for each in fitted},
        "interval": None
        if expected is None
        else [100 * expected.low, 100 * expected.high, 100 * expected.value],
    }


def summarise(table):
    """Print the tables: all pairs, then those with odd numbers."""
    for title, some in (("all pairs", table), ("odd-numbered pairs", table[table["number"] % 2 == 1])):
        if some.empty:
            continue
        print(
            f"\n{title}\n{'set':<8}{'way':<9}{'labels':>6}{'draws':>6}{'0':>7}{'chosen':>14}{'unadapted':>11}",
            end="",
        )
        print(f"{'target':>8}{'best':>7}{'below':>8}{'within':>8}{'rest':>8}")
        sets = some["task"].str.split().str[0]
        for (name, way, n), part in some.groupby([sets, "way", "n"]):
            print(f"{name:<8}{way:<9}{n:6d}{line(part)}")
        for (way, n), part in some.groupby(["way", "n"]):
            print(f"{'all':<8}{way:<9}{n:6d}{line(part)}")


def line(part):
    by_task = part.groupby("task")[["zero", "chosen", "unadapted", "target", "best"]].mean()
    mean, error = by_task.mean(), standard_error(part)
    below = 100 * np.mean(part["chosen"] < part["target"] - 1)
    told = part[part["interval"].notna()]
    low, high, _ = np.array(told["interval"].tolist()).T if len(told) else np.empty((3, 0))
    within, rest = (
        100 * np.mean((low <= told[key]) & (told[key] <= high)) if len(told) else np.nan
        for key in ("overall", "chosen")
    )
    return (
        f"{len(part):6d}{mean['zero']:7.1f}{mean['chosen']:7.1f} ± {error:4.1f}{mean['unadapted']:11.1f}"
        f"{mean['target']:8.1f}{mean['best']:7.1f}{below:7.0f}%{within:7.0f}%{rest:7.0f}%"
    )


def standard_error(part, column="chosen"):
    """Standard error of the mean over tasks, from the spread of the draws of each."""
    spread = part.groupby("task")[column].agg(["var", "size"])
    return float(np.sqrt((spread["var"].fillna(0) / spread["size"]).sum()) / len(spread))


def draw_picture(table, file):
    """Draw accuracy against the number of labels, a panel a set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = sorted(table["task"].str.split().str[0].unique())
    figure, axes = plt.subplots(
        1, len(sets), figsize=(3.6 * len(sets), 3.4), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], sets, strict=True):
        part = table[table["task"].str.startswith(f"{name} ")]
        axis.axhline(
            part.groupby("task")["zero"].mean().mean(), color="#777", lw=1, ls=":", label="no labels"
        )
        for column, hue in HUES.items():
            for way, style in zip(WAYS, ("--", "-"), strict=True):
                if column != "chosen" and way == "random":
                    continue
                found = [(n, p) for n, p in part[part["way"] == way].groupby("n")]
                mean = [p.groupby("task")[column].mean().mean() for _, p in found]
                error = [standard_error(p, column) for _, p in found]
                words = {"chosen": "chosen", "unadapted": "without adaptation", "target": "labels alone"}[
                    column
                ]
                label = f"{words}, labels {'at random' if way == 'random' else 'by suggest'}"
                axis.errorbar(
                    [n for n, _ in found], mean, error, color=hue, ls=style, marker="o", ms=3, label=label
                )
        axis.set(title=name, xlabel="target labels", xscale="log")
        ticks = sorted(part["n"].unique())
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("accuracy on the other images, %")
    axes[0, -1].legend(fontsize=7, frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
