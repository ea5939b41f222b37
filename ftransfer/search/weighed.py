"""What the guard weighed: each step from no adaptation to the strongest, compared with what was chosen before it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class WeighedStep:
    """The best candidate of one step of the guard, compared with the candidate that was chosen before it.

    Attributes
    ----------
    step, pipeline, adaptation : str
        The step, one of `ftransfer.search.steps.STEPS`; the recipe; its method.
    score : float
    against : str or None
        The recipe that it is compared with; None for the first step.
    gain, error : float or None
        Difference of the scores and its standard error; None where the score does not decide.
    labelled : int
        Target rows with a label that the guard was given.
    accuracy_gain, low, high : float or None
        Difference of the accuracies on these rows, from -1 to 1, and its 90 % interval.
    taken : bool
        Whether the step is worth it.
    """

    step: str
    pipeline: str
    adaptation: str
    score: float
    against: str | None = None
    gain: float | None = None
    error: float | None = None
    labelled: int = 0
    accuracy_gain: float | None = None
    low: float | None = None
    high: float | None = None
    taken: bool = True

    @property
    def compared(self) -> str:
        """The comparison in words; empty for the first step."""
        parts = []
        if self.gain is not None:
            parts.append(f"{self.gain:+.3f} ± {self.error:.3f}")
        if self.accuracy_gain is not None:
            low, high = 100 * (self.low or 0.0), 100 * (self.high or 0.0)
            parts.append(
                f"{100 * self.accuracy_gain:+.1f} points of accuracy on {self.labelled} labelled target images "
                f"({low:+.1f} to {high:+.1f})"
            )
        return " and ".join(parts)

    def __str__(self) -> str:
        told = f"{self.adaptation} ({self.pipeline}) {self.score:.3f}"
        if self.against is None:
            return told
        return f"{told}, {self.compared} against {self.against}: {'taken' if self.taken else 'not taken'}"


def describe_steps(ground: str, steps: Sequence[WeighedStep]) -> str:
    """Write the reason of an answer as one text: what the choice is made by, then each step."""
    return f"{ground} {'; '.join(map(str, steps))}." if steps else ground
