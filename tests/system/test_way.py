"""The way of one click under `stovetop up`: each part is killed or made to hang, and its links say so until it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import Popen

import httpx
import psutil
import pytest

from control.way import Flow, LinkInfo, LinkName, WayInfo
from tests.system.conftest import MakeService
from tests.system.service import RUN, Service
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

LINKS = {
    "broker": {LinkName.LOG},
    "gateway": {LinkName.GATEWAY},
    "archiver": {LinkName.SAMPLES, LinkName.SHARDS},  # the pipeline ends with its archiver, and both start anew
    "pipeline": {LinkName.SAMPLES, LinkName.SHARDS},
    "train": {LinkName.MIXTURE, LinkName.STEP},
    "publish": {LinkName.VERSION},
    "follower": {LinkName.SERVED},
}
PAUSE = 3.0
"""Seconds for which the supervisor holds off a new start: long enough to be seen."""


class Trial:
    """A service with a server of its weights, and what the control server says of the way."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.follower = self._follow()
        self._client = httpx.Client(
            base_url=service.doors.control,
            headers={"Authorization": f"Bearer {service.operator}"},
            trust_env=False,
            timeout=30,
        )

    def way(self) -> dict[LinkName, LinkInfo]:
        answer = self._client.get(f"/api/v1/runs/{RUN}/way")
        if answer.status_code == 404:  # no part has told of the run yet
            return {}
        assert answer.status_code == 200, answer.text
        return {found.link: found for found in WayInfo.model_validate_json(answer.content).links}

    def red(self) -> dict[LinkName, LinkInfo]:
        return {name: found for name, found in self.way().items() if found.flow is Flow.BROKEN}

    def process(self, part: str) -> psutil.Process:
        found = {"archiver": self.service.archiver, "follower": lambda: psutil.Process(self.follower.pid)}
        process = found[part]() if part in found else self.service.role(part)
        assert process is not None, f"{part} is not there"
        return process

    def turns_red(self, part: str, tell: Callable[[str, object], None], how: str) -> None:
        """Its links are red, with a problem and what to do; says how long that took."""
        began = time.monotonic()
        until(lambda: LINKS[part] <= set(self.red()), f"the links of {part} turn red")
        tell(f"{part} {how}, red after", round(time.monotonic() - began, 1))
        for name in LINKS[part]:
            shown = self.way()[name]
            assert shown.flow is not Flow.BROKEN or (shown.problem and shown.advice)

    def all_green(self) -> None:
        until(lambda: (way := self.way()) and all(map(_works, way.values())), "every link is whole")

    def come_back(self) -> None:
        """Start anew what no supervisor does."""
        if self.follower.poll() is not None:
            self.close_follower()
            self.follower = self._follow()

    def _follow(self) -> Popen[bytes]:
        return self.service.start("follow", str(self.service.root / "served"))

    def close_follower(self) -> None:
        self.follower.kill()
        self.follower.communicate()


def _works(link: LinkInfo) -> bool:
    return link.flow not in (Flow.ABSENT, Flow.BROKEN) and link.note != "starting"


@contextmanager
def flowing(service: Service) -> Iterator[Trial]:
    """A whole service whose every link is green."""
    service.up()
    made = Trial(service)
    try:
        until(lambda: LinkName.SERVED in made.way() and made.way()[LinkName.SERVED].flow is Flow.FLOWS, "it is served")
        made.all_green()
        yield made
    finally:
        made.close_follower()


@pytest.fixture(scope="module")
def trial(make_service: MakeService) -> Iterator[Trial]:
    service = make_service({"STOVETOP_UP__FIRST_PAUSE": str(PAUSE), "STOVETOP_FOLLOW__FOLLOWER": "window"})
    with flowing(service) as made:
        yield made


def test_a_killed_part_turns_its_links_red_with_what_to_do_and_green_when_it_is_back(
    trial: Trial, record_property: Callable[[str, object], None]
) -> None:
    killed: set[LinkName] = set()
    for part in ("archiver", "gateway", "train", "publish", "follower"):
        killed |= LINKS[part]
        trial.process(part).kill()
        trial.turns_red(part, record_property, "killed")
        # Who opens the log was killed too, twice over: while neither has said a word again, nobody reads or writes it.
        assert set(trial.red()) <= killed | (
            {LinkName.LOG} if LINKS["archiver"] | LINKS["gateway"] <= killed else set()
        )
    trial.come_back()
    trial.all_green()
    trial.process("pipeline").kill()
    trial.turns_red("pipeline", record_property, "killed")
    trial.all_green()


def test_a_part_that_hangs_turns_its_links_red_and_green_when_it_goes_on(
    trial: Trial, record_property: Callable[[str, object], None]
) -> None:
    trial.come_back()
    trial.all_green()
    parts = {part: trial.process(part) for part in ("gateway", "archiver", "train", "publish", "follower")}
    for process in parts.values():
        process.suspend()
    try:
        for part in parts:
            wanted = {LinkName.SHARDS} if part == "archiver" else LINKS[part]
            began = time.monotonic()
            until(lambda wanted=wanted: wanted <= set(trial.red()), f"the links of {part} turn red")  # type: ignore[misc]
            record_property(f"{part} stopped, red after, behind those before it", round(time.monotonic() - began, 1))
        found = trial.red()
        assert LinkName.LOG not in found  # the pipeline reads it
        assert f"kill -9 {parts['gateway'].pid}" in found[LinkName.GATEWAY].advice
        assert "archiver" in found[LinkName.SHARDS].problem
        assert "gateway.log" in found[LinkName.GATEWAY].advice
    finally:
        for process in parts.values():
            process.resume()
    trial.all_green()
