"""Guards clipping: one suite that every clip passes, definitions in 60-digit arithmetic, closed forms, and refusals.

A new clip needs a line in EXAMPLES, and its definition, taken literally, in DEFINITIONS.
"""

import math
import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import DIGITS
from problems import problem

import gradscope as gs
from gradscope import clips, plugins
from gradscope.clipping import clip_threshold, effects, quantile
from gradscope.clips import clip_of
from gradscope.gradients import by_parameter
from gradscope.scaled import Scaled, scaled

EXAMPLES = {  # canonical specs, of gradients whose entries are about 1
    "off": ["off"],
    "norm": ["norm:1", "norm:4.5", "norm:1e-300", "norm:1e+300"],
    "norm-each": ["norm-each:0.5", "norm-each:3", "norm-each:1e-300"],
    "value": ["value:0.1", "value:1.5", "value:5", "value:1e-300"],
}
MEMBERS = plugins.names(clips.FAMILY)
SPECS = [spec for name in MEMBERS for spec in EXAMPLES.get(name, [])]
SHAPES = {"W_xh": (3, 4), "W_hh": (4, 4), "b_h": (1, 4)}
FAR = [0, 30, -1000, 1000, -16000, 16000]  # powers of two

every_spec = pytest.mark.parametrize("spec", SPECS)
with_theta = pytest.mark.parametrize("name", [name for name in MEMBERS if name != "off"])
entries = st.floats(-8, 8).map(lambda v: round(v, 3))
gradients_in_2d = st.tuples(entries, entries)
thresholds = st.floats(0.01, 20)


def draw(seed=0, lead=(3, 5), shapes=SHAPES, power=0, dtype=np.float64):
    """Random gradients by parameter, their entries about 2**power."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        found[name] = scaled(rng.standard_normal((*lead, *shape)).astype(dtype))
        found[name].exponent[...] += power
    return found


def one(found, index):
    """A single gradient among many."""
    return {name: part[index] for name, part in found.items()}


def exact(found):
    """The entries of a single gradient, by parameter, in 60 digits."""
    with localcontext(DIGITS):
        return {
            name: [
                Decimal(float(v)) * Decimal(2) ** int(e)
                for row, e in zip(part.mantissa, part.exponent, strict=True)
                for v in row
            ]
            for name, part in found.items()
        }


def norm_of(numbers):
    with localcontext(DIGITS):
        return sum(v * v for v in numbers).sqrt()


def every(numbers):
    return [v for part in numbers.values() for v in part]


def assert_near(found, expected, rtol=1e-14):
    """Entries agree to rounding of each parameter's largest one."""
    with localcontext(DIGITS):
        for name, numbers in expected.items():
            atol = Decimal(rtol) * max(map(abs, numbers))
            for v, right in zip(found[name], numbers, strict=True):
                assert abs(v - right) <= atol, name


# --- conformance: every member of the family -------------------------------------------------------------------------


def shrunk(numbers, theta):
    with localcontext(DIGITS):
        norm = norm_of(numbers)
        return [v * theta / norm for v in numbers] if norm > theta else numbers


def limited(numbers, theta):
    return [min(max(v, -theta), theta) for v in numbers]


def jointly(found, theta):
    with localcontext(DIGITS):
        factor = min(Decimal(1), theta / norm_of(every(found)))
        return {name: [v * factor for v in numbers] for name, numbers in found.items()}


DEFINITIONS = {
    "off": lambda found: found,
    "norm": jointly,
    "norm-each": lambda found, theta: {name: shrunk(numbers, theta) for name, numbers in found.items()},
    "value": lambda found, theta: {name: limited(numbers, theta) for name, numbers in found.items()},
}


def definition(spec, found):
    name, *arguments = spec.split(":")
    return DEFINITIONS[name](found, *(Decimal(float(argument)) for argument in arguments))


@pytest.mark.parametrize("name", MEMBERS)
def test_member_has_examples_and_a_definition(name):
    assert EXAMPLES.get(name), f"give the clip {name!r} some specs in EXAMPLES of {__file__}"
    assert name in DEFINITIONS, f"give the clip {name!r} its definition in DEFINITIONS of {__file__}"


@pytest.mark.parametrize("name", MEMBERS)
def test_member_is_frozen_and_described(name):
    member = plugins.find(clips.FAMILY, name)
    assert member.__dataclass_params__.frozen
    assert member.__doc__


@every_spec
def test_spec_is_canonical_and_comes_back(spec):
    assert plugins.spec_of(clip_of(spec)) == spec


@every_spec
@pytest.mark.parametrize("power", FAR)
def test_clip_is_its_definition_at_any_magnitude(spec, power):
    found = draw(seed=1, lead=(2, 3), power=power)
    clipped = clip_of(spec).clip(found)
    for index in np.ndindex(2, 3):
        assert_near(exact(one(clipped, index)), definition(spec, exact(one(found, index))))


@every_spec
def test_rows_of_very_different_size_are_clipped_by_definition(spec):
    found = draw(seed=2, lead=(4,))
    found["W_hh"].exponent[...] += [0, -700, 3, 6000]
    found["W_xh"].exponent[1] -= 9000
    found["b_h"].mantissa[2] = 0.0
    clipped = clip_of(spec).clip(found)
    for index in range(4):
        assert_near(exact(one(clipped, index)), definition(spec, exact(one(found, index))))


@every_spec
def test_shape_and_dtype_stay(spec):
    for dtype in (np.float64, np.float32):
        found = draw(dtype=dtype, power=4)
        for name, part in clip_of(spec).clip(found).items():
            assert part.mantissa.shape == found[name].mantissa.shape
            assert part.exponent.shape == found[name].exponent.shape
            assert part.mantissa.dtype == dtype
            assert part.exponent.dtype == np.int64


@every_spec
def test_float32_agrees_with_float64(spec):
    single = draw(seed=3, lead=(2,), dtype=np.float32)
    double = {name: Scaled(part.mantissa.astype(float), part.exponent) for name, part in single.items()}
    clipped, expected = (clip_of(spec).clip(found) for found in (single, double))
    for index in range(2):
        assert_near(exact(one(clipped, index)), exact(one(expected, index)), rtol=3e-7)


@every_spec
def test_gradient_itself_is_not_changed(spec):
    found, same = draw(seed=4, power=3), draw(seed=4, power=3)
    clip_of(spec).clip(found)
    for name, part in found.items():
        np.testing.assert_array_equal(part.mantissa, same[name].mantissa)
        np.testing.assert_array_equal(part.exponent, same[name].exponent)


@every_spec
def test_gradient_does_not_depend_on_those_beside_it(spec):
    found = draw(seed=5, lead=(4,))
    found["W_hh"].exponent[...] += np.array([0, 2, -50, 4000])[:, None]
    together = clip_of(spec).clip(found)
    for index in range(4):
        alone = clip_of(spec).clip(one(found, slice(index, index + 1)))
        assert exact(one(alone, 0)) == exact(one(together, index))


@every_spec
def test_what_lies_within_stays_as_it_is(spec):
    found = draw(seed=6, power=-1100)
    for name, part in clip_of(spec).clip(found).items():
        np.testing.assert_array_equal(part.mantissa, found[name].mantissa)
        np.testing.assert_array_equal(part.exponent, found[name].exponent)


@every_spec
@given(seed=st.integers(0, 200), power=st.integers(-5, 5))
def test_norm_never_grows_and_a_second_clip_changes_nothing(spec, seed, power):
    found = draw(seed, lead=(2,), power=power)
    clipped = clip_of(spec).clip(found)
    again = clip_of(spec).clip(clipped)
    for index in range(2):
        before, after = (norm_of(every(exact(one(part, index)))) for part in (found, clipped))
        assert after <= before * (1 + Decimal("1e-15"))
        assert_near(exact(one(again, index)), exact(one(clipped, index)), rtol=1e-15)


@every_spec
@given(seed=st.integers(0, 200), power=st.integers(-5, 5))
def test_clip_that_says_that_it_does_not_turn_keeps_the_direction(spec, seed, power):
    found = one(draw(seed, lead=(1,), power=power), slice(None))
    before, after = (every(exact(one(part, 0))) for part in (found, clip_of(spec).clip(found)))
    with localcontext(DIGITS):
        cosine = sum(a * b for a, b in zip(before, after, strict=True)) / (norm_of(before) * norm_of(after))
    assert cosine > 0
    if not clip_of(spec).turns:
        assert abs(1 - cosine) < 1e-30


@with_theta
@given(theta=thresholds, seed=st.integers(0, 200), factor=st.floats(1e-3, 1e3))
def test_clip_of_a_multiple_at_the_multiple_of_the_threshold_is_the_multiple(name, theta, seed, factor):
    member = plugins.find(clips.FAMILY, name)
    found = draw(seed, lead=(1,), power=2)
    times = {key: Scaled(factor * part.mantissa, part.exponent.copy()) for key, part in found.items()}
    once, scaled_up = member(theta).clip(found), member(theta * factor).clip(times)
    with localcontext(DIGITS):
        expected = {key: [Decimal(factor) * v for v in part] for key, part in exact(one(once, 0)).items()}
    assert_near(exact(one(scaled_up, 0)), expected, rtol=2e-15)


@with_theta
@pytest.mark.parametrize(
    ("theta", "fault"),
    [("0", "not 0.0"), ("-1", "not -1.0"), ("nan", "not nan"), ("inf", "not inf"), ("x", "theta must be a number")],
)
def test_impossible_threshold_is_refused(name, theta, fault):
    with pytest.raises(gs.InputError, match=rf"'{name}:{theta}': .*{fault}.*allowed: norm:THETA, norm-each:THETA, off"):
        clip_of(f"{name}:{theta}")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("norm", r"'norm' has 0 argument\(s\), norm takes 1"),
        ("off:1", r"'off:1' has 1 argument\(s\), off takes 0"),
        ("norm:1:2", r"'norm:1:2' has 2 argument"),
        ("norms:1", "unknown clip 'norms'.*did you mean 'norm'"),
        ("", "unknown clip ''"),
    ],
)
def test_impossible_spec_is_refused_with_what_is_possible(spec, fault):
    with pytest.raises(gs.InputError, match=fault) as caught:
        clip_of(spec)
    assert all(name in str(caught.value) for name in MEMBERS)


# --- gs.clip: closed forms -------------------------------------------------------------------------------------------


def test_projection_has_the_thresholds_norm_and_no_angle():
    g = gs.clip({"W": [[3.0, 4.0]], "b": [12.0]}, 6.5)
    np.testing.assert_allclose(g.params["W"], [[1.5, 2.0]], rtol=1e-15)
    np.testing.assert_allclose(g.params["b"], [6.0], rtol=1e-15)
    assert (g.clipped, g.angle) == (True, 0.0)
    np.testing.assert_allclose(g.kept, 0.5, rtol=1e-15)
    np.testing.assert_allclose([g.log10_norm, g.log10_clipped], np.log10([13, 6.5]), rtol=1e-15)
    np.testing.assert_allclose([g.log10_norms["W"], g.log10_norms["b"]], np.log10([5, 12]), rtol=1e-15)


def test_each_parameter_alone_turns_the_whole():
    g = gs.clip({"W": [3.0, 4.0], "b": 12.0}, 5.0, joint=False)
    np.testing.assert_allclose(g.params["W"], [3.0, 4.0], rtol=0)  # norm exactly at the threshold
    np.testing.assert_allclose(g.params["b"], 5.0, rtol=1e-15)
    np.testing.assert_allclose(g.angle, math.degrees(math.atan2(12, 5) - math.atan2(5, 5)), rtol=1e-13)
    np.testing.assert_allclose(g.kept, math.sqrt(50) / 13, rtol=1e-15)


@given(x=st.floats(1, 1e6), y=st.floats(0.001, 1e6), theta=st.floats(0.001, 1e3))
def test_value_clip_in_the_plane_has_the_angle_of_the_square(x, y, theta):
    g = gs.clip({"W": [x, -y]}, theta, by="value")
    a, b = min(x, theta), min(y, theta)
    np.testing.assert_array_equal(g.params["W"], [a, -b])
    expected = abs(math.atan2(y * a - x * b, x * a + y * b))  # cross and inner product
    np.testing.assert_allclose(g.angle, math.degrees(expected), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(g.kept, math.hypot(a, b) / math.hypot(x, y), rtol=1e-14)
    assert g.clipped == (max(x, y) > theta)


def test_small_angle_keeps_its_digits():
    g = gs.clip({"W": [1.0, 1.0 + 1e-9]}, 1.0, by="value")
    np.testing.assert_allclose(g.angle, math.degrees(0.5e-9), rtol=1e-6)


@given(g=gradients_in_2d, theta=thresholds)
def test_clip_by_norm_is_the_definition_with_hypot(g, theta):
    norm = math.hypot(*g)
    found = gs.clip({"W": g}, theta)
    factor = theta / norm if norm > theta else 1.0
    np.testing.assert_allclose(found.params["W"], np.multiply(g, factor), rtol=1e-15, atol=0)
    np.testing.assert_allclose(found.kept, factor, rtol=1e-15)
    assert found.angle == 0.0


@pytest.mark.parametrize("by", ["norm", "value"])
def test_exactly_at_the_threshold_nothing_is_clipped(by):
    given_ = np.array([3.0, -4.0]) if by == "norm" else np.array([5.0, -5.0])
    g = gs.clip({"W": given_}, 5.0, by=by)
    np.testing.assert_array_equal(g.params["W"], given_)
    assert (g.clipped, g.kept, g.angle) == (False, 1.0, 0.0)
    assert g.log10_clipped == g.log10_norm
    assert gs.clip({"W": given_ * (1 + 2**-50)}, 5.0, by=by).clipped


@pytest.mark.parametrize("options", [{}, {"joint": False}, {"by": "value"}])
def test_zero_gradient_is_left_alone(options):
    g = gs.clip({"W": np.zeros((2, 3)), "b": [0.0]}, 1.0, **options)
    assert (g.clipped, g.kept, g.angle) == (False, 1.0, 0.0)
    assert (g.log10_norm, g.log10_clipped) == (-np.inf, -np.inf)
    assert g.log10_norms == {"W": -np.inf, "b": -np.inf}
    np.testing.assert_array_equal(g.params["W"], np.zeros((2, 3)))


# --- gs.clip: range, dtype, what it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-160, 1e160, 1e200, 1.7e308])
def test_norm_does_not_leave_the_range_before_the_clip(size):
    unit = size / 4 if size > 1e300 else size
    g = gs.clip({"W": [[2.0 * unit, 0.0], [0.0, -2.0 * unit]], "b": [unit]}, unit)
    rtol = 1e-15 if unit > 1e-300 else 1e-3  # subnormal numbers have few digits
    np.testing.assert_allclose(g.params["W"], np.array([[2, 0], [0, -2]]) * (unit / 3), rtol=rtol)
    np.testing.assert_allclose(g.params["b"], [unit / 3], rtol=rtol)
    np.testing.assert_allclose(g.log10_norm, math.log10(unit) + math.log10(3), rtol=1e-15)
    np.testing.assert_allclose(g.kept, 1 / 3, rtol=1e-15)


def test_norm_beyond_float64_is_told_and_clipped():
    g = gs.clip({"W": np.full(100, 1e308)}, 10.0)
    np.testing.assert_allclose(g.params["W"], np.ones(100), rtol=1e-15)
    np.testing.assert_allclose([g.log10_norm, g.log10_clipped], [309, 1], rtol=1e-15)


def test_clip_by_a_power_of_two_is_a_clip():
    g = gs.clip({"W": [2.0**100]}, 2.0**50)
    assert (g.clipped, g.kept, g.params["W"]) == (True, 2.0**-50, [2.0**50])


def test_small_entries_beside_large_ones_are_not_lost():
    given_ = [1e300, -1e-300, 1e-20]
    np.testing.assert_array_equal(gs.clip({"W": given_}, 5.0, by="value").params["W"], [5.0, -1e-300, 1e-20])
    np.testing.assert_allclose(gs.clip({"W": given_}, 1e300).params["W"], given_, rtol=0)
    np.testing.assert_allclose(gs.clip({"W": given_}, 1e299).params["W"], [1e299, -1e-301, 1e-21], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("by", ["norm", "value"])
def test_dtype_and_shape_are_those_given(dtype, by):
    given_ = {"W": np.array([[30.0, 40.0]], dtype), "b": np.array(0.25, dtype)}
    g = gs.clip(given_, 1.0, by=by)
    expected = {"norm": [[0.6, 0.8]], "value": [[1.0, 1.0]]}[by]
    for name, array in g.params.items():
        assert (array.dtype, array.shape) == (dtype, given_[name].shape)
    np.testing.assert_allclose(g.params["W"], np.array(expected, dtype), rtol=1e-4)


def test_float32_norm_beyond_float32_is_clipped_and_not_zeroed():
    g = gs.clip({"W": np.array([3e38, -3e38], np.float32)}, 2.0)
    np.testing.assert_allclose(g.params["W"], [math.sqrt(2), -math.sqrt(2)], rtol=1e-7)
    np.testing.assert_allclose(g.log10_norm, math.log10(3e38) + 0.5 * math.log10(2), rtol=1e-8)


def test_integers_and_lists_become_float64():
    g = gs.clip({"W": [[6, 8]]}, 5)
    assert g.params["W"].dtype == np.float64
    np.testing.assert_allclose(g.params["W"], [[3.0, 4.0]], rtol=1e-15)


def test_arrays_given_are_not_changed_nor_shared():
    array = np.array([3.0, 4.0])
    for threshold in (1.0, 100.0):
        found = gs.clip({"W": array}, threshold).params["W"]
        assert not np.shares_memory(found, array)
    np.testing.assert_array_equal(array, [3.0, 4.0])


def test_gradients_of_backprop_are_taken_as_they_are():
    g = problem(T=7).backprop()
    found, same = gs.clip(g, 1e-3), gs.clip(g.params, 1e-3)
    np.testing.assert_allclose(found.log10_clipped, -3, rtol=1e-15)
    for name, norm in g.log10_params.items():
        np.testing.assert_allclose(found.log10_norms[name], norm, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(found.params[name], same.params[name])


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        ({}, "^gradients: no gradient; allowed: a mapping"),
        ([1.0, 2.0], "^gradients: a list; allowed: a mapping"),
        ({"W": [1.0], "b": [np.nan, np.inf, 0.0]}, r"^b: 2 value\(s\) not finite; .*skip the step"),
        ({"W": [1j]}, "^W: dtype complex128; allowed: real numbers"),
        ({"W": [True]}, "^W: dtype bool; allowed: real numbers"),
        ({"W": None}, "^W: dtype object; allowed: real numbers"),
        ({"W": [[1.0], [1.0, 2.0]]}, "^W: rows of different lengths"),
        ({"W": np.zeros((0, 3))}, r"^W: shape \(0, 3\); allowed: at least one entry"),
    ],
)
def test_unusable_gradient_is_refused(gradient, message):
    with pytest.raises(gs.InputError, match=message):
        gs.clip(gradient, 1.0)


@pytest.mark.parametrize("threshold", [0, 0.0, -1.0, math.nan, math.inf, -math.inf, "1", None, True, 10**400])
@pytest.mark.parametrize("by", ["norm", "value"])
def test_unusable_threshold_is_refused(threshold, by):
    with pytest.raises(gs.InputError, match=r"^threshold: must be a finite number above 0, not "):
        gs.clip({"W": [1.0]}, threshold, by=by)


def test_unknown_way_to_clip_is_refused_with_the_choices():
    with pytest.raises(gs.InputError, match=r"^by: unknown way to clip 'valu'; allowed: norm, value; .*'value'"):
        gs.clip({"W": [1.0]}, 1.0, by="valu")


# --- effects over steps ----------------------------------------------------------------------------------------------


def slowly(found, spec):
    """The columns of one clip, of one network's steps, from their definitions in 60 digits."""
    steps = [exact(one(found, (0, m))) for m in range(found["W_hh"].exponent.shape[1])]
    with localcontext(DIGITS):
        true = [every(step) for step in steps]
        clipped = [every(definition(spec, step)) for step in steps]
        kept = [float(norm_of(c) / norm_of(g)) for c, g in zip(clipped, true, strict=True)]
        angle = []
        for c, g in zip(clipped, true, strict=True):
            a, b = norm_of(c), norm_of(g)
            chord = norm_of([x / a - y / b for x, y in zip(c, g, strict=True)])
            angle.append(math.degrees(2 * math.asin(float(chord / 2))))
        E_c, E_g = ([sum(column) / len(rows) for column in zip(*rows, strict=True)] for rows in (clipped, true))
        bias = norm_of([x - y for x, y in zip(E_c, E_g, strict=True)]) / norm_of(E_g)
        cosine = sum(x * y for x, y in zip(E_c, E_g, strict=True)) / (norm_of(E_c) * norm_of(E_g))
        norms = [float(norm_of(g).log10()) for g in true]
        largest = [float(max(map(abs, g)).log10()) for g in true]
    columns = {
        "clip_share": np.mean([c != g for c, g in zip(clipped, true, strict=True)]),
        "clip_kept": np.quantile(kept, 0.5),
        "clip_kept_low": np.quantile(kept, 0.1),
        "clip_angle": np.quantile(angle, 0.5),
        "clip_angle_high": np.quantile(angle, 0.9),
        "clip_bias": float(bias),
        "clip_cosine": float(cosine),
        "nonfinite_share": 0.0,
    }
    for q in (50, 90, 99):
        columns |= {f"log10_norm_p{q}": np.quantile(norms, q / 100), f"log10_max_p{q}": np.quantile(largest, q / 100)}
    return columns


def of_size(powers, seed=7, C=2):
    """Gradients of C networks, in steps of very different size."""
    found = draw(seed, lead=(C, len(powers)))
    for part in found.values():
        part.exponent[...] += np.array(powers)[:, None]
    return found


MIXED = {
    "ordinary": ([0, 1, 2, 3, -1, -2, 1], ["off", "norm:4.5", "norm-each:3", "value:1.5", "value:0.1"]),
    "huge": ([5000, 5001, 4999, 2, 0, 5003], ["off", "norm:1", "norm-each:1e+300", "value:5"]),
    "tiny": ([-5000, -5001, -1000, -1001, -998], ["off", "norm:1e-300", "norm-each:1e-301", "value:1e-300"]),
}


@pytest.mark.parametrize("size", MIXED)
def test_columns_are_their_definitions(size):
    powers, specs = MIXED[size]
    found = of_size(powers)
    columns = effects(found, specs)
    assert all(values.shape == (len(specs), 2) for values in columns.values())
    for k, spec in enumerate(specs):
        for c in range(2):
            expected = slowly(one(found, slice(c, c + 1)), spec)
            assert set(columns) == set(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(columns[name][k, c], value, rtol=1e-11, atol=1e-12, err_msg=f"{spec} {name}")


def test_where_nothing_is_clipped_nothing_changes():
    found = effects(draw(), ["off", "norm:1e+3", "norm-each:1e+3", "value:1e+3"])
    for name in ("clip_share", "clip_angle", "clip_angle_high", "clip_bias"):
        np.testing.assert_array_equal(found[name], np.zeros((4, 3)))
    for name in ("clip_kept", "clip_kept_low"):
        np.testing.assert_array_equal(found[name], np.ones((4, 3)))
    np.testing.assert_allclose(found["clip_cosine"], 1, rtol=1e-15)


def two_points(small, large, steps, often):
    """One network whose gradient is `small` in `often` of its steps and `large` in the others."""
    points = np.where(np.arange(steps)[:, None] < often, small, large)
    return {"W": scaled(points[None, :, None, :])}


def test_bias_of_two_opposite_points_is_the_closed_form():
    # g = -1 nine times in ten and 19 once: E g = 1. Clipped at 1 the mean is -0.8, at 5 it is -0.4: the wrong sign.
    found = effects(two_points([-1.0], [19.0], 50, 45), ["norm:1", "norm:5", "value:5", "norm:10", "norm:19"])
    np.testing.assert_allclose(found["clip_bias"][:, 0], [1.8, 1.4, 1.4, 0.9, 0.0], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found["clip_cosine"][:, 0], [-1, -1, -1, 1, 1], rtol=1e-14)
    np.testing.assert_allclose(found["clip_share"][:, 0], [0.1, 0.1, 0.1, 0.1, 0.0], rtol=1e-15)


def test_clipping_of_single_steps_turns_their_mean():
    # g = (1, 0) or (0, 8), equally often: clipped at 1, no step is turned, but the mean goes from (1, 8)/2 to (1, 1)/2.
    found = effects(two_points([1.0, 0.0], [0.0, 8.0], 10, 5), ["norm:1"])
    np.testing.assert_allclose(found["clip_cosine"], 9 / math.sqrt(130), rtol=1e-14)
    np.testing.assert_allclose(found["clip_bias"], 7 / math.sqrt(65), rtol=1e-14)
    np.testing.assert_array_equal(found["clip_angle_high"], 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_steps_without_a_finite_gradient_count_apart(value):
    specs = ["norm:2", "norm-each:1", "value:0.5"]
    found, some = draw(seed=8, lead=(2, 6)), draw(seed=8, lead=(2, 6))
    for name, part in some.items():
        some[name] = Scaled(np.insert(part.mantissa, 2, 7.0, axis=1), np.insert(part.exponent, 2, 9, axis=1))
    some["W_hh"].mantissa[:, 2, 1, 3] = value
    with_it, without = effects(some, specs), effects(found, specs)
    np.testing.assert_allclose(with_it.pop("nonfinite_share"), 1 / 7, rtol=1e-15)
    np.testing.assert_array_equal(without.pop("nonfinite_share"), 0.0)
    for name, values in without.items():
        np.testing.assert_allclose(with_it[name], values, rtol=1e-13, err_msg=name)


def test_network_without_any_finite_step_is_nan_and_its_neighbour_is_not():
    found = draw(seed=9)
    found["b_h"].mantissa[1] = np.nan
    columns = effects(found, ["off", "norm:1", "value:1"])
    np.testing.assert_array_equal(columns.pop("nonfinite_share"), np.tile([0.0, 1.0, 0.0], (3, 1)))
    for name, values in columns.items():
        np.testing.assert_array_equal(np.isnan(values), np.tile([False, True, False], (3, 1)), err_msg=name)


def test_steps_with_a_zero_gradient_are_steps():
    found = draw(seed=10, lead=(1, 4))
    for part in found.values():
        part.mantissa[:, :3] = 0.0
    columns = effects(found, ["norm:1e-3"])
    assert columns["clip_share"][0, 0] == 0.25
    assert columns["clip_kept"][0, 0] == 1.0
    assert columns["log10_norm_p50"][0, 0] == -np.inf


def test_networks_do_not_depend_on_each_other():
    found, specs = of_size([0, 3, 1000, -20], C=3), ["norm:3", "norm-each:3", "value:2"]
    together = effects(found, specs)
    for c in range(3):
        for name, values in effects(one(found, slice(c, c + 1)), specs).items():
            np.testing.assert_allclose(together[name][:, [c]], values, rtol=1e-14, err_msg=name)


def test_columns_of_float32_agree_with_float64():
    specs = ["norm:3", "norm-each:2", "value:0.7"]
    single = draw(seed=11, dtype=np.float32)
    double = {name: Scaled(part.mantissa.astype(float), part.exponent) for name, part in single.items()}
    expected = effects(double, specs)
    for name, values in effects(single, specs).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_gradients_as_the_engine_lays_them_out():
    case = problem(T=6, B=2)
    n, P, D = 4, 4 + 3 + 1, 4
    rng = np.random.default_rng(12)
    weights = scaled(rng.standard_normal((5, P, D)))
    readout = scaled(rng.standard_normal((5, n + 1, 3)))
    parts = by_parameter(case.cell, weights, readout)
    steps = {
        name: Scaled(part.mantissa[None], part.exponent[None]) for name, part in parts.items()
    }  # five steps of one network
    found = effects(steps, ["norm:2", "value:1"])
    norms = [
        math.log10(math.sqrt(math.fsum(v * v for part in parts.values() for v in part.mantissa[m].flat)))
        for m in range(5)
    ]
    np.testing.assert_allclose(found["log10_norm_p50"], np.median(norms), rtol=1e-14)
    np.testing.assert_allclose(found["clip_kept"][0], np.median(2 / 10 ** np.array(norms)), rtol=1e-13)


def test_unknown_clip_is_refused():
    with pytest.raises(gs.InputError, match=r"unknown clip 'nrom'.*did you mean 'norm'"):
        effects(draw(), ["nrom:1"])


# --- quantiles and recommendations -----------------------------------------------------------------------------------


@given(
    rows=st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=9), min_size=1, max_size=4),
    share=st.floats(0, 1),
)
def test_quantile_is_numpys_of_the_numbers_that_there_are(rows, share):
    values = np.full((len(rows), 9), np.nan)
    for row, numbers in zip(values, rows, strict=True):
        row[9 - len(numbers) :] = numbers
    expected = [np.quantile(numbers, share) for numbers in rows]
    np.testing.assert_allclose(quantile(values, share), expected, rtol=1e-12, atol=1e-12)


def test_quantile_of_nothing_is_nan_and_of_minus_infinity_itself():
    assert np.isnan(quantile(np.full(3, np.nan), 0.5))
    assert quantile(np.array([-np.inf, -np.inf, 1.0]), 0.5) == -np.inf
    assert quantile(np.array([-np.inf, 1.0]), 0.5) == -np.inf
    assert quantile(np.array([-np.inf, 1.0]), 1.0) == 1.0


def lognormal(steps, decades=0.3, seed=0):
    return decades * np.random.default_rng(seed).standard_normal(steps)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_recommended_threshold_clips_the_share_asked_for(share):
    log10_norms = lognormal(1000)
    found = clip_threshold(log10_norms.reshape(10, 100), share)
    assert found.reason == ""
    assert np.count_nonzero(10**log10_norms > found.threshold) == round(1000 * share)
    expected = [np.quantile(log10_norms, q) for q in (0.5, 0.9, 0.99)]
    np.testing.assert_allclose([found.log10_p50, found.log10_p90, found.log10_p99], expected, rtol=1e-12)
    assert (found.steps, found.nonfinite) == (1000, 0)


def test_recommendation_of_a_sum_over_steps_is_that_of_the_mean_times_their_number():
    case = problem(T=8, B=2)
    norms = {}
    for reduction in ("mean", "sum"):
        found = [case._replace(x=case.x + 0.01 * k).backprop(loss_steps="all", reduction=reduction) for k in range(24)]
        norms[reduction] = [gs.clip(g, 1.0).log10_norm for g in found]
    of_mean, of_sum = (clip_threshold(norms[reduction]) for reduction in ("mean", "sum"))
    np.testing.assert_allclose(of_mean.times(8).threshold, of_sum.threshold, rtol=1e-12)
    np.testing.assert_allclose(of_sum.times(1 / 8).log10_p90, of_mean.log10_p90, rtol=0, atol=1e-12)


def test_steps_that_are_not_finite_are_counted_and_left_out():
    log10_norms = lognormal(200)
    found = clip_threshold([*log10_norms, np.nan, np.inf, np.nan])
    assert found == clip_threshold(log10_norms)._replace(nonfinite=3)
    assert clip_threshold([*log10_norms, *[np.nan] * 200]).threshold == found.threshold


@pytest.mark.parametrize(
    ("log10_norms", "share", "reason"),
    [
        (lognormal(19), 0.1, "19 steps with a finite gradient are too few: 20 are needed"),
        ([], 0.1, "0 steps .* too few"),
        (lognormal(99), 0.01, "99 steps .* too few: 100 are needed"),
        ([*lognormal(30), *[np.nan] * 31], 0.1, "31 of 61 steps have no finite gradient"),
        (np.full(30, -np.inf), 0.1, "too many gradients are exactly zero"),
        ([*lognormal(20), *[-np.inf] * 21], 0.1, "too many gradients are exactly zero"),
        (lognormal(1000, decades=2.0), 0.1, r"norms span \d.\d decades from P50 to P99: no single threshold serves"),
        (lognormal(100) + 400, 0.1, r"would be 1e\+400, which is no number in float64"),
        (lognormal(100) - 400, 0.1, "would be 1e-400"),
    ],
    ids=["few", "none", "few for the share", "not finite", "zero", "half zero", "heavy tail", "huge", "tiny"],
)
def test_threshold_that_cannot_be_supported_is_not_given(log10_norms, share, reason):
    found = clip_threshold(log10_norms, share)
    assert found.threshold is None
    assert found.times(2).threshold is None
    assert re.search(reason, found.reason)


def test_quantiles_that_too_few_steps_cannot_tell_are_nan():
    few, some, many = (clip_threshold(lognormal(steps)) for steps in (19, 99, 100))
    assert np.isnan([few.log10_p50, few.log10_p90, few.log10_p99]).all()
    assert np.isnan([some.log10_p50, some.log10_p90, some.log10_p99]).tolist() == [False, False, True]
    assert np.isfinite(many.log10_p99)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_impossible_share_is_refused(share):
    with pytest.raises(gs.InputError, match=r"^share: .* is no share; allowed: a number above 0 and below 1"):
        clip_threshold(lognormal(100), share)


def test_impossible_factor_is_refused():
    with pytest.raises(gs.InputError, match=r"^factor: must be a finite number above 0, not 0"):
        clip_threshold(lognormal(100)).times(0)


def test_clipping_by_value_knows_no_joint_norm():
    with pytest.raises(gs.InputError, match="joint: False; allowed: True with by="):
        gs.clip({"W_hh": [[1.0]]}, 0.5, by="value", joint=False)
