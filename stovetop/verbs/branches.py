"""Branches and runs as a tree: what they are called, how they compare, which may go, and a run that begins at another's
checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.table import Table

from control import CommandName, ControlClient, EventType
from control.api import BranchInfo, MetricSeries, ReportedEvent
from control.bodies import BranchDeletedBody, CheckpointBody, body
from stovetop.errors import StovetopError
from stovetop.play import RoleName, play
from stovetop.settings import Settings, load_settings
from stovetop.verbs.beside import beside
from stovetop.verbs.talking import Config, Note, client_of, console, deliver

app = typer.Typer(no_args_is_help=True, help="The branches of a run: list, rename, note, delete.")

Branch = Annotated[str, typer.Argument(help="its name, as `stovetop branch list` shows it")]
POINTS = 5000


@app.command(name="list")
def list_(config: Config = None) -> None:
    """Show the branches of the run as a tree, with where each forked."""
    settings = load_settings(config)
    with client_of(settings) as client:
        detail = client.run(settings.run)
    saved: dict[str, int] = {}
    for checkpoint in detail.checkpoints:
        saved[checkpoint.branch] = saved.get(checkpoint.branch, 0) + 1
    table = Table("branch", "title", "forked from", "at step", "now at", "checkpoints", "note")
    for depth, branch in _tree(detail.branches, None, 0):
        name = "  " * depth + branch.branch + (" (deleted)" if branch.deleted else "")
        where = branch.parent or _elsewhere(branch)
        at, now = ("" if step is None else str(step) for step in (branch.forked_at, branch.step))
        table.add_row(name, branch.title, where, at, now, str(saved.get(branch.branch, 0)), branch.note)
    console.print(table)


@app.command()
def rename(
    branch: Branch, title: Annotated[str, typer.Argument(help="what to call it")], config: Config = None
) -> None:
    """Call a branch something else. Checkpoints, versions and the record keep the name that it began with."""
    deliver(config, CommandName.DESCRIBE_BRANCH, {"branch": branch, "title": title}, "")


@app.command()
def note(branch: Branch, text: Annotated[str, typer.Argument(help="what to remember")], config: Config = None) -> None:
    """Note something about a branch."""
    deliver(config, CommandName.DESCRIBE_BRANCH, {"branch": branch, "note": text}, "")


@app.command()
def delete(branch: Branch, why: Note = "", config: Config = None) -> None:
    """Delete the checkpoints of a branch that nothing goes on from. Its numbers stay."""
    settings = load_settings(config)
    with client_of(settings) as client:
        here = [actor for actor in client.run(settings.run).actors if actor.kind == "trainer" and actor.connected]
        if not here:
            _delete_here(settings, client, branch)
            return
    deliver(config, CommandName.DELETE_BRANCH, {"branch": branch}, why)


def compare(
    runs: Annotated[list[str], typer.Argument(help="runs, or branches as run:branch")],
    metric: Annotated[str, typer.Option("--metric", "-M")] = "loss",
    config: Config = None,
) -> None:
    """Compare a metric of runs or branches: at the last step that all have, at its best, and by step."""
    settings = load_settings(config)
    curves: dict[str, MetricSeries] = {}
    with client_of(settings) as client:
        for named in runs:
            run, _, branch = named.partition(":")
            found = client.series(run, [metric], branches=[branch] if branch else [], points=POINTS, lineage=True)
            for series in found.series:
                curves[f"{run}:{series.branch}"] = series
    if not curves:
        raise StovetopError(f"{', '.join(runs)}: none of them has a metric {metric!r}")
    console.print(comparison(curves, metric))


def comparison(curves: dict[str, MetricSeries], metric: str) -> Table:
    """The curves side by side; the first is what the others are held against."""
    points = {name: _points(series) for name, series in curves.items()}
    first = next(iter(points.values()))
    shared = sorted(set.intersection(*(set(each) for each in points.values())))
    last = shared[-1] if shared else None
    table = Table("run", "steps", f"{metric} at step {last}", f"least {metric}", "at step", "largest difference")
    for name, values in points.items():
        best = min(values, key=lambda step: values[step])
        both = [abs(values[step] - first[step]) for step in values.keys() & first.keys()]
        table.add_row(
            name,
            str(len(values)),
            "" if last is None else f"{values[last]:.6g}",
            f"{values[best]:.6g}",
            str(best),
            "" if values is first or not both else f"{max(both):.3g}",
        )
    return table


def fork(
    checkpoint: Annotated[str, typer.Argument(help="its uuid, as `status` shows it, of any run")],
    run: Annotated[str, typer.Option("--run", help="what the new run is called")],
    config: Config = None,
) -> NoReturn:
    """Train a run of its own from a checkpoint, beside whatever trains now; it publishes nothing."""
    from trainer import Checkpoints, RunFolder

    settings = load_settings(config)
    for folder in sorted(path for path in settings.runs.glob("*") if path.is_dir()):
        for saved in Checkpoints(RunFolder(folder)).all():
            if saved.card.uuid == checkpoint:
                if folder.name == run:
                    raise StovetopError(f"--run {run}: the checkpoint is this run's own; use `stovetop load`")
                play(RoleName.TRAIN, beside(config, run), begin_at=saved.path)
    raise StovetopError(f"{checkpoint!r}: no run under {settings.runs} has a checkpoint of that uuid; see `status`")


def _delete_here(settings: Settings, client: ControlClient, branch: str) -> None:
    """Without a trainer: in the run's folder, and told to the server."""
    from trainer import BranchError, Checkpoints, RunFolder, RunLocked

    folder = RunFolder(settings.runs / settings.run)
    try:
        with folder.lock():
            deleted = Checkpoints(folder).delete_branch(branch)
    except (BranchError, RunLocked) as error:
        raise StovetopError(str(error)) from error
    events = [
        ReportedEvent(
            run=settings.run,
            type=EventType.CHECKPOINT,
            branch=branch,
            step=each.card.step,
            body=body(CheckpointBody(uuid=each.card.uuid, action="deleted", reason="its branch was deleted")),
        )
        for each in deleted
    ]
    told = ReportedEvent(run=settings.run, type=EventType.BRANCH, branch=branch, body=body(BranchDeletedBody()))
    client.report(*events, told)
    console.print(f"{branch}: deleted, with {len(deleted)} checkpoints")


def _tree(branches: Sequence[BranchInfo], parent: str | None, depth: int) -> list[tuple[int, BranchInfo]]:
    found = []
    for branch in branches:
        if branch.parent == parent:
            found += [(depth, branch), *_tree(branches, branch.branch, depth + 1)]
    return found


def _elsewhere(branch: BranchInfo) -> str:
    first = branch.segments[0] if branch.segments else None
    return f"run {first.parent_run}" if first is not None and first.parent_run else ""


def _points(series: MetricSeries) -> dict[int, float]:
    return {step: value for step, value in zip(series.steps, series.mean, strict=True) if value is not None}


def losses_of(client: ControlClient, run: str, metric: str = "loss") -> dict[tuple[str, int], float]:
    """A metric of all branches of a run by branch and step."""
    found = client.series(run, [metric], points=POINTS).series
    return {(series.branch, step): value for series in found for step, value in _points(series).items()}


def newest_name(folder: Path, base: str) -> str:
    """A run's name that is free: `base-replay`, `base-replay-2`, …"""
    name, number = f"{base}-replay"[:64], 1
    while (folder / name).exists():
        number += 1
        name = f"{base}-replay-{number}"[-64:]
    return name
