"""Guards exactness at any magnitude: scaled vectors against exact arithmetic, and whole gradients against 60 digits."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import DIGITS, decimal_gradients, decimals, forward, log10_norm
from problems import assert_same, problem

import gradscope as gs
from gradscope import gradients
from gradscope.scaled import Scaled, scaled, zeros

EPS = Fraction(2) ** -52

mantissas = st.one_of(st.just(0.0), st.floats(0.25, 1.0), st.floats(-1.0, -0.25))
exponents = st.integers(-5000, 5000)
vectors = st.tuples(st.lists(mantissas, min_size=3, max_size=3), exponents)
wild = st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3)
unsettled = st.one_of(vectors, st.tuples(wild, exponents))  # as they are before renormalising


def make(*drawn):
    """Scaled vectors (len(drawn), n) from pairs (mantissas, exponent)."""
    return Scaled(np.array([m for m, _ in drawn], float), np.array([e for _, e in drawn], np.int64))


def exact(vectors):
    """The numbers that scaled vectors stand for, as fractions."""
    pairs = zip(vectors.mantissa.reshape(-1, vectors.mantissa.shape[-1]), vectors.exponent.ravel(), strict=True)
    return [[Fraction(float(v)) * Fraction(2) ** int(e) for v in row] for row, e in pairs]


def exact_log10_norm(numbers):
    with localcontext(DIGITS):
        return log10_norm([Decimal(v.numerator) / Decimal(v.denominator) for v in numbers])


# --- the vectors themselves ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(vectors, vectors), min_size=1, max_size=4))
def test_sum_is_exact_to_rounding_of_the_larger_vector(pairs):
    total, other = make(*[a for a, _ in pairs]), make(*[b for _, b in pairs])
    expected = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(exact(total), exact(other), strict=True)]
    sizes = [max(map(abs, a + b)) for a, b in zip(exact(total), exact(other), strict=True)]
    total.add(other)
    for row, right, size in zip(exact(total), expected, sizes, strict=True):
        assert all(abs(v - r) <= EPS * size for v, r in zip(row, right, strict=True))


@given(vectors, vectors)
def test_adding_a_zero_vector_of_any_exponent_changes_nothing(vector, nothing):
    total = make(vector)
    before = exact(total)
    total.add(make(([0.0] * 3, nothing[1])))
    assert exact(total) == before
    start = make(([0.0] * 3, nothing[1]))
    start.add(make(vector))
    assert exact(start) == before


def test_one_vector_is_added_to_all():
    total = make(([1.0, 0.0], 2000), ([0.0, 1.0], -2000))
    total.add(make(([1.0, 1.0], 2000)))
    assert exact(total) == exact(make(([2.0, 1.0], 2000), ([1.0, 1.0], 2000)))


@given(st.lists(st.tuples(wild, exponents), min_size=1, max_size=4))
def test_renormalising_keeps_the_value_and_tells_the_squared_norms(drawn):
    numbers = make(*drawn)
    before = exact(numbers)
    squares = numbers.renormalise()
    for row, old, mantissa, square in zip(exact(numbers), before, numbers.mantissa, squares, strict=True):
        size = max(map(abs, old))
        assert all(abs(v - o) <= size * Fraction(2) ** -900 for v, o in zip(row, old, strict=True))
        assert not size or 2.0**-128 <= np.linalg.norm(mantissa) <= 2.0**128
        np.testing.assert_allclose(square, mantissa @ mantissa, rtol=1e-15)


@given(wild)
def test_plain_numbers_become_scaled_and_come_back(numbers):
    size = max(map(abs, numbers))
    back = scaled(np.array([numbers])).value()[0]
    np.testing.assert_allclose(back, numbers, rtol=0, atol=size * 2.0**-900)


@given(st.lists(unsettled, min_size=1, max_size=4))
def test_log10_norm_is_exact_at_any_exponent(drawn):
    numbers = make(*drawn)
    before = numbers.mantissa.copy(), numbers.exponent.copy()
    expected = [exact_log10_norm(row) for row in exact(numbers)]
    np.testing.assert_allclose(numbers.log10_norm(), expected, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(numbers.mantissa, before[0])
    np.testing.assert_array_equal(numbers.exponent, before[1])


@given(st.lists(unsettled, min_size=1, max_size=4))
def test_log10_norm_of_all_vectors_together_is_exact(drawn):
    numbers = make(*drawn)
    expected = exact_log10_norm([v for row in exact(numbers) for v in row])
    together = Scaled(numbers.mantissa[None], numbers.exponent[None])
    np.testing.assert_allclose(gradients.log10_joint(together.squares()), [expected], rtol=1e-14, atol=1e-14)


def as_float(number):
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


@given(st.lists(unsettled, min_size=1, max_size=4))
def test_plain_value_is_right_where_float64_holds_it_and_0_or_inf_elsewhere(drawn):
    numbers = make(*drawn)
    np.testing.assert_array_equal(numbers.value(), [[as_float(v) for v in row] for row in exact(numbers)])


def test_zero_vectors_are_zero_whatever_is_done_to_them():
    nothing = zeros((2, 3))
    nothing.add(zeros((2, 3)))
    assert (nothing.renormalise() == 0).all()
    assert (nothing.log10_norm() == -np.inf).all()
    assert (nothing.value() == 0).all()


@given(vectors.filter(lambda drawn: any(drawn[0])), vectors, st.integers(-30, 30))
def test_comparison_with_full_is_right_at_any_magnitude(a, b, apart):
    b = b[0], a[1] + apart
    unit = Fraction(2) ** a[1]
    g, full = ([v / unit for v in exact(make(drawn))[0]] for drawn in (a, b))
    norm, norm_full, apart = (math.sqrt(sum(v * v for v in row)) for row in (g, full, map(Fraction.__sub__, g, full)))
    error, cosine = compared(a, b)
    if norm_full:
        dot = float(sum(v * u for v, u in zip(g, full, strict=True)))
        np.testing.assert_allclose(error, apart / norm_full, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(cosine, dot / (norm * norm_full), rtol=1e-12, atol=1e-15)
    else:
        assert not np.isfinite(error)
        assert np.isnan(cosine)


@pytest.mark.parametrize("exponent", [-3000, -600, 0, 3000])
def test_gradient_of_exactly_zero_is_off_by_all_of_full(exponent):
    error, cosine = compared(([0.0, 0.0, 0.0], 0), ([0.5, 0.0, 1.0], exponent))
    assert error == 1
    assert np.isnan(cosine)


def compared(*drawn):
    """The comparison of two gradients of one row."""
    pair = (make(vector) for vector in drawn)
    own, full = (Scaled(one.mantissa[None], one.exponent[None]) for one in pair)
    (error,), (cosine,) = gradients.compare(own.squares(), full.squares(), gradients.Contrast.of(own, full))
    return error, cosine


# --- long sequences with a known factor a step -----------------------------------------------------------------------


def linear(n=2, m=1, p=1, seed=0, radius=1.0, ensemble="orthogonal"):
    cell = gs.cell("elman", hidden_size=n, input_size=m, output_size=p, activation="linear")
    return cell, cell.init(seed=seed, spectral_radius=radius, ensemble=ensemble, input_scale=1.0)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_hundred_thousand_steps_keep_twelve_digits(factor):
    T = 100_000
    cell, params = linear(n=3, radius=factor)
    g = gs.backprop(cell, params, np.zeros((T, 1, 1)), np.ones((T, 1, 1)))
    at_loss = np.log10(2 * np.linalg.norm(params["W_hy"]))
    expected = at_loss + np.arange(T)[::-1] * np.log10(factor)
    assert g.status == "ok"
    np.testing.assert_allclose(g.log10_dh[:, 0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", ["full", "fixed:1500", "chunked:1500", "tbptt:3:1500", "random-unweighted:1e9"])
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_every_truncation_reaches_beyond_float64(spec, factor):
    T = 1500
    cell, params = linear(radius=factor, ensemble="identity")
    g = gs.backprop(cell, params, np.zeros((T, 1, 1)), np.ones((T, 1, 1)), truncation=spec, loss_steps="all")
    lags = np.arange(T)[::-1]
    at_loss = np.log10(2 * np.linalg.norm(params["W_hy"]) / T)
    largest = lags * np.log10(factor) if factor > 1 else 0.0  # of 1 + factor + ... + factor^lag
    others = np.log10((1 - 0.25 ** (lags + 1.0)) / 0.75)
    np.testing.assert_allclose(g.log10_dh[:, 0], at_loss + largest + others, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", ["fixed:1300", "tbptt:4:1300", "tbptt:7:1300"])
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_sums_over_windows_reach_beyond_float64(spec, factor):
    T, depth = 1500, 1300
    k1 = 1 if spec.startswith("fixed") else int(spec.split(":")[1])
    cell, params = linear(radius=factor, ensemble="identity")
    g = gs.backprop(cell, params, np.zeros((T, 1, 1)), np.ones((T, 1, 1)), truncation=spec, loss_steps="all")
    t = np.arange(1, T + 1)
    lags = np.minimum((t + depth - 1) // k1 * k1, T) - t  # of the last loss that reaches back to t
    at_loss = np.log10(2 * np.linalg.norm(params["W_hy"]) / T)
    largest = lags * np.log10(factor) if factor > 1 else 0.0
    others = np.log10((1 - 0.25 ** (lags + 1.0)) / 0.75)
    np.testing.assert_allclose(g.log10_dh[:, 0], at_loss + largest + others, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", ["full", "fixed:20", "chunked:30"])
@pytest.mark.parametrize("loss_steps", ["last", "all"])
@pytest.mark.parametrize("bias", [-40.0, -80.0, -150.0, -200.0, -260.0, -300.0])
def test_slopes_that_leave_the_range_within_a_few_steps_are_exact(spec, loss_steps, bias):
    # Sigmoids at -300: each step multiplies by w exp(-300), which is 1e-130, and eight of them by less than 1e-1000.
    T, w = 60, 0.7
    params = {"W_xh": np.zeros((1, 1)), "W_hh": np.full((1, 1), w), "b_h": np.full(1, bias)}
    params |= {"W_hy": np.ones((1, 1)), "b_y": np.zeros(1)}
    cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=1, activation="sigmoid")
    arguments = {"loss_steps": loss_steps, "reduction": "sum", "truncation": spec}
    g = gs.backprop(cell, params, np.zeros((T, 1, 1)), np.full((T, 1, 1), -0.5), **arguments)
    step = np.log10(w) + bias / np.log(10)
    lag = np.arange(T)[::-1] * (loss_steps == "last")  # at every step, its own loss is all that counts
    expected = np.where(np.arange(T)[::-1] < int(spec.partition(":")[2] or T), lag * step, -np.inf)
    expected = expected if loss_steps == "last" else np.zeros(T)
    np.testing.assert_allclose(g.log10_dh[:, 0], expected, rtol=1e-12, atol=1e-12)


# --- nonlinear networks against 60 digits ----------------------------------------------------------------------------


def assert_exact(params, x, y, activation, loss_steps, h0=None, rtol=1e-12, atol=1e-11, truncation="full"):
    """backprop's log10 norms are those of the 60-digit oracle."""
    p, n = np.shape(params["W_hy"])
    cell = gs.cell("elman", hidden_size=n, input_size=x.shape[-1], output_size=p, activation=activation)
    arguments = {"loss_steps": loss_steps, "reduction": "sum", "h0": h0, "truncation": truncation}
    g = gs.backprop(cell, params, x, y, **arguments)
    log10_dh, log10_params = decimal_gradients(params, x, y, activation, np.atleast_1d(loss_steps).tolist(), h0)
    assert g.status == "ok"
    np.testing.assert_allclose(g.log10_dh[:, 0], log10_dh, rtol=rtol, atol=atol)
    for name, expected in log10_params.items():
        np.testing.assert_allclose(g.log10_params[name], expected, rtol=rtol, atol=atol, err_msg=name)
    return g, log10_dh, log10_params


def silent(W_hh, readout=1.0):
    """A network of two units without biases: with zero input its states and predictions are zero."""
    params = {"W_xh": np.ones((2, 1)), "b_h": np.zeros(2), "b_y": np.zeros(1)}
    return params | {"W_hh": W_hh, "W_hy": readout * np.array([[0.6, -0.3]])}


def small_net(radius, seed=0, n=3, T=300):
    case = problem(T=T, B=1, n=n, m=2, p=2, seed=seed)
    return case.params | {"W_hh": case.params["W_hh"] * radius}, case.x, case.y, case.h0[0]


@pytest.mark.parametrize("radius", [1e-100, 1e-20, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("loss_steps", [[300], [7, 150, 300]], ids=["last", "several"])
def test_vanishing_tanh_gradients_are_exact(radius, loss_steps):
    params, x, y, h0 = small_net(radius)
    _, log10_dh, _ = assert_exact(params, x, y, "tanh", loss_steps, h0)
    assert radius == 1.0 or log10_dh.min() < -50


@pytest.mark.parametrize("radius", [3.0, 1e20, 1e100])
@pytest.mark.parametrize("loss_steps", [[300], [299, 300]], ids=["last", "several"])
def test_exploding_tanh_gradients_are_exact(radius, loss_steps):
    # The input is silent until shortly before the losses, so that the states are zero and the slopes one until then.
    params, x, y, _ = small_net(radius)
    params["b_h"] = np.zeros(3)
    x[:298] = 0.0
    params["W_xh"] *= min(1.0, 1 / radius)
    _, log10_dh, log10_params = assert_exact(params, x, y, "tanh", loss_steps)
    assert log10_dh.max() > 100
    assert log10_params["b_h"] > 100


@pytest.mark.parametrize("truncation", ["full", "fixed:300", "chunked:300"])
@pytest.mark.parametrize("factor", [0.005, 20.0])
@pytest.mark.parametrize("targets", [(1e200, 1.0, 1e-200), (1e-200, 1.0, 1e200)], ids=["falling", "rising"])
def test_losses_of_very_different_size_are_all_seen(truncation, factor, targets):
    # The states are zero, so that the residuals are the targets and the slopes are one.
    params = silent(factor * np.array([[0.0, 2.0], [0.5, 0.0]]))
    y = np.zeros((300, 1, 1))
    y[[40, 200, 299], 0, 0] = targets
    assert_exact(params, np.zeros((300, 1, 1)), y, "tanh", [41, 201, 300], truncation=truncation)


def test_gradients_beyond_float64_are_inf_as_arrays_and_exact_as_norms():
    cell, params = linear(radius=2.0)
    g = gs.backprop(cell, params, np.zeros((3000, 1, 1)), np.ones((3000, 1, 1)))
    assert np.isinf(g.params["b_h"]).any()
    assert 900 < g.log10_params["b_h"] < 904
    assert (g.params["W_xh"] == 0).all()
    assert g.log10_params["W_xh"] == -np.inf


def test_mean_that_float64_holds_is_right_though_the_sum_over_the_batch_is_beyond():
    cell, params = linear()
    g = gs.backprop(cell, params, np.zeros((3, 16, 1)), np.full((3, 16, 1), -4e307))
    np.testing.assert_allclose(g.log10_params["b_y"], np.log10(8e307), rtol=1e-14)
    np.testing.assert_allclose(g.params["b_y"], [8e307], rtol=1e-14)


@pytest.mark.parametrize("weight", [1e-290, 1e290])
@pytest.mark.parametrize("target", [1e-37, 1e37])
def test_recurrent_weights_near_the_ends_of_float64_are_exact(weight, target):
    params = silent(weight * np.array([[0.3, 0.7], [-0.6, 0.2]]))
    assert_exact(params, np.zeros((6, 1, 1)), np.full((6, 1, 1), target), "tanh", [6])


@pytest.mark.parametrize(("readout", "target"), [(1e150, 1e200), (1e-150, 1e-200)])
def test_injection_beyond_float64_is_exact(readout, target):
    # dL/dh = W_hy^T dL/dyhat is 1e350 or 1e-350 already at the loss.
    params = silent(np.array([[0.3, 0.7], [-0.6, 0.2]]), readout)
    assert_exact(params, np.zeros((6, 1, 1)), np.full((6, 1, 1), target), "tanh", [6])


# --- states that leave float64's range, or nearly --------------------------------------------------------------------


def exploding(T=2000, activation="linear", seed=0):
    cell = gs.cell("elman", hidden_size=4, input_size=2, output_size=2, activation=activation)
    params = cell.init(seed=seed, spectral_radius=3.0, ensemble="orthogonal", input_scale=1.0)
    if activation == "relu":
        params["W_hh"] = np.abs(params["W_hh"])
        params["W_hh"] *= 3 / max(abs(np.linalg.eigvals(params["W_hh"])))
    rng = np.random.default_rng(seed)
    return cell, params, np.abs(rng.standard_normal((T, 2, 2))), rng.standard_normal((T, 2, 2))


def first_overflow(params, x, activation):
    """The first step at which a state is beyond float64, found with 60 digits."""
    with localcontext(DIGITS):
        exact_params = {name: decimals(array) for name, array in params.items()}
        limit = Decimal(np.finfo(float).max.item())
        runs = [forward(exact_params, decimals(x[:, b]), activation, decimals(np.zeros(4)))[1] for b in range(2)]
        return min(next(t for t, h in enumerate(states) if max(abs(h)) > limit) for states in runs)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("truncation", ["full", "fixed:20", "chunked:20", "random:20"])
@pytest.mark.parametrize("loss_steps", ["last", "all"])
def test_forward_overflow_names_the_first_step_and_nothing_else(activation, truncation, loss_steps):
    cell, params, x, y = exploding(T=700, activation=activation)
    step = first_overflow(params, x, activation)
    g = gs.backprop(cell, params, x, y, truncation=truncation, loss_steps=loss_steps)
    assert 500 < step < 700
    assert g.status == f"forward overflow at step {step}"
    assert np.isnan(g.loss)
    assert np.isnan(g.log10_dh).all()
    assert g.log10_dh.shape == (700, 2)
    for name, array in params.items():
        assert np.isnan(g.params[name]).all()
        assert g.params[name].shape == array.shape
        assert np.isnan(g.log10_params[name])


@pytest.mark.parametrize("truncation", ["full", "fixed:20", "chunked:20"])
@pytest.mark.parametrize("loss_steps", [[300], [1, 250, 300]], ids=["one", "several"])
def test_losses_before_the_overflow_are_as_if_the_sequence_ended_there(truncation, loss_steps):
    cell, params, x, y = exploding()
    options = {"truncation": truncation, "loss_steps": loss_steps}
    g = gs.backprop(cell, params, x, y, **options)
    short = gs.backprop(cell, params, x[:300], y[:300], **options)
    assert g.status == short.status == "ok"
    assert (g.log10_dh[300:] == -np.inf).all()
    g.log10_dh.resize((300, 2), refcheck=False)
    assert_same(g, short)


def test_overflow_of_the_prediction_alone_is_an_overflow_too():
    cell, params = linear(n=1)
    params |= {"W_hh": np.ones((1, 1)), "W_xh": np.ones((1, 1)), "W_hy": np.full((1, 1), 1e200)}
    x = np.array([1e-150, 1e-150, 1e150, 0, 0]).reshape(5, 1, 1)
    for loss_steps, status in [("all", 3), ("last", 5), ([1, 4], 4), ([1, 2], 0)]:
        g = gs.backprop(cell, params, x, np.zeros((5, 1, 1)), loss_steps=loss_steps)
        assert g.status == (f"forward overflow at step {status}" if status else "ok")


@pytest.mark.parametrize("truncation", ["full", "fixed:20"])
def test_loss_at_the_step_of_the_overflow_is_missing_and_one_before_is_not(truncation):
    cell, params, x, y = exploding(T=700)
    step = first_overflow(params, x, "linear")
    for loss_steps in ([step], [5, step]):
        g = gs.backprop(cell, params, x, y, loss_steps=loss_steps, truncation=truncation)
        assert g.status == f"forward overflow at step {step}"
    for loss_steps in ([step - 1], [5, step - 1]):
        assert gs.backprop(cell, params, x, y, loss_steps=loss_steps, truncation=truncation).status == "ok"


def test_prediction_that_overflows_before_the_states_is_the_first_step():
    cell, params, x, y = exploding(T=700)
    step = first_overflow(params, x, "linear")
    early = gs.backprop(cell, params | {"W_hy": params["W_hy"] * 1e100}, x, y, loss_steps="all").status
    assert 300 < int(early.removeprefix("forward overflow at step ")) < step - 100


def test_tanh_and_sigmoid_never_overflow():
    for activation in ("tanh", "sigmoid"):
        cell, params, x, y = exploding(T=50, activation=activation)
        params["W_hh"] *= 1e300
        assert gs.backprop(cell, params, x, y).status == "ok"


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("loss_steps", [[600], [20, 590, 600]], ids=["last", "several"])
def test_states_up_to_1e290_give_exact_norms(activation, loss_steps):
    _, params, x, y = exploding(T=600, activation=activation)
    assert_exact(params, x[:, :1], y[:, :1], activation, loss_steps, atol=1e-10)


def test_large_states_meet_large_gradients_in_the_weights():
    # Unit 1 grows to 1e286 and is not read; unit 2 is, with a residual of 1e30: dL/dW_hh is 1e316.
    params = silent(np.diag([3.0, 1.0])) | {"W_hy": np.array([[0.0, 1.0]])}
    x = np.zeros((600, 1, 1))
    x[0] = 1.0
    _, _, log10_params = assert_exact(params, x, np.full((600, 1, 1), 1e30), "linear", [600])
    assert log10_params["W_hh"] > 310
