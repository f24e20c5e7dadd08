"""What theory says of random networks: how fast |dL/dh_t| grows or decays with the lag, and where neither happens.

Mean field, for many units: pre-activations are Gaussian with variance D, and the square of the gradient's norm changes
by g^2 E[f'(sqrt(D) z)^2] a step, z ~ N(0, 1), where D = g^2 E[f(sqrt(D) z)^2] + sigma_u^2; g is the spectral radius of
W_hh and sigma_u the standard deviation of (W_xh x_t) a unit (`input_scale`). Linear networks need no such argument: in
the long run their gradients change by the spectral radius, and by the exponents of a product of random matrices if W_hh
is another one at every step. Gated cells with small weights change them by their gates, and nothing makes them grow
faster than the norm of W_hh allows.

Sources: Sompolinsky, Crisanti & Sommers (1988), "Chaos in random neural networks"; Molgedey, Schuchhardt & Schuster
(1992), "Suppressing chaos in neural networks by noise"; Chen, Pennington & Schoenholz (2018), "Dynamical isometry and
a mean field theory of RNNs", arXiv 1806.05394; Newman (1986), "The distribution of Lyapunov exponents: exact results
for random matrices"; Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", arXiv
1211.5063; Tallec & Ollivier (2018), "Can recurrent neural networks warp time?", arXiv 1804.11188.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope import ensembles, plugins
from gradscope.activations import activation as find
from gradscope.errors import InputError, at_least, finite

ENSEMBLES = ("gaussian", "keras", "orthogonal", "pytorch", "uniform")  # whose matrices mix all units
TASKS = ("noise",)  # whose inputs are white
_NODES = np.linspace(-1.0, 1.0, 1001)
_TAILS = 10.0  # standard deviations
_RELU_SQUARE = 0.5  # E[f'^2] whatever D is: half of the units are active
_PRECISION = 1e-14
_STEEPEST = {"tanh": 1.0, "relu": 1.0, "linear": 1.0, "sigmoid": 0.25}  # the largest f'


class _Moments(NamedTuple):
    """E[f(a z)^2] and E[f'(a z)^2] for z ~ N(0, 1)."""

    value: float
    slope: float


@lru_cache(maxsize=4096)
def growth_rate(
    activation: str,
    spectral_radius: float,
    input_scale: float = 0.1,
    ensemble: str = "gaussian",
    task: str = "noise",
) -> float:
    """The growth of |dL_T/dh_t| with the lag T - t, in nats a step, in a large random network of this spectral radius.

    Parameters
    ----------
    activation : "tanh", "relu", "sigmoid" or "linear".
    spectral_radius : of W_hh.
    input_scale : standard deviation of (W_xh x_t) a unit. At 0, the network runs by itself, from a random state.
    ensemble, task : of W_hh and of the inputs, by name.

    Returns
    -------
    float : negative where gradients vanish, -inf at spectral radius 0. For linear networks in any ensemble and on any
        task; for others with "gaussian", "uniform" or "orthogonal" W_hh, biases of zero and white inputs ("noise"). Not
        a number, as there is no theory, with "identity" and other ensembles, and on other tasks.

    Raises
    ------
    InputError : unknown activation; negative or non-finite radius or scale.

    Notes
    -----
    1/2 log(g^2 E[f'(sqrt(D) z)^2]), where D is the positive, stable solution of D = g^2 E[f(sqrt(D) z)^2] + sigma_u^2,
    or 0 if there is none: Chen, Pennington & Schoenholz (2018). For relu E[f'^2] is 1/2 whatever D is, so the rate
    also holds where states grow and D has no solution.

    It is a law for many units. Its g is the size of the entries, |W_hh|_F / sqrt(n): the spectral radius in orthogonal
    and in large networks. Independent entries that are rescaled to a realised radius are smaller, by 4 % for n = 300;
    slopes measured on such networks lie below the law, by .01 to .05 for n = 300 and up to .07 for n = 64.

    Examples
    --------
    >>> print(round(growth_rate("tanh", 0.9, input_scale=0.5), 4))  # the gradient halves every 1.96 steps
    -0.3545
    >>> print(round(growth_rate("linear", 0.9), 4))
    -0.1054
    """
    find(activation)
    at_least(0, spectral_radius=spectral_radius, input_scale=input_scale)
    if not _known(activation, ensemble, task):
        return float("nan")
    if spectral_radius == 0:
        return float("-inf")
    log = float(np.log(spectral_radius))
    if activation == "linear":
        return log
    if activation == "relu":
        return log + 0.5 * float(np.log(_RELU_SQUARE))
    if activation == "tanh" and input_scale == 0 and spectral_radius <= 1:
        return log  # D = 0: the states die out, and f' is 1
    deviation = _deviation(activation, spectral_radius, input_scale)
    return log + 0.5 * float(np.log(_moments(activation, deviation).slope))


@lru_cache(maxsize=4096)
def critical_radius(
    activation: str, input_scale: float = 0.1, ensemble: str = "gaussian", task: str = "noise"
) -> float:
    """The spectral radius at which gradients neither vanish nor explode: where `growth_rate` is 0.

    Parameters, errors and where there is no theory (nan) as for `growth_rate`.

    Examples
    --------
    >>> [round(critical_radius("tanh", scale), 2) for scale in (0.0, 0.1, 0.5, 1.0)]
    [1.0, 1.19, 1.55, 1.86]
    """
    find(activation)
    at_least(0, input_scale=input_scale)
    if not _known(activation, ensemble, task):
        return float("nan")
    if activation == "linear":
        return 1.0
    if activation == "relu":
        return _RELU_SQUARE**-0.5
    if activation == "tanh" and input_scale == 0:
        return 1.0
    deviation = _edge(lambda deviation: not _beyond_critical(activation, deviation, input_scale))
    return _moments(activation, deviation).slope ** -0.5


class Product(NamedTuple):
    """Exponents of a product of random matrices, in nats a step and descending order, and their variances a step.

    After T steps, the finite-time exponents have these means and a T-th of these variances, for large T.
    """

    exponents: NDArray[np.float64]
    variances: NDArray[np.float64]


def gaussian_product(hidden_size: int, scale: float) -> Product:
    """The Lyapunov exponents of a linear network with a fresh W_hh of N(0, scale^2 / n) entries at every step.

    Parameters
    ----------
    hidden_size : n.
    scale : sqrt(n) times the standard deviation of the entries: for large n the spectral radius of each W_hh.

    Raises
    ------
    InputError : a size that is no whole number >= 1, a negative or non-finite scale.

    Notes
    -----
    lambda_i = (1/2) [log(2 scale^2 / n) + psi((n - i + 1) / 2)], variance psi'((n - i + 1) / 2) / 4 a step (Newman
    1986). A network with one W_hh for all steps grows by the log of that draw's spectral radius instead.

    Examples
    --------
    >>> print(gaussian_product(3, 1.0).exponents.round(4))
    [-0.1845 -0.4913 -1.1845]
    """
    if not isinstance(hidden_size, int | np.integer) or isinstance(hidden_size, bool) or hidden_size < 1:
        raise InputError(f"{hidden_size!r}", where="hidden_size", allowed="a whole number >= 1")
    at_least(0, scale=scale)
    digamma, trigamma = _polygamma_at_halves(int(hidden_size))
    with np.errstate(divide="ignore"):
        exponents = 0.5 * digamma + 0.5 * np.log(2.0 / hidden_size) + np.log(scale)
    return Product(exponents[::-1], 0.25 * trigamma[::-1])


def _polygamma_at_halves(number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """psi(k/2) and psi'(k/2) for k = 1 .. number, by psi(x + 1) = psi(x) + 1/x."""
    digamma, trigamma = np.empty(number + 1), np.empty(number + 1)
    digamma[0], trigamma[0] = -np.euler_gamma - 2.0 * np.log(2.0), np.pi**2 / 2.0  # at 1/2
    digamma[1], trigamma[1] = -np.euler_gamma, np.pi**2 / 6.0  # at 1
    for k in range(2, number + 1):
        x = (k - 1) / 2.0
        digamma[k], trigamma[k] = digamma[k - 2] + 1.0 / x, trigamma[k - 2] - 1.0 / x**2
    return digamma[:number], trigamma[:number]


def norm_bound(activation: str, spectral_norm: float) -> float:
    """No gradient of an Elman network grows faster, in nats a step: log(max f' times |W_hh|_2), -inf for a zero W_hh.

    Pascanu, Mikolov & Bengio (2013): below 0 gradients must vanish. Above 0 they need not explode, and mostly do not.

    Raises
    ------
    InputError : unknown activation, negative or non-finite norm.

    Examples
    --------
    >>> print(round(norm_bound("sigmoid", 4.0), 4))
    0.0
    """
    find(activation)
    at_least(0, spectral_norm=spectral_norm)
    return float(np.log(_STEEPEST[activation] * spectral_norm)) if spectral_norm else float("-inf")


def gate_factor(bias: float) -> float:
    """What a gradient is multiplied by a step along the state of a gated cell with small weights: sigmoid(bias).

    The bias is that of an LSTM's forget gate, or of a GRU's update gate z (h_t = (1 - z) n + z h_{t-1}, as in PyTorch);
    where a cell has two biases for a gate, their sum.

    Raises
    ------
    InputError : a bias that is not a finite number.

    Examples
    --------
    >>> print(round(gate_factor(1.0), 6))
    0.731059
    """
    finite(bias=bias)
    return float(np.exp(-np.logaddexp(0.0, -bias)))


def half_life(rate: float) -> float:
    """Steps after which a gradient that changes by `rate` nats a step is half as large; inf if it does not vanish.

    >>> print(round(half_life(np.log(gate_factor(1.0))), 3))
    2.213
    """
    return float(np.log(2.0) / -rate) if rate < 0.0 else float("inf")


def chrono_memory(longest: float) -> float:
    """The mean over units of 1 / (1 - f), steps, for forget biases log U(1, T_max - 1): 1 + T_max / 2.

    Tallec & Ollivier (2018). `longest` is T_max; InputError unless it is at least 2.

    >>> chrono_memory(100)
    51.0
    """
    at_least(2, longest=longest)
    return 1.0 + longest / 2.0


def _known(activation: str, ensemble: str, task: str) -> bool:
    """Whether there is a theory: in a nilpotent matrix nothing goes as the spectral radius does."""
    name = ensemble.partition(":")[0]
    if name in plugins.names(ensembles.FAMILY) and getattr(plugins.find(ensembles.FAMILY, name), "nilpotent", False):
        return False
    return activation == "linear" or (ensemble in ENSEMBLES and task in TASKS)


def _beyond_critical(activation: str, deviation: float, input_scale: float) -> bool:
    """Whether states at rate 0, where g^2 = 1/E[f'^2], are smaller than these for that much input."""
    found = _moments(activation, deviation)
    return deviation > np.hypot((found.value / found.slope) ** 0.5, input_scale)


def _deviation(activation: str, g: float, input_scale: float) -> float:
    """sqrt(D), of the largest solution: smaller states grow, larger ones shrink."""

    def grows(deviation: float) -> bool:
        return bool(np.hypot(g * _moments(activation, deviation).value ** 0.5, input_scale) > deviation)

    return _edge(grows)


def _edge(below: Callable[[float], bool]) -> float:
    """The positive number up to which `below` holds."""
    low, high = 0.0, 1.0
    while below(high):
        low, high = high, 2.0 * high
    while high - low > _PRECISION * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def _moments(activation: str, deviation: float) -> _Moments:
    """The moments of a bounded activation at one standard deviation of its argument.

    The trapezoid rule over s, sinh(s) = a z, is as fine around 0, where f bends, as over the bulk of the Gaussian,
    whatever a is. (Gauss-Hermite's 201 nodes are wrong from g = 4 on.)
    """
    f = find(activation)
    s = _NODES * np.arcsinh(_TAILS * deviation)
    z = np.sinh(s) / deviation
    density = np.exp(-0.5 * z**2) * np.cosh(s)
    value, slope = np.empty_like(s), np.empty_like(s)
    f.apply(np.sinh(s), out=value)
    f.slope(value, out=slope)
    return _Moments(*(float(density @ part**2 / density.sum()) for part in (value, slope)))
