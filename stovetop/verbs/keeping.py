"""`stovetop delete` and `stovetop dead`: what is deleted for good, and what could not be annotated."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from stovetop.errors import StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.asking import asked, gateway_of
from stovetop.verbs.talking import Config, console

POLL_SECONDS = 1.0

dead = typer.Typer(no_args_is_help=True, help="Steps that could not be annotated: look at them, try them again.")


def delete(
    session: Annotated[str | None, typer.Argument(help="the session to delete")] = None,
    subject: Annotated[str | None, typer.Option("--subject", "-s", help="delete all sessions of this person")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until the archive is clean of it")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the certificate as it stands")] = False,
    config: Config = None,
) -> None:
    """Delete a session, or all of a person's: nothing of it is given to anybody from now on."""
    if (session is None) == (subject is None):
        raise StovetopError("name a session, or a person with --subject; one of the two")
    path = f"/v1/sessions/{quote(session, safe='')}" if session else f"/v1/subjects/{quote(subject or '', safe='')}"
    with gateway_of(load_settings(config)) as gateway:
        deletion = asked(gateway, "DELETE", path)
        while wait and deletion["state"] == "pending":
            time.sleep(POLL_SECONDS)
            deletion = asked(gateway, "GET", f"/v1/deletions/{deletion['deletion']}")
    if as_json:
        print(json.dumps(deletion, indent=2))
    else:
        _show(deletion)


def _show(deletion: dict[str, Any]) -> None:
    erasures = deletion["certificate"]["erasures"]
    lost = sum(each["steps"] for each in erasures), sum(each["samples"] for each in erasures)
    states = {
        "pending": f"hidden from now on; out of the archive by {_when(deletion['due_by'])}",
        "erased": f"out of the archive: {lost[0]} steps and {lost[1]} samples; the log's copy goes with its retention",
        "gone": f"out of the archive ({lost[0]} steps and {lost[1]} samples) and out of the log",
    }
    console.print(f"{len(deletion['sessions'])} sessions, {states[deletion['state']]}", highlight=False, soft_wrap=True)
    console.print(
        f"certificate: {deletion['deletion']}, sha256 {deletion['certificate']['sha256']}",
        highlight=False,
        soft_wrap=True,
    )


@dead.command("list")
def list_dead(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="print all that is known of each")] = False,
    config: Config = None,
) -> None:
    """Show the newest dead letters."""
    with gateway_of(load_settings(config)) as gateway:
        reply = asked(gateway, "GET", "/v1/admin/dead-letters", params={"limit": limit})
    if as_json:
        print(json.dumps(reply, indent=2))
        return
    table = Table("id", "session", "seq", "attempts", "age", "problem")
    for letter in reply["letters"]:
        seq = f"{letter['seq']}{' (end)' if letter['at_end'] else ''}"
        problem = letter["problem"].strip().splitlines()[-1][:160]
        age = f"{letter['dead_for_seconds']:.0f} s"
        table.add_row(letter["id"], letter["session_id"], seq, str(letter["attempts"]), age, problem)
    console.print(table)
    console.print(f"{reply['count']} are kept")


@dead.command("retry")
def retry_dead(
    letters: Annotated[list[str] | None, typer.Argument(help="ids, as `dead list` shows them")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all of the newest thousand")] = False,
    config: Config = None,
) -> None:
    """Let the present annotator try dead letters again, each once; what comes of it takes the old outcome's place."""
    if bool(letters) == everything:
        raise StovetopError("name dead letters, or all of them with --all; one of the two")
    with gateway_of(load_settings(config)) as gateway:
        if everything:
            found = asked(gateway, "GET", "/v1/admin/dead-letters", params={"limit": 1000})
            letters = [each["id"] for each in found["letters"]]
        for letter in letters or ():
            reply = asked(gateway, "POST", f"/v1/admin/dead-letters/{quote(letter, safe='')}/retry")
            console.print(f"{reply['id']}: step {reply['seq']} of {reply['session_id']} waits for the annotator")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
