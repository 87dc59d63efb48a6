"""What the paper's paths answer, in the shapes of the authors' server."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from control.protocol import Body


class PaperAnswer(BaseModel):
    """What `POST /api/command/` answers."""

    status: Literal["success", "error"]
    message: str = ""
    uuid: str


class PaperInfo(BaseModel):
    """`/api/get_info/`."""

    run_name: str
    start_time: float
    status: str


class PaperDataset(BaseModel):
    """`/api/get_dataset_info/`."""

    initialization_parameters: Body
    interactive_parameters: Body


class PaperCheckpoint(BaseModel):
    """An item of `/api/get_checkpoints/`."""

    uuid: str
    checkpoint_dir: str
    global_step: int | None
    time: float
    branch: str


class PaperPoint(BaseModel):
    """Numbers of one step."""

    local_step: int
    wall_time: float
    metrics: Body


class PaperBranch(BaseModel):
    """A branch and its parent."""

    id: str
    wall_time: float
    parent: str | None


class PaperLogs(BaseModel):
    """`/api/get_logs/`."""

    local_step: int
    branched_logs: dict[str, list[PaperPoint]]
    current_branch: str
    branch_info: dict[str, PaperBranch]
    branch_tree: dict[str, list[str]]


class PaperMessage(BaseModel):
    """What `WS /ws/message/` sends: `args` is JSON in a string."""

    command: str
    args: str
    uuid: str
    time: float
    status: str
