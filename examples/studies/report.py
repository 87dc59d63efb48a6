"""Tables and curves of a study, as a page that carries everything in itself."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from examples.charts import Line, Mark, line_chart
from examples.studies.arms import Course

COLOURS = ("#c2410c", "#2563eb", "#059669", "#9333ea", "#ca8a04", "#64748b", "#db2777", "#0891b2")
STYLE = """
:root { color-scheme: light dark; --mark: #888 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
svg { width: 100%; height: auto } svg text { font: 11px system-ui; fill: currentColor } .grid { stroke: #8884 }
.legend span { margin-left: 1em; font-size: .85em } .legend i { display: inline-block; width: .8em; height: .8em }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #8884 }
"""


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


def write(folder: Path, name: str, title: str, courses: Sequence[Course], shown: Sequence[str]) -> Path:
    """The page and, beside it, all figures as JSON; `shown` are the arms that are drawn, with the first seed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps([course.as_json() for course in courses]))
    seed = courses[0].seed
    drawn = [course for course in courses if course.seed == seed and course.arm in shown]
    marks = [
        Mark(each.step, f"step {each.step}: {each.command} {json.dumps(each.arguments)} by {each.author}: {each.why}")
        for course in drawn
        for each in course.interventions
    ]
    lines = [
        Line(course.arm, _finite(course.validation), COLOURS[index % len(COLOURS)])
        for index, course in enumerate(drawn)
    ]
    rates = [
        Line(course.arm, _finite(course.rates), COLOURS[index % len(COLOURS)]) for index, course in enumerate(drawn)
    ]
    values = [value for line in lines for _, value in line.points]
    parts = [
        line_chart(
            f"validation loss, seed {seed}; dashed: interventions",
            lines,
            x_label="step",
            y_range=(min(values) * 0.97, max(values) * 1.03),
            logarithmic=True,
            marks=marks,
        ),
        line_chart("learning rate", rates, x_label="step", logarithmic=True, marks=marks),
        "<table><tr><th>arm</th><th>final validation loss</th><th>by seed</th><th>interventions</th></tr>",
        *(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table(courses)),
        "</table>",
    ]
    page = folder / f"{name}.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1>{''.join(parts)}"
    )
    return page


def _finite(points: Sequence[tuple[int, float | None]]) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in points if value is not None]
