"""The report holds what it promises to show, from findings that are made here."""

from __future__ import annotations

import io
import math
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image

from examples.charts import Line, Mark, line_chart, share_chart
from examples.desktop.evaluate import Evaluation, Score
from examples.desktop.findings import Command, Findings, Seen, Shares, Strip, Version, quantile
from examples.desktop.report import film, poster, render
from examples.desktop.scripted import BASE_GOALS, Goal
from examples.desktop.world import World


def scores(browser: int, folder: int, base: int) -> Evaluation:
    return Evaluation(
        (
            Score(Goal.BROWSER, browser, 100),
            Score(Goal.FOLDER, folder, 100),
            *(Score(goal, base, 100) for goal in BASE_GOALS),
        )
    )


def findings(before: Evaluation, after: Evaluation) -> Findings:
    frame = World().frame
    return Findings(
        seed=3,
        seconds=480.0,
        train_steps=900,
        launch_frames=40,
        before=before,
        after=after,
        strips=[Strip(goal, [0, 1], [frame] * 2, [frame] * 2, [frame] * 2) for goal in (Goal.BROWSER, Goal.FOLDER)],
        tries=[Seen(float(t), Goal.BROWSER, t > 50) for t in range(100)],
        versions=[Version(1, 40, 20.0, 21.0), Version(2, 80, 40.0, None)],
        shares=[Shares(float(t), {"base": 0.5, "live": 0.5}) for t in range(3)],
        commands=[Command(60.0, "mix <script>", "ann", 120, "success")],
        loss=[(float(s), 1.0 / (s + 1)) for s in range(1000)],
        losses={"live": [(1.0, 0.5), (2.0, 0.4)]},
        lags=[1.0, 2.0, 30.0],
        sessions=40,
        steps=4000,
        live_samples=1000,
        live_trained=900,
    )


def test_the_page_is_whole_and_loads_nothing_from_elsewhere() -> None:
    page = render(findings(scores(0, 1, 100), scores(97, 98, 99)))
    seen: list[tuple[str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.extend((name, value or "") for name, value in attributes if name in ("src", "href"))

    Reader().feed(page)
    assert seen
    assert all(value.startswith("data:image/png") for _, value in seen)
    assert page.count("<svg") == 4
    assert "97/100 = 97%" in page
    assert "does not hold" not in page
    assert "10.0% of the live samples" in page
    assert "mix &lt;script&gt;" in page


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        (scores(11, 0, 100), scores(97, 97, 100), "browser, before"),
        (scores(0, 0, 100), scores(97, 89, 100), "folder, after"),
        (scores(0, 0, 100), scores(97, 97, 94), "base tasks, after"),
    ],
)
def test_a_promise_that_does_not_hold_is_named(before: Evaluation, after: Evaluation, broken: str) -> None:
    found = findings(before, after)
    assert not found.holds
    assert [target.name for target in found.targets() if not target.holds] == [broken]


def test_a_film_shows_its_frames_side_by_side() -> None:
    world = World()
    first, second = world.frame, world.step({"x": 5, "y": 5})
    with Image.open(io.BytesIO(film([first, second], scale=2))) as image:
        assert image.size == ((32 + 1 + 32) * 2, 24 * 2)
        assert image.getpixel((0, 0)) == tuple(first[0, 0])
        assert image.getpixel((33 * 2 + 10, 10)) == tuple(second[5, 5])


def test_a_poster_has_a_row_before_and_after_for_each_task() -> None:
    frame = World().frame
    strips = [Strip(goal, [0], [frame], [frame], [frame]) for goal in (Goal.BROWSER, Goal.FOLDER)]
    with Image.open(io.BytesIO(poster(strips, scale=1))) as image:
        assert image.size == (32, 24 * 4 + 8 * 3)


def test_charts_are_well_formed_also_for_one_point_none_and_odd_values() -> None:
    for points in ([(1.0, 1.0)], [(0.0, 0.0), (1.0, 0.0)], [(0.0, 1e-9), (10.0, 1e6)]):
        for logarithmic in (False, True):
            if logarithmic and not any(y > 0 for _, y in points):
                continue
            chart = line_chart("a & b", [Line("c < d", points, "red")], x_label="x", logarithmic=logarithmic)
            ElementTree.fromstring(chart)
            assert "nan" not in chart
    assert "nothing was measured" in line_chart("t", [Line("l", [], "red")], x_label="x")
    marked = share_chart("t", ["a"], [(0.0, [1.0]), (1.0, [1.0])], ["red"], x_label="x", marks=[Mark(0.5, "m")])
    ElementTree.fromstring(marked)


def test_quantiles_are_nearest_ranks() -> None:
    assert quantile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert quantile([1.0, 2.0, 3.0], 0.95) == 3.0
    assert math.isnan(quantile([], 0.5))
