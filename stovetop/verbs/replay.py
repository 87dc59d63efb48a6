"""`stovetop replay RUN`: a run again, with what was done to it at the same steps, and whether it came out the same."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from control.errors import ServerUnreachable
from stovetop.errors import StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.beside import beside
from stovetop.verbs.branches import losses_of, newest_name
from stovetop.verbs.talking import Config, client_of, console


def replay(
    run: Annotated[str, typer.Argument(help="the run to repeat")],
    name: Annotated[
        str | None, typer.Option("--as", help="what the repetition is called; RUN-replay otherwise")
    ] = None,
    until: Annotated[int | None, typer.Option(min=1, help="stop after this step; where the run is otherwise")] = None,
    config: Config = None,
) -> None:
    """Repeat a run from its folder, step by step, and compare the losses; ends with 1 where they differ."""
    from stovetop.roles.train import repeat
    from trainer import TrainerError

    settings = load_settings(config)
    called = name or newest_name(settings.runs, run)
    if not (settings.runs / run).is_dir():
        raise StovetopError(f"{run}: no run of that name under {settings.runs}")
    with client_of(settings) as client:
        try:
            last = until or client.run(run).step
        except ServerUnreachable as error:
            raise StovetopError(f"{error} The losses of {run} are there") from None
        console.print(f"repeating {run} as {called}, up to step {last}")
        try:
            failed = repeat(beside(config, called), run, last)
        except TrainerError as error:
            raise StovetopError(str(error)) from error
        before, after = losses_of(client, run), losses_of(client, called)
    for command, report in failed:
        console.print(f"{command.command}: {report.outcome}: {report.reason}")
    both = sorted(before.keys() & after.keys(), key=lambda key: key[1])
    if not both:
        raise StovetopError(f"{run} and {called} have no step in common; was {run} trained to step {last}?")
    largest = max(abs(before[key] - after[key]) for key in both)
    first = next((key for key in both if before[key] != after[key]), None)
    console.print(
        f"{len(both)} steps of {len(before)} were compared; the largest difference of the loss is {largest:g}"
    )
    if first is not None:
        console.print(f"the first that differs is step {first[1]} of {first[0]}: data of a live source is not repeated")
        sys.exit(1)
