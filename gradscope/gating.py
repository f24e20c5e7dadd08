"""Gates of a sweep's cells: the bias of the gate that keeps, the part of the state it keeps, and what that leaves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradscope.theory import chrono_memory, gate_factor

BIASES = {"lstm": "forget_bias", "gru": "update_bias"}  # of the gate that keeps, by cell
KEPT = {"lstm": "c", "gru": "h"}  # the part of the state
CHRONO = "chrono"  # the option by which these biases are drawn


def biases(runs: pd.DataFrame) -> pd.Series:
    """For each run the bias of the gate that keeps; nan for cells without one, and where `chrono` draws it."""
    found = pd.Series(np.nan, runs.index)
    for cell, name in BIASES.items():
        if name in runs:
            these = (runs["cell"] == cell) & (runs[CHRONO] == 0)
            found[these] = runs.loc[these, name].astype(float)
    return found


def factors(runs: pd.DataFrame) -> pd.Series:
    """For each run what a step leaves of the gradient along that part at small weights, sigmoid(bias); no stacks."""
    alone = runs["num_layers"] == 1 if "num_layers" in runs else True
    return biases(runs).where(alone).map(gate_factor, na_action="ignore").astype(float)


def memories(runs: pd.DataFrame) -> pd.Series:
    """For each run the memory 1 / (1 - factor), in steps, at small weights; of chrono initialisation in the mean."""
    found = 1.0 / (1.0 - factors(runs))
    if CHRONO not in runs:
        return found
    drawn = runs[CHRONO].where(runs[CHRONO] > 0).map(chrono_memory, na_action="ignore").astype(float)
    return found.fillna(drawn)
