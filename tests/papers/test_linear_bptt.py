"""The closed form of `linear-bptt` against a recursion forward in time, and its differences against the slope."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from oracles import rtrl
from problems import Problem

from gradscope.papers import linear_bptt as paper


@pytest.mark.parametrize(("loss_steps", "T"), [("all", 1), ("all", 7), ("last", 7)])
def test_sums_over_powers_are_what_forward_mode_gives(loss_steps, T):
    problem = paper._Problem.drawn(4, T, 1.2, seed=3)
    data = Problem(problem.params, problem.x[:, None], problem.y[:, None], "linear", "mse", np.zeros((1, 4)))
    truth = data.ask(rtrl, loss_steps, "mean")
    dh, gradients = problem.closed_form(loss_steps)
    np.testing.assert_allclose(dh, truth.dh[:, 0], rtol=1e-12, atol=1e-14)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, truth.params[name], rtol=1e-12, atol=1e-14, err_msg=name)


def test_a_difference_is_about_the_slope_in_its_direction():
    problem = paper._Problem.drawn(4, 6, 0.9, seed=0)
    _, gradient = problem.closed_form()
    for name, part in gradient.items():
        direction = {name: part / np.linalg.norm(part)}
        assert paper._difference(problem, direction, 1e-5) == pytest.approx(np.linalg.norm(part), rel=1e-8)


def test_the_summary_finds_the_powers_and_the_best_step():
    step = paper.STEPS
    found = paper._summary(pd.Series(3.0 * step**2 + 1e-16 / step, index=step))
    assert found["power_above"] == pytest.approx(2.0, abs=1e-3)
    assert found["power_below"] == pytest.approx(-1.0, abs=1e-3)
    assert found["log10_step"] == pytest.approx(-5.5)  # where 6 step^3 = 1e-16 it is least
    assert found["at_1e-5"] == pytest.approx(3.1e-10)
    assert found["log10_at_1e-9"] == pytest.approx(-7.0)
    assert found["loss_at_1e-9"] == pytest.approx(1e-7 / found["least"])
