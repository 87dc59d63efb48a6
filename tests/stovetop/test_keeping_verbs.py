"""The verbs about what is kept, against a real gateway: delete, dead, reannotate and import."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ingest.certificates import Certificate
from ingest.reannotated import generation
from ingest.shards import DirectoryStore
from ingest.types import SAMPLES
from stovetop.cli import app
from stovetop.doors import Doors
from stovetop.settings import Settings, load_settings
from tests.ingest.gateways import RunningGateway, running, step
from tests.ingest.keeping import annotating, archive, keep, process, sessions_in
from tests.ingest.test_importing import end, line, write
from tests.ingest.visits import POISON


class Kept:
    """A gateway, its settings, and the command line that finds it by them."""

    def __init__(self, folder: Path, gateway: RunningGateway) -> None:
        self.gateway, self._config = gateway, folder / "stovetop.toml"
        self._config.write_text(f'data = "{folder}"\n[pipeline.annotator]\nplugin = "tests.ingest.visits:Telling"\n')
        self.settings: Settings = load_settings(self._config)
        self.store = DirectoryStore(self.settings.archive.folder)
        Doors(1, gateway.url, "", "", "", "").write(self.settings.doors)

    def visit(self, session_id: str, *doings: object, **opening: object) -> None:
        self.gateway.open(session_id, **opening)
        steps = [{**step(seq), "inputs": {"do": do}} for seq, do in enumerate(doings)]
        assert self.gateway.post(session_id, steps).status_code == 200

    def cli(self, *words: str, ends: int = 0) -> Result:
        done = CliRunner().invoke(app, [*words, "--config", str(self._config)])
        assert done.exit_code == ends, (done.output, done.exception)
        return done

    def refusal(self, *words: str) -> str:
        """What a verb that fails says."""
        return str(self.cli(*words, ends=1).exception)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with running(tmp_path, settle_seconds=0.0, subject_key=tmp_path / "subjects.key") as gateway:
        yield Kept(tmp_path, gateway)


def test_delete_hides_a_session_and_tells_when_the_archive_is_clean_of_it(kept: Kept) -> None:
    kept.visit("session-1", 1, 2)
    kept.visit("session-2", 1)
    process(kept.gateway.log, kept.store)
    hidden = kept.cli("delete", "session-1").output
    assert "1 sessions, hidden from now on; out of the archive by " in hidden
    assert "certificate: session.session-1, sha256 " in hidden
    process(kept.gateway.log, kept.store)
    keep(kept.gateway.log, kept.store)
    assert "out of the archive: 3 steps and 3 samples" in kept.cli("delete", "session-1", "--wait").output
    told = json.loads(kept.cli("delete", "session-1", "--json").output)
    assert told["state"] == "erased"
    assert msgspec.convert(told["certificate"], Certificate).holds()
    assert sessions_in(kept.store, SAMPLES, 4) == {"session-2"}


def test_delete_takes_a_person_and_wants_to_know_exactly_what(kept: Kept) -> None:
    kept.visit("session-1", 1, subject="ann/lee")
    kept.visit("session-2", 1, subject="ann/lee")
    assert "2 sessions, hidden" in kept.cli("delete", "--subject", "ann/lee").output
    assert "one of the two" in kept.refusal("delete")
    assert "one of the two" in kept.refusal("delete", "session-1", "--subject", "ann")
    assert "the gateway refused (400)" in kept.refusal("delete", "no session")


def test_dead_letters_are_listed_and_tried_again_once(kept: Kept) -> None:
    kept.visit("session-1", 1, POISON, POISON)
    with annotating(kept.gateway.log):
        pass
    listed = kept.cli("dead", "list").output
    assert "ValueError: cannot annotate step 1" in listed
    assert "2 are kept" in listed
    letters = json.loads(kept.cli("dead", "list", "--json", "--limit", "1").output)["letters"]
    assert [letter["seq"] for letter in letters] == [2], "the newest first"
    again = kept.cli("dead", "retry", letters[0]["id"]).output
    assert f"{letters[0]['id']}: step 2 of session-1 waits for the annotator" in again
    with annotating(kept.gateway.log):
        pass
    letters = json.loads(kept.cli("dead", "list", "--json").output)["letters"]
    assert [(each["seq"], each["attempts"]) for each in letters] == [(2, 2), (2, 1), (1, 1)]
    assert kept.cli("dead", "retry", "--all").output.count("waits for the annotator") == 3
    assert "one of the two" in kept.refusal("dead", "retry")
    assert "the gateway refused (404)" in kept.refusal("dead", "retry", "0-99")


def test_reannotate_makes_new_samples_beside_the_archive_and_tells_what_failed(kept: Kept) -> None:
    kept.visit("session-1", 2, POISON, 1)
    with annotating(kept.gateway.log):
        pass
    archive(kept.gateway.log, kept.store)
    told = kept.cli("reannotate", "v2").output
    assert "failed: step 1 of session-1: ValueError: cannot annotate step 1" in told
    assert "3 steps, 3 samples, 1 failed, in 1 shards" in told
    assert sessions_in(generation(kept.store, "v2"), SAMPLES, 4) == {"session-1"}
    assert "3 samples" not in kept.cli("reannotate", "v2").output, "it is done already"
    assert "small letters" in kept.refusal("reannotate", "../V2")
    assert "no_such_module" in kept.refusal("reannotate", "v3", "--annotator", "no_such_module:It")


def test_import_takes_neuralos_logs_once(kept: Kept, tmp_path: Path) -> None:
    logs = tmp_path / "logs-of-neuralos"
    write(logs, "1763800000_1", [line(number) for number in range(5)] + [end(5)], frames=(0, 1))
    assert "1 sessions with 6 steps and 2 frames from 1 files" in kept.cli("import", str(logs)).output
    again = json.loads(kept.cli("import", str(logs), "--json").output)
    assert (again["sessions"], again["known"]) == (0, 1)
    assert "no session_*.jsonl is there" in kept.refusal("import", str(tmp_path / "nothing"))


def test_without_a_gateway_each_verb_says_so(kept: Kept) -> None:
    doors = Doors.read(kept.settings)
    msgspec.structs.replace(doors, gateway="http://127.0.0.1:9").write(kept.settings.doors)
    assert "does not answer at http://127.0.0.1:9" in kept.refusal("delete", "session-1")
    assert "does not answer at http://127.0.0.1:9" in kept.refusal("dead", "list")
