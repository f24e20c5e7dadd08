"""One page, one file: templates, style and scripts together, under a policy that forbids everything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gradscope.files import write_whole
from gradscope.reporting.tables import shown

SCRIPT = "page.js"
_LETTERS = ("alpha", "beta", "gamma", "lambda", "mu", "nu", "phi", "pi", "psi", "rho", "sigma", "tau", "theta", "xi")
GREEK = {name: unescape(f"&{name};") for name in _LETTERS}


def write(template: str, path: Path, scripts: Iterable[str] = (), **context: Any) -> Path:
    """Render a template with its context into one file, and return its path.

    `scripts` are the exact texts of scripts that the template itself puts in, beside the page's own.
    """
    environment = Environment(
        loader=PackageLoader("gradscope.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "marked": marked, "symbols": symbols}
    own = _asset(SCRIPT)
    page = environment.get_template(template).render(
        style=Markup(_asset("page.css")), script=Markup(own), policy=policy([own, *scripts]), **context
    )
    write_whole(path, lambda place: place.write_text(page, encoding="utf-8"))
    return path


def policy(scripts: Iterable[str]) -> str:
    """The Content-Security-Policy of a page with these inline scripts and no others.

    >>> policy(["alert(1)"]).rpartition("; ")[2]
    "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}"
    )


def marked(text: str) -> Markup:
    """A text as HTML, what stands between backticks as code.

    >>> marked("`fixed:TAU` slides")
    Markup('<code>fixed:TAU</code> slides')
    """
    parts = (
        Markup("<code>{}</code>" if place % 2 else "{}").format(part) for place, part in enumerate(text.split("`"))
    )
    return Markup().join(parts)


def symbols(text: str) -> Markup:
    """A text as HTML, with Greek letters for their names, and indices and exponents where they belong.

    >>> symbols("lambda_i^2 = x_{t-1}, E|z|^2 and W_hh, but forget_bias < 1")
    Markup('λ<sub>i</sub><sup>2</sup> = x<sub>t-1</sub>, E|z|<sup>2</sup> and W<sub>hh</sub>, but forget_bias &lt; 1')
    """
    said = re.sub(rf"\b({'|'.join(GREEK)})(?=\b|_)", lambda found: GREEK[found[1]], text)
    placed = re.sub(r"(?<![\w.])(d?\w)_(\{[^}]*\}|\w{1,3}(?![\w]))", r"\1" + "\0\\2\0", said)
    raised = re.sub(r"\^(\{[^}]*\}|\([^)]*\)|-?\w+)", "\1\\1\1", placed)
    html = str(Markup.escape(raised))
    html = re.sub("\0([^\0]*)\0", lambda found: f"<sub>{found[1].strip('{}')}</sub>", html)
    return Markup(re.sub("\1([^\1]*)\1", lambda found: f"<sup>{found[1].strip('{}')}</sup>", html))


def _asset(name: str) -> str:
    return files("gradscope.reporting").joinpath(name).read_text(encoding="utf-8")
