"""The vote: where an adaptation is worth it, the best settings of several recipes and source only decide together.

Which of several recipes is the best on a target cannot be told well without labels. Their mistakes differ, so that
their mean is better on most targets than the one with the highest score, and seldom much worse than source only.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.base import clone

from ftransfer.adapt.vote import TargetVote
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.scoring.judge import PipelineJudge
from ftransfer.scoring.names import DEFAULT_SCORER
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.candidate import Candidate, TrialResult, best_of_each
from ftransfer.search.finalists import Finalists
from ftransfer.search.guard import Recommendation, paired_interval
from ftransfer.search.sources import SOURCES
from ftransfer.search.steps import BASELINES
from ftransfer.search.strategy import Trial

VOTE = "vote"  # name of the recipe
MEMBERS = 6  # recipes that adapt and vote, each with its best setting
FALLS = 0.5  # a member's votes: 1, 1 / 1.5, 1 / 2, ... by its rank
SOURCE_ONLY = 0.7  # votes of source only, for one of all of them together


def voters(ranked: Sequence[Candidate], answer: Recommendation, scorer: Scorer) -> list[Candidate]:
    """List those who vote: the best settings of the six best recipes that adapt, and source only as the last.

    None where nothing is adapted, where the guard did not choose by the score that this was measured with, or where
    fewer than six recipes adapt, as with those that a user names.

    Parameters
    ----------
    ranked : sequence of Candidate
        The best first.
    answer : Recommendation
    scorer : Scorer
    """
    chosen = ranked[answer.chosen]
    by_score = any(step.gain is not None for step in answer.steps)
    if (
        not by_score
        or answer.assumptions is None
        or chosen.step in BASELINES
        or scorer.name != DEFAULT_SCORER
    ):
        return []
    sources = chosen.trial.params.get(SOURCES)
    alike = [each for each in ranked if each.scored and each.trial.params.get(SOURCES) == sources]
    best = [each for each in best_of_each(alike) if each.step not in BASELINES]
    plain = [each for each in alike if each.step == BASELINES[0]]
    return [*best[:MEMBERS], plain[0]] if plain and len(best) >= MEMBERS else []


def take_vote(
    members: Sequence[Candidate], finalists: Finalists, judge: PipelineJudge, scorer: Scorer
) -> Candidate | None:
    """Let candidates vote; None where one of them gives neither probabilities nor a decision function.

    Parameters
    ----------
    members : sequence of Candidate
        The last is source only.
    finalists : Finalists
        Gives what is fitted.
    judge : PipelineJudge
        Of what all of them learned from.
    scorer : Scorer
    """
    started = time.monotonic()
    fitted = [finalists.as_scored(each) for each in members]
    if not all(hasattr(each, "predict_proba") or hasattr(each, "decision_function") for each in fitted):
        return None
    votes = 1 / (1 + FALLS * np.arange(len(members) - 1))
    weights = [*(votes / votes.sum()).tolist(), SOURCE_ONLY]
    names = [each.pipeline for each in members[:-1]] + [BASELINES[0]]
    target = judge.X[judge.domain < 0]
    vote = TargetVote.of(list(zip(names, fitted, strict=True)), target, weights)
    pipeline = AdaptationPipeline([(VOTE, clone(vote))])
    pipeline.steps_ = [(VOTE, vote)]
    evidence = judge.evidence(pipeline)
    evidence.predicted = vote.classes_[evidence.probability.argmax(axis=1)]  # as the vote predicts
    found, predicted = scorer.judge(evidence), evidence.predicted
    recipe = Recipe(VOTE, pipeline, {}, "The best recipes and source only decide together.")
    params = {key: value for key, value in members[0].trial.params.items() if key == SOURCES}
    seconds = time.monotonic() - started
    result = TrialResult(found, predicted, seconds, "", pipeline, probability=evidence.probability)
    return Candidate(Trial(recipe, params), result)


def turned_down(vote: Candidate, chosen: Candidate, target_labels: np.ndarray | None) -> bool:
    """Whether labels of the target tell that the vote is worse than what the guard chose."""
    if target_labels is None:
        return False
    known = target_labels != -1
    hits = [np.equal(np.asarray(each.result.predicted), target_labels)[known] for each in (vote, chosen)]
    return bool(known.any() and paired_interval(*hits)[2] < 0)


def say_vote(answer: Recommendation, members: Sequence[Candidate]) -> Recommendation:
    """Put the vote into the answer's words."""
    *names, plain = [each.pipeline for each in members]
    return replace(
        answer,
        sentence=f"Adapt by a vote of {len(names)} recipes and source only.",
        ground=f"{answer.ground} Where adapting is worth it, the best settings of the {len(names)} best recipes that "
        f"adapt ({', '.join(names)}) and source only ({plain}) vote on each image and its neighbours: without target "
        f"labels it is hard to tell which of them is best, and their mean is safer than any one.",
    )
