"""Random truncation: unbiased, at a variance that may be infinite.

A backward pass that goes on with probability pi a step, and is weighted by 1/pi where it does, has the full gradient as
its mean (Tallec & Ollivier 2017; Beatson & Adams 2019). In a linear network of one unit all moments are known: the
variance is finite only where the square of the weight w is below pi, so that "unbiased" may mean useless. One coin for
all lags keeps it finite; so does leaving out the weights, but then the mean is another one.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from math import ceil, log

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends, small
from gradscope.draws import drawn_gradients
from gradscope.paper import EXACTLY
from gradscope.scaled import Floats
from gradscope.schedule import Gates
from gradscope.streams import stream
from gradscope.truncations import truncation
from gradscope.truncations.random import Random
from gradscope.units import one_unit, weighted
from gradscope.workspace import Workspace

SETUP = (
    "The network and its moments are ours, elementary: h_t = w h_{t-1} + b, and the gradient of the last state with "
    "respect to b, which is m = 1/(1 - w) in full. The estimators are the sources': the book's xi_t used at every "
    "step, as its prose says (random:TAU, pi = 1 - 1/TAU), or once, as its formula says (one-coin:TAU); ARTBP's "
    "schedule is known from memory. No figure of theirs is redrawn. Exact moments are sums over all places where a "
    "backward pass can end, of the gradient that backpropagation gives for it, by its probability; sampled ones are of "
    "draws of coins."
)
SOURCES = ("tallec2017unbiasing", "zhang2021dive", "beatson2019efficient")
REPEATS = EXACTLY
SECONDS = 8.0

RANDOM, ONE_COIN, UNWEIGHTED = "random", "one-coin", "random-unweighted"
FAMILIES = (RANDOM, ONE_COIN, UNWEIGHTED)
WEIGHTS, PIS = (-0.7, 0.3, 0.5, 0.8, 0.9, 0.95), (0.2, 0.5, 2 / 3, 0.75, 0.85, 0.9, 0.95, 0.98)
SLOWEST = 0.955  # w^2 / pi of exact variances, which converge as fast
SAMPLED = {-0.7: (0.75, 0.9), 0.5: (0.5, 0.75, 0.9), 0.8: (0.8, 0.9, 0.95, 0.98), 0.9: (0.9, 0.95, 0.98)}
LEFT = {"exact": 1e-14, "sampled": 1e-6}  # of the moments, at most, are beyond the steps of a sequence
DRAWS, PART = 128_000, 32_000
GROWING = {0.5: (0.2, 0.25, 0.3, 0.5), 0.9: (0.6, 0.75, 0.81, 0.85, 0.9, 0.95)}  # w: pi
LENGTHS = (2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 400)
BOUNDED = {
    0.5: (0.2, 0.25, 0.3, 0.5, 0.9),
    0.7: (0.4, 0.48, 0.55, 0.75, 0.9),
    0.8: (0.5, 0.6, 0.75, 0.9),
    0.9: (0.5, 0.75, 0.8, 0.9, 0.95),
}
DOUBLED = 200  # steps
SCHEDULES = ((1.5, 7.5), (2.0, 5.0), (4.0, 6.0), (10.0, 6.0), (20.0, 7.0), (50.0, 8.0))  # n0, alpha
SHORT, SEGMENT = 11, 20_000  # steps of which all patterns of cuts are tried; steps of the longest segment
HIGHEST = 1e6  # variance that is drawn
SHOWN = (0.5, 0.8, 0.9)  # weights
RUNNING = ("random:20", "random:4", "one-coin:4", "artbp:4:3")
REPEATED, COUNTS = 20, (10, 30, 100, 300, 1000, 3000, 10_000)
SHUT = np.nextafter(1.0, 0.0)  # a coin that shuts every gate

DERIVED = "elementary, for the estimator of {}"
ARTBP = DERIVED.format("Tallec & Ollivier (2017), ARTBP")
BOOK = DERIVED.format("Dive into Deep Learning, section 9.7.1, xi_t")
LITERAL = DERIVED.format("Dive into Deep Learning, section 9.7.1, the formula read literally")
_exactly = partial(Claim, basis="derived", rtol=1e-9)
_drawn = partial(Claim, kind="sampled", basis="derived")
_unsettled = partial(Claim, source=BOOK, kind="qualitative", basis="derived")
EVERY, ONCE, BARE = (f'truncation == "{family}"' for family in FAMILIES)
CLAIMS = (
    _exactly("Reweighted at every step, the mean is the full gradient", "exact.mean", "mean_law", ARTBP, where=EVERY),
    _exactly("Reweighted at every step, the variance is (w m)^2 (1/pi - 1) / (1 - w^2/pi), where w^2 < pi",
             "exact.variance", "variance_law", BOOK, where=EVERY),
    _exactly("At w = pi = 0.9, the full gradient being 10, the variance is 90, and with one coin 9", "exact.variance",
             (((RANDOM, 0.9, 0.9), 90.0), ((ONE_COIN, 0.9, 0.9), 9.0)), f"{BOOK}; {LITERAL}"),
    _exactly("With one coin for all lags, the mean is the full gradient", "exact.mean", "mean_law", LITERAL,
             where=ONCE),
    _exactly("With one coin for all lags, the variance is (w m)^2 (1/pi - 1), finite for every pi", "exact.variance",
             "variance_law", LITERAL, where=ONCE),
    _exactly("Unweighted, the mean is 1/(1 - pi w) instead of 1/(1 - w)", "exact.mean", "mean_law", BOOK, where=BARE),
    _drawn("Means of draws of coins have these values, reweighted or not", "sampled.mean", "mean_law",
           f"{BOOK}; {LITERAL}", errors=4.0, precision=0.01),
    _drawn("Variances of draws have these values to 3 %, reweighted at every step", "sampled.variance",
           "variance_law", BOOK, rtol=0.03, precision=0.01, where=EVERY),
    _drawn("Variances of draws have these values with one coin", "sampled.variance", "variance_law", LITERAL,
           errors=4.0, precision=0.025, where=f"{ONCE} and pi > 0.5"),
    _exactly("Over T steps the variance is w^2 (1/pi - 1) times the sum of (w^2/pi)^k m_{T-1-k}^2, with a limit or "
             "without", "growth.variance", "variance_law", BOOK),
    _exactly("The truncation says that its variance has no bound exactly where w^2 >= pi", "bounded.said", "infinite",
             BOOK, atol=1e-9),
    Claim("Where w^2 < pi, twice as many steps no longer change the variance", "bounded.doubled", 1.0, BOOK, "limit",
          "derived", rtol=1e-6, where="infinite == 0"),
    Claim("Where w^2 >= pi, twice as many steps at least double the variance", "bounded.doubled", 2.0, BOOK, "bound",
          "derived", relation=">=", where="infinite == 1"),
    Claim("ARTBP's segments, that end with probability (alpha - 1) / ((alpha - 2) n0 + age), last n0 steps on average",
          "segments.length", "law", "Tallec & Ollivier (2017), the schedule of their experiments", basis="memory",
          rtol=1e-8),
    _exactly("With ARTBP's schedule, the mean is the full gradient", "segments.mean", "mean_law", ARTBP),
    _unsettled("An infinite variance shows in samples that grow: from 100 draws to 10,000 their variance more than "
               "doubles",
               "unsettled.growth", 2.0, relation=">", where='truncation == "random:4"'),
    _unsettled("A finite variance shows in samples that settle: from 100 draws to 10,000 their variance stays",
               "unsettled.growth", 1.0, atol=0.3, where='truncation == "random:20" or truncation == "one-coin:4"'),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """All coins are those of the seed; exact moments have none."""
    sampled, running = _sampled(seed), _running(seed)
    variance = running["variance"]
    return {
        "exact": _exact(),
        "sampled": sampled,
        "growth": _growth(),
        "bounded": _bounded(),
        "segments": _segments(),
        "running": running,
        "unsettled": pd.DataFrame({"growth": variance.xs(COUNTS[-1], level="draws") / variance.xs(100, level="draws")}),
        "moments": _moments_shown(sampled),
    }


# --- laws -------------------------------------------------------------------------------------------------------------


def _law(family: str, w: float, pi: float) -> tuple[float, float]:
    """Mean and variance; of the unweighted estimator the mean alone."""
    m = 1.0 / (1.0 - w)
    if family == UNWEIGHTED:
        return 1.0 / (1.0 - pi * w), np.nan
    variance = (w * m) ** 2 * (1.0 / pi - 1.0)
    if family == ONE_COIN:
        return m, variance
    return m, variance / (1.0 - w * w / pi) if w * w < pi else np.inf


def _law_of_length(w: float, pi: float, T: int) -> float:
    """The variance of the reweighted estimator over T steps."""
    k = np.arange(T - 1)
    m = (1.0 - w ** (T - 1.0 - k)) / (1.0 - w)
    return float(w * w * (1.0 / pi - 1.0) * ((w * w / pi) ** k * m**2).sum())


# --- measured ---------------------------------------------------------------------------------------------------------


def _estimates(w: float, spec: str, coins: Floats) -> Floats:
    """The gradient of h_T with respect to b for each row of coins (N, T)."""
    T, unit = coins.shape[1], one_unit("linear")
    packed = unit.pack(weighted([w]))
    trace = unit.forward(packed, np.zeros((1, T, 1, 1)), None, Workspace())
    y = np.full((1, T, 1, 1), -0.5)  # so that dL/dh_T of the squared error is 1
    drawn = drawn_gradients(unit, packed, trace, y, "mse", np.array([T - 1]), _gates(spec, coins))
    rows, columns = unit.blocks()["b_h"]
    return np.concatenate([part.value()[:, rows, columns].ravel() for part in drawn])


def _gates(spec: str, coins: Floats) -> Gates:
    schedule = truncation(spec).schedule(coins)
    assert isinstance(schedule, Gates)
    return schedule


def _moments(family: str, w: float, pi: float, T: int) -> tuple[float, float, float]:
    """Mean, variance and fourth central moment: only the first coin that shuts a gate counts, which is T cases."""
    after, lag = np.arange(T), np.arange(T - 1)[::-1]  # the coin from step t+1 to t is tossed at lag T-1-t
    coins = np.pad(SHUT * (lag == after[:, None]), ((0, 0), (0, 1)))
    probability = pi**after * np.where(after < T - 1, 1.0 - pi, 1.0)
    found = _estimates(w, f"{family}:{_tau(pi)!r}", coins)
    mean = probability @ found
    squares = (np.sqrt(probability) * (found - mean)) ** 2  # in this order nothing overflows
    with np.errstate(over="ignore", invalid="ignore"):
        return float(mean), float(squares.sum()), float((squares * (found - mean) ** 2).sum())


def _enough(w: float, pi: float, left: float) -> int:
    """Steps beyond which hardly anything is left of mean and variance."""
    return ceil(log(left) / log(max(abs(w), w * w / pi)))


def _tau(pi: float) -> float:
    return 1.0 / (1.0 - pi)


def _table(rows: dict[tuple[object, ...], dict[str, float]], *names: str) -> pd.DataFrame:
    return pd.DataFrame(list(rows.values()), index=pd.MultiIndex.from_tuples(rows, names=names))


def _exact() -> pd.DataFrame:
    """Mean and variance of each estimator that has a finite one."""
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for family, w, pi in product(FAMILIES, WEIGHTS, PIS):
        if family != RANDOM or w * w < SLOWEST * pi:
            T = _enough(w, pi if family == RANDOM else 1.0, LEFT["exact"])
            (mean, variance, _), laws = _moments(family, w, pi, T), _law(family, w, pi)
            rows[family, w, pi] = {"mean": mean, "mean_law": laws[0], "variance": variance, "variance_law": laws[1]}
    return _table(rows, "truncation", "w", "pi")


def _sampled(seed: int) -> pd.DataFrame:
    """The same of draws, with standard errors."""
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for w, pi in ((w, pi) for w, some in SAMPLED.items() for pi in some):
        T, rng = _enough(w, pi, LEFT["sampled"]), stream(seed, f"coins of w = {w}, pi = {pi}")
        parts = [rng.random((PART, T)) for _ in range(DRAWS // PART)]
        for family in FAMILIES:
            some = parts[:1] if family == UNWEIGHTED else parts  # of which the mean alone is claimed
            found = np.concatenate([_estimates(w, f"{family}:{_tau(pi)!r}", coins) for coins in some])
            mean_law, variance_law = _law(family, w, pi)
            _, variance, fourth = _moments(family, w, pi, T)
            rows[family, w, pi] = {
                "mean": found.mean(),
                "mean_error": found.std() / np.sqrt(len(found)),
                "mean_law": mean_law,
                "variance": found.var(),
                "variance_error": np.sqrt(max(fourth - variance**2, 0.0) / len(found)),
                "variance_law": variance_law,
            }
    return _table(rows, "truncation", "w", "pi")


def _growth() -> pd.DataFrame:
    """The variance over so many steps."""
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for w, pi, T in ((w, pi, T) for w, some in GROWING.items() for pi in some for T in LENGTHS):
        law, limit = _law_of_length(w, pi, T), _law(RANDOM, w, pi)[1]
        rows[w, pi, T] = {"variance": _moments(RANDOM, w, pi, T)[1], "variance_law": law, "limit": limit}
    return _table(rows, "w", "pi", "seq_len")


def _bounded() -> pd.DataFrame:
    """Whether the variance is said to have no bound, whether it is infinite, and what twice the steps make of it."""
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for w, pi in ((w, pi) for w, some in BOUNDED.items() for pi in some):
        said = Random(_tau(pi)).unbounded(log(w))
        variances = [_moments(RANDOM, w, pi, T)[1] for T in (DOUBLED, 2 * DOUBLED)]
        rows[w, pi] = {"said": said, "infinite": w * w >= pi, "doubled": variances[1] / variances[0]}
    return _table(rows, "w", "pi").astype(float)


def _segments() -> pd.DataFrame:
    """ARTBP's mean length of a segment, from its weights, and its mean gradient over all patterns of cuts."""
    shut = np.indices((2,) * (SHORT - 1)).reshape(SHORT - 1, -1).T.astype(float)
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for n0, alpha in SCHEDULES:
        spec, w = f"artbp:{n0}:{alpha}", 0.9
        lasting = 1.0 / np.cumprod(_gates(spec, np.zeros((1, SEGMENT))).weights[0])
        found = _estimates(w, spec, np.pad(SHUT * shut, ((0, 0), (0, 1))))
        rows[n0, alpha] = {
            "length": float(1.0 + lasting.sum()),
            "law": n0,
            "mean": float(_probability(shut, n0, alpha) @ found),
            "mean_law": (1.0 - w**SHORT) / (1.0 - w),
        }
    return _table(rows, "n0", "alpha")


def _probability(shut: Floats, n0: float, alpha: float) -> Floats:
    """That of each pattern of cuts (N, T-1), by ARTBP's schedule."""
    age, found = np.ones(len(shut)), np.ones(len(shut))
    for cut in shut.T:
        ends = (alpha - 1.0) / ((alpha - 2.0) * n0 + age)
        found *= np.where(cut, ends, 1.0 - ends)
        age = np.where(cut, 1.0, age + 1.0)
    return found


def _running(seed: int) -> pd.DataFrame:
    """Variances of the first so many draws: median, and 10 and 90 %, of several independent samples."""
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for spec in RUNNING:
        coins = stream(seed, f"coins of samples of {spec}")
        samples = [_estimates(0.9, spec, coins.random((COUNTS[-1], 100))) for _ in range(REPEATED)]
        family, tau = spec.split(":")[:2]
        law = np.nan if family == "artbp" else _law(family, 0.9, 1.0 - 1.0 / float(tau))[1]
        for count in COUNTS:
            low, middle, high = np.quantile([sample[:count].var(ddof=1) for sample in samples], (0.1, 0.5, 0.9))
            rows[spec, count] = {"variance": middle, "variance_low": low, "variance_high": high, "law": law}
    return _table(rows, "truncation", "draws")


def _moments_shown(sampled: pd.DataFrame) -> pd.DataFrame:
    """truncation, w, pi, kind ("law", "sampled"); mean and variance in parts of m and m^2, with their errors."""
    shown = np.linspace(0.3, 0.995, 140)
    laws = [(family, w, pi, *_law(family, w, pi)) for family in FAMILIES for w in SHOWN for pi in shown]
    law = pd.DataFrame(laws, columns=["truncation", "w", "pi", "mean", "variance"]).assign(kind="law")
    drawn = sampled.reset_index().assign(kind="sampled")
    table = pd.concat([law, drawn[drawn["w"].isin(SHOWN)]], ignore_index=True)
    for column, unit in (("mean", 1.0 - table["w"]), ("variance", (1.0 - table["w"]) ** 2)):
        table[column] *= unit
        table[f"{column}_error"] *= unit
    return table[["truncation", "w", "pi", "kind", "mean", "mean_error", "variance", "variance_error"]]


# --- figures ----------------------------------------------------------------------------------------------------------


def moments(table: pd.DataFrame) -> Figure:
    """Mean and variance of randomly truncated gradients.

    In parts of the full gradient and its square, against the probability pi to continue, for three weights w of the
    unit. Points: 128,000 draws of coins (unweighted 32,000), bars of two standard errors, mostly smaller than the
    points; lines: laws. Left: reweighted gradients (filled) are right on average, unweighted ones (open) are not.
    Middle: the variance of gradients reweighted at every step goes to infinity as pi comes down to w^2 (dotted). Right:
    with one coin for all lags it does not.
    """
    figure = canvas(3, 1)
    means, variances, single = figure.subplots(1, 3, sharex=True)
    single.sharey(variances)
    for ax, column, family, filled in (
        (means, "mean", RANDOM, True),
        (means, "mean", UNWEIGHTED, False),
        (variances, "variance", RANDOM, True),
        (single, "variance", ONE_COIN, True),
    ):
        for i, (_, own) in enumerate(table[table["truncation"] == family].groupby("w")):
            _law_and_draws(ax, own, column, i, filled)
    for i, w in enumerate(table["w"].unique()):
        variances.axvline(w * w, color=COLOURS[i], linestyle=":", linewidth=0.9)
    means.set(xlabel=r"$\pi$", ylabel="mean / full gradient", ylim=(0, 1.15), title="mean")
    variances.set(xlabel=r"$\pi$", ylabel="variance / full gradient$^2$", yscale="log", title="variance, every step")
    single.set(xlabel=r"$\pi$", title="variance, one coin")
    means.text(0.31, 1.02, "reweighted", fontsize=small(), va="bottom")
    means.text(0.31, 0.52, "unweighted", fontsize=small(), va="center")
    label_ends(single)
    return figure


def _law_and_draws(ax: Axes, own: pd.DataFrame, column: str, i: int, filled: bool) -> None:
    law, drawn = own[(own["kind"] == "law") & np.isfinite(own[column])], own[own["kind"] == "sampled"]
    ax.plot(law["pi"], law[column], color=COLOURS[i], linestyle=DASHES[i], label=f"$w$ = {own['w'].iloc[0]:g}")
    look = {"color": COLOURS[i], "markersize": 4, "markerfacecolor": COLOURS[i] if filled else "white"}
    ax.errorbar(drawn["pi"], drawn[column], 2 * drawn[f"{column}_error"], fmt=MARKERS[i], label="_draws", **look)


def growth(table: pd.DataFrame) -> Figure:
    """Where the variance has a bound.

    Variance of the reweighted gradient over sequences of so many steps, w = 0.9, for probabilities pi to continue.
    Points: exact, over all places where backpropagation can end; lines: law; dotted: its limit, which it has where pi
    is above w^2 = 0.81. There it grows in proportion to the length, and below it exponentially.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    shown = table[(table["w"] == table["w"].max()) & (table["variance"] < HIGHEST)]
    for i, (pi, own) in enumerate(shown.groupby("pi")):
        ax.plot(own["seq_len"], own["variance_law"], color=COLOURS[i], label=rf"$\pi$ = {pi:g}")
        ax.plot(own["seq_len"], own["variance"], MARKERS[i], color=COLOURS[i], markersize=3.5, label=f"_exact {pi:g}")
        if np.isfinite(own["limit"].iloc[0]):
            ax.axhline(own["limit"].iloc[0], color=COLOURS[i], linestyle=":", linewidth=0.9)
    ax.set(xscale="log", yscale="log", xlabel="sequence length (steps)", ylabel="variance")
    label_ends(ax)
    return figure


def running(table: pd.DataFrame) -> Figure:
    """A sample does not tell that its variance is infinite.

    Variance of the first so many draws of a truncated gradient, w = 0.9: median and 10 to 90 % of 20 samples. With
    pi = 0.95 (random:20) and with one coin (pi = 0.75) it settles at the law's value (thin); reweighted at every step
    with pi = 0.75 (random:4) it grows with the number of draws, as it is infinite. With ARTBP's power-law schedule,
    whose segments are as short, 4 steps on average, it settles too; there is no closed form for it here.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (spec, own) in enumerate(table.groupby("truncation", sort=False)):
        low, high = own["variance_low"], own["variance_high"]
        ax.fill_between(own["draws"], low, high, color=COLOURS[i], alpha=0.15, linewidth=0)
        look = {"marker": MARKERS[i], "markersize": 3, "linestyle": DASHES[i], "label": spec}
        ax.plot(own["draws"], own["variance"], color=COLOURS[i], **look)
        if np.isfinite(own["law"].iloc[0]):
            ax.axhline(own["law"].iloc[0], color=COLOURS[i], linewidth=0.6)
    ax.set(xscale="log", yscale="log", xlabel="draws", ylabel="variance of a sample")
    label_ends(ax)
    return figure


FIGURES = (moments, growth, running)
