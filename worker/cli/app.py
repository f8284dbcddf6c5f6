"""The command line, a module for each command. It starts fast: what a command needs is imported when it runs.

Exit codes: 0 done · 1 the run failed · 2 bad input · 3 Temporal, a warehouse or a disk cannot be used · 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, NoReturn

import typer

from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable
from entrepot.secrets import scrub_output
from entrepot.worker.cli import (
    backfill,
    checks,
    ci,
    codec_server,
    console,
    demo,
    deployments,
    dev,
    doctor,
    env,
    examples,
    freshness,
    gc,
    graph,
    init,
    lineage,
    parity,
    plan,
    products,
    restore,
    rollback,
    run,
    runs,
    schedules,
    show,
    sql,
    tenants,
    versions,
    worker,
    workers,
)

app = typer.Typer(
    name="entrepot",
    help="Durable pipelines: ingest, transform, train, publish.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (
    *(
        init.init,
        demo.demo,
        dev.dev,
        worker.worker,
        run.run,
        backfill.backfill,
        runs.runs,
        freshness.freshness,
        products.products,
        plan.plan,
        ci.ci,
        parity.parity,
        sql.sql,
        graph.graph,
        lineage.lineage,
    ),
    *(show.show, console.console, versions.versions, checks.checks, rollback.rollback, gc.gc, doctor.doctor),
    *(restore.restore, workers.workers, codec_server.codec_server),
):
    app.command()(command)
app.command("test")(examples.examples)
app.add_typer(schedules.group, name="schedules")
app.add_typer(tenants.group, name="tenants")
app.add_typer(env.group, name="env")
app.add_typer(deployments.group, name="deployments")

_COMPUTING = ("ci", "demo", "dev", "test", "worker")
"""The commands that run pipelines."""


def _with_a_fixed_seed() -> None:
    """Begins anew with one seed for the order of sets: `select(*set(names))` has the same columns in every worker."""
    if "PYTHONHASHSEED" not in os.environ and any(word in _COMPUTING for word in sys.argv[1:2]):
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> NoReturn:
    """The entry point. Ends the process at once: native libraries are not to be unloaded one by one."""
    _with_a_fixed_seed()
    _with_streams()
    scrub_output()
    code: Any = 0
    try:
        app()
    except SystemExit as ended:
        # Click ends with 1 where who reads the output has seen enough.
        code = 0 if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except EntrepotError as error:
        from entrepot.worker.cli import output

        output.failure(str(error))
        code = 2 if isinstance(error, BadInput | PipelineError) else 3 if isinstance(error, Unavailable) else 1
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        code = _not_written(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            code = code or _not_written(error)
    os._exit(code if isinstance(code, int) else 1)


def _with_streams() -> None:
    """Lets a command whose output or errors nobody wants, since they are closed, write them to nowhere.

    Lines go to a file as they come, as they do to a terminal: what is killed has told all that it had to.
    """
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
        elif stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends


def _not_written(error: OSError) -> int:
    """The exit code where something could not be read or written: 0 if who reads the output has seen enough."""
    if isinstance(error, BrokenPipeError):
        return 0
    with contextlib.suppress(OSError):
        sys.stderr.write(f"✗ {error.filename or 'standard output'}: {error.strerror}\n")
        sys.stderr.flush()
    return 3


if __name__ == "__main__":
    main()
