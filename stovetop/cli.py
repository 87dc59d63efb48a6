"""The command line: the roles, `up` and `demo`, and the operator's verbs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from auth import Scope
from control import ClientError, CommandName, ControlClient, DesiredState, Outcome
from stovetop.errors import ConfigurationError, StovetopError
from stovetop.lifeline import RoleLocked
from stovetop.play import RoleName, play
from stovetop.settings import load_settings
from stovetop.verbs import branches
from stovetop.verbs.agents import accept, agent
from stovetop.verbs.doctor import doctor
from stovetop.verbs.importing import import_logs
from stovetop.verbs.keeping import dead, delete
from stovetop.verbs.key import key
from stovetop.verbs.reannotate import reannotate
from stovetop.verbs.release import release
from stovetop.verbs.replay import replay
from stovetop.verbs.talking import Config, Note, client_of, console, deliver

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Channel = Annotated[str, typer.Option("--channel", help="the pointer that moves")]


app.command()(delete)
app.add_typer(dead, name="dead")
app.command()(reannotate)
app.command("import")(import_logs)
app.command()(doctor)
app.add_typer(branches.app, name="branch")
app.command(name="compare")(branches.compare)
app.command(name="fork")(branches.fork)
app.command(name="replay")(replay)


def main() -> None:
    """The console script: one line for what is known to go wrong, a traceback for what is not."""
    try:
        app()
    except (StovetopError, RoleLocked, ClientError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(78 if isinstance(error, ConfigurationError) else 1)


# The service


@app.command()
def up(config: Config = None) -> None:
    """Run everything on this machine until Ctrl-C."""
    from stovetop.up import up as run_up

    run_up(load_settings(config), config, lambda line: console.print(line, highlight=False, soft_wrap=True))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="where the run and its report go")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="of visitors, training and noise")] = 0,
    minutes: Annotated[float, typer.Option(help="how long visitors come")] = 8.0,
) -> None:
    """Let visitors use a painted desktop while it learns from them; ends with a report."""
    from examples.desktop.demo import run_demo

    sys.exit(run_demo(output, seed=seed, minutes=minutes))


def _play(role: RoleName, config: Path | None) -> NoReturn:
    play(role, load_settings(config))


@app.command()
def gateway(config: Config = None) -> None:
    """Take in sessions."""
    _play(RoleName.GATEWAY, config)


@app.command()
def pipeline(config: Config = None) -> None:
    """Annotate steps and archive them."""
    _play(RoleName.PIPELINE, config)


@app.command()
def control(config: Config = None) -> None:
    """Serve the control server and its dashboard."""
    _play(RoleName.CONTROL, config)


@app.command()
def train(config: Config = None) -> None:
    """Train, from where the run stands."""
    _play(RoleName.TRAIN, config)


@app.command()
def publish(config: Config = None) -> None:
    """Publish what the trainer hands over."""
    _play(RoleName.PUBLISH, config)


@app.command()
def hub(config: Config = None) -> None:
    """Serve the versions to any client of the Hugging Face Hub, and to followers on other machines."""
    _play(RoleName.HUB, config)


@app.command()
def agents(config: Config = None) -> None:
    """Let the agents that the settings name watch over the run, and steer it within their limits."""
    _play(RoleName.AGENTS, config)


@app.command()
def samples(config: Config = None) -> None:
    """Show what new versions paint, by the app's own program, beside those before."""
    _play(RoleName.SAMPLES, config)


@app.command()
def follow(
    folder: Annotated[Path, typer.Argument(help="a link that always leads to the newest verified version")],
    config: Config = None,
) -> None:
    """Keep a link at the newest verified version of a channel, for any program that loads folders."""
    from stovetop.following import follow_into

    follow_into(load_settings(config), folder, lambda line: console.print(line, highlight=False))


# The operator


@app.command()
def status(config: Config = None) -> None:
    """Show the runs, where they stand and what they train on."""
    with client_of(load_settings(config)) as client:
        runs = client.runs().runs
        if not runs:
            console.print("no run has connected yet")
        for summary in runs:
            _show_run(client, summary.run)


@app.command()
def mix(
    weights: Annotated[list[str], typer.Argument(help="source=weight, as in live=0.5 base=0.5")],
    note: Note = "",
    config: Config = None,
) -> None:
    """Change the mixture; returns with the step at which it showed."""
    parsed: dict[str, float] = {}
    for given in weights:
        name, equals, value = given.partition("=")
        try:
            parsed[name] = float(value)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise StovetopError(f"{given!r}: write source=weight, as in live=0.5; a weight of 0 pauses the source")
    deliver(config, CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS, {"weights": parsed}, note)


@app.command()
def lr(
    value: Annotated[str, typer.Argument(help="1e-5 sets it, x0.5 scales it")], note: Note = "", config: Config = None
) -> None:
    """Change the learning rate from the next step on."""
    try:
        how = {"scale": float(value[1:])} if value.startswith("x") else {"value": float(value)}
    except ValueError:
        raise StovetopError(f"{value!r}: write a rate (1e-5) or a factor (x0.5)") from None
    deliver(config, CommandName.UPDATE_OPTIMIZER, {"lr": how}, note)


@app.command()
def pause(note: Note = "", config: Config = None) -> None:
    """Take no further step until `resume`; commands go on being served."""
    deliver(config, CommandName.PAUSE_TRAINING, {}, note)


@app.command()
def resume(note: Note = "", config: Config = None) -> None:
    """Go on after `pause`."""
    deliver(config, CommandName.RESUME_TRAINING, {}, note)


@app.command()
def stop(
    save_first: Annotated[bool, typer.Option("--save/--no-save", help="save a checkpoint before")] = True,
    note: Note = "",
    config: Config = None,
) -> None:
    """End training; it stays ended until `start`."""
    if save_first:
        deliver(config, CommandName.SAVE_CHECKPOINT, {}, note)
    deliver(config, CommandName.STOP_TRAINING, {}, note)


@app.command()
def start(note: Note = "", config: Config = None) -> None:
    """Let a stopped run train again, from its newest checkpoint."""
    from trainer.run import start_again

    settings = load_settings(config)
    with client_of(settings) as client:
        client.want(settings.run, DesiredState.RUNNING, note)
    start_again(settings.runs / settings.run)
    console.print(f"run {settings.run} is wanted: its supervisor starts it, or `stovetop train` does")


@app.command()
def save(note: Note = "", config: Config = None) -> None:
    """Save a checkpoint now."""
    deliver(config, CommandName.SAVE_CHECKPOINT, {}, note)


@app.command()
def load(
    checkpoint: Annotated[str, typer.Argument(help="its uuid, as `status` shows it")],
    branch: Annotated[str | None, typer.Option(help="the new branch's name; one is made otherwise")] = None,
    note: Note = "",
    config: Config = None,
) -> None:
    """Go back to a checkpoint, on a new branch."""
    arguments = {"uuid": checkpoint} | ({"branch_name": branch} if branch else {})
    deliver(config, CommandName.LOAD_CHECKPOINT, arguments, note)


@app.command(name="eval")
def evaluate(note: Note = "", config: Config = None) -> None:
    """Evaluate now, without a training step."""
    deliver(config, CommandName.DO_EVALUATE, {}, note)


@app.command()
def send(
    command: Annotated[str, typer.Argument(help="any command that an actor of the run takes")],
    arguments: Annotated[str, typer.Argument(help="its arguments as JSON")] = "{}",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would do")] = False,
    note: Note = "",
    config: Config = None,
) -> None:
    """Send any command."""
    try:
        parsed = json.loads(arguments)
    except ValueError as error:
        raise StovetopError(f"{arguments!r} is not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise StovetopError(f'{arguments!r}: arguments are a JSON object, as in \'{{"channel": "stable"}}\'')
    deliver(config, command, parsed, note, dry_run=dry_run)


@app.command()
def promote(
    version: Annotated[int | None, typer.Argument(help="the newest otherwise")] = None,
    channel: Channel = "stable",
    note: Note = "",
    config: Config = None,
) -> None:
    """Point a channel at a version, and release it if it was held."""
    deliver(config, CommandName.PROMOTE_VERSION, _move(channel, version), note)


@app.command()
def rollback(
    version: Annotated[int | None, typer.Argument(help="the one before otherwise")] = None,
    channel: Channel = "stable",
    note: Note = "",
    config: Config = None,
) -> None:
    """Take a channel back to an earlier version and hold it there."""
    deliver(config, CommandName.ROLLBACK_VERSION, _move(channel, version), note)


app.command()(release)
app.command()(key)


@app.command()
def audit(
    what: Annotated[
        str | None,
        typer.Argument(help="a version: where it comes from; a session: who trained on it; what was done otherwise"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 30,
    config: Config = None,
) -> None:
    """Show who did what, when, and what came of it; or what a version was trained on; or which versions trained on a
    session."""
    settings = load_settings(config)
    if what is not None and what.isdigit():
        from stovetop.auditing import links_of, show

        links = links_of(settings, int(what))
        with client_of(settings) as client:
            done = [entry for entry in client.audit(limit=1000).entries if entry.outcome is Outcome.SUCCESS]
        show(settings, links, done, console)
        return
    if what is not None:
        from stovetop.auditing import show_session, trained_on

        show_session(what, *trained_on(settings, what), console)
        return
    with client_of(settings) as client:
        table = Table("when", "who", "what", "step", "outcome", "note")
        for entry in client.audit(limit=limit).entries:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
            what = f"{entry.command} {json.dumps(entry.arguments)}" + (" (dry run)" if entry.dry_run else "")
            outcome = (entry.outcome.value if entry.outcome else "open") + (f": {entry.reason}" if entry.reason else "")
            table.add_row(when, entry.author, what, _text(entry.step), outcome, entry.note)
        console.print(table)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="who it is for")],
    scope: Annotated[list[Scope], typer.Option("--scope", "-s", help="ingest, operate or read; may be repeated")],
    app: Annotated[list[str] | None, typer.Option("--app", help="post for this app only; may be repeated")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="refuse the token of that name from now on")] = False,
    config: Config = None,
) -> None:
    """Make a token; it is shown once and kept as a hash only."""
    from auth import TokenStore

    store = TokenStore(load_settings(config).tokens)
    if revoke:
        console.print(f"{name}: revoked" if store.revoke(name) else f"{name}: there is no such token")
        return
    console.print(store.mint(name, scope, app or ()), highlight=False, soft_wrap=True)


def _show_run(client: ControlClient, name: str) -> None:
    run = client.run(name)
    console.print(
        f"[bold]{run.run}[/bold]: {run.status.value}, wanted {run.desired.value}, "
        f"branch {run.branch}, step {_text(run.step)}"
    )
    if run.metrics is not None:
        shown = ", ".join(
            f"{key} {value:.4g}" for key, value in sorted(run.metrics.values.items()) if value is not None
        )
        console.print(f"  {shown}", highlight=False)
    if run.mixture is not None:
        table = Table("source", "weight", "share", "seen", title="mixture", title_justify="left")
        for source, figures in run.mixture.sources.items():
            table.add_row(source, f"{figures.weight:g}", _share(figures.share), _share(figures.seen))
        console.print(table)
    for checkpoint in reversed(run.checkpoints[-5:]):
        console.print(f"  checkpoint {checkpoint.uuid} at step {_text(checkpoint.step)} of {checkpoint.branch}")
    versions = client.versions(name)
    for channel in versions.channels:
        held = ", held" if channel.held else ""
        console.print(f"  {channel.channel}: version {channel.version:06d}{held}")
    for follower in client.followers(name).followers:
        console.print(f"  follower {follower.follower}: version {_text(follower.version)}")


def _move(channel: str, version: int | None) -> dict[str, Any]:
    return {"channel": channel} | ({} if version is None else {"version": version})


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _text(value: object) -> str:
    return "–" if value is None else str(value)


app.command()(agent)
app.command()(accept)

if __name__ == "__main__":
    main()
