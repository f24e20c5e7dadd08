"""Guards how a cell is made and its parameters are drawn."""

import numpy as np
import pytest

import gradscope as gs

SIZES = {"hidden_size": 6, "input_size": 3, "output_size": 2}


def test_initial_parameters_have_the_contracts_names_and_shapes():
    params = gs.cell("elman", **SIZES).init(seed=0, spectral_radius=1.1, ensemble="gaussian")
    shapes = {name: array.shape for name, array in params.items()}
    assert shapes == {"W_xh": (6, 3), "W_hh": (6, 6), "b_h": (6,), "W_hy": (2, 6), "b_y": (2,)}
    assert {array.dtype for array in params.values()} == {np.dtype(np.float64)}
    assert not params["b_h"].any()
    assert not params["b_y"].any()


def test_initial_parameters_can_be_changed_without_changing_the_next_draw():
    cell = gs.cell("elman", **SIZES)
    first = cell.init(seed=0, spectral_radius=1.0)
    kept = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        array += 1.0
    for name, array in cell.init(seed=0, spectral_radius=1.0).items():
        np.testing.assert_array_equal(array, kept[name])


@pytest.mark.parametrize("options", [{}, {"input_power": 0.5}])
@pytest.mark.parametrize("scale", [0.0, 0.1, 2.0])
def test_input_scale_is_the_spread_of_the_input_current(scale, options):
    cell = gs.cell("elman", hidden_size=400, input_size=25, output_size=1)
    W_xh = cell.init(seed=0, spectral_radius=1.0, input_scale=scale, **options)["W_xh"]
    x = np.random.default_rng(0).standard_normal((400, 25)) * np.sqrt(options.get("input_power", 25) / 25)
    np.testing.assert_allclose((x @ W_xh.T).std(), scale, rtol=0.05)


def test_readout_has_variance_one_over_n():
    W_hy = gs.cell("elman", hidden_size=400, input_size=1, output_size=50).init(seed=0, spectral_radius=1.0)["W_hy"]
    np.testing.assert_allclose(W_hy.var(), 1 / 400, rtol=0.05)


@pytest.mark.parametrize("size", sorted(SIZES))
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
def test_size_that_is_no_whole_number_is_refused(size, value):
    with pytest.raises(gs.InputError, match=rf"^{size}: .*whole number >= 1"):
        gs.cell("elman", **SIZES | {size: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 3}, "cell elman needs input_size, output_size"),
        (
            SIZES | {"hiden_size": 3},
            "unknown option of cell elman: 'hiden_size'; allowed: .*did you mean 'hidden_size'",
        ),
        (SIZES | {"activation": "gelu"}, "unknown activation 'gelu'; allowed: linear, relu, sigmoid, tanh"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(gs.InputError, match=message):
        gs.cell("elman", **options)


def test_negative_input_scale_is_refused():
    with pytest.raises(gs.InputError, match=r"input_scale.*at least 0"):
        gs.cell("elman", **SIZES).init(seed=0, spectral_radius=1.0, input_scale=-1.0)
