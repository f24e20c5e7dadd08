"""A catalogue of made-up papers, in the place of the real one."""

from __future__ import annotations

import pytest
from made_up import square_of

from gradscope import papers


@pytest.fixture
def catalogue(monkeypatch):
    own = {name: square_of(name, offset) for name, offset in {"right": 0.0, "also-right": 0.0, "wrong": 1e-3}.items()}
    monkeypatch.setattr(papers, "names", lambda: sorted(own))
    found = papers.find
    monkeypatch.setattr(papers, "find", lambda name: own[name] if name in own else found(name))
    return own
