"""`stovetop key`: which key followers are to trust, and how it is replaced without a moment in which none is."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from publish import KeyFileInvalid, SigningKey, older_keys
from stovetop.errors import StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.talking import Config, console

Deed = Literal["show", "next", "rotate"]


def key(
    deed: Annotated[
        Deed, typer.Argument(help="show the public key, prepare the next one, or put that in its place")
    ] = "show",
    config: Config = None,
) -> None:
    """Show the publisher's public key, or replace it: `next`, add it to every follower's trusted_keys, then `rotate`."""
    path = load_settings(config).publish.key
    try:
        if deed == "next":
            console.print(SigningKey.prepare_next(path).public, highlight=False, soft_wrap=True)
            return
        made = SigningKey.rotate(path) if deed == "rotate" else SigningKey.load_or_create(path)
        console.print(made.public, highlight=False, soft_wrap=True)
        for older in older_keys(path):
            console.print(f"before: {older}", highlight=False, soft_wrap=True)
        if deed == "rotate":
            console.print("the publisher signs with it from its next start on")
    except KeyFileInvalid as error:
        raise StovetopError(str(error)) from error
