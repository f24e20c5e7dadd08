"""Guards the reading of data files: what cannot be used is refused, with the file, the place in it and what is wrong.

What can be used, and how it is normalised, is guarded by test_tasks.py.
"""

import pickle
import re

import numpy as np
import pandas as pd
import pytest

from gradscope.errors import InputError
from gradscope.sources import series, text


@pytest.fixture
def data(tmp_path):
    """Write a data file and give its path as text."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path)
        elif isinstance(content, np.ndarray):
            np.save(path, content, allow_pickle=True)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def refused(file, message, column=""):
    """The error names the file, says `message`, and fits on one line."""
    with pytest.raises(InputError, match=re.escape(file) + ": .*" + message) as caught:
        series(file, column)
    assert "\n" not in str(caught.value)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [lambda file: series(file, ""), text], ids=["series", "text"])
class TestAnyFile:
    def test_missing(self, read, tmp_path):
        with pytest.raises(InputError, match=r"nowhere\.csv: cannot read data file: No such file"):
            read(str(tmp_path / "nowhere.csv"))

    def test_empty(self, read, data):
        with pytest.raises(InputError, match=r"empty\.csv: data file is empty"):
            read(data("empty.csv", ""))

    def test_folder(self, read, tmp_path):
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(InputError, match=r"folder\.csv: cannot read data file: "):
            read(str(tmp_path / "folder.csv"))

    def test_name_that_no_file_can_have(self, read):
        with pytest.raises(InputError, match="cannot read data file"):
            read("a\0b.csv")


@pytest.mark.parametrize("name", ["prices.xlsx", "prices", "prices.csv.bak"])
def test_unknown_kind_of_file(data, name):
    suffix = re.escape(repr(name.removeprefix("prices").removeprefix(".csv")))
    refused(
        data(name, "price\n1\n2\n"), rf"unknown kind of data file {suffix}; allowed: \.csv, \.parquet, \.npy, \.npz"
    )


def test_suffix_in_capitals_is_the_same_suffix(data):
    assert len(series(data("PRICES.CSV", "price\n1\n2\n"), "").values) == 2


GARBAGE = {
    "every byte": bytes(range(256)) * 4,
    "like a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "like an archive": b"PK\x03\x04" + bytes(range(256)),
    "like an array": b"\x93NUMPY\x01\x00" + bytes(range(256)),
    "like a table": b"PAR1" + bytes(range(256)) + b"PAR1",
    "zeros": bytes(64),
}


@pytest.mark.parametrize("suffix", ["csv", "npy", "parquet"])
@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_binary_garbage(data, suffix, content):
    refused(data(f"garbage.{suffix}", content), "")


def test_file_cut_short(data, tmp_path):
    whole = tmp_path / "whole.npy"
    np.save(whole, np.arange(9.0))
    for size in (3, 6, 40, 150):
        refused(data(f"cut{size}.npy", whole.read_bytes()[:size]), r"cannot be read as \.npy")


def test_archive_of_arrays_under_the_name_of_an_array(data, tmp_path):
    np.savez(tmp_path / "several.npz", v=np.arange(5.0))
    refused(data("several.npy", (tmp_path / "several.npz").read_bytes()), "")


def test_csv_in_another_encoding(data):
    refused(data("latin.csv", "prix à Genève\n1\n2\n".encode("latin-1")), r"cannot be read as \.csv")


def test_byte_order_mark_is_no_part_of_the_first_column(data):
    assert len(series(data("excel.csv", "\ufeffprice,volume\n1,2\n2,3\n"), "price").values) == 2


class Trap:
    """Sets a flag when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("kind", ["object array", "bare pickle"])
def test_pickles_are_refused_and_never_opened(data, kind):
    trap = np.array([Trap(), 1.0], object) if kind == "object array" else pickle.dumps(Trap())
    refused(data("trap.npy", trap), r"cannot be read as \.npy: .*(allow_pickle|pickled)")
    assert not Trap.sprung


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("price\n", "no rows"),
        ("date,price\n", "no rows"),
        ("\n\n", "cannot be read as .csv: No columns"),
        ("price\n1\n2\nthree\n4\n", "column 'price', line 4: 'three'; 1 such value.*allowed: finite numbers"),
        ("price\nx\ny\n", "column 'price', line 2: 'x'; 2 such value"),
        ("date,price\na,1\nb,2 EUR\nc,3\n", "column 'price', line 3: '2 EUR'; 1 such"),
        ('price\n"1,000"\n2\n', "column 'price', line 2: '1,000'"),
        ("date;price\nmonday;1\ntuesday;2\n", "column 'date;price', line 2: 'monday;1'"),
        ("price\n1\nnan\n3\n", "column 'price', line 3: missing.*allowed: finite numbers"),
        ("date,price\na,1\nb,\nc,3\nd,NA\n", "column 'price', line 3: missing.*2 such"),
        ("date,price\na,1\nb\nc,3\n", "column 'price', line 3: missing"),
        ("price\n1\n2\ninf\n", "column 'price', line 4: inf; 1 such value.*allowed: finite numbers"),
        ("price\n1\n-inf\n2\n", "column 'price', line 3: -inf;"),
        ("price\n2\n2\n2\n", "all 3 values are equal to 2; nothing to predict"),
        ("price\n7\n", "all 1 values are equal to 7"),
        ("price\n0.1\n0.1\n0.1\n", "all 3 values are equal to 0.1; nothing to predict"),
        ("a,price\n1\n2,3,4\n", "cannot be read as .csv: .*line 3"),
        ("price\n1,2\n3,4\n", ""),  # more values than the header has names
    ],
)
def test_csv_values_that_cannot_be(data, content, message):
    column = "price" if re.match("[^\n]*,price", content) else ""
    refused(data("prices.csv", content), message, column)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("price\n1\n\n\nx\n", 5),
        ("\n\nprice\n1\nx\n", 5),
        ('price,note\n1,"two\nlines"\nx,none\n', 4),
        ("price\r\n1\r\n2\r\nx\r\n", 4),
    ],
    ids=["empty lines", "empty lines first", "quoted line break", "Windows line ends"],
)
def test_line_is_the_line_that_an_editor_shows(data, content, line):
    refused(data("prices.csv", content), f"line {line}: 'x'", column="price")


def test_values_that_are_too_large_to_normalise(data):
    refused(data("large.csv", "price\n1e308\n1\n1e308\n-1e308\n"), "")


@pytest.mark.parametrize("mixed", ["price", "note"])
def test_letter_far_down_a_long_file(data, mixed):
    # pandas reads a long file in pieces and warns where they differ in type.
    file = data("long.csv", "price,note\n" + "1,1\n2,1\n" * 150_000 + ("x,1\n" if mixed == "price" else "1,x\n"))
    if mixed == "price":
        refused(file, "column 'price', line 300002: 'x'; 1 such", column="price")
    else:
        assert len(series(file, "price").values) == 300_001


ARRAYS = {
    "no rows": (np.ones(0), "no rows"),
    "no rows, one column": (np.ones((0, 1)), "no rows"),
    "no columns": (np.ones((3, 0)), ""),
    "single number": (np.array(3.0), r"cannot be read as \.npy"),
    "three dimensions": (np.ones((2, 2, 2)), r"cannot be read as \.npy"),
    "missing": (np.array([1.0, np.nan, 2.0, np.nan]), "column '0', row 1: missing.*2 such"),
    "infinite": (np.array([1.0, 2.0, -np.inf]), "column '0', row 2: -inf"),
    "texts": (np.array(["a", "b"]), "column '0', row 0: 'a'"),
    "constant": (np.full(9, 0.3), "all 9 values are equal to 0.3"),
    "complex": (np.arange(4) * (1 + 1j), "column '0'"),
    "dates": (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), ""),
    "durations": (np.array([1, 2], "m8[s]"), "column '0'"),
}


@pytest.mark.parametrize(("array", "message"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_cannot_be(data, array, message):
    refused(data("array.npy", array), message)


TABLES = {
    "no rows": (pd.DataFrame({"v": np.ones(0)}), "no rows"),
    "no columns": (pd.DataFrame(index=range(3)), ""),
    "missing": (pd.DataFrame({"v": pd.array([1, None, 3], "Int64")}), "column 'v', row 1: missing"),
    "infinite": (pd.DataFrame({"v": [1.0, np.inf]}), "column 'v', row 1: inf"),
    "texts": (pd.DataFrame({"v": ["a", "b"]}), "column 'v', row 0: 'a'; 2 such"),
    "categories": (pd.DataFrame({"v": pd.Categorical(["a", "b"])}), "column 'v', row 0: 'a'"),
    "constant": (pd.DataFrame({"v": [5, 5]}), "all 2 values are equal to 5"),
    "dates": (pd.DataFrame({"v": pd.to_datetime(["2020-01-01", "2020-01-02"])}), "column 'v'"),
    "lists": (pd.DataFrame({"v": [[1.0, 2.0], [3.0]]}), "column 'v'"),
}


@pytest.mark.parametrize(("table", "message"), TABLES.values(), ids=TABLES)
def test_tables_that_cannot_be(data, table, message):
    refused(data("table.parquet", table), message)


# --- columns ---------------------------------------------------------------------------------------------------------

TWO = pd.DataFrame({"price": [1.0, 2.0, 4.0], "volume": [3.0, 1.0, 2.0]})
FILES = {
    "csv": TWO.to_csv(index=False),
    "parquet": TWO,
    "npy": TWO.to_records(index=False),
}


@pytest.mark.parametrize("suffix", FILES)
def test_several_columns_without_a_choice(data, suffix):
    refused(data(f"two.{suffix}", FILES[suffix]), "several columns; allowed: price, volume; choose with column")


@pytest.mark.parametrize("suffix", FILES)
def test_unknown_column_and_the_near_miss(data, suffix):
    message = "unknown column 'prise'; allowed: price, volume; did you mean 'price'"
    refused(data(f"two.{suffix}", FILES[suffix]), message, column="prise")


@pytest.mark.parametrize("column", ["2", "-1", "price"])
def test_unknown_column_of_a_matrix(data, column):
    refused(data("matrix.npy", TWO.to_numpy()), f"unknown column '{column}'; allowed: 0, 1", column=column)


def test_unknown_column_of_the_stock_prices():
    with pytest.raises(InputError, match=r"goog\.npz: unknown column 'opn'; allowed: .*open.*did you mean 'open'"):
        series("", "opn")


@pytest.mark.parametrize("column", ["date", "Date "])
def test_dates_are_not_numbers(column):
    with pytest.raises(InputError, match=r"goog\.npz: .*column"):
        series("", column)


def test_chosen_column_must_be_numbers_though_another_one_is(data):
    refused(data("prices.csv", "date,price\nmonday,1\ntuesday,2\n"), "column 'date', line 2: 'monday'", column="date")


def test_column_names_with_line_breaks_do_not_break_the_message(data):
    refused(data("excel.csv", '"Price\n(USD)",volume\n1,2\n3,4\n'), "unknown column 'price'", column="price")


@pytest.mark.parametrize("column", ["", "0"])
def test_columns_named_by_numbers_are_found_by_their_digits(data, column):
    values, _, _ = series(data("numbered.parquet", pd.DataFrame({0: [1.0, 2.0, 6.0]})), column)
    np.testing.assert_allclose(values, (np.array([1, 2, 6]) - 3) / np.sqrt(14 / 3), rtol=1e-12)


def test_file_that_changed_is_read_again(data):
    before = series(data("growing.csv", "price\n1\n2\n3\n"), "").record
    after = series(data("growing.csv", "price\n10\n20\n30\n40\n"), "").record
    assert (before["values"], before["mean"]) == (3, 2.0)
    assert (after["values"], after["mean"]) == (4, 25.0)
    assert before["sha256"] != after["sha256"]


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "byte"), [(b"abc\xff", 3), (b"\xe9t\xe9", 0), ("né".encode("utf-16"), 0)])
def test_text_that_is_not_utf8(data, content, byte):
    with pytest.raises(InputError, match=rf"text\.txt: not UTF-8 at byte {byte}$"):
        text(data("text.txt", content))


@pytest.mark.parametrize("content", ["a", "aaaa", "\n\n"])
def test_text_of_one_character(data, content):
    with pytest.raises(InputError, match=r"text\.txt: only one distinct character; nothing to predict"):
        text(data("text.txt", content))


def test_line_ends_of_a_text_are_kept(data):
    assert text(data("text.txt", "a\r\nb\n")).record["vocabulary"] == "\n\rab"


def test_csv_without_a_header_is_refused(data):
    refused(data("bare.csv", "1,2\n3,4\n5,7\n"), "the first line must name the columns", column="1")


def test_archive_of_one_array_is_read_and_of_several_refused(data, tmp_path):
    np.savez(tmp_path / "one.npz", v=np.array([1.0, 2.0, 6.0]))
    np.testing.assert_allclose(
        series(str(tmp_path / "one.npz"), "").values, (np.array([1, 2, 6]) - 3) / np.sqrt(14 / 3)
    )
    np.savez(tmp_path / "two.npz", v=np.arange(3.0), w=np.arange(3.0))
    refused(str(tmp_path / "two.npz"), "2 arrays, not one")
