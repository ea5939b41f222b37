"""The race: every recipe and setting on one task, ranked without target labels, with a guard.

Four steps: prepare what is raced, run it, choose, and sum up. Labels of the target are counted in the last one alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Unpack

from ftransfer.errors import FtransferError
from ftransfer.search.candidate import (
    Candidate,
    best_of_each,
    compare,
    guard_table,
    rank,
    resampled_scores,
    result_table,
)
from ftransfer.search.contest import Contest, Recipes
from ftransfer.search.data_level import describe_rows, learns_from_chosen_rows
from ftransfer.search.expected import Expected, expect_by_labels
from ftransfer.search.finalists import Finalists
from ftransfer.search.guard import Recommendation, between_groups, recommend
from ftransfer.search.labelled import TARGET_ONLY, LabelFits, LabelUse, decide, fit_candidates
from ftransfer.search.outcome import Race
from ftransfer.search.rivals import describe_rivals, rows_to_decide
from ftransfer.search.sample import of_all_rows, raced_rows
from ftransfer.search.settings import RaceOptions, RaceSettings
from ftransfer.search.steps import BASELINES, STEPS
from ftransfer.search.trials import Bind, Trials
from ftransfer.search.unseen import UnseenContest
from ftransfer.search.vote import VOTE, say_vote, take_vote, turned_down, voters
from ftransfer.task import Task


def race(
    task: Task,
    recipes: Recipes | None = None,
    *,
    settings: RaceSettings | None = None,
    progress: Callable[[int], None] = lambda n: None,
    announce: Callable[[int], None] = lambda n: None,
    bind: Bind = partial,
    **options: Unpack[RaceOptions],
) -> Race:
    """Fit and score settings of every recipe on the task, and recommend one.

    Parameters
    ----------
    task : Task
        If the target is left out (`load_task`), only recipes that can be fitted without it take part, and held-out
        source domains decide.
    recipes : list of str, path or Recipe, optional
        Default: all built-in ones. The baselines source only and per-domain scaling are added if they are not
        among them.
    settings : RaceSettings, optional
        The options of the race.
    progress, announce : callable
        Called with the number of candidates done since the last call; once, with their number.
    bind : callable, default=functools.partial
        Binds the work to what all candidates share; `race_on_cluster` brings that to its workers once.
    **options
        Fields of `RaceSettings`, which override those in `settings`: ``race(task, jobs=1,
        scorer="entropy")``.

    Returns
    -------
    Race

    Raises
    ------
    FtransferError
        If a recipe cannot be loaded, the search is not known or lacks its library, every candidate fails, or the
        target is left out and a score that uses its rows, or its labels, is requested.
    """
    given = replace(settings or RaceSettings(), **options)
    some, raced, taken = raced_rows(task, given)
    contest = prepare(some, recipes, raced)
    trials = run(contest, progress=progress, announce=announce, bind=bind)
    choice = fit_on_labels(contest, trials, choose(contest, trials))
    found = sum_up(contest, trials, let_vote(contest, trials, choice))
    return found if taken is None else of_all_rows(found, task, given, taken)


def prepare(task: Task, recipes: Recipes | None, settings: RaceSettings) -> Contest:
    """Settle what races, on what, and by what score."""
    return (UnseenContest if task.unseen else Contest)(task, recipes, settings)


def run(
    contest: Contest, *, progress: Callable[[int], None], announce: Callable[[int], None], bind: Bind
) -> Trials:
    """Try what the strategy asks for."""
    strategy = contest.strategy()
    announce(strategy.n_trials)
    trials = Trials(
        contest.task,
        contest.scorer,
        contest.settings,
        contest.steps,
        make_judge=contest.judge,
        bind=bind,
        progress=progress,
    )
    while asked := strategy.ask():
        if done := trials.run(asked):
            strategy.tell([each.trial for each in done], [each.value for each in done])
    progress(strategy.n_trials - trials.n_tried)  # those left out
    return trials


@dataclass(frozen=True)
class Choice:
    """What the guard made of the candidates.

    Attributes
    ----------
    ranked : list of Candidate
        The best first; those that failed at the end.
    chosen : Candidate
    source_only : Candidate or None
        The best one without adaptation.
    answer : Recommendation
        Its rows are those of `ranked`, but that of the vote.
    finalists : Finalists
        Gives what was fitted on all rows.
    rivals : list of Candidate
        Two answers that nothing could decide between, or none.
    expected : Expected or None
        What accuracy labels of the target promise.
    use : LabelUse or None
        What labels of the target were used for.
    """

    ranked: list[Candidate]
    chosen: Candidate
    source_only: Candidate | None
    answer: Recommendation
    finalists: Finalists
    rivals: list[Candidate] = field(default_factory=list)
    expected: Expected | None = None
    use: LabelUse | None = None


def choose(contest: Contest, trials: Trials) -> Choice:
    """Rank the candidates, and let the guard choose.

    Raises
    ------
    FtransferError
        If every candidate failed.
    """
    settings, assumptions = contest.settings, contest.assumptions
    if assumptions is not None and assumptions.overlap:  # held-out source rows decide, not the score
        trials.grow_out([each for each in trials.stopped if each.step == BASELINES[0]])
    compare(trials.candidates, contest.scorer)  # all of them; so far, those of each round
    ranked = rank(trials.candidates)
    if not ranked[0].scored:
        first = ranked[0]
        raise FtransferError(f"every candidate failed; the first: {first.pipeline}: {first.result.error}")
    finalists = Finalists(trials.judge, settings.jobs)

    table = guard_table(ranked, contest.known)
    answer = recommend(
        table,
        score_name=contest.scorer.name,
        assumptions=assumptions,
        source_accuracy=lambda rows: contest.source_accuracy([ranked[row] for row in rows], finalists),
        explain=contest.explain,
    )
    if groups := contest.groups(ranked, answer):
        answer = between_groups(answer, table, groups)
    of_a_few_trees = [
        ranked[row] for row in (answer.chosen, *(groups or ())) if ranked[row] in trials.stopped
    ]
    if of_a_few_trees:
        trials.grow_out(of_a_few_trees)
        return choose(contest, trials)
    plain = None if answer.source_only is None else ranked[answer.source_only]
    rivals = [ranked[row] for row in answer.rivals or ()]
    return Choice(ranked, ranked[answer.chosen], plain, answer, finalists, rivals)


def fit_on_labels(contest: Contest, trials: Trials, choice: Choice) -> Choice:
    """Fit the best candidate of each step on labels of the target, too, where there are any, and let them decide.

    See `ftransfer.search.labelled`.
    """
    if contest.labels is None or choice.answer.labels_of_rivals:
        return choice
    fits = LabelFits(contest.labels, trials.judge, contest.task)
    if not fits.enough:
        return choice
    best = {each.step: each for each in reversed(choice.ranked) if each.scored}
    finalists = [choice.chosen, *(best[step] for step in STEPS if step in best)]
    candidates = fit_candidates(fits, list(dict.fromkeys(finalists)), contest.settings.jobs)
    chosen, steps = decide(candidates, candidates[0])
    fits.fit_all(candidates, contest.scorer, contest.settings.jobs)
    ranked = [*choice.ranked, *candidates]
    compare(ranked, contest.scorer)
    use = fits.use(chosen, len(contest.task.classes))
    answer = replace(
        choice.answer,
        sentence=use.sentence(chosen),
        ground=f"{choice.answer.ground} {use.ground}",
        steps=(*choice.answer.steps, *steps),
    )
    drawn = use.drawn or contest.labels.drawn
    expected = expect_by_labels(fits.estimate(chosen), drawn) if len(fits.held_back) else None
    return replace(
        choice, ranked=rank(ranked), chosen=chosen, answer=answer, expected=expected, use=use, rivals=[]
    )


def let_vote(contest: Contest, trials: Trials, choice: Choice) -> Choice:
    """Let the best candidates vote, where an adaptation was chosen by its score and no label decided.

    See `ftransfer.search.vote`. What was fitted on labels of the target is not put to the vote.
    """
    decided = choice.use is not None or (choice.answer.labels_of_rivals and not choice.rivals)
    members = [] if decided else voters(choice.ranked, choice.answer, contest.scorer)
    if not members:
        return choice
    vote = take_vote(members, choice.finalists, trials.judge(members[0].trial), contest.scorer)
    if vote is None:
        return choice
    compare([vote], contest.scorer)
    ranked = rank([*choice.ranked, vote])
    if turned_down(vote, choice.chosen, contest.known):
        return replace(choice, ranked=ranked)
    return replace(choice, ranked=ranked, chosen=vote, answer=say_vote(choice.answer, members))


def sum_up(contest: Contest, trials: Trials, choice: Choice) -> Race:
    """Look at the best of each step of the guard, count the target's labels, and put everything together."""
    ranked, chosen, answer, finalists = choice.ranked, choice.chosen, choice.answer, choice.finalists
    single = [each for each in ranked if each.step in STEPS and each.pipeline != VOTE]
    weighed = {each.step: each for each in reversed(single) if each.scored}
    plain = choice.source_only
    first = [*weighed.values(), plain, chosen]
    looked_at = [each for each in single if each in first]
    for candidate, finalist in zip(looked_at, finalists.look_at(looked_at), strict=True):
        if finalist.evidence:
            candidate.source_accuracy = float(finalist.evidence.right.mean())
    contest.count(ranked, chosen, finalists)
    learned = contest.learned(chosen.trial)
    notes = [*learned.notes, *contest.notes, *trials.notes()]
    if learned.answers.describes_copies:
        notes += learned.answers.describe_copies(finalists.pipeline(chosen).predict(learned.X_target))
    for each in best_of_each([row for row in ranked if row.scored]):
        if learns_from_chosen_rows(each.trial.recipe.pipeline):
            fitted = finalists.pipeline(each)
            notes.append(describe_rows(each.pipeline, fitted, contest.learned(each.trial)))
    if answer.assumptions is not None:
        notes += answer.assumptions.describe(contest.task.classes)
    rivals = choice.rivals
    if rivals:
        notes.append(describe_rivals(rivals, chosen))
    return Race(
        task=replace(learned, notes=notes),
        table=result_table(ranked),
        pipeline=finalists.pipeline(chosen),
        chosen=ranked.index(chosen),
        adapt=chosen.adaptation not in (*BASELINES, TARGET_ONLY),
        sentence=contest.sentence(answer, chosen),
        reason=answer.reason,
        ground=answer.ground,
        steps=answer.steps,
        scorer=contest.scorer,
        target_labels=None if contest.labels is None else contest.labels.codes,
        label_use=choice.use,
        source_only=None if plain is None else finalists.pipeline(plain),
        source_only_row=None if plain is None else ranked.index(plain),
        expected=choice.expected or contest.expected(chosen, answer, finalists, rivals),
        decide=rows_to_decide(learned, rivals) if rivals else None,
        resampled=resampled_scores(ranked),
    )
