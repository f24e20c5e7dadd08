"""Guards the errors: one family, caught as ValueError too, whole after a trip between processes."""

import pickle

import pytest

import gradscope as gs
from gradscope.errors import unknown


def test_message_says_where_what_allowed_and_what_to_do():
    error = gs.InputError("7 is too many", where="legs", allowed="0 to 6", hint="count again")
    assert str(error) == "legs: 7 is too many; allowed: 0 to 6; count again"
    assert str(gs.InputError("no")) == "no"
    assert str(error.at("file.toml:3")) == "file.toml:3: 7 is too many; allowed: 0 to 6; count again"


def test_input_errors_are_caught_as_gradscope_errors_and_as_value_errors():
    for kind in (gs.GradscopeError, ValueError):
        with pytest.raises(kind, match="broken"):
            raise gs.InputError("broken")


def test_error_survives_pickling():
    error = unknown("cell", "elmn", ["elman", "gru"], where="cell")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is gs.InputError
    assert str(back) == str(error) == "cell: unknown cell 'elmn'; allowed: elman, gru; did you mean 'elman'?"
    assert (back.what, back.where, back.allowed, back.hint) == (error.what, error.where, error.allowed, error.hint)
