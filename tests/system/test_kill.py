"""kill -9 of everything, at any moment, under load; and then the books are balanced from the data alone."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset.positions import Consumed
from ingest.annotator import AnnotatorFactory
from tests.system import reckoning
from tests.system.conftest import MakeService
from tests.system.crowd import Crowd
from tests.system.service import APP, Service
from tests.system.serving import Server
from tests.waiting import PATIENCE, until
from trainer.checkpoints import Checkpoints
from trainer.journal import trained_in

TARGETS = ("gateway", "pipeline", "archiver", "train", "publish", "control")
SEATS = 3

pytestmark = pytest.mark.system


class Trial:
    """One service under load, and the kills that it has suffered in the life of its present supervisor."""

    def __init__(self, service: Service, chance: random.Random) -> None:
        self.service, self.chance = service, chance
        self.killed: Counter[str] = Counter()
        self.kills = 0

    def kill(self, target: str) -> None:
        """Wait until a part is at work, and then a moment longer; then kill -9."""
        role = "pipeline" if target == "archiver" else target
        until(lambda: self.service.at_work(role), f"{target} is at work")
        if target == "train":
            until(self._has_saved, "the trainer has something to go back to")
        time.sleep(self.chance.uniform(0.0, 1.0))  # the moment of the kill
        process = self.service.archiver() if target == "archiver" else self.service.role(target)
        assert process is not None, f"{target} died by itself:\n{self.service.warned.read_text()}"
        process.kill()
        process.wait(PATIENCE)
        self.killed[role] += 1
        self.kills += 1
        until(
            lambda: reckoning.deaths(self.service.warned.read_text()) == self.killed,
            f"the death of {target} is noticed",
        )

    def _has_saved(self) -> bool:
        return bool(Checkpoints(self.service.run).of(self.service.run.segments()[-1].id))

    def kill_all(self) -> None:
        """Kill -9 of the supervisor: nothing of the service may outlive it for long."""
        time.sleep(self.chance.uniform(0.0, 1.0))  # the moment of the kill
        family = self.service.family()
        assert len(family) > len(TARGETS) // 2
        self.service.kill()
        self.kills += 1
        until(lambda: self.service.family() == [], "every process ends with its supervisor")
        reckoning.only_the_killed_died(self.service.warned.read_text(), self.killed)
        self.killed.clear()

    def settle(self, crowd: Crowd) -> None:
        """Let everything that the visitors did come to rest in the data, then stop the service in order."""
        service = self.service
        until(lambda: _all_ended(service, crowd), "every session has its end", every=0.5)
        until(lambda: _all_trained(service), "every sample is in a published version", seconds=2 * PATIENCE, every=1.0)
        assert service.interrupt() == 0
        assert service.family() == []
        reckoning.only_the_killed_died(service.warned.read_text(), self.killed)


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_done_twice_when_every_part_is_killed(
    make_service: MakeService, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    _kill_and_reckon(make_service(), tmp_path, random.Random(), 1, record_property)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_done_twice_over_many_kills(
    make_service: MakeService, tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    _kill_and_reckon(make_service(), tmp_path, random.Random(seed), 4, record_property)


def _kill_and_reckon(
    service: Service, folder: Path, chance: random.Random, rounds: int, tell: Callable[[str, object], None]
) -> None:
    """Each round kills every part once, in any order, and then the supervisor."""
    began = time.monotonic()
    trial = Trial(service, chance)
    service.up()
    doors = service.doors
    follower = (Path(doors.hub), doors.channel, doors.public_key, folder / "cache", service.root / "base")
    with (
        Server(*follower) as server,
        Crowd(doors.gateway, service.token, SEATS, chance.getrandbits(32)) as crowd,
    ):
        for _ in range(rounds):
            for target in chance.sample(TARGETS, len(TARGETS)):
                trial.kill(target)
            acked = crowd.acked
            trial.kill_all()
            service.up()
            until(lambda acked=acked: crowd.acked > acked, "the visitors get on")  # type: ignore[misc]
        crowd.__exit__(None, None, None)
        crowd.all_is_well()
        trial.settle(crowd)
        until(lambda: server.version == service.hub.numbers()[-1], "the newest version is served")
    logged = balance(service, crowd, server)
    tell("kills", trial.kills)
    tell("steps", sum(map(len, logged.steps.values())))
    tell("samples", len(logged.samples))
    tell("versions", len(service.hub.numbers()))
    tell("segments", len(service.run.segments()))
    tell("undone", undone(service))
    tell("answers", server.answers)
    tell("seconds", round(time.monotonic() - began, 1))


def undone(service: Service) -> int:
    """Steps that were trained, lost with a process, and made up for."""
    run = service.run
    kept = sum(1 for _ in reckoning.trained_up_to(run, run.segments()[-1].id))
    return sum(1 for segment in run.segments() for _ in trained_in(run.folder_of(segment.id))) - kept


def balance(service: Service, crowd: Crowd, server: Server) -> reckoning.Logged:
    """All that must be true, from the client to the served weights."""
    log, store, run, hub = service.log, service.store, service.run, service.hub
    logged = reckoning.read_log(log)
    assert logged.samples, "nothing was tried"
    assert logged.dead, "no nonsense was sent"
    reckoning.ingest_balances(logged, crowd.sent, _annotator(), log, store)
    reckoning.no_sample_was_trained_twice(run)
    reckoning.every_sample_was_trained(logged, run)
    reckoning.history_follows_live(run)
    published = reckoning.manifests(hub)
    reckoning.versions_hold_what_they_say(logged, run, published)
    now = [(version.version, hashlib.sha256(version.encode()).hexdigest()) for version in published]
    loaded = [(load.version, load.digest) for load in server.loader.loads]
    reckoning.numbers_are_never_used_twice([*now, *loaded])
    server.loaded_only_what_verifies()
    server.never_tore()
    server.only_went_forward()
    return logged


def _annotator() -> AnnotatorFactory:
    sys.path.insert(0, str(APP))
    try:
        from thumbnail_steps import Thrifty
    finally:
        sys.path.remove(str(APP))
    factory: AnnotatorFactory = Thrifty
    return factory


def _all_ended(service: Service, crowd: Crowd) -> bool:
    logged = reckoning.read_log(service.log)
    return all(name in logged.ends for name in logged.opened)


def _all_trained(service: Service) -> bool:
    logged = reckoning.read_log(service.log)
    if sum(map(len, logged.steps.values())) > sum(map(len, logged.outcomes.values())):
        return False
    published = reckoning.manifests(service.hub)
    if not published:
        return False
    consumed = Consumed.load(published[-1].consumed)
    return all(reckoning.covers(consumed, position) for position, _ in logged.samples)
