"""`Forecaster`: a recurrent network for a series, with `fit` and `predict` in the manner of scikit-learn."""

from __future__ import annotations

import inspect
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradscope.batches import Normal
from gradscope.errors import GradscopeError, InputError, unknown
from gradscope.forecasting import answers, free_running
from gradscope.history import History
from gradscope.learning import train
from gradscope.scaled import Floats

SEEN = 4  # windows of the past that it reads before it forecasts


class Forecaster:
    """A recurrent network that forecasts a series.

    Parameters
    ----------
    cell, hidden_size, activation, seq_len, batch_size, batching, truncation, clip, optimizer, learning_rate, steps,
    patience, seed : as in `gs.train`; the activation is an elman cell's, and tanh if it is not given.
    settings : other keys of a training, as {"spectral_radius": 0.9}.

    Attributes
    ----------
    history_ : the `gs.History` of the training: gradients while it learnt, scores beside naive predictions.
    params_ : name -> array.

    The first 80 % of the series are learnt from, the parameters are those that do best on the next 10 %, and the last
    10 % are for the scores. A forecast goes on from the end of all of it.

    Examples
    --------
    >>> import gradscope as gs
    >>> wave = 20 + 3 * np.sin(2 * np.pi * np.arange(500) / 25)
    >>> model = gs.Forecaster(hidden_size=24, steps=500, seed=0).fit(wave)
    >>> coming = 20 + 3 * np.sin(2 * np.pi * np.arange(500, 525) / 25)
    >>> bool(np.abs(model.predict(25) - coming).max() < 0.5)
    True
    """

    def __init__(
        self,
        *,
        cell: str = "elman",
        hidden_size: int = 64,
        activation: str | None = None,
        seq_len: int = 50,
        batch_size: int = 32,
        batching: str = "random",
        truncation: str = "full",
        clip: str = "norm:1",
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        steps: int = 2000,
        patience: int = 0,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
    ):
        self.cell, self.hidden_size, self.activation = cell, hidden_size, activation
        self.seq_len, self.batch_size, self.batching = seq_len, batch_size, batching
        self.truncation, self.clip, self.optimizer = truncation, clip, optimizer
        self.learning_rate, self.steps, self.patience = learning_rate, steps, patience
        self.seed, self.settings = seed, settings

    def fit(self, y: ArrayLike, X: None = None) -> Forecaster:
        """Learn a series (N,), or (N, 1). Returns itself.

        Raises InputError for values that are not finite numbers, constant, or too few, for an `X`, which it does not
        take, and for settings that cannot be; GradscopeError if the training diverges: `history_` is there then.
        """
        if X is not None:
            raise InputError("given, but it learns from the series alone", where="X", hint="fit(y)")
        values = _series(y, "y")
        if values.min() == values.max():
            raise InputError(f"all {len(values)} values are equal", where="y", hint="nothing to learn")
        keys = {name: value for name, value in self.get_params().items() if name != "settings"}
        with TemporaryDirectory() as folder:
            file = Path(folder) / "y.npy"
            np.save(file, values)
            self.history_: History = train("series", file=str(file), **{**keys, **(self.settings or {})})
        if self.history_.status.startswith("diverged"):
            raise GradscopeError(f"the training {self.history_.status}: lower learning_rate, or clip")
        self.params_ = self.history_.params
        self._normal = Normal(**self.history_.manifest["units"])
        self._past = values
        return self

    def predict(self, horizon: int = 1, y: ArrayLike | None = None) -> Floats:
        """The next `horizon` values, (H,), after the series that was learnt, or another past `y`; free running."""
        self._refuse_unfitted()
        if not isinstance(horizon, int | np.integer) or horizon < 1:
            raise InputError(f"{horizon!r}", where="horizon", allowed="a whole number >= 1")
        past = self._past if y is None else _series(y, "y")
        window = self._normal.apply(past[-SEEN * self.seq_len :])
        return self._normal.undone(free_running(self.history_.cell, self.params_, window[:, None], int(horizon))[:, 0])

    def predict_one_step(self, y: ArrayLike) -> Floats:
        """For each value of a series (N,) but the first, what is predicted from those before it, (N-1,)."""
        self._refuse_unfitted()
        window = self._normal.apply(_series(y, "y"))
        predicted, _ = answers(self.history_.cell, self.params_, window[:-1, None, None])
        return self._normal.undone(predicted[:, 0, 0])

    def score(self, y: ArrayLike, X: None = None) -> float:  # noqa: ARG002
        """The coefficient of determination R^2 of one-step predictions of a series."""
        truth = _series(y, "y")[1:]
        error = truth - self.predict_one_step(y)
        return float(1.0 - (error @ error) / ((truth - truth.mean()) @ (truth - truth.mean())))

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The parameters with which it was made."""
        return {name: getattr(self, name) for name in list(inspect.signature(type(self)).parameters)}

    def set_params(self, **params: Any) -> Forecaster:
        """Change some of them; returns itself. Raises InputError for a name that is none."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise unknown("parameter", name, known, where="set_params")
            setattr(self, name, value)
        return self

    def _refuse_unfitted(self) -> None:
        if not hasattr(self, "history_"):
            raise InputError("has not learnt yet", where="Forecaster", hint="call fit first")


def _series(values: ArrayLike, where: str) -> Floats:
    array = np.asarray(values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise InputError(f"{array.dtype} {array.shape}", where=where, allowed="a vector of numbers")
    if not np.isfinite(array).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(array))} value(s) not finite", where=where)
    if len(array) < 2:
        raise InputError(f"{len(array)} value(s)", where=where, allowed="at least two")
    return array.astype(np.float64)
