"""Handing weights to the publisher: the averaged ones, in the form that `from_pretrained` reads, with what they were
trained on."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dataset import Consumed, InteractiveMixture
from publish.errors import FileNotAllowed
from publish.manifest import check_names
from publish.outbox import Ancestor, Placed, Ticket
from trainer.errors import CommandRejected

if TYPE_CHECKING:
    from trainer.steering import Steering

logger = logging.getLogger(__name__)


def hand_over(steering: Steering, channel: str, command: str = "") -> Future[Placed] | None:
    """Have the weights as they are now put into the outbox, on every rank; returns at once with what comes of it, on the
    main rank. They are written here, and synced beside training.

    Raises `CommandRejected` without an outbox, and what writing raises.
    """
    if steering.settings.outbox is None:
        raise CommandRejected("publish_checkpoint: this trainer has no outbox; set `outbox` in its settings")
    ticket = _ticket(steering, channel, command)
    if not steering.ranks.main:
        return None
    averaged = steering.ema.applied() if steering.ema is not None else contextlib.nullcontext()

    def write(folder: Path) -> None:
        with averaged:
            steering.trainer.save_model(str(folder), _internal_call=True)  # else push_to_hub would upload it too
        _keep_what_a_version_holds(folder)

    if steering.courier is None:
        raise CommandRejected("publish_checkpoint: nobody carries weights now; publish while training runs")
    placed = steering.courier.give(write, ticket)
    placed.add_done_callback(lambda done: _tell_of_those_that_gave_way(done, ticket))
    return placed


def _tell_of_those_that_gave_way(done: Future[Placed], ticket: Ticket) -> None:
    dropped = (ticket,) if done.cancelled() else () if done.exception() else done.result().dropped
    for each in dropped:
        logger.warning("the version of step %d gave way to a newer one before it was published", each.step)


def _ticket(steering: Steering, channel: str, command: str) -> Ticket:
    segment = steering.segment
    if segment is None:
        raise CommandRejected("publish_checkpoint: no segment has begun yet; publish while training runs")
    consumed = _consumed(steering)
    chain = steering.folder.chain(segment.id)[:-1]
    dataset = steering.trainer.train_dataset
    weights = dict(dataset.weights.by_source) if isinstance(dataset, InteractiveMixture) else {}
    return Ticket(
        run=steering.run,
        branch=segment.branch,
        segment=segment.id,
        step=steering.step,
        ema=steering.ema is not None,
        channel=channel,
        ancestors=tuple(Ancestor(part.segment.id, part.until or 0) for part in reversed(chain)),
        consumed=consumed.dump(),
        watermark=consumed.watermark(),
        weights=weights,
        newest_sample_time=steering.newest_sample_time,
        evaluation=steering.last_evaluation,
        command=command,
    )


def _consumed(steering: Steering) -> Consumed:
    """What all ranks consumed together."""
    dataset = steering.trainer.train_dataset
    if not isinstance(dataset, InteractiveMixture):
        return Consumed()
    merged = Consumed()
    for dumped in steering.ranks.gather(msgspec.json.encode(dataset.consumed.dump()).decode()):
        merged.update(Consumed.load(msgspec.json.decode(dumped)))
    return merged


def _keep_what_a_version_holds(folder: Path) -> None:
    """`save_model` also writes its training arguments as a pickle and other files that no reader may open."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        try:
            check_names([path.relative_to(folder).as_posix()])
        except FileNotAllowed:
            path.unlink()
