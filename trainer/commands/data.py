"""The data: weights of the mixture and other parameters live, and new data by new constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from control.protocol import CommandKind, CommandName
from dataset import DatasetError, InteractiveMixture, InteractiveParameters
from trainer.checkpoints import Start
from trainer.command import Arguments, Later, Plan, StepDone, register_command
from trainer.errors import CommandFailed, CommandRejected, TrainerError
from trainer.saving import Reconstructable
from trainer.segments import StartReason
from trainer.steering import Departure, Leave, Steering


class DataParameters(Arguments):
    """Parameters of the dataset by name; those not named keep theirs.

    For a mixture: `weights` by source, `temperature`; by source `epochs`, and `half_life` (in samples) or
    `half_life_seconds` of a history (null lifts a limit).
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    weights: dict[str, Any] | None = None

    def given(self) -> dict[str, Any]:
        """What was given."""
        return self.model_dump(exclude_none=True)


class NewData(BaseModel):
    """Arguments of the dataset's constructor; those not named keep theirs."""

    model_config = ConfigDict(frozen=True, extra="allow")


def set_parameters(steering: Steering, arguments: DataParameters) -> Plan:
    """Change parameters of the data; done with the first step that is wholly on the new ones."""
    dataset = steering.trainer.train_dataset
    given = arguments.given()
    if not given:
        raise CommandRejected('update_dataset_runtime_hyperparameters: nothing is given; as {"weights": {"live": 0.5}}')
    if isinstance(dataset, InteractiveMixture):
        return _mixture(steering, dataset, given)
    if isinstance(dataset, InteractiveParameters):
        return _parameters(steering, dataset, given)
    raise CommandRejected(
        f"update_dataset_runtime_hyperparameters: {type(dataset).__name__} has no interactive parameters; make it with "
        "make_interactive_dataset"
    )


def _mixture(steering: Steering, dataset: InteractiveMixture, given: Mapping[str, Any]) -> Plan:
    try:
        changed = dataset.changed_parameters(given)
    except DatasetError as error:
        raise CommandRejected(str(error)) from error
    before = {name: value for name, value in dataset.interactive_parameters().items() if name in given}

    def apply() -> Later | None:
        dataset.set_interactive_parameters(given, at_version=changed.version)
        if steering.paused:
            return None
        return Later(lambda done: done.version >= changed.version)

    after = {name: value for name, value in changed.parameters().items() if name in given}
    return Plan(apply, before, after, steering.step + 1)


def _parameters(steering: Steering, dataset: InteractiveParameters, given: Mapping[str, Any]) -> Plan:
    before = {name: value for name, value in dataset.interactive_parameters().items() if name in given}
    try:
        dataset.set_interactive_parameters(given)
        dataset.set_interactive_parameters(before)
    except DatasetError as error:
        raise CommandRejected(str(error)) from error
    args = steering.trainer.args  # accelerate has one batch in its hands already, and workers those that they began
    stale = 1 + args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2)
    shows_at = steering.step + 1 + math.ceil(stale / args.gradient_accumulation_steps)

    def apply() -> Later | None:
        dataset.set_interactive_parameters(given)
        return None if steering.paused else Later(lambda done: _reached(done, shows_at))

    return Plan(apply, before, dict(given), shows_at)


def _reached(done: StepDone, step: int) -> bool:
    return done.step >= step


def update_dataset(steering: Steering, arguments: NewData) -> Plan:
    """Make the dataset anew and train on it from the next step: a checkpoint is saved, and a segment begins there.

    A mixture takes `sources`: by name, a path to shards or `{"kind": …, "arguments": …, "weight": …}` adds one (of a kind
    that the app has registered), null takes one out, all others go on where they are.

    So loader, number of steps and schedule fit the new data, which they would not if it were changed under them.
    """
    dataset = steering.trainer.train_dataset
    changes = arguments.model_dump()
    if not isinstance(dataset, Reconstructable):
        raise CommandRejected(
            f"update_dataset: {type(dataset).__name__} does not say how it was made, so it cannot be made anew"
        )
    unknown = sorted(set(changes) - set(dataset.construction))
    if unknown or not changes:
        known = ", ".join(dataset.construction)
        raise CommandRejected(f"update_dataset: {', '.join(unknown) or 'nothing is given'}; the arguments are {known}")

    made_with = {**dataset.construction, **changes}
    if isinstance(dataset, InteractiveMixture):
        try:
            made_with = dataset.reconstructed(**changes).construction
        except DatasetError as error:
            raise CommandRejected(f"update_dataset: {error}") from error

    def apply() -> Later:
        try:
            saved = steering.save("new data")
        except TrainerError as error:
            raise CommandFailed(f"{error}; the data was not changed") from error
        fallback = Start.at(saved, StartReason.RESUME, saved.card.branch, "the new data could not be made")
        start = replace(fallback, note="new data", construction=made_with)
        steering.leave(Departure(Leave.ELSEWHERE, "new data", start, fallback))
        return Later()

    return Plan(apply, dict(dataset.construction), made_with, steering.step + 1)


register_command(
    CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS,
    DataParameters,
    set_parameters,
    summary="Change the mixture, or other parameters of the data",
    kind=CommandKind.SETTING,
    kept=False,
)
register_command(
    CommandName.UPDATE_DATASET,
    NewData,  # type: ignore[type-var]
    update_dataset,
    summary="New data from the next step on",
    kind=CommandKind.SETTING,
    kept=False,
)
