"""Guards `--set KEY=VALUE`: a value is TOML, and words and comma-separated lists need no quotes or brackets."""

import pytest

from gradscope.errors import InputError


@pytest.fixture
def overrides(command, monkeypatch):
    """The overrides that `gradscope sweep --set ...` hands on."""

    def given(*settings):
        taken = {}

        def sweep(_experiment, _out, overrides, **_):
            taken.update(overrides)
            raise InputError("stop here")

        monkeypatch.setattr("gradscope.run.sweep", sweep)
        assert command("sweep", *(part for setting in settings for part in ("--set", setting))).status == 2
        return taken

    return given


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("seeds=2", "seeds", 2),
        ("spectral_radius=1.5", "spectral_radius", 1.5),
        ("spectral_radius=1e-3", "spectral_radius", 0.001),
        ("spectral_radius = 0.5", "spectral_radius", 0.5),
        ("seq_len=[50, 100]", "seq_len", [50, 100]),
        ("seq_len=50,100", "seq_len", [50, 100]),
        ("seq_len=50, 100", "seq_len", [50, 100]),
        ("truncation=full", "truncation", "full"),
        ("truncation=tbptt:5:20", "truncation", "tbptt:5:20"),
        ("truncation=full,fixed:5", "truncation", ["full", "fixed:5"]),
        ("cell=[irnn, lstm]", "cell", ["irnn", "lstm"]),
        ("tied=false", "tied", False),
        ("truncation=['full', \"fixed:5\"]", "truncation", ["full", "fixed:5"]),
        ("loss_steps=last", "loss_steps", "last"),
        ("loss_steps=all,5", "loss_steps", ["all", 5]),
        ("loss_steps=[[5, 10]]", "loss_steps", [[5, 10]]),
        ("spectral_radius={start = 0, stop = 1, num = 3}", "spectral_radius", {"start": 0, "stop": 1, "num": 3}),
        ("file=data/prices.csv", "file", "data/prices.csv"),
        ("file='a,b.csv'", "file", "a,b.csv"),
        ("file=a=b.csv", "file", "a=b.csv"),
        ("file=", "file", ""),
    ],
)
def test_value_is_read(overrides, setting, key, value):
    assert overrides(setting) == {key: value}


def test_settings_add_up_and_the_last_one_wins(overrides):
    assert overrides("seeds=2", "seq_len=5", "seeds=3") == {"seeds": 3, "seq_len": 5}
