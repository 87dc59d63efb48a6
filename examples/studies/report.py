"""Tables and curves of a study: figures as JSON, a page that carries everything in itself, and a picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from pydantic import TypeAdapter

from examples.charts import Chart, Line, Mark, draw_lines, picture
from examples.studies.arms import Course, Intervention

COLOURS = ("#c2410c", "#2563eb", "#059669", "#9333ea", "#ca8a04", "#64748b", "#db2777", "#0891b2")
STYLE = """
:root { color-scheme: light dark; --mark: #888 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
svg { width: 100%; height: auto } svg text { font: 11px system-ui; fill: currentColor } .grid { stroke: #8884 }
.legend span { margin-left: 1em; font-size: .85em } .legend i { display: inline-block; width: .8em; height: .8em }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #8884 }
"""


TITLES = {"expert": "A scripted expert", "tuner": "Out of a rate that is too large"}
Points = Sequence[tuple[int, float | None]]
_COURSES = TypeAdapter(list[Course])


def by_arm(courses: Sequence[Course]) -> dict[str, list[Course]]:
    """The courses of each arm, arms in their order."""
    found: dict[str, list[Course]] = {}
    for course in courses:
        found.setdefault(course.arm, []).append(course)
    return found


def table(courses: Sequence[Course]) -> list[tuple[str, str, str, str]]:
    """By arm: final validation loss (mean and range over seeds), the loss by seed, interventions."""
    rows = []
    for arm, runs in by_arm(courses).items():
        finals = [run.final for run in runs]
        spread = f"{statistics.fmean(finals):.4f} ({min(finals):.4f} to {max(finals):.4f})"
        interventions = ", ".join(str(len(run.interventions)) for run in runs)
        rows.append((arm, spread, ", ".join(f"{final:.4f}" for final in finals), interventions))
    return rows


class Study:
    """The courses of a study in a folder: `NAME.json` grows with each one, `NAME.html` and `NAME.svg` are drawn from it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.courses: list[Course] = []

    @property
    def file(self) -> Path:
        """Where the figures are."""
        return self._folder / f"{self.name}.json"

    @property
    def begun(self) -> bool:
        """Whether an earlier process left some."""
        return self.file.exists()

    def has(self, arm: str, seed: int) -> bool:
        """Whether that arm was run with that seed."""
        return any((course.arm, course.seed) == (arm, seed) for course in self.courses)

    def add(self, course: Course) -> None:
        """One more; at once in the file, so that a study that is cut off keeps what it has."""
        self.courses.append(course)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(_COURSES.dump_json(self.courses))

    def read(self) -> None:
        """What an earlier process left."""
        self.courses = _COURSES.validate_json(self.file.read_bytes())

    def draw(self) -> Path:
        """The page with the curves of each seed, and the picture with those of the first; the page's path."""
        title = TITLES.get(self.name, self.name)
        seeds = sorted({course.seed for course in self.courses})
        charts = {seed: self._charts(seed) for seed in seeds}
        (self._folder / f"{self.name}.svg").write_text(picture(charts[seeds[0]]))
        parts = [
            *(chart.html for seed in seeds for chart in charts[seed]),
            "<table><tr><th>arm</th><th>final validation loss</th><th>by seed</th><th>interventions</th></tr>",
            *(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table(self.courses)),
            "</table>",
        ]
        page = self._folder / f"{self.name}.html"
        page.write_text(
            f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
            f"<h1>{escape(title)}</h1>{''.join(parts)}"
        )
        return page

    def _charts(self, seed: int) -> list[Chart]:
        """Validation loss and rate of the arms with one seed; each intervention in the colour of its arm."""
        drawn = [(course, COLOURS[index % len(COLOURS)]) for index, course in enumerate(self._of(seed))]
        marks = [Mark(each.step, _told(each), colour) for course, colour in drawn for each in course.interventions]

        def lines(points: Callable[[Course], Points]) -> list[Line]:
            return [Line(course.arm, _finite(points(course)), colour) for course, colour in drawn]

        losses = lines(lambda course: course.validation)
        values = [value for line in losses for _, value in line.points]
        return [
            draw_lines(
                f"validation loss, seed {seed}; dashed: interventions",
                losses,
                x_label="step",
                y_range=(min(values) * 0.97, max(values) * 1.03) if values else None,
                logarithmic=True,
                marks=marks,
            ),
            draw_lines(
                "learning rate", lines(lambda course: course.rates), x_label="step", logarithmic=True, marks=marks
            ),
        ]

    def _of(self, seed: int) -> list[Course]:
        """Of the static arms only the paper's baseline and the best over all seeds; every other arm."""
        means = {
            arm: statistics.fmean(run.final for run in runs)
            for arm, runs in by_arm(self.courses).items()
            if arm.startswith("static")
        }
        shown = {*list(means)[:1], *sorted(means, key=means.__getitem__)[:1]}
        return [
            course
            for course in self.courses
            if course.seed == seed and (course.arm in shown or course.arm not in means)
        ]


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in points if value is not None]


def _told(each: Intervention) -> str:
    return f"step {each.step}: {each.command} {json.dumps(each.arguments)} by {each.author}: {each.why}"
