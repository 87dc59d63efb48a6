"""Dead letters tried again: by the present annotator, in their episode, with one outcome that counts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from auth.tokens import Scope
from ingest.annotator import Members
from ingest.dead_letters import DeadLetters
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog
from ingest.types import DEAD, STEPS, Step, StepOutcome
from tests.ingest.gateways import RunningGateway, running, step, stored, tokens_in
from tests.ingest.keeping import annotating, archive
from tests.ingest.visits import POISON, Telling, annotated

OPERATE = "secret-of-operate"


class Mended(Telling):
    """As `Telling`, but nothing is poison to it any more."""

    def on_step(self, step: Step) -> Iterable[Members]:
        assert step.inputs is not None
        self.count += 1
        what = step.inputs["do"]
        for _ in range(1 if what == POISON else what):
            yield self._told(step.seq)


class NoEnd(Telling):
    def on_end(self) -> Iterable[Members]:
        raise ValueError("no end in sight")


def acting(seq: int, do: Any = 1, **fields: Any) -> dict[str, Any]:
    return {**step(seq, **fields), "inputs": {"do": do}}


class Operator:
    """Asks the gateway with a token that may operate."""

    def __init__(self, gateway: RunningGateway, folder: Path) -> None:
        tokens_in(folder).add("operator", [Scope.OPERATE], OPERATE)
        self._http, self._headers = gateway.bare, {"Authorization": f"Bearer {OPERATE}"}

    def letters(self) -> list[dict[str, Any]]:
        reply = self._http.get("/v1/admin/dead-letters", headers=self._headers)
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = reply.json()["letters"]
        return found

    def retry(self, letter: str, expected: int = 202) -> dict[str, Any]:
        reply = self._http.post(f"/v1/admin/dead-letters/{letter}/retry", headers=self._headers)
        assert reply.status_code == expected, reply.text
        body: dict[str, Any] = reply.json()
        return body


def outcomes(log: SqliteLog, seq: int) -> list[StepOutcome]:
    return [outcome for each in annotated(log) for outcome in each.outcomes if outcome.seq == seq]


def told(log: SqliteLog) -> dict[str, dict[str, Any]]:
    """What each sample says, by its key."""
    return {
        sample.key: json.loads(next(iter(sample.members.values())))
        for each in annotated(log)
        for sample in each.samples
    }


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_retried_step_is_annotated_within_its_episode_and_its_new_outcome_counts(
    tmp_path: Path, trimmed: bool
) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        gateway.open("session-1", metadata={"screen": 3})
        gateway.post(
            "session-1", [acting(0), acting(1), acting(2, is_reset=True), acting(3), acting(4, POISON), acting(5)]
        )
        gateway.http.post("/v1/sessions/session-1/end")
        with annotating(log):
            pass
        (letter,) = operator.letters()
        assert (letter["session_id"], letter["seq"], letter["attempts"], letter["at_end"]) == ("session-1", 4, 1, False)
        assert "cannot annotate step 4" in letter["problem"]
        before = told(log)
    if trimmed:
        archive(log, store)
        writer = log.writer("gateway")
        for number in range(4):
            writer.trim(STEPS, number, 1 << 40)
        writer.close()
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        for _ in range(3):
            operator.retry(letter["id"])
        assert [type(each).__name__ for each in stored(log)].count("StepRetried") == 1, "it is tried once"
        with annotating(log, Mended, store):
            pass
        assert outcomes(log, 4) == [StepOutcome(4, 0, True, 1), StepOutcome(4, 1, False, 2)]
        new = {key: value for key, value in told(log).items() if key not in before}
        assert new == {"session-1/000004-00": {"app": "desktop", "count": 3, "seq": 4}}, "the third of its episode"


def test_a_retry_that_fails_is_another_letter_of_the_next_attempt(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        gateway.open("session-1")
        gateway.post("session-1", [acting(0), acting(1, POISON)])
        with annotating(log):
            pass
        first = operator.letters()[0]["id"]
        operator.retry(first)
        with annotating(log):
            pass
        newest, old = operator.letters()
        assert (old["id"], old["attempts"], newest["attempts"]) == (first, 1, 2)
        assert newest["source"] == old["source"]
        operator.retry(newest["id"])
        operator.retry(first)
        with annotating(log, Mended):
            pass
        assert [each.attempt for each in outcomes(log, 1)] == [1, 2, 3]
        assert [(each.samples, each.dead) for each in outcomes(log, 1)] == [(0, True), (0, True), (1, False)]


def test_samples_of_the_episode_before_keep_their_numbers(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        gateway.open("session-1")
        gateway.post("session-1", [acting(0), acting(1, POISON, is_reset=True)])
        with annotating(log):
            pass
        assert "session-1/000001-00" in told(log), "the end of the episode before stands under the step that ended it"
        operator.retry(operator.letters()[0]["id"])
        with annotating(log, Mended):
            pass
        assert told(log)["session-1/000001-01"] == {"app": "desktop", "count": 1, "seq": 1}


def test_an_end_that_failed_is_tried_again_with_all_of_its_episode(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        gateway.open("session-1")
        gateway.post("session-1", [acting(seq) for seq in range(3)])
        gateway.http.post("/v1/sessions/session-1/end")
        with annotating(log, NoEnd):
            pass
        (letter,) = operator.letters()
        assert (letter["seq"], letter["at_end"]) == (3, True)
        operator.retry(letter["id"])
        with annotating(log):
            pass
        assert told(log)["session-1/000003-00"] == {"app": "desktop", "count": 3}


def test_what_cannot_be_read_any_more_says_so(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        gateway.open("session-1")
        gateway.post("session-1", [acting(0), acting(1, POISON)])
        gateway.http.post("/v1/sessions/session-1/end")
        with annotating(log):
            pass
    writer = log.writer("gateway")
    for number in range(4):
        writer.trim(STEPS, number, 1 << 40)
    writer.close()
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        operator.retry(operator.letters()[0]["id"])
        with annotating(log, Mended):
            pass
        assert "neither the log nor the archive holds" in operator.letters()[0]["problem"]


def test_a_deleted_session_s_letters_are_nobody_s(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        operator = Operator(gateway, tmp_path)
        gateway.open("session-1")
        gateway.post("session-1", [acting(0, POISON)])
        with annotating(log):
            pass
        letter = operator.letters()[0]["id"]
        gateway.http.delete("/v1/sessions/session-1")
        assert operator.letters() == []
        assert operator.retry(letter, 404)["type"].endswith("dead-letter-unknown")


def test_letters_that_are_not_there_and_tokens_that_may_not(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        operator = Operator(gateway, tmp_path)
        for name in ("0-0", "3-17", "9999-1", "nonsense", "0-1-2", "-1-0"):
            assert operator.retry(name, 404)["type"].endswith("dead-letter-unknown")
        assert gateway.http.get("/v1/admin/dead-letters").status_code == 403, "letters hold what users did"
        assert gateway.bare.post("/v1/admin/dead-letters/0-0/retry").status_code == 401


def test_retries_under_deaths_have_one_outcome_an_attempt(tmp_path: Path) -> None:
    """The annotator is stopped at random moments while letters are retried; nothing is done twice or left out."""
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log, settle_seconds=0.0) as gateway:
        operator = Operator(gateway, tmp_path)
        for number in range(6):
            gateway.open(f"session-{number}")
            gateway.post(f"session-{number}", [acting(0), acting(1, POISON), acting(2, POISON)])
        with annotating(log):
            pass
        letters = operator.letters()
        assert len(letters) == 12

        def retry(part: list[dict[str, Any]]) -> None:
            for letter in part:
                operator.retry(letter["id"])

        threads = [threading.Thread(target=retry, args=(letters[start::2],)) for start in (0, 1, 0)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with annotating(log, Mended):
                pass
        with annotating(log, Mended):
            pass
        retried = [outcome for each in annotated(log) for outcome in each.outcomes if outcome.attempt == 2]
        assert sorted(each.seq for each in retried) == [1] * 6 + [2] * 6
        assert all(each.samples == 1 and not each.dead for each in retried)
        keys = [sample.key for each in annotated(log) for sample in each.samples]
        assert len(set(keys)) == len(keys)
        assert DeadLetters(log).count() == 12
        assert log.reader().partitions(DEAD) == 4
