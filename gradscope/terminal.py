"""What the command line shows: progress, plans, results. What is heavy is imported inside, as in `gradscope.cli`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gradscope.intent import Intent, Outlook
    from gradscope.run import Progress

EVERY = 30.0  # seconds between lines of progress where there is no terminal


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


def _lines() -> Callable[[Progress], None]:
    last = [time.monotonic()]

    def show(state: Progress) -> None:
        now = time.monotonic()
        if now - last[0] >= EVERY:
            last[0] = now
            click.echo(f"{state.done:,} of {state.total:,} runs, {_figures(state)}; {state.now}", err=True)

    return show


@contextmanager
def _bar(console: Any) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("runs"), BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
    with Bar(*columns, TextColumn("[dim]{task.fields[now]}"), console=console) as bar:
        task = bar.add_task("runs", total=None, figures="", now="")

        def show(state: Progress) -> None:
            bar.update(task, completed=state.done, total=state.total, figures=_figures(state), now=state.now)

        yield show


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


def show_plan(meant: Intent, expected: Outlook, report: bool) -> None:
    """Print what a sweep would do."""
    from rich.console import Console
    from rich.table import Table

    from gradscope.plan import in_bytes

    table = Table(show_header=False, title=f"{meant.sweep.name} ({meant.sweep.hash})", title_justify="left")
    table.add_row("runs in the grid", f"{len(meant.sweep):,}")
    table.add_row("already done", f"{meant.done:,}")
    table.add_row("to do", f"{sum(map(len, meant.todo)):,}")
    for why, count in meant.reasons.items():
        table.add_row(f"  {why}", f"{count:,}")
    if meant.left_failed:
        table.add_row("failed, left as they are", f"{meant.left_failed:,} (--retry-failed measures them again)")
    table.add_row(
        "shards to do", f"{len(meant.todo):,} of {len(meant.planned):,}, by {_count(expected.workers, 'worker')}"
    )
    drawing = f", then {_time(expected.report)} for figures and report" if report and expected.report else ""
    table.add_row("time", f"{_time(expected.seconds)} for the tables{drawing}")
    table.add_row("memory, at most", in_bytes(expected.memory))
    table.add_row("disk", f"{in_bytes(expected.disk)} ({in_bytes(expected.free)} free)")
    Console().print(table)
    for problem in meant.survey.problems:
        click.echo(f"to be set aside: {problem}")
    if expected.disk > expected.free:
        click.echo("the disk has no room for this; the sweep would not start")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


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
    if "sweep" in found:
        click.echo(f"the default sweep: {min(found['sweep']):.1f} to {max(found['sweep']):.1f} s")
    files = [name for name in ("bench.json", "bench.png") if (out / name).exists()]
    click.echo(f"results: {', '.join(str(out / name) for name in files)}")
