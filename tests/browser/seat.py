"""The dashboard as an operator sees it: what one reads and does on it, in an operator's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect


@dataclass(frozen=True)
class Points:
    """What a chart has: how many points in all, and the newest of them with their steps, oldest first."""

    count: int
    newest: list[tuple[int, list[float]]]

    @property
    def steps(self) -> list[int]:
        """The steps of the newest."""
        return [step for step, _ in self.newest]

    def whole(self) -> bool:
        """Whether there is one point for every step from the first on."""
        return self.count == self.steps[-1] and self.steps == list(range(self.steps[0], self.steps[-1] + 1))


class Seat:
    """One open page."""

    def __init__(self, page: Page, url: str, run: str) -> None:
        self.page, self.url, self.run = page, url, run

    def enter(self, token: str) -> None:
        """Open the page of the run by a link that carries the token; an empty one opens it without."""
        carried = f"&token={token}" if token else ""
        self.page.goto(f"{self.url}/#run={self.run}{carried}")

    # Reading

    def connection(self, state: str) -> None:
        """Wait until the connection is said to be in that state."""
        where = self.page.get_by_test_id("connection")
        expect(where).to_have_attribute("data-state", state)

    def status(self, word: str) -> None:
        """Wait until the run is said to do that."""
        expect(self.page.get_by_test_id("run-status")).to_contain_text(word)

    def step(self) -> int:
        """The step that is shown."""
        shown = self.page.get_by_test_id("step").inner_text().split("/")[0]
        digits = re.sub(r"\D", "", shown)
        return int(digits) if digits else -1

    def passes(self, step: int) -> None:
        """Wait until a later step than that is shown."""
        self.until(lambda: self.step() > step)

    def chart(self, title: str) -> Locator:
        """The chart of that title."""
        return self.page.get_by_role("region", name=title, exact=True)

    def points(self, title: str) -> Points:
        """The points of a chart, read from its table."""
        self.chart(title).get_by_role("button", name=f"Values of {title} as a table").click()
        dialog = self.page.get_by_role("dialog")
        count = re.search(r"of ([\d,]+) points", dialog.get_by_role("heading").inner_text())
        assert count is not None
        rows = dialog.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
        )
        dialog.get_by_role("button", name="Close").click()
        newest = [(int(number(row[0])), [number(cell) for cell in row[1:]]) for row in reversed(rows)]
        return Points(int(number(count[1])), newest)

    def is_drawn(self, title: str) -> bool:
        """Whether something of more than one colour is on the canvas of a chart."""
        colours = (
            self.chart(title)
            .locator("canvas")
            .evaluate(
                """canvas => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const seen = new Set();
                for (let at = 0; at < data.length; at += 4) {
                    if (data[at + 3] > 200) seen.add(`${data[at] >> 4},${data[at + 1] >> 4},${data[at + 2] >> 4}`);
                }
                return seen.size;
            }"""
            )
        )
        return bool(colours > 1)

    def command(self, name: str) -> Locator:
        """The newest line of the command log about that command."""
        return self.page.locator(f'[data-command="{name}"]').first

    # Doing

    def tab(self, name: str) -> None:
        """Open a panel or a log by its tab."""
        self.page.get_by_role("tab", name=name).click()

    def press(self, name: str) -> Locator:
        """Click a button by its name; hand it back."""
        button = self.page.get_by_role("button", name=name, exact=True)
        button.click()
        return button

    def set_rate(self, rate: str) -> Locator:
        """Send a learning rate; the receipt, which tells what becomes of it."""
        self.tab("Optimizer")
        self.page.get_by_label("New learning rate").fill(rate)
        self.press(f"Send lr → {rate}")
        return self.page.locator(".receipt")

    def until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        """Wait, while the page lives on, until something holds."""
        for _ in range(int(seconds * 20)):
            if what():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it did not come true within {seconds:g} s")


def number(text: str) -> float:
    """A number as the page writes it."""
    text = text.replace(",", "").replace("–", "nan")
    for unit, factor in (("k", 1e3), ("M", 1e6)):
        if text.endswith(unit):
            return float(text[:-1]) * factor
    return float(text)
