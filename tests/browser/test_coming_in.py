"""Coming in to the dashboard: the token, and what is shown where there is nothing yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from control import RunStatus
from tests.browser.pretend import PretendTrainer
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]


def test_a_token_in_the_link_is_taken_out_of_the_address_and_kept_for_the_tab(
    visit: Visit, trainer: PretendTrainer
) -> None:
    seat = visit()
    seat.connection("connected")
    assert "stv_" not in seat.page.url
    seat.page.reload()
    seat.connection("connected")


def test_without_a_token_it_is_asked_for_and_a_wrong_one_is_refused_with_the_reason(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess
) -> None:
    seat = visit(token="")
    field = seat.page.get_by_label("Token")
    field.fill("stv_wrong")
    seat.press("Enter")
    expect(seat.page.get_by_role("alert")).to_contain_text("unknown or was revoked")
    field.fill(server.tokens.read)
    seat.press("Enter")
    seat.connection("connected")


def test_a_token_that_is_revoked_while_the_page_is_open_is_asked_for_anew(
    visit: Visit, mortal_server: ServedProcess
) -> None:
    trainer = PretendTrainer(mortal_server.url, mortal_server.tokens.operate).start()
    seat = visit(token=mortal_server.tokens.read, url=mortal_server.url)
    seat.connection("connected")
    mortal_server.tokens.store.revoke("eyes")
    mortal_server.kill()
    mortal_server.start()
    expect(seat.page.get_by_role("alert")).to_contain_text("not accepted any more")
    trainer.close()


def test_a_server_without_runs_says_how_to_start_one(visit: Visit, mortal_server: ServedProcess) -> None:
    seat = visit(token=mortal_server.tokens.operate, url=mortal_server.url)
    expect(seat.page.get_by_role("heading", name="No run yet")).to_be_visible()
    trainer = PretendTrainer(mortal_server.url, mortal_server.tokens.operate).start()
    seat.status("training")  # it shows by itself
    trainer.close()


def test_a_token_that_may_only_read_is_told_so_when_it_steers(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess
) -> None:
    seat = visit(token=server.tokens.read)
    seat.press("Pause")
    expect(seat.page.locator(".toast")).to_contain_text("needs 'operate'")
    assert trainer.status is RunStatus.RUNNING
