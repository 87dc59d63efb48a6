"""The report of a run: one HTML page that carries its pictures and charts in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from examples.charts import Band, Line, Mark, line_chart, share_chart
from examples.desktop.evaluate import Score, wilson
from examples.desktop.findings import TASKS, Findings, Seen, Strip, quantile
from examples.desktop.screen import Frame
from examples.desktop.scripted import BASE_GOALS, Goal

__all__ = ["film", "poster", "render"]

NAMES = {Goal.BROWSER: "Opening the browser", Goal.FOLDER: "Creating a folder"}
COLOURS = {Goal.BROWSER: "#2a78c8", Goal.FOLDER: "#d98d1f"}
SOURCES = {"base": "#7a8a99", "history": "#8b63b5", "live": "#d4552f"}
WINDOW = 40  # tries behind each point of a success curve

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#20252a, #e5e8eb); --paper: light-dark(#fbfaf7, #15181b);
  --line: light-dark(#d9d4c8, #353b41); --mark: light-dark(#8d99a5, #66727d); }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { line-height: 1.15; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
.no { color: #c0392b; font-weight: 600; } .yes { color: #2e8b57; }
figure { margin: 1.2rem 0; } figcaption { font-weight: 600; display: flex; flex-wrap: wrap; gap: 1rem; }
.legend { font-weight: 400; font-size: .85rem; display: flex; gap: .8rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem; vertical-align: -1px; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
svg .grid { stroke: var(--line); }
.film { display: grid; grid-template-columns: 5.5rem 1fr; align-items: center; gap: .25rem .6rem; font-size: .85rem; }
.film img { width: 100%; image-rendering: pixelated; display: block; border-radius: 3px; }
.small { font-size: .85rem; opacity: .8; }
"""


def render(found: Findings) -> str:
    """The page."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>A desktop that learned from its visitors</title><style>{STYLE}</style></head><body>",
        "<h1>A desktop that learned from its visitors</h1>",
        _opening(found),
        _table(found),
        "<h2>What it paints, before and after</h2>",
        *(_strip(strip) for strip in found.strips),
        "<h2>What visitors saw</h2>",
        _success(found),
        "<h2>What it was trained on</h2>",
        _mixture(found),
        _losses(found),
        "<h2>What it kept</h2>",
        _scores("Base tasks, which it knew before", [(found.before[goal], found.after[goal]) for goal in BASE_GOALS]),
        "<h2>From a click to the weights that serve</h2>",
        _lags(found),
        _commands(found),
        "</body></html>",
    ]
    return "\n".join(parts)


def film(frames: Sequence[Frame], scale: int = 1, gap: int = 1) -> bytes:
    """Frames [24, 32, 3] side by side, as a PNG file."""
    height, width, _ = frames[0].shape
    sheet = np.full((height, len(frames) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for index, frame in enumerate(frames):
        sheet[:, index * (width + gap) : index * (width + gap) + width] = frame
    image = Image.fromarray(sheet)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def poster(strips: Sequence[Strip], scale: int = 2) -> bytes:
    """The paper's figure 8 as a PNG file: for each task a row before and a row after, the same moments of one trial."""
    rows = [
        Image.open(io.BytesIO(film(frames, scale, gap=2))) for strip in strips for frames in (strip.before, strip.after)
    ]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height + 8 for row in rows) - 8), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + 8
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _opening(found: Findings) -> str:
    return (
        f"<p>In {found.seconds / 60:.1f} minutes visitors posted {found.sessions:,} sessions with {found.steps:,} "
        f"steps; {found.train_steps:,} optimizer steps later, {len(found.versions)} versions had been published and "
        f"swapped in while people were using the desktop. Opening the browser takes {found.launch_frames} frames of "
        f"visible loading. Seed {found.seed}.</p>"
    )


def _table(found: Findings) -> str:
    rows = "".join(
        f"<tr><td>{escape(target.name)}</td><td>{target.value}</td><td>{escape(target.rule)}</td>"
        f"<td class='{'yes' if target.holds else 'no'}'>{'holds' if target.holds else 'does not hold'}</td></tr>"
        for target in found.targets()
    )
    head = "<tr><th>Success</th><th>measured</th><th>promised</th><th></th></tr>"
    return f"<table>{head}{rows}</table>" + _scores(
        "The two tasks, the model running freely on held-out trials (95 % interval)",
        [(found.before[goal], found.after[goal]) for goal in TASKS],
    )


def _scores(title: str, pairs: Sequence[tuple[Score, Score]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(before.goal.replace('_', ' '))}</td><td>{_score(before)}</td><td>{_score(after)}</td></tr>"
        for before, after in pairs
    )
    return f"<h3>{escape(title)}</h3><table><tr><th>task</th><th>before</th><th>after</th></tr>{rows}</table>"


def _score(score: Score) -> str:
    low, high = score.interval
    return f"{score.successes}/{score.trials} = {score.rate:.0%} <span class='small'>({low:.0%} to {high:.0%})</span>"


def _strip(strip: Strip) -> str:
    rows = "".join(
        f"<div>{name}</div><img alt='{escape(NAMES[strip.goal])}, {name}' "
        f"src='data:image/png;base64,{base64.b64encode(film(frames)).decode()}'>"
        for name, frames in (("before", strip.before), ("after", strip.after), ("the real one", strip.truth))
    )
    steps = ", ".join(str(step) for step in strip.steps)
    return (
        f"<h3>{escape(NAMES[strip.goal])}</h3><div class='film'>{rows}</div><p class='small'>One held-out trial, "
        f"the model fed its own frames; frames {steps} of it.</p>"
    )


def _success(found: Findings) -> str:
    lines, bands = [], []
    for goal in TASKS:
        tries = [seen for seen in found.tries if seen.goal is goal]
        points = _windows(tries)
        lines.append(Line(NAMES[goal], [(x, rate) for x, rate, _, _ in points], COLOURS[goal]))
        bands.append(Band([(x, low, high) for x, _, low, high in points], COLOURS[goal]))
    marks = [
        Mark(version.served / 60, f"version {version.version:06d}, step {version.step}")
        for version in found.versions
        if version.served is not None
    ]
    chart = line_chart(
        f"Success as visitors saw it, over {WINDOW} tries, versions marked as they began to serve",
        lines,
        x_label="minutes",
        y_range=(0.0, 1.0),
        percent=True,
        bands=bands,
        marks=marks,
    )
    return chart + f"<p class='small'>{len(found.tries):,} tries; each visitor judged by what its screen showed.</p>"


def _windows(tries: Sequence[Seen]) -> list[tuple[float, float, float, float]]:
    points = []
    for end in range(5, len(tries) + 1):
        window = tries[max(0, end - WINDOW) : end]
        successes = sum(seen.success for seen in window)
        points.append((tries[end - 1].time / 60, successes / len(window), *wilson(successes, len(window))))
    return points


def _mixture(found: Findings) -> str:
    names = [name for name in SOURCES if any(name in row.shares for row in found.shares)]
    rows = [(row.time / 60, [row.shares.get(name, 0.0) for name in names]) for row in found.shares]
    return share_chart(
        "The mixture: shares of the samples that were trained on, interventions marked",
        names,
        rows,
        [SOURCES[name] for name in names],
        x_label="minutes",
        marks=[
            Mark(command.time / 60, f"{command.author}: {command.text}", "var(--ink)") for command in found.commands
        ],
    )


def _losses(found: Findings) -> str:
    lines = [Line("all", _thin(found.loss), "var(--ink)")]
    lines += [Line(name, _thin(points), SOURCES.get(name, "#888")) for name, points in found.losses.items()]
    return line_chart("Loss", lines, x_label="optimizer step", logarithmic=True)


def _thin(points: Sequence[tuple[float, float]], most: int = 200) -> list[tuple[float, float]]:
    """Means over buckets, so that a curve has at most so many points."""
    size = max(1, len(points) // most)
    return [
        (bucket[-1][0], sum(value for _, value in bucket) / len(bucket))
        for bucket in (points[at : at + size] for at in range(0, len(points), size))
    ]


def _lags(found: Findings) -> str:
    share = f"{found.never_trained:.1%} of the live samples entered no backward pass through <code>live</code>"
    if not found.lags:
        return f"<p>No sample was followed to a served version. {share}.</p>"
    points = [(quantile(found.lags, share / 100), share / 100) for share in range(1, 101)]
    chart = line_chart(
        "Seconds from a click to weights that had trained on it and served",
        [Line("share of clicks served by then", points, "#2a78c8")],
        x_label="seconds",
        y_range=(0.0, 1.0),
        percent=True,
    )
    return (
        f"<p>Followed by the keys of {len(found.lags):,} samples that entered a backward pass: median "
        f"{quantile(found.lags, 0.5):.1f} s, 95 % within {quantile(found.lags, 0.95):.1f} s. {share} "
        f"({found.live_trained:,} of {found.live_samples:,} did).</p>{chart}"
    )


def _commands(found: Findings) -> str:
    rows = "".join(
        f"<tr><td>{command.time / 60:.1f} min</td><td>{escape(command.author)}</td>"
        f"<td><code>{escape(command.text)}</code></td>"
        f"<td>{'' if command.step is None else command.step}</td><td>{escape(command.outcome)}</td></tr>"
        for command in found.commands
    )
    head = "<tr><th>when</th><th>who</th><th>what</th><th>step</th><th>outcome</th></tr>"
    return f"<h2>Interventions</h2><table>{head}{rows}</table>"
