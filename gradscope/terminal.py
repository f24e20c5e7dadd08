"""What the command line shows: progress, plans, results. What is heavy is imported inside, as in `gradscope.cli`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from gradscope.advice import Advice
    from gradscope.intent import Intent
    from gradscope.learning import Coming
    from gradscope.outlook import Outlook
    from gradscope.paper import Paper
    from gradscope.progress import Progress
    from gradscope.reproduction import Reproduction

OUTCOMES = {"decaying": "green", "not decaying": "red"}  # the others are yellow
EVERY = 30.0  # seconds between lines of progress where there is no terminal


LEDGER = (
    "",
    "bias, sd (over coins): relative to full BPTT's gradient of the same batch, geometric means over seeds;",
    "inf: without bound as sequences get longer (inf?: in some seeds); heavy: one draw holds a fifth of it.",
    "cosine: median over draws; wrong: draws that point against the full gradient.",
    "states: steps of the longest backward pass, mean over draws; time: of a gradient, now, full BPTT's is 1.",
    "beaten by: the unbiased truncation of which the mean of so many draws, on the same batch, is nearer.",
)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Shows how far a sweep has come: a bar on a terminal, a line every so often elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        with _bar(console) as show:
            yield show
    else:
        yield _lines()


@contextmanager
def training_progress(quiet: bool) -> Iterator[Callable[[Coming], None] | None]:
    """Shows how far a training has come, with its loss and the norm of its gradients."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        with console.status("starting", spinner="line") as status:
            yield lambda coming: status.update(_learnt(coming))
    else:
        last: list[float] = []

        def show(coming: Coming) -> None:
            if not last or time.monotonic() - last[0] >= EVERY:
                last[:] = [time.monotonic()]
                click.echo(_learnt(coming), err=True)

        yield show


def _learnt(coming: Coming) -> str:
    """Where a training stands, in a line."""
    shares = f"loss {coming.loss:.4g}, validation {coming.validation_loss:.4g}, |g| {_power(coming.log10_grad)}"
    return f"step {coming.step:,} of {coming.steps:,}: {shares}, {coming.rate:,.0f} steps/s, {_time(coming.left)} left"


def _power(log10: float) -> str:
    """A number from its log10, which may be far beyond what floats hold."""
    return f"{10.0**log10:.3g}" if abs(log10) < 300 else f"1e{log10:+.0f}"


def _lines() -> Callable[[Progress], None]:
    last: list[float] = []

    def show(state: Progress) -> None:
        now = time.monotonic()
        if state.note:
            click.echo(state.note, err=True)
        elif not last or now - last[0] >= EVERY:
            last[:] = [now]
            click.echo(f"{_count_of(state)}{_figures(state)}{'; ' if state.now else ''}{state.now}", err=True)

    return show


@contextmanager
def _bar(console: Any) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    figures = TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True))
    now = TextColumn("[dim]{task.fields[now]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    with Bar(BarColumn(bar_width=16), figures, now, console=console, expand=True) as bar:
        task = bar.add_task("runs", total=None, figures="", now="")

        def show(state: Progress) -> None:
            if state.note:
                bar.console.print(state.note, highlight=False, soft_wrap=True)
                return
            shown = _count_of(state) + _figures(state)
            bar.update(task, completed=state.done, total=state.total, figures=shown, now=state.now)

        yield show


def _count_of(state: Progress) -> str:
    return f"{state.done:,} of {state.total:,} runs, "


def _figures(state: Progress) -> str:
    rate = f"{state.rate:,.0f} runs/s" if state.rate else "starting"
    left = "" if state.left is None else f", {_time(state.left)} left"
    return rate + left + (f", {state.failed:,} FAILED" if state.failed else "")


def _time(seconds: float) -> str:
    """A time in words: 8 s, 2:05, 1 day, 3:00:00."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0")


def show_plan(meant: Intent, expected: Outlook, folder: Path, report: bool) -> None:
    """Print what a sweep would do."""
    from rich.console import Console
    from rich.table import Table

    from gradscope.plan import in_bytes

    table = Table(show_header=False, title=f"{meant.sweep.name} in {folder}", title_justify="left")
    table.add_row("runs in the grid", f"{len(meant.sweep):,}")
    table.add_row("already done", f"{meant.done:,}")
    if meant.left_failed:
        table.add_row("  of which failed", f"{meant.left_failed:,} (--retry-failed measures them again)")
    table.add_row("to do", f"{sum(map(len, meant.todo)):,}")
    for why, count in meant.reasons.items():
        table.add_row(f"  {why}", f"{count:,}")
    if meant.todo:
        workers = _count(expected.workers, "worker")
        table.add_row("batches (shards)", f"{len(meant.todo):,} of {len(meant.planned):,}, by {workers}")
        drawing = f", then {_time(expected.report)} for figures and report" if report else ""
        table.add_row("time", f"{_time(expected.seconds)} for the tables{drawing}")
        measuring = in_bytes(expected.measuring)
        table.add_row("memory, at most", f"{in_bytes(expected.memory)}, of which {measuring} for measuring")
        table.add_row("disk", f"{in_bytes(expected.disk)} for the tables ({in_bytes(expected.free)} free)")
    Console().print(table)
    for note in meant.sweep.notes:
        click.echo(note)
    for problem in meant.survey.problems:
        click.echo(f"{'to be set aside: ' if problem.path.exists() else ''}{problem}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def show_advice(advice: Advice) -> None:
    """Print advice: a row for each spectral radius, and below it what to do."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    click.echo(advice.title)
    for panel, rows in advice.table.groupby(level="panel", sort=False):
        title = Text(f"\n{panel}" if panel else "", style="bold")
        layout: dict[str, Any] = {"show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", **layout)
        for name in ("radius", *rows.columns):
            table.add_column(name, justify="left" if name == "outcome" else "right", no_wrap=True)
        for (_, radius), row in rows.iterrows():
            style = OUTCOMES.get(row["outcome"], "yellow")
            table.add_row(radius, f"[{style}]{row['outcome']}", *row.iloc[1:])
        console.print(table)
    click.echo()
    for line in advice.lines:
        console.print(line, markup=False)
    click.echo(f"runs: {advice.folder} (gradscope report {advice.folder} draws the curves)")


def show_ledger(table: pd.DataFrame) -> None:
    """Print some rows of the ledger, a table for each setting."""
    import numpy as np
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def number(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.2g}" if value < 10 else f"{value:.0f}"

    console = Console(highlight=False)
    for (panel, steps, radius), rows in table.groupby(["panel", "loss_steps", "spectral_radius"], sort=False):
        title = ", ".join(filter(None, [panel, f"spectral radius {radius:g}", f"loss steps {steps}"]))
        layout: dict[str, Any] = {"show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
        shown = Table(box=box.SIMPLE_HEAD, title=Text(f"\n{title}", style="bold"), title_justify="left", **layout)
        for name in ("truncation", "bias", "sd", "cosine", "wrong", "states", "time", "beaten by"):
            shown.add_column(name, justify="left" if name in ("truncation", "beaten by") else "right", no_wrap=True)
        for row in rows.to_dict("records"):
            unsaid = {"none": "", "infinite": "inf", "mixed": "inf?", "heavy": "heavy"}
            beaten = isinstance(row["beaten_by"], str)
            shown.add_row(
                row["truncation"],
                number(row["bias"]),
                unsaid.get(row["variance"], number(row["coin_sd"])),
                number(row["cosine_p50"]),
                f"{row['wrong_sign_share']:.0%}" if row["variance"] != "none" else "",
                number(row["unroll"]),
                number(row["seconds_over_full"]),
                f"{np.ceil(row['beaten_after']):.0f} x {row['beaten_by']}" if beaten else "",
            )
        console.print(shown)
    for line in LEDGER:
        click.echo(line)


def show_catalogue(catalogue: Sequence[Paper]) -> None:
    """Print the papers that can be reproduced."""
    from gradscope.reporting.catalogue import kinds_in_words
    from gradscope.reporting.references import cited

    wide = max(len(paper.name) for paper in catalogue)
    for paper in catalogue:
        claims = f"{_count(len(paper.claims), 'claim')}: {kinds_in_words(paper)}"
        click.echo(f"{click.style(f'{paper.name:<{wide}}', bold=True)}  {paper.title}")
        click.echo(f"{'':<{wide}}  {cited(paper.sources)[0].short} · {claims} · about {_time(paper.seconds)}")
    click.echo("gradscope reproduce NAME... computes, draws and checks them; --all does it with every one.")


@contextmanager
def reproducing(number: int, quiet: bool) -> Iterator[Callable[[Reproduction], None]]:
    """Prints each paper as it is done, with the claims that fail; meanwhile, on a terminal, how many are left."""
    from rich.console import Console

    console, left = Console(stderr=True, quiet=quiet), [number]
    with console.status(f"{number} to do", spinner="line") as status:

        def tell(done: Reproduction) -> None:
            left[0] -= 1
            status.update(f"{left[0]} to do")
            if not quiet:
                failing = len(done.failures)
                held = f"{failing} of {len(done.summary)} claims FAILED" if failing else "all claims hold"
                checks = f"{_count(len(done.summary), 'claim')}, {_count(len(done.claims), 'point')}"
                click.echo(f"{done.paper.name}: {held} ({checks}, {_time(done.record['seconds'])})")
            for failure in done.failures:
                click.echo(failure, err=True)

        yield tell


def show_bench(found: dict[str, Any], out: Path) -> None:
    """Print the results of the benchmark."""
    from statistics import median

    from rich.console import Console
    from rich.table import Table

    table = Table("workload", "contender", "ms a network", "times gradscope's", "share of the fastest product")
    for timing in found["timings"]:
        share = f"{100 * timing['share']:.0f} %"
        milliseconds = f"{1e3 * median(timing['seconds']):.3g}"
        table.add_row(timing["workload"], timing["title"], milliseconds, f"{timing['ratio']:.2f}", share)
    Console().print(table)
    for name, reason in found["not_run"].items():
        click.echo(f"not run: {name} ({reason}; pip install 'gradscope[bench]')")
    for case in found["wrong"]:
        click.echo(
            f"not timed: {case['contender']} on {case['workload']}, {case['apart']:.2g} from gradscope's numbers"
        )
    if "long_over_short_step" in found:
        click.echo(f"time a step at T = 1600, times that at T = 200: {found['long_over_short_step']:.2f}")
    if raced := found.get("training"):
        agreeing = "" if raced["agree"] else f" (their losses differ by {raced['apart']:.2g})"
        click.echo(f"training min-char-rnn's network: {raced['ratio']:.2f} times a plain loop's iterations{agreeing}")
        if raced["sooner"]:
            click.echo(f"training in batches: to the loop's loss {raced['sooner']:.0f} times sooner")
    if "sweep" in found:
        click.echo(f"the default sweep: {min(found['sweep']):.1f} to {max(found['sweep']):.1f} s")
    files = [name for name in ("bench.json", "bench.png") if (out / name).exists()]
    click.echo(f"results: {', '.join(str(out / name) for name in files)}")
