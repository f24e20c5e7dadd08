"""A trained network held against what it has not seen, beside naive predictions: scores, forecasts, texts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradscope.baselines import forecasts, horizon_errors
from gradscope.batches import Normal, split
from gradscope.feeding import Recording
from gradscope.forecasting import answers, around, free_running, origins, written
from gradscope.recurrence import Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.training import Training

NETWORK = "network"
PERIODS = 5  # of a series that has a period, that forecasts reach
FAR = 50  # steps that they reach, where it has none
SHOWN = 400  # values of the test part that are shown
WARM = 4  # windows that a network sees before it runs freely, at least
WRITTEN = 300  # characters of a text


def scores(training: Training, test_loss: float) -> pd.DataFrame:
    """Test losses, the least first: `predictor`, `loss`, and whether it is `naive`."""
    rows = [(NETWORK, test_loss, False)]
    rows += [(name, loss, True) for name, loss in training.feed.naive(training.seeds[0]).items()]
    table = pd.DataFrame(rows, columns=["predictor", "loss", "naive"])
    return table.sort_values("loss", ignore_index=True)


def forecast(training: Training, params: Parameters) -> pd.DataFrame:
    """The test part of a series, in the units of the data: `t`, `truth`, `one_step`, `free_running`.

    `free_running` begins where forecasts of `reach` steps can first be made, and is missing elsewhere. Empty for what
    is no series.
    """
    series = _series(training)
    if series is None:
        return pd.DataFrame(columns=["t", "truth", "one_step", "free_running"])
    test = split(len(series.values)).test
    before, horizon = _before(series), reach(series)
    shown = min(SHOWN, test.stop - test.start)
    window = series.values[test.start - before : test.start + shown]  # noqa: PD011 - no frame
    one_step, _ = answers(training.cell, params, window[:-1, None, None])
    free = np.full(shown, np.nan)
    length = min(horizon, shown)
    free[:length] = free_running(training.cell, params, window[:before, None], length)[:, 0]
    columns = {"truth": window[before:], "one_step": one_step[before - 1 :, 0, 0], "free_running": free}
    frame = pd.DataFrame({name: _normal(series).undone(values) for name, values in columns.items()})
    return frame.assign(t=np.arange(test.start, test.start + shown))[["t", *columns]]


def horizons(training: Training, params: Parameters) -> pd.DataFrame:
    """Errors of free-running forecasts: `predictor`, `horizon`, `rmse` over origins in the units of the data.

    Of the network and of naive forecasts, from the same `origins`, all in the test part; `period` of the series, in
    steps, missing if it has none. Empty for what is no series.
    """
    series = _series(training)
    columns = ["predictor", "naive", "horizon", "rmse", "origins", "period"]
    if series is None:
        return pd.DataFrame(columns=columns)
    horizon, test = reach(series), split(len(series.values)).test
    naive, period = forecasts(series.part("train")), _period(series)
    before = max(_before(series), *(one.needs for one in naive.values()))
    starts = origins(test.start, len(series.values), horizon)
    history, truth = around(series.values, starts, before, horizon)
    predicted = {NETWORK: free_running(training.cell, params, history[-_before(series) :], horizon)}
    predicted |= {name: one(history, horizon) for name, one in naive.items()}
    parts = [
        pd.DataFrame(
            {
                "predictor": name,
                "naive": name != NETWORK,
                "horizon": np.arange(1, horizon + 1),
                "rmse": _errors(values, truth) * _normal(series).scale,
                "origins": len(starts),
                "period": np.nan if period is None else period,
            }
        )
        for name, values in predicted.items()
    ]
    return pd.concat(parts, ignore_index=True)


def units(training: Training) -> Normal | None:
    """Mean and scale, in the units of the data, of the series that a network learns from; None for what is none."""
    series = _series(training)
    return None if series is None else series.normal


def reach(series: Recording) -> int:
    """How far forecasts go: some periods of a series that has one, at most half of the test part."""
    test = split(len(series.values)).test
    period = _period(series)
    wanted = FAR if period is None else round(PERIODS * period)
    return int(max(1, min(wanted, (test.stop - test.start) // 2)))


def sample(training: Training, params: Parameters, step: int) -> str | None:
    """A text that a network writes, from the first characters of the test part on; None for what is no text."""
    recording, seed = training.feed.recording(training.seeds[0]), training.seeds[0]
    if recording is None or recording.normal is not None:
        return None
    prompt = recording.part("test")[: training.like["seq_len"]]
    codes = written(training.cell, params, prompt, WRITTEN, stream(seed, f"text at step {step}"))
    vocabulary = training.feed.task.record()["vocabulary"]
    return "".join(vocabulary[code] for code in codes)


def _series(training: Training) -> Recording | None:
    """The sequence that is learnt from, if it holds numbers."""
    recording = training.feed.recording(training.seeds[0])
    return recording if recording is not None and recording.normal is not None else None


def _period(series: Recording) -> float | None:
    """In steps, of the training part; None if it has none."""
    seasonal = forecasts(series.part("train")).get("seasonal")
    return seasonal.period if seasonal else None


def _before(series: Recording) -> int:
    return min(WARM * series.seq_len, split(len(series.values)).test.start)


def _errors(predicted: Floats, truth: Floats) -> Floats:
    """RMS at each horizon; nan where a forecast left the range of numbers."""
    finite = np.asarray(np.isfinite(predicted).all(axis=1))
    with np.errstate(over="ignore"):
        found = horizon_errors(np.where(finite[:, None], predicted, 0.0), truth)
    return np.where(finite, found, np.nan)


def _normal(series: Recording) -> Normal:
    """How a series of numbers was normalised."""
    assert series.normal is not None
    return series.normal
