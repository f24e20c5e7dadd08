"""`arrange`: sequences of any lengths, and what they should be answered with, as one batch with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.errors import InputError, unknown
from gradscope.task import Sequences

# The step, counted from 0, at which the answers to T inputs begin: from the first, from the last, after it.
FORMS = {"one-to-one": "first", "one-to-many": "first", "many-to-one": "last", "in-step": "first", "delayed": "after"}
ONE_INPUT, ONE_ANSWER = ("one-to-one", "one-to-many"), ("one-to-one", "many-to-one")


def arrange(inputs: Sequence[ArrayLike], targets: Sequence[ArrayLike], form: str) -> Sequences:
    """Examples of any lengths as one batch, for `gs.backprop(cell, params, x, y, mask=mask)`.

    Parameters
    ----------
    inputs : of each example (T_b, m); one of them may be (m,).
    targets : of each example (U_b, p), or U_b integer classes; one of them may be (p,), or a class.
    form : where the answers are asked for.
        "one-to-one", "many-to-one": one answer, at the last input; "one-to-many": one input, answers from it on;
        "in-step": an answer at each input; "delayed": answers after the last input, while there is none (sequence to
        sequence).

    Returns
    -------
    Sequences : x (T, B, m), zeros where there is no input; y (T, B, p) or (T, B); mask (T, B), true where there is an
        answer. A state goes on where an example has no input; no loss counts after its end.

    Raises
    ------
    InputError : lengths that do not go with the form; sizes that differ; no examples.

    Examples
    --------
    >>> import gradscope as gs
    >>> x, y, mask = gs.arrange([np.ones((3, 1)), np.ones((2, 1))], [[[7.0]], [[8.0]]], "many-to-one")
    >>> mask.astype(int).tolist(), y[..., 0].tolist()
    ([[0, 0], [0, 1], [1, 0]], [[0.0, 0.0], [0.0, 8.0], [7.0, 0.0]])
    """
    if form not in FORMS:
        raise unknown("form", str(form), FORMS, where="form")
    if len(inputs) != len(targets) or not len(inputs):
        what = f"{len(inputs)} inputs, {len(targets)} targets"
        raise InputError(what, where="inputs, targets", allowed="as many of each, at least one")
    given = [_steps("inputs", example, number, 2) for number, example in enumerate(inputs)]
    classes = np.asarray(targets[0]).dtype.kind in "iu"
    answers = [_steps("targets", example, number, 1 if classes else 2) for number, example in enumerate(targets)]
    for name, arrays in (("inputs", given), ("targets", answers)):
        _refuse_unlike(name, arrays)
    starts = [{"first": 0, "last": len(own) - 1, "after": len(own)}[FORMS[form]] for own in given]
    for number, (own, asked) in enumerate(zip(given, answers, strict=True)):
        _refuse_lengths(form, len(own), len(asked), number)
    lengths = [max(len(x), start + len(y)) for x, start, y in zip(given, starts, answers, strict=True)]
    T, B = max(lengths), len(given)
    x, mask = np.zeros((T, B, *given[0].shape[1:])), np.zeros((T, B), bool)
    y = np.zeros((T, B, *answers[0].shape[1:]), answers[0].dtype)
    for b, (own, start, asked) in enumerate(zip(given, starts, answers, strict=True)):
        x[: len(own), b] = own
        y[start : start + len(asked), b], mask[start : start + len(asked), b] = asked, True
    return Sequences(x, y, mask)


def _steps(name: str, given: ArrayLike, number: int, axes: int) -> NDArray[Any]:
    """An example as (steps, ...), whose single step need not be said to be one."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError("rows of different lengths", where=f"{name}[{number}]", allowed="an array") from None
    if array.ndim == axes - 1:
        array = array[None]
    if array.ndim != axes or not array.size or array.dtype.kind not in "fiu":
        what = f"{array.dtype} {array.shape}"
        raise InputError(what, where=f"{name}[{number}]", allowed="numbers, (steps, features), or classes, (steps,)")
    return array if axes == 1 else array.astype(np.float64)


def _refuse_unlike(name: str, arrays: Sequence[NDArray[Any]]) -> None:
    for number, array in enumerate(arrays):
        if array.shape[1:] != arrays[0].shape[1:] or array.dtype.kind != arrays[0].dtype.kind:
            first, this = (f"{one.dtype} {one.shape[1:]} a step" for one in (arrays[0], array))
            raise InputError(f"{this}, but {first} in the first", where=f"{name}[{number}]")


def _refuse_lengths(form: str, given: int, asked: int, number: int) -> None:
    if form in ONE_INPUT and given != 1:
        raise InputError(f"{given} steps", where=f"inputs[{number}]", allowed=f"one, with form {form!r}")
    if form in ONE_ANSWER and asked != 1:
        raise InputError(f"{asked} steps", where=f"targets[{number}]", allowed=f"one, with form {form!r}")
    if form == "in-step" and given != asked:
        raise InputError(f"{asked} steps", where=f"targets[{number}]", allowed=f"{given}, as its inputs")
