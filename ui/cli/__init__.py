"""The command line: `crashcart …`. Each command group is a module; heavy imports happen inside the commands."""

from __future__ import annotations

import sys

import click
import typer

from ui.cli import ask, checkup, evaluating, flags, knowledge, mcp, patch, probing, report, serving, size, threads
from ui.cli.options import Group, language_of_words

USAGE = 64

app = typer.Typer(
    name="crashcart",
    cls=Group,
    help="Find out why an LLM server (vLLM, SGLang) is down or slow, with no network, no key and no GPU needed.",
    epilog="\b\nStart with:\n  crashcart ask 'vLLM dies at start-up' --log vllm.log\n  crashcart checkup\n  crashcart serve",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ask.register(app)
checkup.register(app)
probing.register(app)
report.register(app)
knowledge.register(app)
flags.register(app)
size.register(app)
patch.register(app)
serving.register(app)
mcp.register(app)
threads.register(app)
evaluating.register(app)


@app.callback(invoke_without_command=True)
def crashcart(show_version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show_version:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("crashcart"))
        except PackageNotFoundError:
            typer.echo("unknown: crashcart is run from its source folder without being installed")
        raise typer.Exit


def main() -> None:
    """Run the command; what a person can mend is one sentence and exit code 64."""
    from kb.errors import InputError

    try:
        code = app(standalone_mode=False)
    except InputError as error:
        typer.echo(f"crashcart: {error.told(language_of_words(sys.argv))}", err=True)
        sys.exit(USAGE)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("crashcart: stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    sys.exit(code if isinstance(code, int) else 0)
