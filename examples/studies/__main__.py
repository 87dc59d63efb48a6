"""The command line of the studies; see the package."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from control.agents import AgentSettings, Limits, Line, LLMAgent, LLMSettings, Mode, Script, rules
from control.agents.rules import PlateauSettings, RulesSettings, SpikeSettings
from examples.studies.arms import PATIENCE, Arm, Bench, bench
from examples.studies.report import Study, table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

STATIC = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
BASELINE, LARGE = 1e-5, 5e-3
EXPERT = (
    (0.02, 1e-3, "it learns too slowly; more, but gently, as nothing has warmed up"),
    (0.06, 3e-3, "the loss falls without a jump, so more"),
    (0.55, 1.5e-3, "the loss is noisy and falls slowly: half"),
    (0.75, 5e-4, "closing in"),
    (0.88, 1e-4, "let it settle"),
)
"""The expert's interventions: at which part of the run, which rate, and why."""

TASK = "predict the next byte of English technical text"
BOUNDLESS = Limits(lr_factor=1e4, per_hour=None)

Seeds = Annotated[int, typer.Option(min=1, help="how many seeds")]
First = Annotated[int, typer.Option(min=0, help="the first seed")]
Steps = Annotated[int, typer.Option(min=40, help="optimizer steps of each run")]
Batch = Annotated[int, typer.Option(min=1, help="rows of a step")]
Output = Annotated[Path, typer.Option(help="where the page and the figures go")]


@app.command()
def expert(
    seeds: Seeds = 3, first: First = 0, steps: Steps = 400, batch: Batch = 16, output: Output = Path("study-output")
) -> None:
    """3.1: an expert who began with a rate of 1e-5, against that rate and five others, all annealed to zero."""
    lines = [
        Line(step=max(1, round(part * steps)), command="update_optimizer", arguments={"lr": {"value": rate}}, why=why)
        for part, rate, why in EXPERT
    ]
    acting = AgentSettings(mode=Mode.ACT, every=1, limits=BOUNDLESS)

    def arms() -> list[Arm]:
        static = [Arm(f"static {rate:g}", rate, "linear") for rate in (BASELINE, *STATIC)]
        return [Arm("expert", BASELINE, "constant", Script(lines), acting, pace=1), *static]

    _study(Study("expert", output), arms, range(first, first + seeds), steps, batch)


@app.command()
def tuner(
    seeds: Seeds = 3,
    first: First = 0,
    steps: Steps = 400,
    batch: Batch = 16,
    output: Output = Path("study-output"),
    url: Annotated[str | None, typer.Option(help="of a chat server; without, no language model takes part")] = None,
    model: Annotated[str, typer.Option(help="its model's name")] = "o4-mini",
    pace: Annotated[int, typer.Option(min=1, help="steps between two questions to the language model")] = 20,
    extra: Annotated[
        str, typer.Option(help="JSON that goes into each request to it, for instance a response format")
    ] = "{}",
    alone: Annotated[bool, typer.Option(help="only the arm of the language model")] = False,
) -> None:
    """3.2: a constant rate of 5e-3 is far too large; agents halve their way out."""
    rule = RulesSettings(
        spike=SpikeSettings(window=30),
        plateau=PlateauSettings(enabled=True, patience=max(20, steps // 6), smooth=20, least=0.01),
    )
    acting = AgentSettings(mode=Mode.ACT, every=1, limits=BOUNDLESS)
    asking = AgentSettings(mode=Mode.ACT, every=10**6, limits=BOUNDLESS)

    chat = None
    if url is not None:
        try:
            chat = LLMSettings(url=url, model=model, task=TASK, timeout=PATIENCE / 3, extra=json.loads(extra))
        except ValueError as error:
            raise typer.BadParameter(f"{extra!r} is not a JSON object: {error}", param_hint="--extra") from error
    elif alone:
        raise typer.BadParameter("without --url there is no language model", param_hint="--alone")

    def arms() -> list[Arm]:
        found = (
            []
            if alone
            else [
                Arm(f"static {LARGE:g}", LARGE, "constant"),
                Arm("rules", LARGE, "constant", rules(rule), acting, pace=1),
            ]
        )
        if chat is not None:
            found.append(Arm(f"llm {model}", LARGE, "constant", LLMAgent(chat), asking, pace=pace))
        return found

    _study(Study("tuner", output), arms, range(first, first + seeds), steps, batch)


@app.command()
def draw(name: Annotated[str, typer.Argument(help="expert or tuner")], output: Output = Path("study-output")) -> None:
    """Make the page and the picture of a study anew from the figures that it left, also of one that was cut off."""
    study = Study(name, output)
    study.read()
    _show(study)


def _study(study: Study, arms: Callable[[], list[Arm]], seeds: range, steps: int, batch: int) -> None:
    """Run what is not there yet, so that a study which was cut off goes on."""
    if study.begun:
        study.read()
    other = {len(course.losses) for course in study.courses} - {steps}
    if other:
        raise typer.BadParameter(f"{study.file} holds runs of {max(other)} steps, not {steps}; give another --output")
    with bench(steps, batch) as made:
        for seed in seeds:
            for arm in arms():
                if not study.has(arm.name, seed):
                    _one(study, made, arm, seed)
    _show(study)


def _one(study: Study, made: Bench, arm: Arm, seed: int) -> None:
    course = made.run(arm, seed)
    study.add(course)
    typer.echo(
        f"seed {seed}  {arm.name:<16} validation loss {course.final:.4f}  "
        f"interventions {len(course.interventions):>2}  {course.seconds:.0f} s"
    )


def _show(study: Study) -> None:
    page = study.draw()
    for course in study.courses:
        for answer in course.answers:
            if answer["by"].startswith("llm") or answer["action"] == "failed":
                said = answer["reason"] or f"{answer['saw'].get('answer')}: {answer['explanation']}"
                typer.echo(f"seed {course.seed}, step {answer['step']}: {answer['action']}: {said[:300]}")
    typer.echo()
    for arm, spread, _, interventions in table(study.courses):
        typer.echo(f"{arm:<18} {spread:<28} interventions {interventions}")
    typer.echo(f"\n{page}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    app()
