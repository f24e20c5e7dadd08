"""Tables of sweeps that claims are about: by value, against closed forms and against the runs taken one by one."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.special import digamma, polygamma

import gradscope as gs
from gradscope import quantities
from gradscope.errors import InputError
from gradscope.gates import chrono_bias
from gradscope.influence import descend

TINY = {"hidden_size": 4, "seq_len": 30, "batch_size": 2, "input_size": 2, "seeds": 3}


def swept(folder, measure="gradients", **keys):
    """A small sweep of these keys."""
    experiment = folder / "tiny.toml"
    experiment.write_text(f'[sweep]\nmeasure = "{measure}"\n', encoding="utf-8")
    return gs.sweep(experiment, folder / "out", TINY | keys, jobs=1)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Linear networks with orthogonal W_hh: gradients change by the spectral radius at every step."""
    keys = {"activation": "linear", "ensemble": "orthogonal", "spectral_radius": [0.5, 1.0, 1.25]}
    return swept(tmp_path_factory.mktemp("linear"), **keys)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """Gated cells without weights or inputs, which gates alone keep from forgetting."""
    biases = {"forget_bias": [-1.0, 0.0, 2.0], "update_bias": [0.0, 3.0]}
    keys = {"cell": ["lstm", "gru"], "spectral_radius": 0.0, "input_scale": 0.0}
    return swept(tmp_path_factory.mktemp("gated"), **biases, **keys)


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Another Gaussian W_hh at every step, and one for all."""
    keys = {"activation": "linear", "tied": [False, True], "spectral_radius": [0.5, 2.0], "washout": 5}
    return swept(tmp_path_factory.mktemp("products"), "jacobian", **keys, hidden_size=3)


@pytest.fixture(scope="module")
def balancing(tmp_path_factory):
    keys = {"iterations": [5, 40], "truncation": ["full", "chunked:3", "chunked:50"], "seq_len": 2, "seeds": 2}
    return gs.sweep("influence-balancing", tmp_path_factory.mktemp("balancing") / "out", keys, jobs=1)


# --- points and seeds -------------------------------------------------------------------------------------------------


def test_numbers_of_runs_are_means_over_seeds_with_their_errors(linear):
    table = quantities.runs(linear)
    assert table.index.names == ["spectral_radius"]
    for radius in (0.5, 1.0, 1.25):
        losses = linear.select(spectral_radius=radius).runs["loss_value"].to_numpy()
        found = table.loc[radius]
        assert found["loss_value"] == pytest.approx(losses.sum() / 3, rel=1e-12)
        apart = losses - losses.sum() / 3
        assert found["loss_value_error"] == pytest.approx(np.sqrt((apart @ apart) / 2 / 3), rel=1e-12)
        assert (found["loss_value_least"], found["loss_value_most"]) == (min(losses), max(losses))
    assert not {"seed", "spectral_radius", "shard_row"} & set(table)


def test_one_seed_has_no_error_and_one_point_is_all_runs(tmp_path):
    table = quantities.runs(swept(tmp_path, seeds=1))
    assert list(table.index) == ["all"]
    assert table.index.names == ["runs"]
    assert "loss_value_most" in table
    assert not [name for name in table if name.endswith("_error") and name != "relative_error"]  # that is measured


def test_texts_are_levels_too(balancing):
    table = quantities.runs(balancing)
    assert table.index.names == ["truncation", "loss_steps", "iterations"]
    theta = descend("chunked:50", "all", "mean", 1e-4, 40, seed=0).theta[-1]
    assert table.loc[("chunked:50", "all", 40), "theta"] == pytest.approx(theta, rel=1e-12)
    assert table.loc[("chunked:50", "all", 40), "theta_error"] == 0.0


# --- gradients by lag -------------------------------------------------------------------------------------------------


def test_gradients_of_orthogonal_networks_change_by_the_radius(linear):
    table = quantities.rates(linear)
    assert table.index.names == ["spectral_radius", "part"]
    radius = table.index.get_level_values("spectral_radius").to_numpy()
    for column in ("factor", "law", "factor_least", "factor_most"):
        np.testing.assert_allclose(table[column], radius, rtol=1e-9)
    for column in ("rate", "law_rate"):
        np.testing.assert_allclose(table[column], np.log(radius), atol=1e-9)
    np.testing.assert_allclose(table["departure_most"], 0.0, atol=1e-9)
    np.testing.assert_allclose(table["half_life"], [1.0, np.inf, np.inf], rtol=1e-9)
    np.testing.assert_allclose(table["law_half_life"], [1.0, np.inf, np.inf], rtol=1e-9)
    assert table["memory"].iloc[0] == pytest.approx(2.0, rel=1e-9)
    assert table["memory"].iloc[1] > 1e9
    assert table["memory"].iloc[2] == np.inf
    np.testing.assert_allclose(table["law_memory"], [2.0, np.inf, np.inf])


def test_norms_by_lag_are_powers_of_the_radius(linear):
    table = quantities.norms(linear).reset_index()
    assert len(table) == 3 * TINY["seq_len"]
    powers = table["spectral_radius"] ** table["lag"]
    np.testing.assert_allclose(table["ratio"], powers, rtol=1e-9)
    np.testing.assert_allclose(table["law"], powers, rtol=1e-12)


def test_biases_of_gates_are_one_parameter_whatever_cells_call_them(gated):
    table = quantities.rates(gated)
    assert table.index.names == ["cell", "bias", "part"]
    kept = table.query("part == 'c' or cell == 'gru'")
    assert list(kept.index) == [
        *(("gru", bias, "h") for bias in (0.0, 3.0)),
        *(("lstm", bias, "c") for bias in (-1.0, 0.0, 2.0)),
    ]
    sigmoid = 1.0 / (1.0 + np.exp(-kept.index.get_level_values("bias").to_numpy()))
    for column in ("factor", "law"):
        np.testing.assert_allclose(kept[column], sigmoid, rtol=1e-9)
    for column in ("memory", "law_memory"):
        np.testing.assert_allclose(kept[column], 1.0 / (1.0 - sigmoid), rtol=1e-8)
    np.testing.assert_allclose(kept["half_life"], np.log(0.5) / np.log(sigmoid), rtol=1e-9)
    assert table.query("cell == 'lstm' and part == 'h'")["rate"].isna().all()  # h passes nothing on


def test_memories_that_are_drawn_are_those_of_their_biases(tmp_path):
    keys = {"cell": "gru", "chrono": [10, 20], "hidden_size": 1, "spectral_radius": 0.0, "input_scale": 0.0}
    table = quantities.rates(swept(tmp_path, **keys, seeds=5)).droplevel("part")
    for longest in (10, 20):
        memories = [1.0 + np.exp(chrono_bias(seed, 1, longest)[0]) for seed in range(5)]
        assert table.loc[longest, "memory"] == pytest.approx(np.mean(memories), rel=1e-9)
        assert table.loc[longest, "memory_error"] == pytest.approx(np.std(memories, ddof=1) / 5**0.5, rel=1e-9)
        assert table.loc[longest, "memory_most"] == pytest.approx(max(memories), rel=1e-9)
        assert table.loc[longest, "law_memory"] == 1.0 + longest / 2
    assert table["law"].isna().all()


def test_stacks_have_no_law(tmp_path):
    keys = {"cell": "lstm", "num_layers": 2, "forget_bias": [0.0, 1.0], "spectral_radius": 0.0}
    assert quantities.rates(swept(tmp_path, **keys))["law"].isna().all()


# --- exponents --------------------------------------------------------------------------------------------------------


def test_exponents_are_means_of_the_spectra_beside_newmans_law(products):
    table = quantities.exponents(products)
    assert table.index.names == ["spectral_radius", "tied", "i"]
    for radius in (0.5, 2.0):
        own = products.select(spectral_radius=radius, tied=False)
        spectra = own.spectrum["exponent"].to_numpy().reshape(3, 3)  # seeds, exponents
        fresh = table.loc[(radius, False)]
        np.testing.assert_allclose(fresh["exponent"], spectra.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(fresh["exponent_error"], spectra.std(axis=0, ddof=1) / np.sqrt(3), rtol=1e-9)
        at = (3 - np.arange(3)) / 2
        law = 0.5 * (np.log(2 * radius**2 / 3) + digamma(at))
        np.testing.assert_allclose(fresh["law"], law, rtol=1e-12)
        np.testing.assert_allclose(fresh["law_variance"], polygamma(1, at) / 4, rtol=1e-12)
        errors = own.spectrum["error"].to_numpy().reshape(3, 3)
        np.testing.assert_allclose(fresh["variance"], 20 * (errors**2).mean(axis=0), rtol=1e-12)


def test_exponents_of_one_matrix_have_the_mean_of_the_laws_of_their_draws(products):
    table = quantities.exponents(products)
    cell = gs.cell("elman", hidden_size=3, input_size=2, output_size=1, activation="linear")
    draws = [cell.init(seed=seed, spectral_radius=0.5)["W_hh"] for seed in range(3)]
    moduli = [np.sort(np.abs(np.linalg.eigvals(draw)))[::-1] for draw in draws]
    np.testing.assert_allclose(table.loc[(0.5, True), "law"], np.log(moduli).mean(axis=0), rtol=1e-9)
    assert table.loc[(0.5, True), "law_variance"].isna().all()


# --- influence balancing ----------------------------------------------------------------------------------------------


def test_influences_are_sums_of_binomials_and_theta_is_the_last(balancing):
    table = quantities.influences(balancing)
    assert table.index.names == ["loss_steps", "chunk"]
    used = [sum((1 if i < 10 else -1) * comb(k, i) for i in range(min(k + 1, 23))) / 2**k for k in range(50)]
    sums = np.cumsum(used)
    for column in ("influence", "law"):
        np.testing.assert_allclose(table.loc[("last", [3, 50]), column], sums[[2, 49]], rtol=1e-12)
        np.testing.assert_allclose(
            table.loc[("all", [3, 50]), column], [sums[:3].mean(), sums.mean()], rtol=1e-12, atol=1e-12
        )
    theta = descend("chunked:3", "last", "mean", 1e-4, 40, seed=0).theta[-1]
    assert table.loc[("last", 3), "theta"] == pytest.approx(theta, rel=1e-12)


# --- what there is not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exponents", 'no exponents were measured; measure = "jacobian"'),
        ("influences", 'no influences were measured; task = "influence-balancing"'),
    ],
)
def test_what_was_not_measured_is_said(name, message, linear):
    with pytest.raises(InputError, match=message):
        quantities.TABLES[name](linear)


@pytest.mark.parametrize("name", ["rates", "norms"])
def test_gradients_by_lag_need_a_single_loss(name, tmp_path):
    with pytest.raises(InputError, match='no gradient of a single loss was measured; truncation = "full"'):
        quantities.TABLES[name](swept(tmp_path, loss_steps="all"))


def test_every_table_says_what_it_is():
    assert all(table.__doc__ for table in quantities.TABLES.values())
