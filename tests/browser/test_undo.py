"""Taking back a mixture that was sent: what it restores, and when it cannot be taken back."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from control import CommandName
from tests.browser.pretend import PretendTrainer
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]
MIX = CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS
AT_FIRST = {"base": 0.5, "history": 0.2, "live": 0.3}


def undo(seat: Seat) -> Locator:
    return seat.page.get_by_role("button", name="Undo", exact=True)


def send_mixture(seat: Seat, live: str) -> None:
    seat.page.get_by_label("Share of live in percent").fill(live)
    seat.press("Send mixture")
    expect(seat.page.locator(".receipt")).to_contain_text(f"live {live} %")
    expect(seat.page.locator(".receipt")).to_contain_text("done at")


def test_an_undo_says_what_it_restores_and_sends_it_as_a_new_command(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    expect(undo(seat)).to_have_attribute("title", re.compile("no mixture was sent from this tab"))
    undo(seat).click(force=True)
    send_mixture(seat, "65")
    seat.page.reload()  # what this tab sent, it may take back later, too
    expect(seat.page.get_by_text("back to mix base 50 % · history 20 % · live 30 %")).to_be_visible()
    undo(seat).click()
    expect(seat.command(MIX)).to_contain_text("mix base 50 % · history 20 % · live 30 %")
    expect(seat.command(MIX)).to_contain_text("undo")
    expect(seat.page.get_by_role("slider", name="Share of live")).to_have_value("30")
    # and the undo itself can be taken back
    expect(seat.page.get_by_text("back to mix base 25 % · history 10 % · live 65 %")).to_be_visible()
    assert [sent["weights"] for sent in trainer.received(MIX)] == [
        {"base": 0.25, "history": 0.1, "live": 0.65},
        AT_FIRST,
    ]
    assert trainer.knobs.weights == AT_FIRST


def test_an_undo_works_while_paused(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.press("Pause")
    seat.status("paused")
    seat.page.get_by_label("Share of live in percent").fill("65")
    seat.press("Send mixture")
    expect(seat.page.locator(".receipt")).to_contain_text(f"from step {trainer.step + 1}")
    undo(seat).click()
    seat.until(lambda: trainer.knobs.weights == AT_FIRST)


def test_an_undo_is_refused_once_somebody_else_has_changed_the_mixture(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str
) -> None:
    seat, other = visit(), visit()
    send_mixture(seat, "65")
    expect(undo(seat)).not_to_have_attribute("aria-disabled", "true")
    expect(undo(other)).to_have_attribute("aria-disabled", "true")  # it was not sent from there
    weights = {"base": 0.1, "history": 0.1, "live": 0.8}
    server.client.send(MIX, {"weights": weights}, run=run, author="rule:spike", note="too calm")
    said = seat.page.get_by_text("rule:spike has changed the mixture since it was sent from this tab")
    expect(said.first).to_be_visible()
    expect(undo(seat)).to_have_attribute("aria-disabled", "true")
    undo(seat).click(force=True)
    send_mixture(seat, "50")
    expect(seat.page.get_by_text("back to mix base 10 % · history 10 % · live 80 %")).to_be_visible()
    assert [sent["weights"] for sent in trainer.received(MIX)][1] == weights
    assert len(trainer.received(MIX)) == 3
