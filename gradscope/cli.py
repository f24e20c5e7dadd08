"""The command line: parse, call, print. What is heavy is imported inside the commands, so that --help is immediate."""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradscope import __version__, terminal
from gradscope.errors import GradscopeError, InputError

if TYPE_CHECKING:
    from gradscope.loading import Loaded
    from gradscope.results import Results

PRINTED = 10  # findings shown on the terminal; the report has all


def main() -> None:
    """Run a command; an error becomes one line and exit status 2 (bad input) or 1, Ctrl-C becomes 130."""
    try:
        status = cli(standalone_mode=False)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "gradscope"
        click.echo(f"error: {error.format_message()} (see {command} --help)", err=True)
        status = 2
    except GradscopeError as error:
        click.echo(f"error: {error}", err=True)
        status = 2 if isinstance(error, InputError) else 1
    except (OSError, MemoryError) as error:
        click.echo(f"error: {error or type(error).__name__}", err=True)
        status = 1
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo(str(error.__cause__ or error) or "interrupted", err=True)
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="gradscope")
@click.pass_context
def cli(context: click.Context) -> None:
    """What happens to gradients inside a recurrent network: do they vanish, do they explode, how far do they reach."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("experiment", default="spectral-radius", metavar="[EXPERIMENT | FILE.toml]")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results.  [reports/NAME]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of the experiment; repeatable.")
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [number of cores]")
@click.option(
    "--max-memory",
    metavar="SIZE",
    help="Memory for measuring, of all workers together: 500M, 2G. Each process takes 100M besides.  [4/5 of all]",
)
@click.option("--executor", metavar="tcp://HOST:PORT", help="Measure on a Dask cluster: its scheduler's address.")
@click.option("--plan", "plan_only", is_flag=True, help="Run nothing; say what would be done, why, and what it takes.")
@click.option("--retry-failed", is_flag=True, help="Measure runs again that failed before.")
@click.option("--no-report", is_flag=True, help="Write the tables only.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is resolved before running.")
def sweep(
    experiment: str,
    out: Path | None,
    settings: tuple[str, ...],
    jobs: int | None,
    max_memory: str | None,
    executor: str | None,
    plan_only: bool,
    retry_failed: bool,
    no_report: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run a sweep and write its tables, figures and report. Running it again resumes.

    EXPERIMENT is a shipped experiment (`gradscope list` names them) or a TOML file; spectral-radius if not given.

    \b
    gradscope sweep
    gradscope sweep spectral-radius --set seeds=2 --set 'seq_len=[50, 100]' -o reports/small
    gradscope sweep my-experiment.toml --plan
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope import experiment as experiments
    from gradscope.outlook import check_room
    from gradscope.run import preview
    from gradscope.run import sweep as run_sweep
    from gradscope.values import in_words

    overrides = dict(_setting(text) for text in settings)
    if verbose:
        resolved = experiments.read(experiment, overrides)
        click.echo(f"{resolved.name} ({resolved.hash}): {len(resolved):,} runs")
        for key, values in resolved.grid.items():
            click.echo(f"  {key} = {in_words(values)}")
    how: dict[str, Any] = {"jobs": jobs, "max_memory": _bytes(max_memory), "retry_failed": retry_failed}
    if plan_only:
        if executor:
            raise InputError("predicts for this machine alone", where="--plan", hint="leave out --executor")
        meant, expected, folder = preview(experiment, out, overrides, **how)
        terminal.show_plan(meant, expected, folder, report=not no_report)
        check_room(meant, folder)
        return
    begun = time.monotonic()
    with terminal.progress(quiet) as progress:
        command = shlex.join(["gradscope", *sys.argv[1:]])
        results = run_sweep(experiment, out, overrides, executor=executor, progress=progress, command=command, **how)
    if not quiet:
        click.echo(f"{len(results.runs):,} runs in {results.folder} ({time.monotonic() - begun:.1f} s)")
    if not no_report:
        _report(results, quiet)
    if failed := results.failed:
        first = next(iter(failed))
        click.echo(
            f"error: {sum(failed.values()):,} of {len(results.runs):,} runs failed ({first}); "
            "the same command with --retry-failed measures them again",
            err=True,
        )
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("task", metavar="TASK")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the training.  [reports/train-TASK]")
@click.option("--cell", help="elman, lstm, gru, irnn or diagonal.  [elman]")
@click.option("--activation", help="Of elman: tanh, relu, sigmoid or linear.  [tanh]")
@click.option("--hidden-size", type=int, help="Units.  [64, or the task's]")
@click.option("--seq-len", type=int, help="Steps of a window: as far as gradients can go back.  [50, or the task's]")
@click.option("--batch-size", type=int, help="Examples of a minibatch.  [32, or the task's]")
@click.option(
    "--batching", help="random (state reset) or sequential (state carried).  [sequential if there is a series]"
)
@click.option("--truncation", help="full, fixed:TAU, chunked:TAU, random:TAU, ...  [full]")
@click.option("--clip", help="norm:THETA, value:THETA, norm-each:THETA, or off (none).  [norm:1]")
@click.option("--optimizer", help="sgd, momentum[:MU], adagrad or adam.  [adam]")
@click.option("--learning-rate", type=float, help="[0.001, or the task's]")
@click.option("--steps", type=int, help="Updates of the parameters.  [2000, or the task's]")
@click.option("--patience", type=int, help="Stop after so many looks without a lower validation loss.  [0: never]")
@click.option("--seed", type=int, help="Of weights and data.  [0]")
@click.option("--file", help="The data, of series (CSV, Parquet, .npy) and text (UTF-8).  [shipped data]")
@click.option("--init", type=click.Path(path_type=Path), help="Parameters to begin with: a model.safetensors.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other key, as spectral_radius=0.9.")
@click.option("--no-report", is_flag=True, help="Write the tables only.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def train(
    task: str, out: Path | None, init: Path | None, settings: tuple[str, ...], no_report: bool, quiet: bool, **keys: Any
) -> None:
    """Train a network and record its gradients while it learns. Running it again goes on where it stopped.

    TASK is sine, series, text, adding, copy, temporal-order, recall or noise; each has settings that suit it.

    \b
    gradscope train sine
    gradscope train text --file book.txt --truncation fixed:10 --clip value:5 --steps 5000
    gradscope train adding --set delay=10 --truncation random:20
    gradscope train recall --cell lstm --set forget_bias=2 --set num_layers=2
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope.learning import train as run_training

    given = {key: value for key, value in keys.items() if value is not None}
    places = {key: f"--{key.replace('_', '-')}" for key in given} | {"task": "TASK"}
    for key, value in map(_setting, settings):
        given[key], places[key] = value, f"--set {key}"
    folder = out or Path("reports") / f"train-{task}"
    with terminal.training_progress(quiet) as progress:
        command = shlex.join(["gradscope", *sys.argv[1:]])
        history = run_training(task, folder, init=init, progress=progress, command=command, places=places, **given)
    if not quiet:
        done = f"{len(history.steps):,} step{'s' * (len(history.steps) != 1)}"
        click.echo(f"{done} in {folder} ({history.manifest['seconds']:.1f} s)")
    if not no_report:
        _report(history, quiet)
    if history.status.startswith("diverged"):
        hint = "a lower --learning-rate, or a --clip; what was recorded until then is kept"
        click.echo(f"error: {history.status}; {hint}", err=True)
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("source", default="spectral-radius", metavar="[EXPERIMENT | FILE.toml | DIR]")
@click.option("--bias", type=float, default=0.1, metavar="SHARE", help="Relative bias that is tolerated.  [0.1]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with reasons and curves.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the runs.  [reports/advise-NAME]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of the experiment; repeatable.")
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [number of cores]")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def advise(
    source: str,
    bias: float,
    as_json: bool,
    out: Path | None,
    settings: tuple[str, ...],
    jobs: int | None,
    quiet: bool,
) -> None:
    """Say which tau keeps the bias of truncated BPTT small, or why none does.

    An experiment's longest sequences are measured with a range of taus (running it again resumes); of a sweep's folder,
    the runs that are there are read.

    \b
    gradscope advise
    gradscope advise sine --bias 0.05 --set seeds=10
    gradscope advise reports/spectral-radius --json
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope.advice import advise as find_advice

    overrides = dict(_setting(text) for text in settings)
    with terminal.progress(quiet) as progress:
        command = shlex.join(["gradscope", *sys.argv[1:]])
        found = find_advice(source, bias, out, overrides, jobs, progress=progress, command=command)
    if as_json:
        click.echo(found.to_json())
    else:
        terminal.show_advice(found)


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--radius", "radii", type=float, multiple=True, metavar="R", help="Repeatable.  [three of them]")
@click.option("--parameter", default="all", metavar="NAME", help="all, or one, as W_hh.  [all]")
@click.option("--json", "as_json", is_flag=True, help="Print all rows and columns as JSON.")
def ledger(folder: Path, radii: tuple[float, ...], parameter: str, as_json: bool) -> None:
    """Print what each truncation costs and is worth, of a sweep that was run with draws of coins.

    Bias, standard deviation, direction, states kept and time (measured now), relative to full BPTT on the same weights
    and inputs.

    \b
    gradscope sweep random-vs-fixed
    gradscope ledger reports/random-vs-fixed --radius 1.0 --parameter W_hh
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope.accounting import excerpt
    from gradscope.accounting import ledger as find_ledger
    from gradscope.loading import measure_of
    from gradscope.results import load

    results = load(folder)
    if measure_of(results) == "training":
        raise InputError("a sweep of trainings, but the ledger is of gradients", where=str(folder))
    table = find_ledger(results, timed=True)
    if not results.manifest["finished"]:
        click.echo(f"the sweep is not finished: {_part_done(results)}", err=True)
    if as_json:
        click.echo(table.to_json(orient="records", double_precision=15))
    else:
        terminal.show_ledger(excerpt(table, radii, parameter))


@cli.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Page of a comparison.  [A-and-B.html beside A]")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def report(folders: tuple[Path, ...], out: Path | None, opened: bool, quiet: bool) -> None:
    """Write the report and figures of a sweep or training again; of several sweeps, a page with all side by side.

    \b
    gradscope report reports/spectral-radius --open
    gradscope report reports/sine reports/stocks
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope.loading import load
    from gradscope.results import load as load_sweep
    from gradscope.store import is_training

    if len(folders) == 1:
        if out:
            raise InputError("is for comparisons", where="--out", hint="the report of one sweep stands in its folder")
        path = _report(load(folders[0]), quiet)
    else:
        for folder in filter(is_training, folders):
            raise InputError("a single training, but comparisons are of sweeps", where=str(folder))
        names = "-and-".join(folder.resolve().name for folder in folders)
        path = _compare([load_sweep(folder) for folder in folders], out or folders[0].parent / f"{names}.html", quiet)
    if opened:
        click.launch(str(path))


def _compare(results: list[Results], path: Path, quiet: bool) -> Path:
    from rich.console import Console

    from gradscope.reporting.comparison import compare

    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    with console.status("drawing figures and page", spinner="line"):
        compare(results, path)
    if not quiet:
        click.echo(f"comparison: {path}")
    return path


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def verify(folder: Path, quiet: bool) -> None:
    """Check every file of a sweep's or a training's folder against its checksum, and the tables against each other.

    Exit status 1 if anything is damaged, missing, stray or not finished.
    """
    from gradscope.integrity import verify as check
    from gradscope.store import is_training

    found = check(folder)
    for problem in found.problems:
        click.echo(problem, err=True)
    if found.problems:
        mended = "train again in another folder"
        if not is_training(folder):
            mended = "the same sweep again sets aside what is damaged, and measures what is lost with it"
        click.echo(mended, err=True)
    elif found.unfinished:
        click.echo(f"{folder}: not finished: {found.unfinished}; the same command again goes on from there", err=True)
    if not found.ok:
        raise click.exceptions.Exit(1)
    if not quiet:
        click.echo(f"{found.runs:,} run{'s' * (found.runs != 1)} in {folder}: every file is as it was written")


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, metavar="NAME", help="Draw this figure; repeatable.  [all]")
@click.option("--format", "formats", multiple=True, metavar="png|svg|pdf", help="Repeatable.  [all three]")
@click.option(
    "--style", default="plain", metavar="NAME", help="Venue: neurips, icml, iclr, jmlr, pnas, nature.  [plain]"
)
@click.option("--latex", is_flag=True, help="Set text with LaTeX, which has to be installed.")
@click.option("--where", metavar="CONDITION", help="Show runs for which it holds only, as 'spectral_radius < 1.2'.")
@click.option("--hue", metavar="KEY", help="The parameter by which the lines of a panel differ.")
@click.option("--facet", multiple=True, metavar="KEY", help="A panel for each value of this parameter; repeatable.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the figures.  [DIR/figures]")
@click.option("--check", is_flag=True, help="Draw the figures that are there again; say which differ, numbers first.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def figures(
    folder: Path,
    only: tuple[str, ...],
    formats: tuple[str, ...],
    style: str,
    latex: bool,
    where: str | None,
    hue: str | None,
    facet: tuple[str, ...],
    out: Path | None,
    check: bool,
    quiet: bool,
) -> None:
    """Draw the figures of the folder of a sweep or training, each with a CSV of its numbers.

    \b
    gradscope figures reports/spectral-radius --style neurips --only gradient-vs-lag
    gradscope figures reports/spectral-radius --where "activation == 'tanh'" --hue seq_len -o paper
    gradscope figures reports/spectral-radius --check
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope import figures as drawings
    from gradscope.loading import load

    results = load(folder)
    if not results.manifest["finished"]:
        click.echo(f"the sweep is not finished: {_part_done(results)}", err=True)
    place = out or folder / "figures"
    if check:
        given = {"--format": formats, "--style": style != "plain", "--where": where, "--hue": hue, "--facet": facet}
        if extra := [name for name, value in given.items() if value]:
            raise InputError(
                f"goes without {', '.join(extra)}", where="--check", hint="figures.json says how they were drawn"
            )
        _check_figures(results, place, only, quiet)
        return
    if where or hue or facet:
        results = _viewed(results, where, hue, facet)
    drawn = drawings.write(results, place, formats or drawings.FORMATS, only=only, style=style, latex=latex)
    for figure in drawn:
        if not quiet:
            files = ", ".join(str(path) for path in figure.files.values())
            click.echo(f"{figure.name}: {files or 'not drawn: ' + figure.reason}")
    for figure in drawn:
        if not figure.files and figure.name in only:
            raise InputError(f"cannot be drawn: {figure.reason}", where=figure.name)


def _viewed(loaded: Loaded, where: str | None, hue: str | None, facet: tuple[str, ...]) -> Results:
    from gradscope.results import Results

    if not isinstance(loaded, Results):
        raise InputError("a single training has no runs to choose from", where="--where, --hue, --facet")
    chosen = loaded.where(where) if where else loaded
    return chosen.viewed(hue, facet) if hue or facet else chosen


def _check_figures(results: Loaded, folder: Path, only: tuple[str, ...], quiet: bool) -> None:
    from gradscope.redrawing import check

    names, found = check(results, folder, only)
    for difference in found:
        click.echo(f"{difference.name}: {difference.what}", err=difference.matters)
    if any(difference.matters for difference in found):
        raise click.exceptions.Exit(1)
    if not quiet:
        others = {difference.name for difference in found}
        click.echo(f"{len(names) - len(others)} of {len(names)} figures in {folder} are the same, byte for byte")


def _part_done(results: Loaded) -> str:
    return f"this is from {len(results.runs):,} of its {results.manifest['runs']:,} runs"


@cli.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("reports/bench"), help="Folder.  [reports/bench]"
)
@click.option("-w", "--workload", "workloads", multiple=True, metavar="NAME", help="Repeatable.  [all]")
@click.option("--rounds", type=int, help="Rounds of each race.  [5; 3 if quick]")
@click.option("--quick", is_flag=True, help="Fewer workloads and networks: under a minute.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def bench(out: Path, workloads: tuple[str, ...], rounds: int | None, quick: bool, quiet: bool) -> None:
    """Measure gradscope's speed beside PyTorch, JAX and plain NumPy, and beside the machine's limit.

    Peers come with `pip install 'gradscope[bench]'`; those that are missing are named and left out.
    """
    from rich.console import Console

    from gradscope.bench import bench as run_bench

    console = Console(stderr=True)
    with console.status("", spinner="line") as status:
        found = run_bench(out, workloads, rounds, quick, tell=status.update)
    if not quiet:
        terminal.show_bench(found, out)
    if found["wrong"]:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("names", metavar="[EXPERIMENT]...", nargs=-1)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("reports/gallery"), help="Folder.  [reports/gallery]"
)
@click.option("--check", is_flag=True, help="Run the experiments again and say which numbers differ.")
@click.option(
    "--papers", type=click.Path(path_type=Path), metavar="DIR", help="Papers as reproduced there.  [reproduced anew]"
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def gallery(names: tuple[str, ...], out: Path, check: bool, papers: Path | None, quiet: bool) -> None:
    """Run the shipped experiments, all or some, and keep their figures in a folder, with the numbers to check them by.

    With all experiments go all papers of `gradscope reproduce`, with the table of their claims. Exit status 1 if the
    check finds other numbers.
    """
    from gradscope import gallery as galleries

    def say(name: str) -> None:
        if not quiet:
            click.echo(name)

    if not check:
        galleries.make(out, names, say, papers)
        return
    found = galleries.check(out, names, say, papers)
    for difference in found:
        click.echo(difference, err=True)
    if found:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every paper of the catalogue.")
@click.option("--check", is_flag=True, help="Exit with status 1 if a claim fails. Without NAME: of every paper.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for them.  [reports/papers]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of what is drawn at random.  [0]")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [number of cores]")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@click.option("-q", "--quiet", is_flag=True, help="Print claims that fail, and errors, only.")
def reproduce(
    names: tuple[str, ...],
    everything: bool,
    check: bool,
    out: Path | None,
    seed: int,
    jobs: int | None,
    opened: bool,
    quiet: bool,
) -> None:
    """Reproduce published results: compute, draw the figures, and check every claim. Without NAME, list the papers.

    Writes NAME/report.html, NAME/figures, NAME/claims.csv and index.html, the page over all papers.

    \b
    gradscope reproduce
    gradscope reproduce pascanu-cliff meanfield --open
    gradscope reproduce --all --check
    """  # noqa: D301 - the mark that click looks for is a backspace
    from gradscope import papers

    if names and everything:
        raise InputError("goes without NAME", where="--all", hint="leave out one of them")
    if not (names or everything or check):
        given = {"--out": out, "--seed": seed, "--jobs": jobs, "--open": opened, "--quiet": quiet}
        if unused := [option for option, value in given.items() if value]:
            raise InputError("needs NAME, or --all", where=", ".join(unused))
        terminal.show_catalogue([papers.find(name) for name in papers.names()])
        return
    from gradscope.reproducing import OUT, SUMMARY
    from gradscope.reproducing import reproduce as run_papers

    root = out or OUT
    chosen = list(names) or papers.names()
    command = shlex.join(["gradscope", *sys.argv[1:]])
    begun = time.monotonic()
    with terminal.reproducing(len(chosen), quiet) as tell:
        done = run_papers(chosen, root, seed=seed, jobs=jobs, tell=tell, command=command)
    page = done[0].folder / "report.html" if len(done) == 1 else root / SUMMARY
    if not quiet:
        click.echo(f"{len(done)} paper{'s' * (len(done) != 1)} ({time.monotonic() - begun:.1f} s): {page}")
    if opened:
        click.launch(str(page))
    if check and not all(one.held for one in done):
        raise click.exceptions.Exit(1)


@cli.command("list")
def list_experiments() -> None:
    """Name the shipped experiments, with the number of their runs."""
    from gradscope import experiment as experiments

    for name in experiments.names():
        resolved = experiments.read(name)
        first = (experiments.SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
        click.echo(f"{name:<20} {len(resolved):>7,} runs  {first.removeprefix('# ')}")


def _report(results: Loaded, quiet: bool) -> Path:
    from rich.console import Console

    from gradscope.reporting import report
    from gradscope.reporting.findings import findings

    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    with console.status("drawing figures and report", spinner="line"):
        try:
            path = report(results)
        except KeyboardInterrupt:
            folder = results.folder
            click.echo(f"interrupted; the tables are whole, gradscope report {folder} writes the report", err=True)
            raise click.exceptions.Exit(130) from None
    if not quiet:
        found = findings(results)
        for finding in found[:PRINTED]:
            click.echo(f"- {finding.text}")
        if len(found) > PRINTED:
            click.echo(f"- {len(found) - PRINTED} more in the report")
        click.echo(f"report: {path}")
    return path


def _setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, with VALUE as in TOML; bare words and comma-separated lists need no quotes or brackets."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{text!r}", where="--set", allowed="KEY=VALUE")

    def parse(part: str) -> Any:
        try:
            return tomllib.loads(f"value = {part}")["value"]
        except tomllib.TOMLDecodeError:
            return part.strip()

    parsed = parse(value)
    listed = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", value)  # of bare words, or it would have been read
    if isinstance(parsed, str) and (listed or ("," in parsed and not value.lstrip().startswith(("{", '"', "'")))):
        parsed = [parse(part) for part in (listed[1] if listed else value).split(",")]
    return key.strip(), parsed


def _bytes(text: str | None) -> float | None:
    """A number of bytes: 500M, 2G, 1.5GiB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise InputError(f"{text!r}", where="--max-memory", allowed="a size, as 500M or 2G")
    return float(found[1]) * float(1024 ** " KMGT".index(found[2].upper() or " "))
