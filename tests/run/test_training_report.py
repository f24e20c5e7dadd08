"""The report of a training, and that of a sweep of them: findings are what tables hold, and the page stands alone."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from reading import Page

import gradscope as gs
from gradscope import figures, outcomes, results
from gradscope.reporting import anchored
from gradscope.reporting.comparison import compare
from gradscope.reporting.findings import findings
from gradscope.reporting.training import shown_texts

TINY = {"hidden_size": 4, "batch_size": 2, "steps": 6, "record_every": 2, "seq_len": 6}
TRAINED = {"hidden_size", "seq_len", "batch_size", "steps", "record_every", "learning_rate"}  # keys of `training`
HOSTILE = "</pre><script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(training, tmp_path_factory):
    """A folder of a training with its report, the page's text, and the page."""
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(training.folder, folder)
    text = gs.report(gs.load(folder)).read_text(encoding="utf-8")
    return folder, text, Page(text)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A training on a hostile text, in its folder."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "hostile.txt").write_text(HOSTILE * 60, encoding="utf-8")
    keys = {
        "file": str(folder / "hostile.txt"),
        "learning_rate": 0.05,
        "steps": 60,
        "record_every": 5,
        "hidden_size": 16,
    }
    return gs.train("text", folder / "out", command=f"x {HOSTILE}", **TINY | keys)


@pytest.fixture(scope="module")
def swept_page(trainings, tmp_path_factory):
    """The page of a sweep of trainings, with two of its figures."""
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(trainings.folder, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "names", lambda *_: ("final-loss", "memory"))
        text = gs.report(gs.load(folder), formats=()).read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture
def one_figure(monkeypatch):
    """Have pages hold one figure, where it is about something else."""
    monkeypatch.setattr(figures, "names", lambda *_: ("learning-curves",))


def of(loaded, topic, detail=""):
    """The one finding on something."""
    (only,) = [one for one in findings(loaded) if (one.topic, one.detail) == (topic, detail)]
    return only


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text.replace(",", ""))]


# --- what a training says ---------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_best_parameters(training):
    row = training.runs.iloc[0]
    text = of(training, "outcome", "losses").text
    steps, test, validation, best, *end = numbers(text)
    assert end == ([120] if best < 120 else [])
    assert (steps, best) == (120, row["best_step"])
    np.testing.assert_allclose([test, validation], [row["test_loss"], row["validation_loss"]], rtol=5e-3)
    assert "mean squared error" in text


def test_a_network_that_does_not_beat_naive_predictions_says_so(training):
    text = of(training, "outcome", "naive predictions").text
    network = training.runs["test_loss"].item()
    better, beaten = text.split(", only ")
    assert text.startswith("It does not beat ")
    naive = training.scores[training.scores["naive"]]
    for name, loss in zip(naive["predictor"], naive["loss"], strict=True):
        assert f"{name} ({loss:.3g})" in (beaten if loss > network else better)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.5, 0.9, 1.2], "It beats every naive prediction: the best of them, mean (0.9)."),
        ([0.95, 0.9, 1.2], "It does not beat mean (0.9), only last value (1.2)."),
        ([1.3, 0.9, 1.2], "It does not beat any naive prediction: mean (0.9) and last value (1.2)."),
        ([0.9, 0.9, 1.2], "It does not beat mean (0.9), only last value (1.2)."),
        ([np.nan, 0.9, 1.2], "It does not beat any naive prediction: mean (0.9) and last value (1.2)."),
    ],
)
def test_every_standing_beside_naive_predictions_is_a_whole_sentence(training, losses, said):
    scores = pd.DataFrame(
        {"predictor": ["network", "mean", "last value"], "loss": losses, "naive": [False, True, True]}
    )
    runs = training.runs.assign(test_loss=losses[0])
    altered = gs.History(**vars(training) | {"scores": scores.sort_values("loss"), "runs": runs})
    assert of(altered, "outcome", "naive predictions").text == said


def test_errors_of_free_running_forecasts_are_in_per_cent_of_the_amplitude(training):
    finding = of(training, "outcome", "running freely")
    rmse = training.horizons[~training.horizons["naive"]].set_index("horizon")["rmse"]
    amplitude = np.sqrt(2.0) * training.manifest["units"]["scale"]
    assert amplitude == pytest.approx(np.sqrt(2.0), rel=0.01)  # of the wave that the task draws
    expected = 100 * np.array([rmse[20], rmse[100], np.sqrt((rmse**2).mean())]) / amplitude
    row = finding.rows.set_index("predictor").loc["network"]
    np.testing.assert_allclose(row, expected, rtol=1e-12)
    assert list(row.index) == ["one period (20 steps) ahead", "five periods ahead", "over all 100 steps"]
    said = numbers(finding.text.partition(" (in %")[0])
    np.testing.assert_allclose([said[0], said[2], said[3]], expected, rtol=0.06)
    assert "(in % of the amplitude, √2 standard deviations; 64 origins in the test part)" in finding.text
    assert "The best naive forecast over all 100 steps, seasonal, has" in finding.text


def test_a_series_without_a_period_is_held_against_its_standard_deviation():
    history = gs.train("series", **TINY)
    text = of(history, "outcome", "running freely").text
    assert "one step ahead, " in text
    assert "50 steps ahead" in text
    assert "in % of the standard deviation;" in text


def test_clipped_steps_are_counted(training):
    count = int(training.steps["clipped"].sum())
    last = training.steps.loc[training.steps["clipped"], "step"].max()
    text = of(training, "training", "clipping").text
    assert text.startswith(f"Clipped (norm:1) in {count} of 120 steps, ")
    assert f"for the last time at step {last};" in text
    off = gs.train("sine", **TINY | {"clip": "none"})
    assert of(off, "training", "clipping").text.startswith("Gradients were not clipped; the median norm")


def test_how_gradients_fade_at_the_start_and_in_the_end_is_said():
    keys = {"activation": "linear", "ensemble": "orthogonal", "spectral_radius": 0.5, "seq_len": 12}
    history = gs.train("sine", **TINY | keys)
    finding = of(history, "training", "reach")
    assert finding.text.startswith(
        "The gradient of the last loss, under full BPTT, on average halves every 1 steps back (-3.3 decades over 11 "
        "steps) before training; after 6 steps of it, it on average halves every "
    )
    last = history.lags[history.lags["step"] == 6]
    slope = np.polyfit(last["lag"][3:], last["log10_reach"][3:], 1)[0] * np.log(10.0)  # after the transient
    assert finding.rows["rate (nats a step)"].iloc[-1] == pytest.approx(slope)
    assert finding.rows["half-life (steps)"].iloc[-1] == pytest.approx(np.log(2) / -slope)


def test_what_the_weights_became_is_said(training):
    first, last = training.history.iloc[0], training.history.iloc[-1]
    text = of(training, "training", "weights").text
    radii = f"from {first['spectral_radius']:.3g} to {last['spectral_radius']:.3g}"
    assert f"The spectral radius of W_hh went {radii}, its spectral norm" in text


def test_a_training_that_diverged_says_so_first_and_has_its_report(tmp_path, one_figure):
    keys = {"optimizer": "sgd", "learning_rate": 50.0, "clip": "off", "activation": "linear", "spectral_radius": 1.3}
    history = gs.train("sine", tmp_path / "out", **TINY | keys | {"steps": 40})
    step = len(history.steps)
    first = findings(history)[0]
    assert first.text.startswith(f"Diverged at step {step} of 40; losses are those of the best parameters before")
    assert first.topic == "caveats"
    text = gs.report(history, formats=()).read_text(encoding="utf-8")
    Page(text)
    assert f"{step} steps of training in" in text
    assert f"diverged at step {step}" in text
    assert "nan" not in " ".join(finding.text for finding in findings(history))


def test_a_training_that_stopped_early_says_so():
    keys = {"optimizer": "sgd", "learning_rate": 1e-9, "patience": 2, "steps": 40}
    history = gs.train("noise", **TINY | keys)
    said = findings(history)[0].text
    assert (
        said
        == f"Stopped early at step {len(history.steps)} of 40: the validation loss had not become less at 2 looks in a "
        "row."
    )


ODD = {
    "one step": ("noise", {"seq_len": 1}),
    "one update": ("sine", {"steps": 1, "seq_len": 3}),
    "no gradient": ("sine", {"activation": "relu", "input_scale": 0.0}),
    "an early loss": ("noise", {"loss_steps": 3, "seq_len": 8}),
    "coins": ("adding", {"truncation": "random:3", "clip": "value:0.01"}),
    "explosion": (
        "sine",
        {
            "activation": "linear",
            "spectral_radius": 5.0,
            "seq_len": 40,
            "optimizer": "sgd",
            "learning_rate": 1e6,
            "clip": "off",
        },
    ),
    "overflow": ("sine", {"activation": "linear", "spectral_radius": 1e30, "seq_len": 400}),
}


@pytest.mark.parametrize(("task", "keys"), ODD.values(), ids=ODD)
def test_odd_trainings_have_figures_and_findings(task, keys, tmp_path):
    history = gs.train(task, **TINY | keys)
    drawn = figures.write(history, tmp_path, formats=[])
    assert all(one.files or one.reason for one in drawn)
    texts = " ".join(finding.text for finding in findings(history))
    assert "nan" not in texts
    assert "inf" not in texts


ODD_SWEEPS = {
    "several tasks": {"task": ["recall", "adding", "copy"], "length": 1, "delay": 2, "truncation": ["full", "fixed:2"]},
    "radii": {"task": "sine", "spectral_radius": [0.1 * tenth for tenth in range(1, 10)]},
    "steps and looks": {"task": "sine", "steps": [2, 5], "record_every": [2, 3]},
    "losses": {"task": "noise", "loss": ["mse", "cross_entropy"], "output_size": 3},
    "nothing but explosions": {
        "task": "sine",
        "learning_rate": [1e6, 1e7],
        "optimizer": "sgd",
        "clip": "off",
        "activation": "linear",
    },
}


@pytest.mark.parametrize("overrides", ODD_SWEEPS.values(), ids=ODD_SWEEPS)
def test_odd_sweeps_of_trainings_have_figures_and_findings(overrides, tmp_path):
    (tmp_path / "odd.toml").write_text('[sweep]\nname = "odd"\nmeasure = "training"\n')
    odd = gs.sweep(tmp_path / "odd.toml", tmp_path / "out", overrides=TINY | overrides, jobs=1)
    drawn = {one.name: one for one in figures.write(odd, tmp_path / "figures", formats=[])}
    assert all(one.files or one.reason.startswith("needs runs") for one in drawn.values())
    assert drawn["learning-curves"].files
    texts = " ".join(finding.text for finding in findings(odd))
    assert "nan" not in texts
    assert "inf" not in texts


# --- the page of a training -------------------------------------------------------------------------------------------


def test_the_page_of_a_training_stands_alone(page):
    folder, text, parsed = page
    assert parsed.tags.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})
    assert all(value.startswith("data:image/") for value in parsed.loaded)
    for link in parsed.links:
        if not link.startswith(("#", "data:", "https://arxiv.org/abs/", "https://doi.org/")):
            assert (folder / link).is_file()
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in parsed.scripts}
    assert len(parsed.scripts) == 1
    assert set(re.findall(r"'sha256-([^']+)'", parsed.policy)) == hashes
    assert len(text.encode()) < 2_000_000


def test_links_within_the_page_of_a_training_have_their_targets(page):
    folder, text, parsed = page
    anchors = {link[1:] for link in parsed.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert anchors <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    found = anchored(findings(gs.load(folder)))
    assert found.keys() <= set(parsed.ids)
    assert {f"rows-{key}" for key, finding in found.items() if finding.rows is not None} <= set(parsed.ids)
    shown = {finding.figure for finding in found.values()}
    assert {"learning-curves", "horizon-error", "step-lag-map", "training-gradients", "trained-weights"} == shown
    assert {*shown, "prediction"} <= set(parsed.ids)


def test_the_page_says_what_was_trained_its_scores_its_methods_and_where_it_comes_from(page, training):
    _, text, _ = page
    for expected in (
        '<th scope="row">learning_rate</th><td>0.01</td>',
        '<th scope="row">record_every</th><td>20</td>',
        training.manifest["hash"],
        training.manifest["versions"]["numpy"],
        "120 steps of training in",
        "<td>seasonal</td><td>naive</td>",
        "<td>network</td><td>trained</td>",
        'id="method-recorded"',
        "adam[:BETA1:BETA2:EPSILON]",
        "@inproceedings{kingma2015adam",
    ):
        assert expected in text
    assert 'id="method-bias"' not in text  # of sweeps of gradients
    assert "chen2018dynamical" not in text  # theory of networks as they are drawn


def test_the_report_of_a_training_is_the_same_when_written_again_and_leaves_it_whole(training, tmp_path, one_figure):
    folder = shutil.copytree(training.folder, tmp_path / "out")
    text = gs.report(gs.load(folder)).read_text(encoding="utf-8")
    assert gs.report(gs.load(folder)).read_text(encoding="utf-8") == text
    keys = {key: value for key, value in training.run.parameters.items() if key in TRAINED}
    again = gs.train("sine", folder, **keys)  # nothing is trained again, and the folder is no stranger's
    assert again.manifest == gs.load(folder).manifest


def test_texts_are_shown_as_they_come_and_escaped(writer, one_figure):
    text = gs.report(writer, formats=()).read_text(encoding="utf-8")
    parsed = Page(text)
    assert HOSTILE not in text
    assert len(parsed.scripts) == 1
    assert 'id="text-0"' in text
    assert 'id="text-60"' in text
    assert text.count('<pre class="sample">') == 8
    assert "8 of 13; all of them are in samples.parquet" in text
    assert "bits a character" in of(writer, "outcome", "losses").text


def test_texts_that_are_chosen_begin_and_end_with_the_first_and_the_last():
    many = pd.DataFrame({"step": np.arange(0, 1000, 10), "text": [f"text {i}" for i in range(100)]})
    chosen = shown_texts(many)
    assert (chosen[0], chosen[-1], len(chosen)) == ((0, "text 0"), (990, "text 99"), 8)
    assert shown_texts(many[:0]) == []
    assert shown_texts(many[:3]) == [(0, "text 0"), (10, "text 1"), (20, "text 2")]


def test_a_training_in_no_folder_has_no_report():
    with pytest.raises(gs.InputError, match=r"^report: the training is in no folder; gs.train\(..., out=FOLDER\)$"):
        gs.report(gs.train("noise", **TINY))


def test_a_folder_is_loaded_as_what_it_holds(training, trainings):
    assert isinstance(gs.load(training.folder), gs.History)
    assert isinstance(gs.load(trainings.folder), gs.Results)
    pd.testing.assert_frame_equal(gs.load(training.folder).steps, training.steps)
    with pytest.raises(gs.InputError, match="holds a training, not a sweep"):
        results.load(training.folder)


# --- a sweep of trainings ---------------------------------------------------------------------------------------------


def test_the_page_of_a_sweep_of_trainings_has_no_part_of_gradients(swept_page, trainings):
    text, parsed = swept_page
    assert {"explorer", "ledger", "method-bias", "gradient-vs-lag"}.isdisjoint(parsed.ids)
    assert {"memory", "final-loss", "method-recorded", "failures", "sweep"} <= set(parsed.ids)
    anchors = {link[1:] for link in parsed.links if link.startswith("#")}
    assert anchors <= set(parsed.ids)
    assert not (trainings.folder / "ledger.parquet").exists()
    assert "diverged</td>" in text  # runs by status


def remembered(trainings, ratios):
    """The finding on memory of a part of the sweep, whose test losses are these, by truncation and delay."""
    part = trainings.select(learning_rate=0.1)
    part.runs["test_loss"] = [
        ratios[truncation][delay] for truncation, delay in zip(part.runs["truncation"], part.runs["delay"], strict=True)
    ]
    return of(part, "memory", "recall")


def test_up_to_where_a_memory_task_is_solved_is_said_of_each_truncation(trainings):
    finding = remembered(trainings, {"full": {1: 0.01, 3: 0.02}, "fixed:2": {1: 0.05, 3: 0.99}})
    assert finding.text == (
        "Recall over 1 to 3 steps: solved (test loss below 10 % of chance, median over 3 seeds), by truncation: full "
        "at all measured; fixed:2 up to 1. At chance (above 90 % of it): fixed:2 at 3."
    )
    assert finding.figure == "memory"
    assert list(finding.rows["test loss / chance: median"]) == [0.05, 0.99, 0.01, 0.02]
    unsolved = remembered(trainings, {"full": {1: 0.5, 3: 0.6}, "fixed:2": {1: 0.7, 3: 0.8}}).text
    assert unsolved.endswith("full at none; fixed:2 at none. At chance (above 90 % of it): none.")


def test_trainings_that_diverged_are_counted_and_told_apart(trainings):
    lost = trainings.runs["status"].astype(str).str.startswith("diverged")
    finding = of(trainings, "caveats", "diverged")
    assert finding.text.startswith(f"{lost.sum()} of 24 trainings diverged")
    assert finding.rows["diverged"].sum() == lost.sum()
    assert set(finding.rows["learning_rate"]) == {1e4}


def test_how_many_trainings_beat_chance_is_said(trainings):
    beat = (trainings.runs["test_loss"] < 1.0).sum()
    assert f"{beat} of 24 trainings beat chance" in of(trainings, "outcome", "naive recall").text
    part = trainings.select(learning_rate=0.1)
    for losses, said in (
        (0.5, "recall: all 12 trainings beat chance"),
        (1.5, "recall: none of 12 trainings beats chance"),
    ):
        part.runs["test_loss"] = losses
        assert of(part, "outcome", "naive recall").text.startswith(said)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """Trainings on a sine wave that differ in radius, truncation and clip; not to be changed."""
    folder = tmp_path_factory.mktemp("waves")
    (folder / "waves.toml").write_text('[sweep]\nname = "waves"\nmeasure = "training"\ntask = "sine"\n')
    overrides = {
        "spectral_radius": [0.5, 1.0],
        "truncation": ["full", "fixed:2"],
        "clip": ["off", "norm:0.5"],
        "seeds": 2,
    }
    return gs.sweep(folder / "waves.toml", folder / "out", overrides=TINY | overrides, jobs=1)


def test_the_best_setting_and_each_truncation_at_its_best_are_said(waves):
    settings = ["spectral_radius", "truncation", "clip"]
    medians = waves.runs.groupby(settings, observed=True)["test_loss"].median().sort_values()
    finding = of(waves, "outcome", "best sine")
    radius, truncation, clip = medians.index[0]
    best = f"the least test loss is {medians.iloc[0]:.3g} (median over 2 seeds), with "
    assert best in finding.text
    assert f"spectral_radius {radius:g}, truncation {truncation} and clip {clip};" in finding.text
    for spec, own in medians.groupby("truncation"):
        assert f"{spec} {own.min():.3g} (" in finding.text.partition("at its best (10 % to 90 % of the seeds): ")[2]
    np.testing.assert_allclose(finding.rows["test loss: median"], medians)
    assert "none of 16 trainings beats the best naive prediction" in of(waves, "outcome", "naive sine").text


def test_the_share_of_clipped_steps_is_said_of_each_clip(waves):
    shares = waves.runs[waves.runs["clip"] == "norm:0.5"]["clip_share"]
    finding = of(waves, "clipping")
    row = finding.rows.set_index("clip").loc["norm:0.5"]
    assert list(row) == [shares.median(), shares.min(), shares.max(), 0, 8]
    assert "off 0 %, 0 of 8 trainings diverged" in finding.text


def test_what_radii_became_is_said_of_each_that_was_swept(waves):
    medians = waves.runs.groupby("spectral_radius")["trained_radius"].median()
    text = of(waves, "training", "weights").text
    assert f"from 0.5 to {medians[0.5]:.3g} and from 1 to {medians[1.0]:.3g}" in text


def test_a_sweep_of_one_setting_has_findings_and_a_report(tmp_path, one_figure):
    (tmp_path / "one.toml").write_text('[sweep]\nname = "one"\nmeasure = "training"\ntask = "copy"\nlength = 1\n')
    one = gs.sweep(tmp_path / "one.toml", tmp_path / "out", overrides=TINY, jobs=1)
    assert outcomes.swept(one) == []
    texts = [finding.text for finding in findings(one)]
    assert any(text.startswith("One seed") for text in texts)
    assert any(text.startswith("Copy over 4 steps: solved") for text in texts)
    Page(gs.report(one, formats=()).read_text(encoding="utf-8"))


def test_sweeps_of_trainings_are_compared_by_their_test_losses(waves, trainings, training, small, tmp_path, one_figure):
    shutil.copytree(waves.folder, tmp_path / "first")
    shutil.copytree(waves.folder, tmp_path / "second")
    first, second = (gs.load(tmp_path / name) for name in ("first", "second"))
    second.runs["test_loss"] *= 2.0
    text = compare([first, second], tmp_path / "comparison.html").read_text(encoding="utf-8")
    Page(text)
    assert text.count('<td class="number">2</td>') == 0
    assert len(re.findall(r"<td>2</td>", text)) == 8  # the ratio at each setting
    with pytest.raises(gs.InputError, match=r"^compare: a single training; allowed: sweeps"):
        compare([training, training], tmp_path / "no.html")
    with pytest.raises(gs.InputError, match=r"^compare: some sweeps are of trainings"):
        compare([small, trainings], tmp_path / "no.html")
