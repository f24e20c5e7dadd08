"""A made-up paper: it claims what squares are."""

from __future__ import annotations

import pandas as pd

from gradscope import figures
from gradscope.claims import Claim
from gradscope.drawing import canvas, style
from gradscope.figures import Drawn
from gradscope.paper import EXACTLY, Measured, Paper

POINTS = pd.Index([0.5, 1.0, 2.0], name="w")


def line(table):
    figure = canvas(1, 1)
    figure.subplots().plot(table["w"], table["square"])
    return figure


def square_of(name, offset=0.0, measure=None):
    """A paper that claims what a square is; its measurements are off by so much."""

    def squares(seed, folder):
        table = pd.DataFrame({"square": POINTS**2 + offset, "law": POINTS**2, "seed": seed}, POINTS)
        table = table.assign(cube=POINTS**3, cube_error=0.01)

        def draw(place, formats):
            with style(dpi=60):
                return [figures.save(Drawn("line", "A line", "Points.", {}), table.reset_index(), line, place, formats)]

        return Measured({"squares": table}, draw)

    claims = (
        Claim("Squares are squares", "squares.square", "law", "Euclid, book II", rtol=1e-9),
        Claim("A square is positive", "squares.square", 0.0, "Euclid, book II", "qualitative", relation=">"),
        Claim("The square of 2", "squares.square", ((2.0, 4.0),), "Euclid, book II", atol=1e-9),
    )
    texts = ("Squares", "That squares are squares.", "As in the book.", ("bengio1994learning",), EXACTLY)
    return Paper(name, *texts, 1.0, claims, measure or squares)
