"""The report: one file, nothing from elsewhere, what users wrote escaped, and findings that the data support."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from reading import Page
from scipy import stats
from small_sweep import SMALL

import gradscope as gs
from gradscope import figures, measuring, papers, plugins
from gradscope.engine import measure
from gradscope.figures import gradient_vs_length
from gradscope.reporting import anchored, by_topic
from gradscope.reporting.explorer import explorer
from gradscope.reporting.findings import Finding, _boundary_text, findings, rates
from gradscope.reporting.method import FAMILIES
from gradscope.reporting.pictures import SMALL_FILE, SMALL_SVG, inlined, picture
from gradscope.reporting.references import _entries, _fields, references
from gradscope.reporting.tables import shown


@pytest.fixture(scope="module")
def page(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(small.folder, folder)
    text = gs.report(gs.load(folder)).read_text(encoding="utf-8")
    return folder, text, Page(text)


def of(results, topic, panel=None, detail=""):
    """The one finding on something."""
    found = [one for one in findings(results) if (one.topic, one.detail) == (topic, detail)]
    (only,) = found if panel is None else [one for one in found if one.panel == panel]
    return only


def test_nothing_is_loaded_from_elsewhere(page):
    folder, text, parsed = page
    assert parsed.tags.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})
    assert all(value.startswith("data:image/") for value in parsed.loaded)
    assert "@import" not in text
    for link in parsed.links:
        if not link.startswith(("#", "data:", "https://arxiv.org/abs/", "https://doi.org/")):
            assert (folder / link).is_file()


def test_the_policy_allows_the_scripts_that_are_there_and_no_others(page, small):
    _, _, parsed = page
    texts = [*parsed.scripts, explorer(small).library_text]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}
    assert len(parsed.scripts) == 2  # the explorer's and the page's
    assert set(re.findall(r"'sha256-([^']+)'", parsed.policy)) == hashes
    rules = dict(rule.strip().split(" ", 1) for rule in parsed.policy.split(";"))
    assert {name: rule for name, rule in rules.items() if name != "script-src"} == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
    }


def test_every_link_within_the_page_has_its_target(page):
    _, text, parsed = page
    anchors = {link[1:] for link in parsed.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert anchors
    assert anchors <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_every_finding_leads_to_its_figure_and_its_rows(page):
    folder, _, parsed = page
    found = anchored(findings(gs.load(folder)))
    assert found.keys() <= set(parsed.ids)
    assert {f"rows-{key}" for key, finding in found.items() if finding.rows is not None} <= set(parsed.ids)
    assert {f"#{finding.figure}" for finding in found.values() if finding.figure} <= set(parsed.links)


def test_the_page_is_small(page):
    _, text, _ = page
    assert len(text.encode()) < 5_000_000


def test_downloads_are_the_files_themselves(page):
    folder, _, parsed = page
    packed = [link for link in parsed.links if link.startswith("data:")]
    kinds = {"text/csv": "csv", "image/png": "png", "application/pdf": "pdf"}
    held = {
        (kinds[link[5:].partition(";")[0]], hashlib.sha256(base64.b64decode(link.partition(",")[2])).hexdigest())
        for link in packed
    }
    files = [path for path in (folder / "figures").iterdir() if path.suffix in (".csv", ".png", ".pdf")]
    small = {
        (path.suffix[1:], hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
        if path.stat().st_size <= SMALL_FILE
    }
    assert small
    assert held == small
    assert {f"figures/{path.name}" for path in files if path.stat().st_size > SMALL_FILE} <= set(parsed.links)


def test_the_page_says_what_was_swept_and_how(page, small):
    _, text, _ = page
    for expected in (
        small.manifest["hash"],
        "fixed:3",
        "0.5, 1.0, 1.5",
        small.manifest["versions"]["numpy"],
        "192 runs",
    ):
        assert expected in text


def test_the_report_is_the_same_when_written_again(page):
    folder, text, _ = page
    assert gs.report(gs.load(folder)).read_text(encoding="utf-8") == text


def test_what_comes_from_users_is_escaped(tmp_path):
    hostile = "<script>alert(1)</script>"
    series = tmp_path / "series.csv"
    pd.DataFrame({hostile: np.sin(np.arange(100.0))}).to_csv(series, index=False)
    small = {key: value for key, value in SMALL.items() if key not in ("input_size", "activation")}
    overrides = small | {"task": "series", "file": str(series), "column": hostile, "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1, command=f"x {hostile}")
    text = gs.report(results).read_text(encoding="utf-8")
    assert hostile not in text
    assert "&lt;script&gt;alert(1)" in text


def test_orthogonal_linear_networks_cross_where_the_rate_is_interpolated_to_zero_with_their_half_life(orthogonal):
    text = findings(orthogonal)[0].text
    crossing = 0.9 + 0.2 * np.log(0.9) / (np.log(0.9) - np.log(1.1))
    half_life = np.log(2) / -np.log(0.9)
    assert f"Gradients vanish below spectral radius {crossing:.4f} ± 0.0000 and explode above it" in text
    assert f"At spectral radius 0.9 the gradient halves every {half_life:.3g} steps." in text


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([0.01, 0.05, 0.09], "fixed:3 at all measured"),
        ([0.01, 0.05, 0.11], "fixed:3 up to 1"),
        ([0.2, 0.3, 0.4], "fixed:3 at none"),
        ([0.2, 0.01, 0.01], "fixed:3 at 1, 1.5"),
        ([np.nan, 0.01, 0.2], "fixed:3 up to 1"),
    ],
)
def test_a_truncation_is_said_to_be_good_where_its_bias_is_small(small, errors, said):
    part = small.select(activation="tanh", truncation=["full", "fixed:3"])
    by_radius = dict(zip((0.5, 1.0, 1.5), errors, strict=True))
    part.runs["relative_error"] = part.runs["spectral_radius"].map(by_radius)
    assert f"{said}." in of(part, "bias").text


def test_a_small_median_is_not_enough_where_seeds_disagree(small):
    part = small.select(activation="tanh", truncation=["full", "fixed:3"], seq_len=12)
    part.runs["relative_error"] = np.where(part.runs["seed"] == 0, 0.01, 0.15)  # median 0.08, interval to 5
    found = of(part, "bias")
    assert "fixed:3 at none." in found.text
    assert "95 % confidence over 2 seeds" in found.text
    assert found.rows[["bias below 10 %", "median below it"]].to_numpy().tolist() == [["at none", "at all measured"]]


def test_of_one_seed_no_confidence_is_claimed(small):
    text = of(small.select(seed=0, activation="tanh"), "bias").text
    assert "in the one seed measured, without interval" in text
    assert "confidence" not in text


def test_rates_in_the_rows_are_those_of_the_radius(orthogonal):
    rows = of(orthogonal, "regimes").rows
    radii = np.array([0.8, 0.9, 1.1, 1.2])
    np.testing.assert_allclose(rows["spectral radius"], radii)
    np.testing.assert_allclose(rows["rate (nats a step)"], np.log(radii), atol=1e-12)
    np.testing.assert_allclose(rows["half-life (steps)"], np.where(radii < 1, np.log(2) / -np.log(radii), np.nan))
    assert rows["vanish in"].tolist() == [3, 3, 0, 0]
    assert rows["grow in"].tolist() == [0, 0, 3, 3]


def test_the_input_level_is_said_where_the_boundary_depends_on_it(small):
    assert of(small, "regimes", "tanh").text.startswith("tanh, input scale 0.1: gradients ")
    assert of(small, "regimes", "linear").text.startswith("linear: gradients ")
    assert of(small.select(activation="tanh"), "regimes").text.startswith("Input scale 0.1: gradients ")


def test_intervals_of_rates_are_students():
    sample = [-0.3, -0.2, -0.25]
    table = pd.DataFrame({"spectral_radius": 1.0, "seed": range(3), "rate": sample, "state": "vanishing"})
    low, high = stats.t.interval(0.95, 2, np.mean(sample), stats.sem(sample))
    row = rates(table).iloc[0]
    np.testing.assert_allclose([row["95 % from"], row["95 % to"]], [low, high])
    assert np.isnan(rates(table.assign(rate=[-0.3, -0.2, 0.3])).iloc[0]["half-life (steps)"])  # may grow


def test_rows_of_bias_are_the_upper_ends_of_students_intervals(small):
    part = small.select(activation="tanh", loss_steps="all", seq_len=12)
    found = of(small, "bias", "tanh").rows.set_index("truncation")
    for spec in ("fixed:3", "chunked:4"):
        sample = part.runs.query("truncation == @spec and spectral_radius == 1.0")["relative_error"].to_numpy()
        logs = np.log10(sample)
        upper = 10 ** stats.t.ppf(0.95, 1, logs.mean(), stats.sem(logs))
        row = found.loc[spec, ["bias at radius 1: median", "95 % confidence it is below", "greatest of seeds"]]
        np.testing.assert_allclose(row.to_numpy(float), [np.median(sample), upper, sample.max()])
    assert set(found.index) == {"fixed:3", "chunked:4"}  # random:4 tosses coins


def test_rows_of_reach_are_quantiles_over_seeds(small):
    rows = of(small, "reach", "linear").rows
    part = small.select(activation="linear", seq_len=12, truncation="full", loss_steps="last", spectral_radius=1.5)
    first = part.timesteps.query("t == 1")["log10_dh"]
    row = rows[rows["spectral radius"] == 1.5].iloc[0]
    np.testing.assert_allclose(row.iloc[1:4].to_numpy(float), np.quantile(first, [0.5, 0.1, 0.9]))


def test_rows_of_single_draws_are_of_coins_alone(small):
    rows = of(small, "bias", "tanh", "single draws").rows
    runs = small.select(activation="tanh", truncation="random:4", loss_steps="all", seq_len=12).runs
    medians = runs.groupby("spectral_radius")["relative_error"].median()
    assert set(rows["truncation"]) == {"random:4"}
    np.testing.assert_allclose(rows["relative error: median"], medians)


def test_rows_of_the_ledger_are_its_own(costed):
    ledger = gs.ledger(costed)
    here = ledger.query("parameter == 'all' and loss_steps == 'all' and spectral_radius == 1.0").set_index("truncation")
    rows = of(costed, "coins", detail="nearest").rows.set_index("truncation")
    assert set(rows.index) == set(here.index)
    np.testing.assert_allclose(rows["bias"], here["bias"].loc[rows.index])
    np.testing.assert_allclose(rows["error (root mean square)"] ** 2, here["mse"].loc[rows.index])
    errors = rows["error (root mean square)"].dropna()
    assert errors.is_monotonic_increasing


def test_rows_of_clipping_are_the_runs(costed):
    rows = of(costed, "clipping", detail="radius 1").rows
    runs = costed.select(spectral_radius=1.0, clip="norm:1", truncation="full", loss_steps="all").runs
    np.testing.assert_allclose(rows["norm: 90 % quantile (log10)"], runs.sort_values("seed")["log10_norm_p90"])


def test_rows_of_influence_balancing_are_the_last_updates(balancing):
    rows = of(balancing, "balancing", detail="loss last").rows.set_index("truncation")
    runs = balancing.select(loss_steps="last", iterations=3000).runs
    medians = runs.groupby("truncation", observed=True)["theta"].median()
    np.testing.assert_allclose(rows["theta: median"], medians.loc[rows.index])
    assert rows["seeds"].eq(3).all()


def test_findings_have_anchors_of_their_own_that_do_not_depend_on_others(small):
    everything = anchored(findings(small))
    one = anchored(finding._replace(panel="tanh") for finding in findings(small.select(activation="tanh")))
    assert one.keys() <= everything.keys()
    twins = [Finding("first", topic="reach", panel=panel) for panel in ("a b", "a-b", "a+b")]
    found = anchored(twins)
    assert [finding.panel for finding in found.values()] == ["a b", "a-b", "a+b"]
    assert next(iter(found)) == "reach-a-b"
    assert list(by_topic(found)) == ["reach"]


def test_long_tables_say_how_much_is_left_out():
    found = shown(pd.DataFrame({"lag": range(50), "word": "x"}), most=40)
    assert (len(found.rows), found.left_out) == (40, 10)
    assert found.columns == [("lag", True), ("word", False)]


def test_medians_in_words_are_those_of_the_figures(small):
    table = gradient_vs_length.table(small)
    last = table[(table["panel"] == "tanh") & (table["seq_len"] == 12)]
    (text,) = [f.text for f in findings(small) if f.figure == "gradient-vs-length" and f.text.startswith("tanh")]
    said = re.search(r"goes from (\S+) at spectral radius 0.5 to (\S+) at 1.5", text).groups()
    np.testing.assert_allclose(np.log10(np.array(said, float)), last["median"].iloc[[0, -1]], atol=0.025)  # two digits


def test_seeds_that_differ_are_counted_where_they_do():
    rows = [(1.0, 0, -0.1), (1.0, 1, 0.1), (1.1, 0, -0.1), (1.1, 1, 0.2), (1.2, 0, 0.1), (1.2, 1, 0.3)]
    table = pd.DataFrame(rows, columns=["spectral_radius", "seed", "rate"])
    table["state"] = np.where(table["rate"] < 0, "vanishing", "exploding")
    assert _boundary_text(table) == (
        "gradients explode in every seed from spectral radius 1.2 on; "
        "seeds in which they grow, by spectral radius: 1: 1 of 2, 1.1: 1 of 2."
    )


@pytest.mark.parametrize(
    ("states", "text"),
    [
        (
            ["vanishing", "constant"],
            "gradients vanish up to spectral radius 1; seeds in which they change by nothing but "
            "rounding, by spectral radius: 2: 1 of 1.",
        ),
        (["exploding", "vanishing"], "seeds in which gradients grow, by spectral radius: 1: 1 of 1."),
        (["zero", "zero"], ""),
        (["vanishing", "overflow"], "gradients vanish at spectral radius 1."),
    ],
)
def test_every_mixture_of_regimes_has_a_whole_sentence(states, text):
    rates = {"vanishing": -1.0, "constant": 0.0, "exploding": 1.0}
    rows = [(radius, 0, rates.get(state, np.nan), state) for radius, state in enumerate(states, 1)]
    assert _boundary_text(pd.DataFrame(rows, columns=["spectral_radius", "seed", "rate", "state"])) == text


def test_rounding_is_not_growth(tmp_path):
    constant = {"ensemble": "identity", "activation": "linear", "spectral_radius": 1.0, "seq_len": 40, "seeds": 3}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | constant, jobs=1)
    assert "neither vanish nor explode at spectral radius 1:" in findings(results)[0].text


def test_a_report_is_of_the_whole_folder(small):
    with pytest.raises(gs.InputError, match="not of a selection"):
        gs.report(small.select(seed=0))


def test_one_seed_is_said_to_be_one(small):
    assert any("One seed" in finding.text for finding in findings(small.select(seed=0)))
    assert not any("One seed" in finding.text for finding in findings(small))


def test_runs_that_overflow_are_counted(tmp_path):
    overrides = SMALL | {"activation": "linear", "spectral_radius": [0.5, 40.0], "seq_len": 400}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    assert any("16 of 32 runs left float64's range" in finding.text for finding in findings(results))


def test_an_unfinished_sweep_is_said_to_be_one(tmp_path):
    def stop(state):
        if state.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, jobs=1, progress=stop)
    results = gs.load(tmp_path / "out")
    done = len(results.runs)
    assert 0 < done < 192
    assert any(f"not finished: this is from {done} of its 192 runs" in finding.text for finding in findings(results))
    assert f"{done} runs of 192: the sweep is not finished" in gs.report(results).read_text(encoding="utf-8")


def test_a_sweep_without_what_the_findings_need_still_has_a_report(tmp_path):
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | {"loss_steps": 3, "seeds": 1}, jobs=1)
    text = gs.report(results).read_text(encoding="utf-8")
    assert "figures that these runs do not give" in text
    assert "needs runs with a gradient" in text


def test_references_are_those_of_the_methods_that_were_swept():
    def keys(**grid):
        return {reference.key for reference in references({name: [value] for name, value in grid.items()}, [])}

    assert keys(truncation="artbp:20:4") == {"tallec2017unbiasing"}
    assert keys(truncation="fixed:20") == {"williams1990efficient"}
    assert keys(clip="norm:1") == {"pascanu2013difficulty"}
    assert keys(clip="off") == set()
    assert "chen2018dynamical" in keys(ensemble="gaussian", task="noise", activation="tanh")
    assert "chen2018dynamical" not in keys(ensemble="gaussian", task="noise", activation="linear")
    assert {"hochreiter1997long", "gers2000learning"} <= keys(cell="lstm")
    assert "newman1986distribution" in keys(ensemble="gaussian", tied=False)
    assert "newman1986distribution" not in keys(ensemble="gaussian", tied=True)
    assert "bengio1994learning" in {reference.key for reference in references({}, ["radius-lag-map"])}


def test_every_reference_is_cited_by_something_that_exists():
    known = {f"{family}:{name}" for family, module in FAMILIES.items() for name in plugins.names(module)}
    known |= {f"figure:{name}" for name in figures.names()} | {"law:mean-field", "law:gaussian-products"}
    catalogue = [papers.find(name) for name in papers.names()]
    known |= {f"paper:{paper.name}" for paper in catalogue}
    cited = {f"paper:{paper.name} {source}" for paper in catalogue for source in paper.sources}
    for entry in _entries():
        key = entry.partition("{")[2].partition(",")[0]
        own = [keyword for keyword in _fields(entry)["keywords"].split(", ") if keyword.startswith("paper:")]
        assert {f"{keyword} {key}" for keyword in own} <= cited
        assert set(_fields(entry)["keywords"].split(", ")) <= known
        assert {"author", "title", "year"} <= _fields(entry).keys()


def test_the_page_has_the_bibtex_of_its_references_and_no_other(page):
    _, text, _ = page
    assert "@article{williams1990efficient" in text
    assert "tallec2017unbiasing" in text  # random:4
    assert "merity2018regularizing" not in text
    assert "keywords" not in text.partition('id="bibtex"')[2]


def test_failures_are_counted_named_and_can_be_measured_again(tmp_path, monkeypatch):
    hostile = "<b>out of memory</b>"

    def fails_once(runs, threads):
        if any(run["seed"] == 1 and run["spectral_radius"] == 1.5 for run in runs):
            raise MemoryError(hostile)
        return measure(runs, threads)

    monkeypatch.setattr(measuring, "measure", fails_once)
    command = "gradscope sweep --set seeds=2"
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, jobs=1, command=command)
    failed = sum(results.failed.values())
    text = gs.report(results).read_text(encoding="utf-8")
    assert failed
    assert f"{failed} of 192 runs failed" in text
    assert f"{command} --retry-failed" in text
    assert hostile not in text
    assert "&lt;b&gt;out of memory&lt;/b&gt;" in text
    (caveat,) = [one for one in findings(results) if one.detail.startswith("failed")]
    assert caveat.rows["these runs"].sum() == failed
    assert set(caveat.rows["spectral radius"]) == {1.5}


def drawn(folder, svg, png=b"png"):
    files = {"svg": folder / "mine.svg", "png": folder / "mine.png"}
    files["svg"].write_text(svg, encoding="utf-8")
    files["png"].write_bytes(png)
    return figures.Drawn("mine", 'A "title" & more', "A caption.", files, "", "Two lines <cross>.")


def test_small_figures_are_svg_and_dense_ones_png(tmp_path):
    start, end = '<svg xmlns="http://www.w3.org/2000/svg" width="144pt" height="72pt" viewBox="0 0 144 72">', "</svg>"
    path = '<path d="M 0 0 L 1 1"/>'
    small = picture(drawn(tmp_path, f"{start}{path}{end}"))
    assert small.image.startswith("<svg")
    assert small.width == 192
    assert 'aria-label="A &quot;title&quot; &amp; more. Two lines &lt;cross&gt;."' in small.image
    dense = picture(drawn(tmp_path, f"{start}{path * (SMALL_SVG // len(path) + 1)}{end}"))
    assert dense.image == (
        '<img src="data:image/png;base64,cG5n" alt="A &#34;title&#34; &amp; more. Two lines &lt;cross&gt;.">'
    )
    assert picture(drawn(tmp_path, f"{start}{path}{end}"), "b-", "../figures", packed=0).downloads[1].href == (
        "../figures/mine.png"
    )


def test_an_inlined_figure_keeps_what_is_drawn_and_shares_no_names(page):
    folder, _, _ = page
    for path in sorted((folder / "figures").glob("*.svg")):
        original = ElementTree.parse(path).getroot()
        inside = ElementTree.fromstring(str(inlined(original, path.stem, "label")))

        def count(root, tag):
            return sum(element.tag.rpartition("}")[2] == tag for element in root.iter())

        for tag in ("path", "use", "image", "clipPath", "g"):
            assert count(inside, tag) == count(original, tag)
        assert count(inside, "style") == 0
        ids = [element.attrib["id"] for element in inside.iter() if "id" in element.attrib]
        assert all(one.startswith(f"{path.stem}-") for one in ids)
        assert len(ids) == len(set(ids))
        paths = ([one for one in root.iter() if one.tag.rpartition("}")[2] == "path"] for root in (original, inside))
        for before, after in zip(*paths, strict=True):
            drawn = [one.get("d", "") for one in (before, after)]
            assert len({re.sub(r"[^A-Za-z]", "", path) for path in drawn}) == 1
            numbers = (np.array(re.findall(r"-?[\d.]+", path), float) for path in drawn)
            np.testing.assert_allclose(*numbers, atol=0.01)


def test_a_page_that_stands_alone_links_to_no_file(small, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(small.folder, folder)
    parsed = Page(gs.report(gs.load(folder), alone=True).read_text(encoding="utf-8"))
    assert all(link.startswith(("#", "data:", "https://")) for link in parsed.links)
