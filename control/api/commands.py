"""Commands on their way from who sends them to what came of them."""

from __future__ import annotations

from pydantic import Field

from control.protocol import Body, CommandKind, DesiredState, Frozen, Outcome, Status, Value

UUID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
"""What a command may be known by: safe in a URL."""


class NewCommand(Frozen):
    """`POST /api/v1/commands`. `uuid` makes a resend harmless.

    `run` may be left out where one run takes the command, `author` (`rule:spike`, `llm:…`) where it is the token's
    name. Without `expires_at` the server's default holds.
    """

    command: str = Field(min_length=1, max_length=128)
    arguments: Body = Field(default_factory=dict)
    run: str | None = Field(default=None, max_length=64)
    uuid: str | None = Field(default=None, pattern=UUID_PATTERN)
    note: str = Field(default="", max_length=2000)
    author: str | None = Field(default=None, max_length=128)
    time: float | None = None
    expires_at: float | None = None
    expected_revision: int | None = None
    dry_run: bool = False


class CommandRecord(Frozen):
    """A command and where it stands. `number` is its place among the commands of its run (0: none was given).

    `outcome` is set exactly once, with `reason`, `final_at` and, where an actor acted, `step`, `before` and `after`.
    `actor` is who takes it (`control`: the server itself); `delivered_to` the process that has it; `client_uuid` the
    identity under which a client of the paper's paths knows it; `token` the name of the token that brought it.
    """

    uuid: str
    run: str
    number: int = 0
    command: str
    arguments: Body = Field(default_factory=dict)
    kind: CommandKind = CommandKind.ACTION
    actor: str | None = None
    author: str
    token: str = ""
    note: str = ""
    time: float
    received_at: float
    expires_at: float | None = None
    expected_revision: int | None = None
    dry_run: bool = False
    branch: str = "main"
    status: Status = Status.REQUESTED
    outcome: Outcome | None = None
    reason: str = ""
    step: int | None = None
    takes_effect_at: int | None = None
    before: Value = None
    after: Value = None
    final_at: float | None = None
    delivered_to: str | None = None
    client_uuid: str | None = None


class CommandReport(Frozen):
    """One entry in the history of a command: what it became at a time."""

    seq: int
    time: float
    status: Status
    outcome: Outcome | None = None
    reason: str = ""
    step: int | None = None


class CommandDetail(Frozen):
    """A command with its whole history, oldest first."""

    command: CommandRecord
    history: tuple[CommandReport, ...]


class CommandPage(Frozen):
    """Commands, newest first; `before` is the cursor of the next page, None at the end."""

    commands: tuple[CommandRecord, ...]
    before: int | None


class AuditEntry(Frozen):
    """Who wanted what, when, and what came of it. `seconds` is how long the outcome took."""

    time: float
    author: str
    note: str
    run: str
    branch: str
    command: str
    arguments: Body
    uuid: str
    outcome: Outcome | None
    reason: str
    step: int | None
    takes_effect_at: int | None
    before: Value
    after: Value
    dry_run: bool
    seconds: float | None


class AuditPage(Frozen):
    """Interventions, newest first; `before` is the cursor of the next page, None at the end."""

    entries: tuple[AuditEntry, ...]
    before: int | None


class NewDesired(Frozen):
    """`POST /api/v1/runs/{run}/desired`."""

    state: DesiredState
    note: str = ""


class Desired(Frozen):
    """What people want of a run. `command` is the command that a change was turned into, None where nothing changed."""

    run: str
    state: DesiredState
    author: str
    time: float
    command: CommandRecord | None = None
