"""`AdaptationPipeline` and `make_pipeline`."""

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline, _name_estimators
from sklearn.utils import Bunch, Tags, check_scalar
from sklearn.utils.metadata_routing import _routing_enabled, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, check_memory, has_fit_parameter

from ftransfer.adapt.ask import ask, ask_in_blocks
from ftransfer.adapt.base import RULE, check_labels, is_unlabelled
from ftransfer.adapt.containers import (
    change_parts,
    holds_adapter,
    known_domain,
    readers_in,
    reads_unlabelled,
    refuse_hidden,
    refuse_surroundings,
    told,
)
from ftransfer.adapt.rows import repeat_rows, rows_for
from ftransfer.errors import FtransferError, warn_user


def _final_estimator_has(name: str) -> Callable[["AdaptationPipeline"], bool]:
    """Whether the last step has a method; once fitted, its fitted copy is asked, which may have more of them."""
    return lambda self: hasattr(getattr(self, "steps_", self.steps)[-1][1], name)


class AdaptationPipeline(Pipeline):
    """A scikit-learn pipeline whose unlabelled rows are the target domain.

    ``fit(X, y)`` takes source rows with their labels and target rows with ``y == -1`` (NaN in a
    regression), in any order. Transformers see every row; a supervised transformer and the last step
    are fitted on the labelled rows only, unless they read the unlabelled ones themselves (estimators
    with ``sample_domain`` in their ``fit``, and those of ``sklearn.semi_supervised``). ``predict`` and
    the like take every row for a target row; source rows go through `predict_source`. In a step that is a
    pipeline, union or column transformer of scikit-learn, adapters are told the domain of each row as if they
    were steps.

    Parameters
    ----------
    steps : list of (name, estimator)
        Left as they are: clones of them are fitted.
    memory : str or joblib.Memory, optional
        Where fitted transformers are cached.
    verbose : bool, default=False
    target_weight : int, default=1
        How many rows each labelled target row counts as for the last step; `sample_domain` says which these are.

    Attributes
    ----------
    steps_ : list of (name, estimator)
        The fitted steps; `named_steps` and indexing give these once they are there.

    See Also
    --------
    make_pipeline : Name the steps by themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ftransfer import AdaptationPipeline, DomainScaler
    >>> X = np.array([[1.0], [2.0], [8.0], [9.0], [101.0], [102.0], [108.0], [109.0]])
    >>> y = np.array([0, 0, 1, 1, -1, -1, -1, -1])
    >>> pipeline = AdaptationPipeline([("scale", DomainScaler()), ("classify", LogisticRegression())])
    >>> pipeline.fit(X, y).predict(X[4:])
    array([0, 0, 1, 1])
    """

    transform_input = None  # of scikit-learn's Pipeline, for validation sets; there is no use for it here

    target_weight = 1  # of pipelines out of files that are older than it

    def __init__(
        self,
        steps: list[tuple[str, Any]],
        *,
        memory: Any = None,
        verbose: bool = False,
        target_weight: int = 1,
    ) -> None:
        self.steps = steps
        self.memory = memory
        self.verbose = verbose
        self.target_weight = target_weight

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Fit all steps.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels of the source rows, -1 (or NaN) on target rows.
        sample_domain : array of shape (n_samples,), int, optional
            Positive for a source, negative for a target; passed to the steps that take it.
        **params
            ``step__parameter`` for a step's ``fit``; an array with one entry a row goes along with them.

        Returns
        -------
        self
        """
        steps, X, y, last_params = self._fit_transformers(X, y, sample_domain, params)
        name, last = steps.pop()
        if last is not None and last != "passthrough":
            X, y, last_params, domain = self._weigh(X, y, last_params, sample_domain)
            X, y, last_params = rows_for(last, X, y, last_params)
            with told(last, domain):
                last = last.fit(X, y, **last_params)
        self.steps_ = [*steps, (name, last)]
        return self

    @available_if(_final_estimator_has("transform"))
    def fit_transform(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Fit all steps, and map each row by its own domain."""
        steps, X, y, last_params = self._fit_transformers(X, y, sample_domain, params)
        name, last = steps.pop()
        if last is not None and last != "passthrough":
            X, last = _fit_transform(last, X, y, last_params, sample_domain)
        self.steps_ = [*steps, (name, last)]
        return X

    @available_if(_final_estimator_has("predict"))
    def fit_predict(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        **params: Any,
    ) -> np.ndarray:
        """Fit all steps, then predict every row, each mapped by its own domain."""
        self.fit(X, y, sample_domain=sample_domain, **params)
        domain = np.where(is_unlabelled(check_labels(y)), -1, 1) if sample_domain is None else sample_domain
        return self.predict_source(X, sample_domain=domain)

    def transform_source(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Any:
        """Map rows of the source, such as held-out ones, through all steps but a last one that predicts."""
        check_is_fitted(self)
        maps = hasattr(last := self.steps_[-1][1], "transform") and not hasattr(last, "predict")
        for _, step in self.steps_ if maps else self.steps_[:-1]:
            if hasattr(step, "transform_source"):
                X = step.transform_source(X, sample_domain=sample_domain)
            elif holds_adapter(step):
                with known_domain(sample_domain, of_source=True):
                    X = step.transform(X)
            elif step is not None and step != "passthrough":
                X = step.transform(X)
        return X

    def predict_source(
        self, X: ArrayLike, *, sample_domain: ArrayLike | None = None, method: str = "predict"
    ) -> np.ndarray:
        """Predict rows of the source, such as held-out ones: each is mapped by its own domain's map.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        sample_domain : array of shape (n_samples,), int, optional
            The source of each row, where there are several; a negative number is a target row.
        method : {"predict", "predict_proba", "decision_function"}, default="predict"

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_classes)
        """
        X = self.transform_source(X, sample_domain=sample_domain)
        last = self.steps_[-1][1]
        if hasattr(last, "predict_source"):
            return last.predict_source(X, sample_domain=sample_domain, method=method)
        return ask(last, method, X)

    def _fit_transformers(
        self, X: Any, y: Any, sample_domain: ArrayLike | None, params: dict[str, Any]
    ) -> tuple[list[tuple[str, Any]], Any, Any, dict[str, Any]]:
        """Fit all but the last step; return all, the mapped rows, y, and the last step's parameters."""
        self._validate_steps()
        refuse_surroundings()
        steps = [(name, _adopt(step)) for name, step in self.steps]
        if y is not None:
            y = check_labels(y)
            if not is_unlabelled(y).any() and self.readers:
                warn_user(f"no target rows: {RULE}")
        step_params = self._params_by_step(steps, sample_domain, params)
        fit_transform = check_memory(self.memory).cache(_fit_transform)
        fitted = []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no target rows")  # said once, above
            for name, step in steps[:-1]:
                if step is not None and step != "passthrough":
                    X, step = fit_transform(step, X, y, step_params[name], sample_domain)
                fitted.append((name, step))
        return [*fitted, steps[-1]], X, y, step_params[steps[-1][0]]

    def _weigh(self, X: Any, y: Any, params: dict[str, Any], sample_domain: ArrayLike | None) -> tuple:
        """Repeat the labelled target rows by their weight."""
        check_scalar(self.target_weight, "target_weight", Integral, min_val=1)
        if self.target_weight == 1 or sample_domain is None or y is None:
            return X, y, params, sample_domain
        domain = np.asarray(sample_domain)
        counts = np.where((domain < 0) & ~is_unlabelled(y), self.target_weight, 1)
        return *repeat_rows(X, y, params, counts), domain.repeat(counts)

    def _params_by_step(
        self, steps: list[tuple[str, Any]], sample_domain: ArrayLike | None, params: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        names = [name for name, _ in steps]
        if _routing_enabled():
            routed = process_routing(self, "fit", **params)
            by_step = {n: {**routed[n].get("fit", {}), **routed[n].get("fit_transform", {})} for n in names}
        else:
            by_step = {name: {} for name in names}
            for key, value in params.items():
                name, _, parameter = key.partition("__")
                if name not in by_step or not parameter:
                    raise FtransferError(
                        f"fit takes step__parameter, with the steps {', '.join(names)}; given {key}"
                    )
                by_step[name][parameter] = value
        if sample_domain is not None:
            for name, step in steps:
                if has_fit_parameter(step, "sample_domain"):
                    by_step[name]["sample_domain"] = sample_domain
        return by_step

    # ------------------------------------------------------------ after fitting, the fitted steps answer

    @property
    def _fitted(self) -> Pipeline:
        check_is_fitted(self)
        return Pipeline(self.steps_)

    @available_if(_final_estimator_has("predict"))
    def predict(self, X: ArrayLike, **params: Any) -> np.ndarray:
        """Predict rows of the target."""
        return ask_in_blocks(self._fitted, "predict", X, **params)

    @available_if(_final_estimator_has("predict_proba"))
    def predict_proba(self, X: ArrayLike, **params: Any) -> np.ndarray:
        """Predict the probability of each class for rows of the target."""
        return ask_in_blocks(self._fitted, "predict_proba", X, **params)

    @available_if(_final_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X: ArrayLike, **params: Any) -> np.ndarray:
        """Predict the logarithm of the probability of each class for rows of the target."""
        return ask_in_blocks(self._fitted, "predict_log_proba", X, **params)

    @available_if(_final_estimator_has("decision_function"))
    def decision_function(self, X: ArrayLike, **params: Any) -> np.ndarray:
        """Compute the last step's decision function for rows of the target."""
        return ask_in_blocks(self._fitted, "decision_function", X, **params)

    @available_if(_final_estimator_has("score"))
    def score(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> float:
        """Score rows of the target against labels that belong to them."""
        return self._fitted.score(X, y, **params)

    @available_if(_final_estimator_has("transform"))
    def transform(self, X: ArrayLike, **params: Any) -> Any:
        """Map rows of the target through all steps."""
        return self._fitted.transform(X, **params)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Name the features that come out of the last step."""
        return self._fitted.get_feature_names_out(input_features)

    def __getitem__(self, index: int | str | slice) -> Any:
        if isinstance(index, slice) and hasattr(self, "steps_"):
            part = type(self)(self.steps[index], memory=self.memory, verbose=self.verbose)
            part.steps_ = self.steps_[index]
            return part
        if isinstance(index, slice):
            return super().__getitem__(index)
        return self.named_steps[index] if isinstance(index, str) else list(self.named_steps.values())[index]

    @property
    def named_steps(self) -> Bunch:
        """The steps by name: fitted, once `fit` was called."""
        return Bunch(**dict(getattr(self, "steps_", self.steps)))

    @property
    def classes_(self) -> np.ndarray:
        """Classes of the last step."""
        return self._fitted.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features of the rows that `fit` saw."""
        return getattr(self, "steps_", self.steps)[0][1].n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features that `fit` saw, where `X` was a table."""
        return getattr(self, "steps_", self.steps)[0][1].feature_names_in_

    @property
    def readers(self) -> list[Any]:
        """What reads the target rows: steps, or parts of them; none, where all is fitted on the source only."""
        return readers_in(self)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the steps too if `deep`."""
        refuse_surroundings()  # what is fitted around it asks for these, or tags, before it starts other processes
        return super().get_params(deep)

    def __sklearn_tags__(self) -> Tags:
        refuse_surroundings()
        return super().__sklearn_tags__()

    def get_metadata_router(self) -> Any:
        """Route as `Pipeline` does; `sample_domain` is asked for by the pipeline itself."""
        router = super().get_metadata_router()
        request = self._get_metadata_request()
        request.fit.add_request(param="sample_domain", alias=True)
        return router.add_self_request(request)

    def _sk_visual_block_(self) -> Any:
        block = super()._sk_visual_block_()
        block.estimators = [
            step for _, step in getattr(self, "steps_", self.steps)
        ]  # fitted, once they are there
        return block

    def _repr_html_inner(self) -> str:
        reading = [type(step).__name__ for step in self.readers]
        said = (
            f"Read the target rows (y == -1): {', '.join(reading)}."
            if reading
            else "Fitted on the source only."
        )
        return f"{super()._repr_html_inner()}<p>{said}</p>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = super()._repr_mimebundle_(**kwargs)
        return bundle | ({"text/html": self._repr_html_inner()} if "text/html" in bundle else {})

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "steps_")


def _fit_transform(
    step: Any, X: Any, y: Any, params: dict[str, Any], sample_domain: ArrayLike | None
) -> tuple[Any, Any]:
    X_fit, y_fit, fit_params = rows_for(step, X, y, params)
    with told(step, sample_domain):
        if X_fit is X and hasattr(step, "fit_transform"):
            return step.fit_transform(X, y, **params), step
        return step.fit(X_fit, y_fit, **fit_params).transform(X), step


def _adopt(step: Any, copy: bool = True) -> Any:
    """Copy a step; pipelines of scikit-learn in it that hold an adapter become adaptation pipelines."""
    if step is None or isinstance(step, str):
        return step
    refuse_hidden(step)
    step = clone(step) if copy else step
    if isinstance(step, AdaptationPipeline) or not reads_unlabelled(step):
        return step
    if isinstance(step, Pipeline):
        steps = [(name, _adopt(each, copy=False)) for name, each in step.steps]
        return AdaptationPipeline(steps, memory=step.memory, verbose=step.verbose)
    return change_parts(step, lambda each: _adopt(each, copy=False))


def make_pipeline(*steps: Any, memory: Any = None, verbose: bool = False) -> AdaptationPipeline:
    """Make an `AdaptationPipeline` with steps named by their classes, in lower case.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> from ftransfer import CORAL, DomainScaler, make_pipeline
    >>> [name for name, _ in make_pipeline(DomainScaler(), CORAL(), SVC()).steps]
    ['domainscaler', 'coral', 'svc']
    """
    return AdaptationPipeline(_name_estimators(steps), memory=memory, verbose=verbose)
