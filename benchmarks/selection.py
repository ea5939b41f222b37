"""Judge the blind choice: what it reaches between all domains of feature sets, against source only and an oracle.

    ftransfer extract ../shared/real/office_caltech10 --out office --backbone squeezenet1_1 --weights FILE
    python benchmarks/selection.py office pacs ftransfer-demo/features
    python benchmarks/selection.py office pacs ftransfer-demo/features --scorer all --table candidates.csv
    python benchmarks/selection.py pacs --sources 2
    python benchmarks/selection.py ftransfer-demo/features --dominant 3

Accuracy on the target in per cent, of (a) source only, as the score and the guard choose among its settings; (b) the
one recipe and setting that is best on average over these pairs, and the same found on all other pairs (b'); (c) what is
recommended without target labels; (d) the best candidate of all. b and d look at the target's labels; they are what a
choice without labels is measured by. The labels are used for this count, and for nothing else.

With several sources, a and b learn from all of them together; c and d may also learn from one alone.

Labels were looked at, though, when the default score and the guard's rules were made: those of office, pacs and the
demo, one source each, and those of the other tasks of ``proving_ground.py``, which says how the rules were made. That
sources race alone, too,
was found on the three pairs of sources in pacs, where six other forms of the score were tried before, and confirmed on
pairs of sources that were made for it: halves of amazon and photo, one of them drawn as edges or inverted.

--scorer all: each scorer's own choice, guarded alike, counted against (a) of the default scorer; "unguarded" is the
mean accuracy of the candidate that it ranks first, "rank" the mean rank correlation of score and accuracy.
--sources N: N sources for each target. --labels N: the guard is given N target labels, drawn at random and not counted.
--dominant N: label shift; the target keeps all rows of its first N classes and a tenth of the others.
"""

import argparse
import sys
import warnings
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from threadpoolctl import threadpool_limits

from ftransfer import FeatureSet, FtransferError, draw_target_labels, list_scorers, load_scorer, load_task
from ftransfer.scoring.judge import Judge
from ftransfer.scoring.names import DEFAULT_SCORER
from ftransfer.search.assumptions import check_assumptions
from ftransfer.search.contest import with_baselines
from ftransfer.search.guard import recommend
from ftransfer.search.sources import SOURCES, learned_from, offer_sources, without_sources
from ftransfer.search.steps import adaptation, step_of
from ftransfer.task import Answers


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", nargs="+", metavar="FEATURES", help="folder of a feature set")
    parser.add_argument(
        "--scorer", default=DEFAULT_SCORER, choices=[*list_scorers(), "all"], metavar="NAME|all"
    )
    parser.add_argument("--pipeline", action="append", metavar="NAME", help="recipe; may be repeated")
    parser.add_argument("--labels", type=int, metavar="N", help="target labels given to the guard")
    parser.add_argument(
        "--sources", type=int, default=1, metavar="N", help="domains that are a source together"
    )
    parser.add_argument("--dominant", type=int, metavar="N", help="classes that make up most of the target")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="pipelines fitted at the same time")
    parser.add_argument("--table", metavar="FILE", help="write all candidates, scores and accuracies as CSV")
    options = parser.parse_args()
    shown = DEFAULT_SCORER if options.scorer == "all" else options.scorer
    scorers = list_scorers() if options.scorer == "all" else [shown]
    try:
        recipes = with_baselines(options.pipeline)
        pairs = list(list_pairs(options.features, options.sources))
    except FtransferError as error:
        sys.exit(str(error))

    tables, choices = {}, {}
    print(f"{'pair':<24}{'a':>7}{'c':>7}{'d':>7}  recommended", flush=True)
    # one BLAS thread, as in a race: on a busy machine more of them make small problems many times slower
    with threadpool_limits(limits=1), Parallel(n_jobs=options.jobs, prefer="threads") as parallel:
        for folder, sources, target in pairs:
            pair = f"{'+'.join(sources)} > {target}"
            task, labels = load_task(FeatureSet(folder), sources, target, classes="shared"), None
            if options.dominant:
                task = shift_labels(task, options.dominant)
            if options.labels:
                task, labels = draw_target_labels(task, options.labels)
            candidates = Candidates(task, recipes)
            tables[pair] = fit_all(candidates, labels, scorers, parallel)
            choices[pair] = {name: choose(tables[pair], name, candidates) for name in scorers}
            a, c, d = (choices[pair][shown][key] for key in ("source only", "chosen", "oracle"))
            print(f"{pair:<24}{a:7.1f}{c:7.1f}{d:7.1f}  {choices[pair][shown]['setting']}", flush=True)
    print_summary(tables, pd.DataFrame({p: c[shown] for p, c in choices.items()}).T)
    if len(scorers) > 1:
        print_scorers(choices, shown)
    if options.table:
        columns = ["pipeline", "adaptation", "params", "accuracy", *scorers]
        pd.concat({p: t[columns] for p, t in tables.items()}, names=["pair"]).droplevel(1).to_csv(
            options.table
        )


def list_pairs(folders, n_sources):
    """Yield (folder, sources, target): each domain of the feature sets as the target of all others, n at a time."""
    for folder in folders:
        domains = sorted(FeatureSet(folder).complete["domain"].unique())
        for sources in combinations(domains, n_sources):
            for target in domains:
                if target not in sources:
                    yield folder, list(sources), target


def shift_labels(task, dominant):
    """Keep the target's rows of the first classes, and a tenth of the others."""
    codes = task.answers.codes
    few = np.random.default_rng(0).random(len(codes)) < 0.1
    kept = np.r_[np.ones(task.is_source.sum(), dtype=bool), (codes < dominant) | few]
    return replace(
        task,
        X=task.X[kept],
        y=task.y[kept],
        sample_domain=task.sample_domain[kept],
        rows=task.rows[kept].reset_index(drop=True),
        answers=Answers(codes[kept[task.is_source.sum() :]]),
    )


class Candidates:
    """Every setting of every recipe on a task, each with the sources that it learns from."""

    def __init__(self, task, recipes):
        self.task, self.judges = task, {}
        self.recipes = {recipe.name: recipe for recipe in offer_sources(recipes, task)}
        self.settings = [(name, p) for name, r in self.recipes.items() for p in ParameterGrid(r.grid)]
        whole = Judge(task.X, task.y, task.sample_domain)
        self.assumptions = check_assumptions(whole)
        for _, params in self.settings:
            if (sources := params.get(SOURCES)) not in self.judges:
                part = learned_from(task, params)
                self.judges[sources] = Judge(part.X, part.y, part.sample_domain, panel=whole.panel)

    def fit(self, name, params):
        """Fit one, and let its judge look at it."""
        judge = self.judges[params.get(SOURCES)]
        pipeline = clone(self.recipes[name].pipeline).set_params(**without_sources(params))
        return judge.evidence(pipeline.fit(judge.X, judge.y, sample_domain=judge.domain))


def fit_all(candidates, labels, scorers, parallel):
    """Fit every candidate once, and score it by each scorer; one row a candidate, as `recommend` takes it."""
    # the ensemble measures by all scorers at once
    scorer = load_scorer("ensemble" if len(scorers) > 1 else scorers[0])
    rows = parallel(delayed(fit_one)(candidates, scorer, labels, *each) for each in candidates.settings)
    found = [row.pop("found") for row in rows]
    table = pd.DataFrame(rows)
    for name in scorers:
        scores = (
            [f[name] for f in found] if len(scorers) > 1 and name != "ensemble" else scorer.compare(found)
        )
        table[name] = [score.value for score in scores]
        table[f"{name} resampled"] = [score.resampled for score in scores]
    return table


def fit_one(candidates, scorer, labels, name, params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evidence = candidates.fit(name, params)
        found = scorer.judge(evidence)
    row = {"pipeline": name, "params": params, "found": found, "predicted": evidence.predicted}
    row["adaptation"] = adaptation(candidates.recipes[name].pipeline)
    row["step"] = step_of(candidates.recipes[name].pipeline)
    row["together"] = len(np.unique(evidence.judge.domain)) == len(np.unique(candidates.task.sample_domain))
    row["accuracy"] = 100 * candidates.task.answers.accuracy(evidence.predicted)
    return row | {"hits": None if labels is None else (evidence.predicted == labels)[labels != -1]}


def choose(table, name, candidates):
    """Choose as a race does by the scorer `name`, and count; source only is not cross-validated here."""
    ranked = table.assign(score=table[name], resampled=table[f"{name} resampled"])
    ranked = ranked.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    chosen = recommend(ranked, score_name=name, assumptions=candidates.assumptions).chosen
    plain = ranked[ranked["together"] & (ranked["adaptation"] == "source only")]
    plain = recommend(plain, score_name=name).chosen
    accuracy = ranked["accuracy"]
    return {
        "source only": accuracy[plain],
        "chosen": accuracy[chosen],
        "oracle": accuracy.max(),
        "first": accuracy[0],
        "rank": ranked["score"].corr(accuracy, method="spearman"),
        "setting": f"{ranked['pipeline'][chosen]} {ranked['params'][chosen]}",
    }


def print_summary(tables, choices):
    a, c, d = (choices[key].astype(float) for key in ("source only", "chosen", "oracle"))
    print(f"{'mean':<24}{a.mean():7.1f}{c.mean():7.1f}{d.mean():7.1f}")
    tables = {pair: t[t["together"]].reset_index(drop=True) for pair, t in tables.items()}
    accuracy = pd.DataFrame({pair: table["accuracy"] for pair, table in tables.items()})
    settings = next(iter(tables.values()))
    best = accuracy.mean(axis=1).idxmax()
    print(f"\n(a) source only                            {a.mean():5.1f}")
    print(f"(b) the best single setting on average     {accuracy.loc[best].mean():5.1f}  ", end="")
    print(settings["pipeline"][best], without_sources(settings["params"][best]))
    if len(tables) > 1:
        others = [accuracy[p][accuracy.drop(columns=p).mean(axis=1).idxmax()] for p in accuracy]
        print(f"(b') the same, found on the other pairs    {np.mean(others):5.1f}")
    print(f"(c) chosen without target labels           {c.mean():5.1f}")
    print(f"(d) oracle                                 {d.mean():5.1f}")
    print(f"from a to d, c goes                        {share(a, c, d):5.0%}")
    print(
        f"pairs with c more than one point below a   {int((c < a - 1).sum()):5d}  worst {(c - a).min():+.1f}"
    )


def print_scorers(choices, shown):
    a = np.array([each[shown]["source only"] for each in choices.values()])
    print(f"\n{'scorer':<24}{'chosen':>8}{'a to d':>8}{'below a':>9}{'worst':>7}{'unguarded':>11}{'rank':>7}")
    rows = []
    for name in next(iter(choices.values())):
        found = pd.DataFrame([each[name] for each in choices.values()])
        rows.append((name, found, found["chosen"].mean()))
    for name, found, mean in sorted(rows, key=lambda row: -row[2]):
        below, worst = int((found["chosen"] < a - 1).sum()), (found["chosen"] - a).min()
        way = share(a, found["chosen"], found["oracle"])
        print(
            f"{name:<24}{mean:8.1f}{way:8.0%}{below:9d}{worst:+7.1f}{found['first'].mean():11.1f}{found['rank'].mean():7.2f}"
        )


def share(a, c, d):
    """Share of the way from a to d that c goes, of their means."""
    return (np.mean(c) - np.mean(a)) / max(np.mean(d) - np.mean(a), 1e-9)


if __name__ == "__main__":
    main()
