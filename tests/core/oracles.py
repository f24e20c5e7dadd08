"""Independent slow methods that the tests hold gradscope against: written from the equations, without its engine.

Elman network, one example: h_t = f(W_xh x_t + W_hh h_{t-1} + b_h), yhat_t = W_hy h_t + b_y. Steps are 1-based here, as
in the equations. The loops work on float64 and, with `decimals`, on 60-digit numbers of any magnitude: for these f is
tanh, relu or linear and the loss mse.
"""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from statistics import NormalDist
from typing import NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np

RECURRENT = ("W_xh", "W_hh", "b_h")
DIGITS = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)


class Truth(NamedTuple):
    """What an oracle says of a batch: the loss, dL_b/dh_t (T, B, n), and the parameter gradients by name."""

    loss: float
    dh: np.ndarray
    params: dict[str, np.ndarray]


# --- truncations, literally as the contract's table defines them ----------------------------------------------------


def reach(spec: str, T: int, coins: np.ndarray | None = None) -> np.ndarray:
    """Weights w[s-1, t-1] with which the loss at step s counts in the gradient at step t."""
    name, *arguments = spec.split(":")
    w = np.zeros((T, T))
    if name in ("full", "fixed"):
        tau = int(arguments[0]) if arguments else T
        for s in range(1, T + 1):
            for t in range(max(1, s - tau + 1), s + 1):
                w[s - 1, t - 1] = 1
    elif name == "chunked":
        tau = int(arguments[0])
        for start in range(1, T + 1, tau):
            chunk = range(start, min(start + tau - 1, T) + 1)
            for s in chunk:
                for t in chunk:
                    w[s - 1, t - 1] = t <= s
    elif name in ("tbptt", "buffered"):
        k1, k2 = map(int, arguments) if name == "tbptt" else (int(arguments[0]), 2 * int(arguments[0]) - 1)
        e = 0
        while e < T:  # the last e is the first one >= T
            e += k1
            for s in range(e - k1 + 1, min(e, T) + 1):
                for t in range(max(1, e - k2 + 1), s + 1):
                    w[s - 1, t - 1] = 1
    elif name == "artbp":
        n0, alpha = map(float, arguments)
        first = {1: 1}  # of the segment that each step belongs to
        for t in range(1, T):
            first[t + 1] = first[t] if coins[t - 1] < 1 - artbp_cut(n0, alpha, t - first[t] + 1) else t + 1
        for s in range(1, T + 1):
            w[s - 1, s - 1] = 1
            for t in range(s - 1, first[s] - 1, -1):
                w[s - 1, t - 1] = w[s - 1, t] / (1 - artbp_cut(n0, alpha, t - first[s] + 1))
    elif name == "variable":
        start = 0  # 0-based
        while start < T:
            end = min(T, start + variable_length(*map(float, arguments), coins[start]))
            w[start:end, start:end] = np.tri(end - start)
            start = end
    elif name == "one-coin":
        pi = 1 - 1 / float(arguments[0])
        for s in range(1, T + 1):
            w[s - 1, s - 1] = 1
            for t in range(1, s):
                w[s - 1, t - 1] = 1 / pi if coins[s - 2] < pi else 0
    else:
        pi = 1 - 1 / float(arguments[0])
        weight = {"random": 1 / pi if pi else np.inf, "random-unweighted": 1}[name]
        for s in range(1, T + 1):
            w[s - 1, s - 1] = 1
            for t in range(s - 1, 0, -1):  # one backward step, from t+1 to t
                w[s - 1, t - 1] = w[s - 1, t] * weight if coins[t - 1] < pi else 0
    return w


def artbp_cut(n0: float, alpha: float, age: int) -> float:
    """Probability that a segment of ARTBP that has lasted `age` steps ends (arXiv 1705.08209)."""
    return (alpha - 1) / ((alpha - 2) * n0 + age)


def variable_length(mean: float, sd: float, p: float, coin: float) -> int:
    """Length of a chunk, as AWD-LSTM's code draws it (arXiv 1708.02182), from the coin at its first step."""
    around, u = (mean, coin / p) if coin < p else (mean / 2, (coin - p) / (1 - p))
    drawn = NormalDist(around, sd).inv_cdf(u) if sd else around
    return max(min(5, int(mean)), int(drawn))


# --- the network, step by step ---------------------------------------------------------------------------------------


def f(activation, z):
    """The activation."""
    if activation == "tanh":
        return np.array([_decimal_tanh(v) for v in z]) if z.dtype == object else np.tanh(z)
    if activation == "relu":
        return np.where(z > 0, z, 0 * z)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-z))
    return z


def slope(activation, z):
    """The activation's derivative."""
    one = 0 * z + 1
    if activation == "tanh":
        return one - f("tanh", z) ** 2
    if activation == "relu":
        return np.where(z > 0, one, 0 * z)
    if activation == "sigmoid":
        return f("sigmoid", z) * f("sigmoid", -z)
    return one


def step_loss(loss, yhat, y):
    """One step's loss and its gradient with respect to the prediction."""
    if loss == "mse":
        return ((yhat - y) ** 2).sum() / len(yhat), 2 * (yhat - y) / len(yhat)
    exponentials = np.exp(yhat - yhat.max())
    probability = exponentials / exponentials.sum()
    return -np.log(probability[y]), probability - np.eye(len(yhat))[y]


def forward(params, x, activation, h0):
    """Pre-activations z_t and states h_t of one example, in lists whose index is t (h[0] is the initial state)."""
    z, h = [None], [h0]
    for x_t in x:
        z.append(params["W_xh"] @ x_t + params["W_hh"] @ h[-1] + params["b_h"])
        h.append(f(activation, z[-1]))
    return z, h


def naive_example(params, x, y, activation, loss, steps, share, w, h0):
    """Loss, dL_b/dh_t (T, n) and gradients of one example: every loss goes back alone, weighted at every step.

    steps are 1-based; each step's loss counts `share`; w[s-1, t-1] is its weight at step t.
    """
    z, h = forward(params, x, activation, h0)
    gradients = {name: 0 * array for name, array in params.items()}
    dh = [0 * h0 for _ in h]
    total = 0
    for s in steps:
        value, dyhat = step_loss(loss, params["W_hy"] @ h[s] + params["b_y"], y[s - 1])
        total = total + share * value
        gradients["W_hy"] = gradients["W_hy"] + share * np.outer(dyhat, h[s])
        gradients["b_y"] = gradients["b_y"] + share * dyhat
        a = share * (params["W_hy"].T @ dyhat)
        for t in range(s, 0, -1):
            weight = w[s - 1, t - 1]
            delta = slope(activation, z[t]) * a
            dh[t] = dh[t] + weight * a
            gradients["W_xh"] = gradients["W_xh"] + weight * np.outer(delta, x[t - 1])
            gradients["W_hh"] = gradients["W_hh"] + weight * np.outer(delta, h[t - 1])
            gradients["b_h"] = gradients["b_h"] + weight * delta
            a = params["W_hh"].T @ delta
    return total, np.array(dh[1:]), gradients


def naive(params, x, y, activation, loss, steps, reduction, w, h0) -> Truth:
    """The same for a batch: examples one by one, their parameter gradients averaged."""
    B = x.shape[1]
    share = 1 / len(steps) if reduction == "mean" else 1
    found = [naive_example(params, x[:, b], y[:, b], activation, loss, steps, share, w, h0[b]) for b in range(B)]
    return Truth(
        sum(value for value, _, _ in found) / B,
        np.stack([dh for _, dh, _ in found], axis=1),
        {name: sum(gradients[name] for _, _, gradients in found) / B for name in params},
    )


# --- forward mode, differences, automatic differentiation ------------------------------------------------------------


def rtrl(params, x, y, activation, loss, steps, reduction, h0) -> Truth:
    """Real-time recurrent learning: d h_t / d(parameters) carried forward in time; no backward pass anywhere."""
    (T, B, _), n = x.shape, len(params["b_h"])
    sizes = [params[name].size for name in RECURRENT]
    total = {name: np.zeros_like(array) for name, array in params.items()}
    dh, value = np.zeros((T, B, n)), 0.0
    for b in range(B):
        z, h = forward(params, x[:, b], activation, h0[b])
        J = np.zeros((n, sum(sizes)))
        since = []  # d h_s / d h_t for every t <= s
        for s in range(1, T + 1):
            direct = [np.kron(np.eye(n), x[s - 1, b]), np.kron(np.eye(n), h[s - 1]), np.eye(n)]
            local = slope(activation, z[s])[:, None]
            J = local * (params["W_hh"] @ J + np.hstack(direct))
            since = [local * (params["W_hh"] @ phi) for phi in since] + [np.eye(n)]
            if s not in steps:
                continue
            share = 1 / len(steps) if reduction == "mean" else 1
            step_value, dyhat = step_loss(loss, params["W_hy"] @ h[s] + params["b_y"], y[s - 1, b])
            value += share * step_value / B
            row = share * dyhat @ params["W_hy"]
            total["W_hy"] += share * np.outer(dyhat, h[s]) / B
            total["b_y"] += share * dyhat / B
            for name, part in zip(RECURRENT, np.split(row @ J, np.cumsum(sizes)[:-1]), strict=True):
                total[name] += part.reshape(params[name].shape) / B
            dh[:s, b] += np.array([row @ phi for phi in since])
    return Truth(value, dh, total)


def smooth_loss(params, pushes, x, y, activation, loss, steps, reduction, h0):
    """The batch's loss as one expression that autograd can differentiate; pushes (T, B, n) are added to the states."""
    apply = {"tanh": anp.tanh, "relu": lambda z: anp.maximum(z, 0.0), "linear": lambda z: z}
    apply["sigmoid"] = lambda z: 1 / (1 + anp.exp(-z))
    h, total = h0, 0.0
    for t in range(1, len(x) + 1):
        h = apply[activation](x[t - 1] @ params["W_xh"].T + h @ params["W_hh"].T + params["b_h"]) + pushes[t - 1]
        if t not in steps:
            continue
        yhat = h @ params["W_hy"].T + params["b_y"]
        if loss == "mse":
            values = anp.mean((yhat - y[t - 1]) ** 2, axis=1)
        else:
            true = yhat[anp.arange(len(yhat)), y[t - 1]]
            values = anp.log(anp.sum(anp.exp(yhat), axis=1)) - true
        total = total + anp.mean(values)
    return total / len(steps) if reduction == "mean" else total


def by_autograd(params, x, y, activation, loss, steps, reduction, h0) -> Truth:
    """HIPS autograd on the loss; a push on h_t has the gradient dL/dh_t, and L_b is B times its part of the mean."""
    pushes = np.zeros((*x.shape[:2], len(params["b_h"])))
    arguments = (x, y, activation, loss, steps, reduction, h0)
    value, gradients = autograd.value_and_grad(smooth_loss, argnum=0)(params, pushes, *arguments)
    dh = autograd.grad(smooth_loss, argnum=1)(params, pushes, *arguments)
    return Truth(value, dh * x.shape[1], gradients)


def central_difference(loss_of, params, direction, step=1e-5) -> float:
    """Slope of loss_of(params) along a direction, by central differences."""
    ahead, behind = (
        loss_of({name: array + sign * step * direction[name] for name, array in params.items()}) for sign in (1, -1)
    )
    return (ahead - behind) / (2 * step)


# --- numbers of any magnitude ----------------------------------------------------------------------------------------


def decimals(array) -> np.ndarray:
    """An array of exact decimal numbers."""
    return np.vectorize(Decimal, otypes=[object])(np.asarray(array, float))


def decimal_gradients(params, x, y, activation, steps, h0=None, w=None):
    """`naive_example` under mse and "sum", with 60 digits: (T, 1, .) arrays in, norms (log10) out; w of full BPTT."""
    T, _, m = np.shape(x)
    with localcontext(DIGITS):
        exact = {name: decimals(array) for name, array in params.items()}
        start = decimals(np.zeros(len(params["b_h"])) if h0 is None else h0)
        w = decimals(np.ones((T, T)) if w is None else w)
        inputs, targets = decimals(np.reshape(x, (T, m))), decimals(np.reshape(y, (T, -1)))
        _, dh, gradients = naive_example(exact, inputs, targets, activation, "mse", steps, Decimal(1), w, start)
        return np.array([log10_norm(row) for row in dh]), {name: log10_norm(g) for name, g in gradients.items()}


def log10_norm(numbers) -> float:
    """log10 of the 2-norm of decimal numbers; -inf for zero."""
    square = sum((v * v for v in np.ravel(numbers)), Decimal(0))
    return float(square.log10() / 2) if square else -np.inf


def _decimal_tanh(z: Decimal) -> Decimal:
    if abs(z) < Decimal("1e-15"):  # the series is better than 1e-60 there, and the exponentials would cancel
        return z - z**3 / 3 + 2 * z**5 / 15
    square = (2 * z).exp()
    return (square - 1) / (square + 1)
