"""Guards that memory which is used again is never two arrays' at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gradscope.workspace import Workspace


def test_an_array_is_zero_at_first_and_then_what_was_left():
    workspace = Workspace()
    first = workspace.array("a", (2, 3), np.float64)
    assert not first.any()
    first[...] = 7.0
    assert (workspace.array("a", (3, 2), np.float64) == 7.0).all()
    assert not workspace.array("a", (4, 3), np.float64).any()  # larger: new


def test_names_and_dtypes_have_arrays_of_their_own():
    workspace = Workspace()
    arrays = [workspace.array(name, (8,), dtype) for name in "ab" for dtype in (np.float64, np.float32, np.int64)]
    for number, array in enumerate(arrays):
        array[...] = number
    assert [array[0] for array in arrays] == list(range(6))


def test_each_thread_has_its_own():
    workspace = Workspace()
    mine = workspace.array("a", (5,), np.float64)
    mine[...] = 1.0
    with ThreadPoolExecutor(1) as executor:
        other = executor.submit(workspace.array, "a", (5,), np.float64).result()
    assert not np.shares_memory(mine, other)
    assert not other.any()


def test_cleared_it_keeps_nothing():
    workspace = Workspace()
    kept = workspace.array("a", (5,), np.float64)
    workspace.clear()
    assert not np.shares_memory(kept, workspace.array("a", (5,), np.float64))
