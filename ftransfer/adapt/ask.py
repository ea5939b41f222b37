"""Ask a fitted estimator about rows; a support vector machine answers by matrix products.

libsvm computes the kernel of each row with each support vector one by one. A matrix product takes a fraction of the
time, and gives the same values up to rounding.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

BLOCK = 8192  # rows that are mapped and predicted at once
BLOCK_BYTES = 2**26  # of kernel values, or of values of pairs of classes, that are held at once
ERROR = 1e-11  # of an exponent, from which on libsvm is asked: it subtracts rows, not their squared lengths


def ask(estimator: Any, method: str, X: Any, **params: Any) -> Any:
    """Call a method of a fitted estimator with rows, such as ``predict`` or ``decision_function``.

    An `SVC` with the kernel "rbf" or "linear", or a pipeline of scikit-learn that ends in one, answers these two by
    matrix products. Any other estimator, a subclass included, answers for itself.

    Parameters
    ----------
    estimator : fitted estimator
    method : str
    X : array of shape (n_samples, n_features)
    **params
        Passed to the method, if there are any.

    Returns
    -------
    What the method returns.
    """
    if params or not _ends_in_svm(estimator):
        return getattr(estimator, method)(X, **params)
    if type(estimator) is Pipeline:
        check_is_fitted(estimator)
        for _, step in estimator.steps[:-1]:
            X = X if step in (None, "passthrough") else step.transform(X)
        return ask(estimator.steps[-1][1], method, X)
    return (
        _answer(estimator, method, X) if _by_products(estimator, method, X) else getattr(estimator, method)(X)
    )


def ask_in_blocks(estimator: Any, method: str, X: Any, **params: Any) -> np.ndarray:
    """As `ask`, some rows at a time: what is said of a row depends on no other, and mapped rows take memory.

    A table goes as a whole, and so does what comes with further parameters.
    """
    if params or not hasattr(X, "__array__") or not hasattr(X, "dtype") or len(X.shape) != 2:
        return np.asarray(ask(estimator, method, X, **params))
    starts = range(0, max(len(X), 1), BLOCK)
    found = [ask(estimator, method, np.asarray(X[start : start + BLOCK])) for start in starts]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _ends_in_svm(estimator: Any) -> bool:
    """Whether it is an `SVC`, or a pipeline that ends in one."""
    while type(estimator) is Pipeline:
        estimator = estimator.steps[-1][1]
    # scikit-learn's module of SVMs takes long to import, and is there if this is one
    return type(estimator) is getattr(sys.modules.get("sklearn.svm"), "SVC", None)


def _by_products(machine: Any, method: str, X: Any) -> bool:
    """Whether an answer is computed here: for dense rows, and one value a class."""
    return (
        method in ("predict", "decision_function")
        and machine.kernel in ("rbf", "linear")
        and (machine.decision_function_shape == "ovr" or method == "predict")
        and not issparse(X)
        and isinstance(getattr(machine, "dual_coef_", None), np.ndarray)
        and hasattr(machine, "_gamma")
    )


def _answer(machine: Any, method: str, X: Any) -> np.ndarray:
    rows = validate_data(machine, X, dtype=np.float64, order="C", reset=False)
    confident = method == "decision_function" or (machine.break_ties and len(machine.classes_) > 2)
    parts = []
    for kernel in _kernels(machine, rows):
        if kernel is None:
            return np.asarray(getattr(machine, method)(X))
        parts.append(_decide(machine, kernel, confident))
    found = np.concatenate(parts)
    if method == "decision_function":
        return found
    return np.asarray(machine.classes_[found.argmax(axis=1) if found.ndim == 2 else (found >= 0).astype(int)])


def _kernels(machine: Any, rows: np.ndarray) -> Iterator[np.ndarray | None]:
    """Yield the kernel of rows with the support vectors, by blocks of rows; None where rounding would be felt."""
    vectors = machine.support_vectors_
    n = len(machine.classes_)  # each class says something of each row in its pair with each other one
    size = max(1, BLOCK_BYTES // (8 * max(len(vectors), n * (n - 1))))
    blocks = (rows[start : start + size] for start in range(0, len(rows), size))
    if machine.kernel == "linear":
        yield from (block @ vectors.T for block in blocks)
        return
    gamma, centre = machine._gamma, vectors.mean(axis=0)
    vectors = vectors - centre  # the shorter they are, the less is lost in the difference of squared lengths
    own = gamma * np.einsum("ij,ij->i", vectors, vectors)
    for block in blocks:
        centred = block - centre
        length = gamma * np.einsum("ij,ij->i", centred, centred)
        if np.finfo(np.float64).eps * min(own.max(), length.max()) > ERROR:
            yield None
            return
        exponent = centred @ (2 * gamma * vectors.T)
        exponent -= length[:, None]
        exponent -= own
        yield np.exp(np.minimum(exponent, 0, out=exponent), out=exponent)


def _decide(machine: Any, kernel: np.ndarray, confident: bool) -> np.ndarray:
    """Let each pair of classes decide; return the votes of each class, with `confident` as `SVC` breaks their ties.

    Of two classes, the value of the pair: array of shape (n_samples,).
    """
    coefficients, constants = machine.dual_coef_, machine.intercept_
    n, ends = len(machine.classes_), np.cumsum(machine.n_support_)
    if n == 2:
        return np.asarray(kernel @ coefficients[0] + constants[0])
    # what the support vectors of class i say in its pair with class j: row j - 1 if j > i, else j
    said = np.empty((n, n - 1, len(kernel)))
    for i, (a, b) in enumerate(zip([0, *ends], ends, strict=False)):
        np.matmul(coefficients[:, a:b], kernel[:, a:b].T, out=said[i])
    votes, sums = np.zeros((2, n, len(kernel)))
    first = 0
    for i in range(n - 1):
        values = said[i, i:] + said[i + 1 :, i]
        values += constants[first : first + n - 1 - i, None]
        first += n - 1 - i
        won = values >= 0 if confident else values > 0
        votes[i] += won.sum(axis=0)
        votes[i + 1 :] += ~won
        if confident:
            sums[i] += values.sum(axis=0)
            sums[i + 1 :] -= values
    return (votes + sums / (3 * (np.abs(sums) + 1))).T if confident else votes.T
