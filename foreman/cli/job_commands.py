"""Declares the commands about jobs that exist."""

from pathlib import Path
from typing import Annotated

import typer

from foreman.cli import completion
from foreman.cli.options import (
    ClassOption,
    JobArgument,
    JobsArgument,
    Json,
    LabelOption,
    ModelOption,
    StateOption,
    given,
    label_filter,
    listed,
)

app = typer.Typer()
PANEL = "Jobs"


@app.command(rich_help_panel=PANEL)
def jobs(
    state: StateOption = None,
    job_class: ClassOption = None,
    model: ModelOption = None,
    label: LabelOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only jobs older than this id.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All of them; JSON is a job a line.")
    ] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Only the ids, for another command.")] = False,
    json: Json = False,
) -> None:
    """Recent jobs, newest first."""
    from foreman.cli import connection, jobs, terminal

    asked = given(
        {
            "state": state,
            "class": job_class,
            "model": model,
            "label": label_filter(label),
            "limit": limit,
            "before": before,
        }
    )
    with terminal.exit_status():
        daemon = connection.read()
        if ids:
            jobs.show_ids(daemon, asked, every=every)
        elif every:
            jobs.show_all(daemon, asked, as_json=json)
        else:
            jobs.show(daemon, asked, as_json=json)


@app.command(rich_help_panel=PANEL)
def show(job: JobArgument, json: Json = False) -> None:
    """All that is known of one job, and its answer."""
    from foreman.cli import connection, show, terminal

    with terminal.exit_status():
        show.show(connection.read(), job, as_json=json)


@app.command(rich_help_panel=PANEL)
def wait(
    job: JobsArgument,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after 30s, 2h, ...")
    ] = None,
    json: Json = False,
) -> None:
    """Until jobs have ended, across restarts of the daemon; exit status 5 if one failed."""
    from foreman.cli import connection, terminal, wait
    from foreman.cli.submit import seconds

    limit = seconds(timeout) if timeout else None
    with terminal.exit_status("the jobs go on"):
        wait.wait(connection.read(), listed(job), limit, as_json=json)


@app.command(rich_help_panel=PANEL)
def watch(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB", help="Only this job, until it ends.", autocompletion=completion.jobs
        ),
    ] = None,
    state: StateOption = None,
    job_class: ClassOption = None,
    model: ModelOption = None,
    label: LabelOption = None,
    after: Annotated[
        int | None,
        typer.Option(metavar="SEQ", min=0, help="Events after this number, old ones too."),
    ] = None,
    json: Json = False,
) -> None:
    """Events as they happen, without a gap across dropped connections and restarts."""
    from foreman.cli import connection, terminal, watch

    filters = given(
        {"state": state, "class": job_class, "model": model, "label": label_filter(label)}
    )
    goes_on = f"job {job} goes on: foreman watch {job}" if job else "the jobs go on"
    with terminal.exit_status(goes_on):
        watch.watch(connection.read(), job, filters, after, as_json=json)


@app.command(rich_help_panel=PANEL)
def output(
    job: JobsArgument,
    start: Annotated[int, typer.Option("--from", min=0, help="The first record, from 0.")] = 0,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each as FOLDER/JOB.txt.")
    ] = None,
    json: Json = False,
) -> None:
    """The answers of jobs as text, live while they run; --json gives the records as they came."""
    from foreman.cli import connection, output, terminal

    if to and (start or json):
        raise typer.BadParameter("--to writes whole answers as text: leave out --from and --json")
    with terminal.exit_status("the jobs go on"):
        daemon = connection.read()
        if to:
            output.write(daemon, listed(job), to)
        else:
            output.show(daemon, listed(job), start, as_json=json)


@app.command(rich_help_panel=PANEL)
def artifacts(
    job: JobsArgument,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Fetch them as FOLDER/JOB.NAME; - writes to stdout."),
    ] = None,
    json: Json = False,
) -> None:
    """The results of jobs: what there is, or with --to their bytes, checked by sha256."""
    from foreman.cli import artifacts, connection, terminal

    with terminal.exit_status():
        daemon = connection.read()
        if to is None:
            artifacts.show(daemon, listed(job), as_json=json)
        else:
            artifacts.fetch(daemon, listed(job), to, as_json=json)


@app.command(rich_help_panel=PANEL)
def cancel(job: JobsArgument, json: Json = False) -> None:
    """Take jobs out of the queue, or stop the one that runs."""
    from foreman.cli import cancel, connection, terminal

    with terminal.exit_status():
        cancel.cancel(connection.read(), listed(job), as_json=json)
