"""What networks learn: to remember, where theory says which truncation does better; to run freely."""

import numpy as np
import pytest

import gradscope as gs
from gradscope.curves import learnt
from gradscope.grid import resolve

TASK = {"measure": "training", "task": "recall", "seq_len": 16, "hidden_size": 24, "batch_size": 16, "seeds": 4}
HOW = {"steps": 600, "record_every": 100, "learning_rate": 3e-3}
NEAR, FAR = 2, 8  # delays within and beyond the five steps of the truncations


@pytest.fixture(scope="module")
def losses():
    """(delay, truncation) -> the test losses of four seeds; chance is 1."""
    found = {}
    for delay in (NEAR, FAR):
        for truncation in ("full", "fixed:5", "random:5"):
            sweep = resolve("memory", TASK | HOW | {"delay": delay, "truncation": truncation})
            columns, _ = learnt(sweep.blocks[0].runs)
            found[delay, truncation] = np.array(columns["test_loss"])
    return found


def test_full_bptt_learns_to_remember(losses):
    assert losses[NEAR, "full"].max() < 0.02
    assert losses[FAR, "full"].max() < 0.1


def test_random_truncation_beats_sliding_windows_beyond_their_reach(losses):
    # The loss at a step has no gradient to what was shown 8 steps before; with random:5, a mean of 5 steps too, it has.
    assert (2.0 * losses[FAR, "random:5"] < losses[FAR, "fixed:5"]).all()
    assert losses[FAR, "fixed:5"].min() > 0.2


def test_random_truncation_loses_within_their_reach_by_its_variance(losses):
    # Windows of 5 steps hold all that there is to learn: their gradient is all but exact, random:5's has noise besides.
    assert losses[NEAR, "random:5"].mean() > 1.1 * losses[NEAR, "fixed:5"].mean()
    np.testing.assert_allclose(losses[NEAR, "fixed:5"], losses[NEAR, "full"], rtol=0.25)
    assert (losses[FAR, "random:5"] > losses[FAR, "full"]).all()


def test_adding_is_solved_by_full_bptt_and_stays_at_chance_where_no_gradient_reaches():
    # The network of the shipped experiment; the last 10 of its 50 steps have no mark, so that none is within fixed:10.
    keys = {"activation": "relu", "ensemble": "identity", "input_scale": 0.05, "hidden_size": 64, "delay": 10}
    how = {"seq_len": 50, "batch_size": 32, "steps": 2500, "record_every": 250, "seed": 0}
    loss = {
        spec: gs.train("adding", truncation=spec, **keys, **how).runs["test_loss"].item()
        for spec in ("full", "fixed:10")
    }
    assert loss["full"] < 0.01
    assert loss["fixed:10"] > 0.5 / 6


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_a_sine_is_continued_for_five_periods(seed):
    errors = gs.train("sine", seed=seed).horizons.query("predictor == 'network'")["rmse"]
    assert len(errors) == 5 * 20
    assert np.sqrt((errors**2).mean()) < 0.05 * np.sqrt(2.0)  # of the amplitude
