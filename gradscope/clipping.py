"""`clip`: a gradient taken back to a threshold; what clipping takes from gradients; and which threshold to take.

All sizes are those before clipping, exact at any magnitude. Changes are ratios, and angles in degrees: the joint
projection keeps the direction, so its angle is exactly 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from sys import float_info
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope import clips, plugins
from gradscope.errors import InputError, unknown
from gradscope.gradients import Contrast, Gradients, compare, log10_joint
from gradscope.scaled import LOG10_2, Floats, Scaled, Squares
from gradscope.threshold import Clip, Gradient, positive, squares_of

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
FEWEST = 20  # steps of which a distribution is made
WIDEST = 3.0  # decades from P50 to P99, beyond which no single threshold serves

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Clipped:
    """What `clip` returns.

    Attributes
    ----------
    params : name -> clipped gradient, of the shape and dtype given (float64 for integers).
    log10_norm : log10 of the norm of all parameters together, before the clip; -inf for zero.
    log10_norms : name -> the same of each parameter, before the clip.
    log10_clipped : log10 of the norm of all parameters together, after the clip.
    kept : norm after over norm before; 1 if nothing is clipped, a zero gradient included.
    angle : degrees between the clipped and the true gradient, over all parameters together; exactly 0 if nothing is
        clipped, a zero gradient included, and for the joint projection.
    clipped : whether any entry was changed.
    """

    params: dict[str, NDArray[Any]]
    log10_norm: float
    log10_norms: dict[str, float]
    log10_clipped: float
    kept: float
    angle: float
    clipped: bool


def clip(
    gradients: Mapping[str, ArrayLike] | Gradients, threshold: float, by: str = "norm", joint: bool = True
) -> Clipped:
    """A gradient clipped by norm or by value; no norm overflows or underflows on the way.

    Parameters
    ----------
    gradients : name -> array of real numbers, of any shape; or what `gs.backprop` returned.
    threshold : above 0. A gradient exactly at it is not clipped.
    by : "norm": g becomes g threshold / |g| where |g| is above the threshold, which keeps its direction. "value": each
        entry is limited to -threshold .. threshold.
    joint : by norm, whether |g| is that of all parameters together, or each parameter is clipped alone; by value True.

    Returns
    -------
    Clipped

    Raises
    ------
    InputError : no gradient, or one with entries that are not finite or no real numbers; a threshold that is not a
        finite number above 0; an unknown way to clip.

    Examples
    --------
    >>> import gradscope as gs
    >>> gradient = {"W_hh": [[3e200, 0.0], [0.0, 4e200]]}  # the squares overflow
    >>> by_norm = gs.clip(gradient, 1.0)
    >>> by_norm.params["W_hh"].round(12).tolist(), by_norm.angle
    ([[0.6, 0.0], [0.0, 0.8]], 0.0)
    >>> by_value = gs.clip(gradient, 1.0, by="value")
    >>> by_value.params["W_hh"].tolist(), round(by_value.angle, 2)
    ([[1.0, 0.0], [0.0, 1.0]], 8.13)

    Notes
    -----
    By norm: Pascanu, Mikolov, Bengio (2013), arXiv 1211.5063. Computed in double precision, whatever the dtype.
    """
    positive(threshold=threshold)
    member = _member(threshold, by, joint)
    arrays = _check(gradients.params if isinstance(gradients, Gradients) else gradients)
    before = {name: _entries(array) for name, array in arrays.items()}
    after = member.clip(before)
    rows, rows_after = squares_of(before), squares_of(after)
    change = _change(before, rows, after, rows_after, member.turns)
    return Clipped(
        params={name: _like(arrays[name], part) for name, part in after.items()},
        log10_norm=float(log10_joint(rows)[0]),
        log10_norms={name: float(log10_joint(squares_of({name: part}))[0]) for name, part in before.items()},
        log10_clipped=float(log10_joint(rows_after)[0]),
        kept=float(change.kept[0]),
        angle=float(change.angle[0]),
        clipped=bool(change.clipped[0]),
    )


def effects(gradients: Gradient, specs: Sequence[str]) -> dict[str, Floats]:
    """What clips do to the gradients of training steps, by column, each (len(specs), C).

    Parameters
    ----------
    gradients : name -> (C, M, rows, columns) with an exponent a row: C networks, M steps (minibatches) of each.
    specs : of clips, say "norm:1".

    Returns
    -------
    dict : of the steps whose gradient is finite,
        `clip_share` the part of them that is clipped (by value: in any entry); `clip_kept` and `clip_kept_low` median
        and 10 % quantile of the norm after over the norm before; `clip_angle` and `clip_angle_high` median and 90 %
        quantile of the angle between the gradient before and after, in degrees; `clip_bias` and `clip_cosine`
        |E c - E g| / |E g| and the cosine of E c and E g, the means over steps of the clipped gradient c and of g.
        The same for all clips: `log10_norm_p50`, `_p90`, `_p99` quantiles of log10 |g|, and `log10_max_p50`, `_p90`,
        `_p99` those of the largest entry's magnitude; `nonfinite_share` the part of all steps whose gradient is not
        finite. Those count in nothing else; without any other, all but `nonfinite_share` is nan.
    """
    finite = np.logical_and.reduce([np.isfinite(part.mantissa).all(axis=(-2, -1)) for part in gradients.values()])
    before = {name: _only(part, finite) for name, part in gradients.items()}
    rows, total = squares_of(before), _total(before)
    found = [_effect(clips.clip_of(spec), before, rows, total, finite) for spec in specs]
    own = {name: np.stack([columns[name] for columns in found]) for name in found[0]}
    sizes = {"log10_norm": log10_joint(rows), "log10_max": _log10_largest(before)}
    common = {
        f"{size}_{name}": quantile(np.where(finite, values, np.nan), share)
        for size, values in sizes.items()
        for name, share in QUANTILES.items()
    }
    common["nonfinite_share"] = 1.0 - finite.mean(axis=1)
    return own | {name: np.tile(values, (len(specs), 1)) for name, values in common.items()}


class Recommendation(NamedTuple):
    """A threshold for clipping by norm (or, from the largest entries, by value), and what it was read from.

    Attributes
    ----------
    threshold : None where none can be supported.
    reason : why not; empty where there is a threshold.
    log10_p50, log10_p90, log10_p99 : quantiles of log10 of the norms; nan where there are too few steps for them.
    steps : how many were finite.
    nonfinite : how many were not. No clip makes anything of those: they are to be skipped.
    """

    threshold: float | None
    reason: str
    log10_p50: float
    log10_p90: float
    log10_p99: float
    steps: int
    nonfinite: int

    def times(self, factor: float) -> Recommendation:
        """The same for a loss `factor` times as large: S from a mean over S loss steps to their sum, 1/S back."""
        positive(factor=factor)
        shift = np.log10(factor)
        return self._replace(
            threshold=None if self.threshold is None else self.threshold * factor,
            log10_p50=self.log10_p50 + shift,
            log10_p90=self.log10_p90 + shift,
            log10_p99=self.log10_p99 + shift,
        )


def clip_threshold(log10_norms: ArrayLike, share: float = 0.1) -> Recommendation:
    """The threshold that clips a given share of the steps, from log10 of their norms before clipping (any shape).

    Parameters
    ----------
    log10_norms : -inf for a gradient that is exactly zero; nan or inf for one that is not finite, counted apart.
    share : of the finite steps that are to be clipped: 0.1 takes P90.

    Raises
    ------
    InputError : a share that is not between 0 and 1.

    Examples
    --------
    >>> import gradscope as gs
    >>> found = gs.clip_threshold(np.linspace(-1, 1, 101))  # 0.1 to 10, of a mean over 50 steps
    >>> round(found.threshold, 3), round(found.times(50).threshold, 1)  # and of their sum
    (6.31, 315.5)
    >>> gs.clip_threshold(np.zeros(7)).reason
    '7 steps with a finite gradient are too few: 20 are needed'
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"{share!r} is no share", where="share", allowed="a number above 0 and below 1")
    given = np.asarray(log10_norms, np.float64).ravel()
    live = given[given < np.inf]
    nonfinite = given.size - live.size
    p50, p90, p99 = (
        float(quantile(live, q)) if live.size >= steps_for(1.0 - q) else np.nan for q in QUANTILES.values()
    )
    reason = _refusal(live, nonfinite, share)
    threshold = None if reason else float(10.0 ** quantile(live, 1.0 - share))
    return Recommendation(threshold, reason, p50, p90, p99, live.size, nonfinite)


def touched(before: Gradient, after: Gradient) -> Flags:
    """Which gradients (...,) a clip has changed."""
    flags = [_differ(part, after[name]) for name, part in before.items() if after[name] is not part]
    if not flags:
        return np.zeros(next(iter(before.values())).exponent.shape[:-1], bool)
    return np.logical_or.reduce(flags)


def _differ(part: Scaled, other: Scaled) -> Flags:
    return (part.mantissa != other.mantissa).any(axis=(-2, -1)) | (part.exponent != other.exponent).any(axis=-1)


def quantile(values: Floats, share: float) -> Floats:
    """The quantile of the numbers along the last axis, nan left out: linear between neighbours, nan if there are none.

    Between -inf and a number it is -inf.

    >>> float(quantile(np.array([3.0, np.nan, 1.0, 2.0]), 0.75))
    2.5
    """
    ordered = np.sort(values, axis=-1)  # nan comes last
    place = share * np.maximum(np.count_nonzero(~np.isnan(ordered), axis=-1, keepdims=True) - 1, 0)
    below = np.floor(place)
    low, high = (np.take_along_axis(ordered, at.astype(np.int64), axis=-1) for at in (below, np.ceil(place)))
    part = place - below
    with np.errstate(invalid="ignore"):
        between = (1.0 - part) * low + part * high
    return np.where(low == high, low, between)[..., 0]


def steps_for(share: float) -> int:
    """Steps without which a quantile with `share` of them beyond it says nothing: one beyond it, and a few at all."""
    return max(FEWEST, ceil(1.0 / share))


def _refusal(live: Floats, nonfinite: int, share: float) -> str:
    """Why there is no threshold for finite steps of these log10 norms and so many others; empty if there is one."""
    if live.size < steps_for(share):
        return f"{live.size} steps with a finite gradient are too few: {steps_for(share)} are needed"
    if nonfinite > live.size:
        return f"{nonfinite} of {nonfinite + live.size} steps have no finite gradient, which no clip mends"
    wanted, p50, p99 = (float(quantile(live, q)) for q in (1.0 - share, QUANTILES["p50"], QUANTILES["p99"]))
    if min(wanted, p50) == -np.inf:
        return "too many gradients are exactly zero"
    if p99 - p50 > WIDEST:
        return f"norms span {p99 - p50:.1f} decades from P50 to P99: no single threshold serves"
    if not float_info.min_10_exp <= wanted < float_info.max_10_exp:
        return f"the threshold would be 1e{wanted:+.0f}, which is no number in float64"
    return ""


class _Change(NamedTuple):
    """What a clip changed in gradients, each (...,): see `Clipped`."""

    clipped: Flags
    kept: Floats
    angle: Floats


def _change(before: Gradient, rows: Squares, after: Gradient, rows_after: Squares, turns: bool) -> _Change:
    """The change from a gradient to the clipped one, both with the squares of their rows."""
    clipped = touched(before, after)
    (size, exponent), (left, power) = rows.joint(), rows_after.joint()
    with np.errstate(invalid="ignore"):
        kept = np.where(clipped, left / size * np.exp2((power - exponent).astype(np.float64)), 1.0)
    angle = _angle(_unit(before, rows), _unit(after, rows_after)) if turns else np.zeros_like(kept)
    return _Change(clipped, kept, angle)


def _unit(gradient: Gradient, rows: Squares) -> dict[str, Scaled]:
    """The gradient over its norm; zero if that is zero."""
    norm, exponent = rows.joint()
    norm = np.where(norm > 0.0, norm, 1.0)[..., None, None]
    return {
        name: Scaled(part.mantissa / norm.astype(part.mantissa.dtype), part.exponent - exponent[..., None])
        for name, part in gradient.items()
    }


def _angle(unit: Gradient, other: Gradient) -> Floats:
    """Degrees between unit gradients, from the chord between them: an arc cosine would lose small ones."""
    size, exponent = squares_of({name: part.minus(other[name]) for name, part in unit.items()}).joint()
    chord = size * np.exp2(exponent.astype(np.float64))
    return np.degrees(2.0 * np.arcsin(np.minimum(0.5 * chord, 1.0)))


def _effect(member: Clip, before: Gradient, rows: Squares, total: Gradient, finite: Flags) -> dict[str, Floats]:
    """The columns (C,) of one clip."""
    after = member.clip(before)
    change = _change(before, rows, after, squares_of(after), member.turns)
    kept, angle = (np.where(finite, values, np.nan) for values in (change.kept, change.angle))
    bias, cosine = _apart(_total(after), total)
    steps = np.where(finite.any(axis=1), finite.sum(axis=1), np.nan)
    return {
        "clip_share": change.clipped.sum(axis=1) / steps,
        "clip_kept": quantile(kept, 0.5),
        "clip_kept_low": quantile(kept, 0.1),
        "clip_angle": quantile(angle, 0.5),
        "clip_angle_high": quantile(angle, 0.9),
        "clip_bias": np.where(np.isnan(steps), np.nan, bias),
        "clip_cosine": cosine,
    }


def _only(part: Scaled, finite: Flags) -> Scaled:
    """The gradients (C, M, rows, columns) of the finite steps, zero for the others."""
    if finite.all():
        return part
    return Scaled(np.where(finite[..., None, None], part.mantissa, part.mantissa.dtype.type(0)), part.exponent)


def _total(gradient: Gradient) -> dict[str, Scaled]:
    """The sums (C, rows, columns) over steps; their ratios and angles are those of the means."""
    found = {}
    for name, part in gradient.items():
        exponent, mantissa = part.aligned(axis=1)
        found[name] = Scaled(mantissa.sum(axis=1, dtype=np.float64), exponent[:, 0])
        found[name].renormalise()
    return found


def _apart(total: Gradient, other: Gradient) -> tuple[Floats, Floats]:
    """Relative error and cosine (C,) of a gradient against another."""
    contrasts = [Contrast.of(part, other[name]) for name, part in total.items()]
    apart, products, exponents = zip(*contrasts, strict=True)
    values, powers = zip(*apart, strict=True)
    beside = Contrast(Squares(_beside(values), _beside(powers)), _beside(products), _beside(exponents))
    return compare(squares_of(total), squares_of(other), beside)


def _beside(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts, axis=-1)


def _log10_largest(gradient: Gradient) -> Floats:
    """log10 of the largest entry's magnitude (...,); -inf for zero."""
    found = []
    with np.errstate(divide="ignore"):
        for part in gradient.values():
            largest = np.maximum(part.mantissa.max(axis=-1), -part.mantissa.min(axis=-1))
            found.append((np.log10(largest, dtype=np.float64) + part.exponent * LOG10_2).max(axis=-1))
    return np.maximum.reduce(found)


def _member(threshold: float, by: str, joint: bool) -> Clip:
    names = {"norm": "norm" if joint else "norm-each", "value": "value"}
    if by not in names:
        raise unknown("way to clip", str(by), names, where="by")
    if by == "value" and not joint:
        raise InputError("False", where="joint", allowed='True with by="value", which clips each entry by itself')
    found: Clip = plugins.make(clips.FAMILY, names[by], {"theta": float(threshold)})
    return found


def _check(gradients: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a gradient, of real and finite numbers."""
    if not isinstance(gradients, Mapping) or not gradients:
        what = "no gradient" if isinstance(gradients, Mapping) else f"a {type(gradients).__name__}"
        raise InputError(
            what, where="gradients", allowed="a mapping from names to arrays, or what gs.backprop returned"
        )
    return {name: _real(str(name), array) for name, array in gradients.items()}


def _real(name: str, given: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError("rows of different lengths", where=name, allowed="an array") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"dtype {array.dtype}", where=name, allowed="real numbers")
    if not array.size:
        raise InputError(f"shape {array.shape}", where=name, allowed="at least one entry")
    lost = np.count_nonzero(~np.isfinite(array))
    if lost:
        raise InputError(f"{lost} value(s) not finite", where=name, hint="no clip finds their direction: skip the step")
    return array


def _entries(array: NDArray[Any]) -> Scaled:
    """One gradient (1, size, 1), each entry with an exponent of its own, so that none is lost beside a larger one."""
    mantissa, exponent = np.frexp(array.astype(_wide(array)).reshape(1, -1, 1))
    return Scaled(mantissa.astype(np.float64), exponent[..., 0].astype(np.int64))


def _like(array: NDArray[Any], part: Scaled) -> NDArray[Any]:
    """Such entries as an array like the one that they came from."""
    entries = np.ldexp(part.mantissa.astype(_wide(array)), part.exponent[..., None].astype(np.int32))
    return entries.reshape(array.shape).astype(array.dtype if array.dtype.kind == "f" else np.float64)


def _wide(array: NDArray[Any]) -> np.dtype[Any]:
    return np.promote_types(array.dtype, np.float64)
