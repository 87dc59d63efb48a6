"""`stovetop reannotate`: what a newer annotator makes of everything that is archived."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from ingest.annotator import load_annotator
from ingest.deletions import Deletions
from ingest.errors import IngestError
from ingest.reannotated import generation
from ingest.reannotating import reannotate as reannotate_partition
from ingest.types import STEPS, DeadLetter
from stovetop.errors import StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.talking import Config, console


def reannotate(
    name: Annotated[str, typer.Argument(help="of the new samples, as in v2; the same name goes on where it stopped")],
    annotator: Annotated[
        str | None, typer.Option("--annotator", "-a", help="module:name; the pipeline's otherwise")
    ] = None,
    config: Config = None,
) -> None:
    """Run an annotator over the archived steps, into an archive of new samples beside the old one."""
    settings = load_settings(config)
    log = settings.log.open()
    try:
        factory = load_annotator(annotator or settings.pipeline.annotator.plugin)
        archive = settings.archive.open()
        target = generation(archive, name).for_writing(log)
        with closing(log.reader()) as reader, closing(Deletions(log).open()) as deleted:
            for partition in range(reader.partitions(STEPS)):
                done = reannotate_partition(archive, target, partition, factory, deleted=deleted, tell=_told)
                console.print(
                    f"partition {partition}: {done.steps} steps, {done.samples} samples, {done.dead} failed, in "
                    f"{done.shards} shards; done up to offset {done.end}",
                    highlight=False,
                    soft_wrap=True,
                )
    except IngestError as error:
        raise StovetopError(str(error)) from error
    console.print(f"the new samples lie at {target!r}", highlight=False, soft_wrap=True)


def _told(letter: DeadLetter) -> None:
    step, problem = letter.step, letter.problem.strip().splitlines()[-1][:200]
    console.print(f"failed: step {step.seq} of {step.session_id}: {problem}", highlight=False, soft_wrap=True)
