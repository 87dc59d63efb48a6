"""What a language model is told of a run, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control.agents.observation import Observation, Points
from control.agents.policy import Action, AgentError
from control.protocol import CommandName

Answer = Literal["Double", "Half", "Same", "Rollback", "Evaluate", "Save", "Mixture"]
FACTORS: Mapping[str, float] = {"Double": 2.0, "Half": 0.5}
LR_ANSWERS: tuple[Answer, ...] = ("Double", "Half", "Same")
WIDE_ANSWERS: tuple[Answer, ...] = (*LR_ANSWERS, "Rollback", "Evaluate", "Save", "Mixture")
MEANING: Mapping[Answer, str] = {
    "Double": "make the learning rate twice as large",
    "Half": "make the learning rate half as large",
    "Same": "leave everything as it is",
    "Rollback": "go back to the newest checkpoint and continue from there",
    "Evaluate": "measure the validation loss now",
    "Save": "save a checkpoint now",
    "Mixture": 'change the data: also give "weights", a number of at least 0 for each source',
}
VALIDATION = ("eval_loss", "validation_loss")


class Reply(BaseModel):
    """A model's answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: Answer
    explanation: str = Field("", max_length=4000)
    weights: Mapping[str, float] | None = None


def asked(seen: Observation, task: str, answers: tuple[Answer, ...], history: int) -> str:
    """The question: task, step, learning rate, and the last `history` points of what the training log holds."""
    validation = next((seen.evaluations[name] for name in VALIDATION if name in seen.evaluations), ())
    rate = seen.learning_rate
    parts = [
        f"You watch over the training of a neural network and may change it while it runs. The task: {task}",
        f"Step: {seen.step}" + (f" of {seen.max_steps}" if seen.max_steps else ""),
        f"Learning rate: {'unknown' if rate is None else _number(rate)}",
        f"Learning rates so far (step: value): {_told(seen.metrics.get('learning_rate', ()), history)}",
        f"Training losses so far: {_told(seen.metrics.get('loss', ()), history)}",
        f"Validation losses so far: {_told(validation, history)}",
    ]
    if "Mixture" in answers and seen.mixture is not None:
        shares = {name: source.share for name, source in seen.mixture.sources.items()}
        losses = {name: seen.newest(f"loss/{name}") for name in shares}
        parts += [f"Shares of the data sources: {json.dumps(shares)}", f"Loss by source: {json.dumps(losses)}"]
    options = "\n".join(f'- "{answer}": {MEANING[answer]}' for answer in answers)
    parts.append(
        f"Read the log and choose exactly one of these actions:\n{options}\n"
        'Answer with one JSON object and nothing else: {"explanation": "at most 100 words on why", "action": '
        f"one of {', '.join(json.dumps(answer) for answer in answers)}}}"
    )
    return "\n".join(parts)


def read(text: str, answers: tuple[Answer, ...]) -> Reply:
    """The answer in a model's text, which may have words or fences around it. Raises `AgentError`, saying what is wrong."""
    found = _objects(text)
    problem = "it holds no JSON object"
    for content in reversed(found):  # a model that thinks aloud says last what it means
        if isinstance(content.get("action"), str):
            content = content | {"action": content["action"].strip().strip("'\"").capitalize()}
        try:
            reply = Reply.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, not {str(first['input'])[:60]!r}"
            continue
        if reply.action in answers:
            return reply
        problem = f"action: {reply.action!r} is not one of {', '.join(answers)}"
    raise AgentError(f"the model's answer cannot be used: {problem}")


def actions(reply: Reply, seen: Observation) -> list[Action]:
    """The commands that an answer comes to. Raises `AgentError` for one that cannot be followed here."""
    factor = FACTORS.get(reply.action)
    if factor is not None:
        return [Action(CommandName.UPDATE_OPTIMIZER.value, {"lr": {"scale": factor}})]
    if reply.action == "Rollback":
        newest = max(seen.checkpoints, key=lambda each: each.time, default=None)
        if newest is None:
            raise AgentError("the model wants to go back, but there is no checkpoint")
        return [Action(CommandName.LOAD_CHECKPOINT.value, {"uuid": newest.uuid})]
    if reply.action == "Mixture":
        if not reply.weights:
            raise AgentError('the model wants another mixture, but gives no "weights"')
        return [Action(CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS.value, {"weights": dict(reply.weights)})]
    command = {"Evaluate": CommandName.DO_EVALUATE, "Save": CommandName.SAVE_CHECKPOINT}.get(reply.action)
    return [Action(command.value)] if command is not None else []


def _objects(text: str) -> list[dict[str, Any]]:
    """Every outermost JSON object in a text."""
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    at = text.find("{")
    while at >= 0:
        try:
            content, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        if isinstance(content, dict):
            found.append(content)
        at = text.find("{", end)
    return found


def _told(points: Points, history: int) -> str:
    if not points:
        return "none yet"
    return ", ".join(
        f"{step}: {'not finite' if value is None else _number(value)}" for step, value in points[-history:]
    )


def _number(value: float) -> str:
    return f"{value:.4g}"
