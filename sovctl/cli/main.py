"""Parses the command line, runs a verb, and turns whatever happened into an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

import typer
from typer.main import get_command

from sovctl.cli.app import build
from sovctl.cli.arguments import split
from sovctl.cli.exit_codes import ExitCode, exit_code
from sovctl.cli.output import Output
from sovctl.cli.session import Interrupted, Session
from sovctl.errors import InternalError, SovError

DEBUG_VARIABLE = "SOVCTL_DEBUG"


def run(argv: Sequence[str], stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """The exit status of `sovctl ARGV...`. No exception leaves; no traceback is printed."""
    # gRPC tells its own story on standard error; errors reach people as exceptions instead.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    line = split(argv)
    output = Output(stdout=stdout or sys.stdout, stderr=stderr or sys.stderr)
    session = Session(command=line.command, output=output)
    try:
        found = get_command(build()).main(
            args=list(line.options), prog_name="sovctl", standalone_mode=False, obj=session
        )
    except SovError as error:
        output.error(error)
        return exit_code(error)
    except typer.TyperException as error:
        output.stderr.write(f"{error.format_message()}\n")
        output.stderr.write("`sovctl --help` lists the verbs, `sovctl VERB --help` its options.\n")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        output.note("interrupted")
        return ExitCode.INTERRUPTED
    except Interrupted as interrupted:
        output.note(f"interrupted: {interrupted}")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough. Nothing may be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except OSError as error:
        output.error(InternalError(f"{error.filename or 'sovctl'}: {error.strerror}"))
        return ExitCode.FAILED
    except Exception as error:
        # A fault of this program. People get a sentence; who mends it asks for the traceback.
        if os.environ.get(DEBUG_VARIABLE):
            raise
        said = f"{type(error).__name__}: {error}"
        output.error(InternalError(f"{said}; set {DEBUG_VARIABLE}=1 to see where it comes from"))
        return ExitCode.FAILED
    return found if isinstance(found, int) else ExitCode.DONE
