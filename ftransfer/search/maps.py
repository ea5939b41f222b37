"""What transformers make of the rows of a judge, fitted once for all candidates that have them in common.

Each method and setting is followed by several classifiers, and each of these has several settings. A pipeline asks here
as it asks a `joblib.Memory`: by the step with its parameters, and by the array that comes into it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import joblib
import numpy as np

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.judge import PipelineJudge

MOST_BYTES = 256 * 2**20  # of mapped rows that are kept


@contextmanager
def shared_maps(pipeline: AdaptationPipeline, judge: PipelineJudge) -> Iterator[None]:
    """Let a pipeline that is fitted on the rows of a judge take over what another one's transformers made of them.

    A pipeline with a `memory` of its own, or one that may write into the rows that it is given, does without.
    """
    writes = any(
        name.rpartition("__")[2].startswith("copy") and not on for name, on in pipeline.get_params().items()
    )
    if pipeline.memory is not None or writes:
        yield
        return
    pipeline.memory = _Memory(judge)
    try:
        yield
    finally:
        pipeline.memory = None


@dataclass(eq=False)
class _Entry:
    rows: np.ndarray  # that came in: kept, so that no other array has their place in memory
    lock: Lock = field(default_factory=Lock)
    made: tuple[Any, Any] | None = None  # the mapped rows and the fitted step
    used: int = 0

    @property
    def nbytes(self) -> int:
        return 0 if self.made is None else getattr(self.made[0], "nbytes", 0)


@dataclass(frozen=True)
class _Memory:
    """As a pipeline asks a `joblib.Memory`; y and the domains are those of the judge."""

    judge: PipelineJudge

    def cache(self, fit_transform: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
        return partial(self._take, fit_transform)

    def _take(
        self,
        fit_transform: Callable[..., tuple[Any, Any]],
        step: Any,
        X: Any,
        y: Any,
        params: dict,
        domain: Any,
    ) -> tuple[Any, Any]:
        if params.keys() - {"sample_domain"}:
            return fit_transform(step, X, y, params, domain)
        key = joblib.hash(step), id(X)
        with _lock:
            entry = _kept.setdefault(self.judge, {}).setdefault(key, _Entry(X))
            entry.used = next(_turn)
        with entry.lock:  # whoever needs the same meanwhile waits for it
            if entry.made is None:
                entry.made = fit_transform(step, X, y, params, domain)
            made = entry.made
        _limit()
        return made


_lock, _turn = Lock(), count()
_kept: WeakKeyDictionary[PipelineJudge, dict[tuple[str | None, int], _Entry]] = WeakKeyDictionary()


def _limit() -> None:
    """Let go of what was not used for the longest time."""
    with _lock:
        entries = sorted(
            ((entry.used, key, of) for of in _kept.values() for key, entry in of.items()),
            key=lambda each: each[0],
        )
        total = sum(of[key].nbytes for _, key, of in entries)
        for _, key, of in entries:
            if total <= MOST_BYTES:
                break
            total -= of.pop(key).nbytes


def _forget() -> None:
    """Begin anew in a forked process: a lock that another thread held would stay locked there."""
    global _lock
    _lock = Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
