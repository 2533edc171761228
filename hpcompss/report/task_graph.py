"""A study's task graph as a picture: what sampled, trained and reduced, and which result each suggestion knew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hpcompss.errors import HpcompssError
from hpcompss.journal import read_journal
from hpcompss.study import JOURNAL, Study
from hpcompss.trial import Trial, TrialState

__all__ = ["GRAPH", "draw_graph"]

GRAPH = "graph.svg"
"""The picture's name in a study's folder."""

SAMPLING, TRAINING, REDUCTION, FAILED, BEST = "#3b76af", "#ee8636", "#519d3e", "#c53a32", "#f2b701"

PER_LINE = 20
SHOWN = 200
"""More trials than these are drawn from both ends."""

COLUMN, LINE, LEFT, TOP, RADIUS = 58.0, 190.0, 40.0, 96.0, 11.0
ROWS = (0.0, 55.0, 110.0)
"""Where sampling, training and reduction stand in a line of trials, in pixels."""


@dataclass(frozen=True)
class _Place:
    """Where a trial is drawn."""

    x: float
    y: float
    line: int

    def at(self, row: int) -> tuple[float, float]:
        return self.x, self.y + ROWS[row]


def draw_graph(study: Study, output: Path) -> Path:
    """Draws the task graph of a study's trials as SVG and returns the file.

    In the eager order an arrow leads to each suggestion from the newest result it knew; in the lagged order from the
    suggestion before and from the record it may use, and all older ones follow from these.

    Args:
        study: A study that was read from its folder.
        output: The file to write.

    Raises:
        HpcompssError: The file cannot be written.
    """
    records = [] if study.directory is None else list(read_journal(study.directory / JOURNAL))
    numbers = [trial.number for trial in study.trials]
    left_out = range(0)
    if len(numbers) > SHOWN:
        left_out = range(SHOWN // 2, len(numbers) - SHOWN // 2)
        numbers = [number for number in numbers if number not in left_out]
    places = {number: _place(index) for index, number in enumerate(numbers)}
    known = _lagged(study, study.lag) if study.lag is not None else _newest_known(records)
    arrows = [_inner_arrows(place) for place in places.values()]
    for number, before in known.items():
        arrows += [_arrow(places, *edge, to=number) for edge in before if number in places and edge[0] in places]
    best = study.best.number if study.feasible else None
    nodes = [_trial(study.trials[number], place, number == best) for number, place in places.items()]
    lines = max((place.line for place in places.values()), default=0) + 1
    width = LEFT * 2 + COLUMN * min(PER_LINE, max(12, len(places)))
    notes = _notes(study, records, left_out)
    height = TOP + LINE * lines - 40 + 16 * len(notes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#777"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
        *_heading(study),
        *arrows,
        *nodes,
        *(
            f'<text x="{LEFT - 18:g}" y="{height - 14 - 16 * row:g}" fill="#555">{note}</text>'
            for row, note in enumerate(reversed(notes))
        ),
        "</svg>\n",
    ]
    try:
        output.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise HpcompssError(f"{output} cannot be written ({error.strerror})") from None
    return output


def _place(index: int) -> _Place:
    line, column = divmod(index, PER_LINE)
    return _Place(LEFT + COLUMN * (column + 0.2), TOP + LINE * line, line)


def _newest_known(records: Sequence[Mapping[str, Any]]) -> dict[int, list[tuple[int, int]]]:
    """Returns for each trial the record that was the newest when it was suggested: the trial, and its row."""
    known: dict[int, list[tuple[int, int]]] = {}
    newest: int | None = None
    for record in records:
        if record["event"] == "tell":
            newest = record["number"]
        elif record["event"] == "ask" and newest is not None:
            known[record["number"]] = [(newest, 2)]
    return known


def _lagged(study: Study, lag: int) -> dict[int, list[tuple[int, int]]]:
    before = {number: [(number - 1, 0)] for number in range(1, study.started)}
    for number in range(lag, study.started):
        before.setdefault(number, []).append((number - lag, 2))
    return before


def _inner_arrows(place: _Place) -> str:
    ends = [(place.at(row)[1] + RADIUS + 1, place.at(row + 1)[1] - RADIUS - 3) for row in (0, 1)]
    return "".join(
        f'<path d="M{place.x:g},{start:g} V{end:g}" stroke="#777" stroke-width="1.4" marker-end="url(#tip)"/>'
        for start, end in ends
    )


def _arrow(places: Mapping[int, _Place], number: int, row: int, to: int) -> str:
    """Draws what a suggestion depends on: the suggestion before (row 0) or a record (row 2)."""
    (x, y), (tx, ty) = places[number].at(row), places[to].at(0)
    if row == 0:
        if places[number].line == places[to].line:
            path = f"M{x + RADIUS + 1:g},{y:g} H{tx - RADIUS - 3:g}"
        else:
            # The chain leaves its line on the right and goes on from the left of the next.
            path = f"M{x + RADIUS + 1:g},{y:g} h18 M{tx - RADIUS - 22:g},{ty:g} H{tx - RADIUS - 3:g}"
        return f'<path d="{path}" fill="none" stroke="{SAMPLING}" stroke-width="1.2" marker-end="url(#tip)"/>'
    if places[number].line == places[to].line:
        path = f"M{x + RADIUS:g},{y:g} C{x + COLUMN:g},{y:g} {tx - COLUMN:g},{ty + 8:g} {tx - RADIUS - 2:g},{ty + 4:g}"
    else:
        path = f"M{x:g},{y + RADIUS:g} C{x:g},{y + 40:g} {tx:g},{ty - 40:g} {tx:g},{ty - RADIUS - 3:g}"
    return (
        f'<path d="{path}" fill="none" stroke="{REDUCTION}" stroke-width="1" stroke-opacity="0.55" '
        'marker-end="url(#tip)"/>'
    )


def _trial(trial: Trial, place: _Place, is_best: bool) -> str:
    result = trial.result
    failed = trial.state in (TrialState.FAILED, TrialState.INFEASIBLE)
    told = [f"trial {trial.number}: {trial.state.value}", *(f"{k} = {v}" for k, v in trial.configuration.items())]
    if result is not None:
        told += [f"value {trial.value:.6g}"] if trial.value is not None else []
        told += [f"{result.seconds:.3g} s"]
        told += [result.failure.reason] if result.failure is not None else []
    unfinished = ' fill-opacity="0.25" stroke-dasharray="3 2"' if result is None else ""
    colours = SAMPLING, FAILED if failed else TRAINING, REDUCTION
    shapes = []
    for row, colour in enumerate(colours):
        x, y = place.at(row)
        look = f'fill="{colour}" stroke="{colour}"{unfinished if row else ""}'
        if row == 1:
            size = 2 * RADIUS
            shapes.append(
                f'<rect x="{x - RADIUS:g}" y="{y - RADIUS:g}" width="{size:g}" height="{size:g}" rx="3" {look}/>'
            )
        else:
            shapes.append(f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS:g}" {look}/>')
    x, y = place.at(1)
    shapes.append(_text(x, y + 4, str(trial.number), "white"))
    if failed:
        shapes.append(_text(place.x, place.at(2)[1] + 4, "✕", "white"))
    if is_best:
        x, y = place.at(2)
        shapes.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS + 4:g}" fill="none" stroke="{BEST}" stroke-width="4"/>'
        )
    value = "" if trial.value is None else f"{trial.value:.4g}"
    shapes.append(_text(place.x, place.at(2)[1] + RADIUS + 17, value, "#333", size=10))
    return f"<g><title>{escape(chr(10).join(told))}</title>{''.join(shapes)}</g>"


def _text(x: float, y: float, text: str, colour: str, size: int = 11) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _heading(study: Study) -> list[str]:
    name = study.directory.name if study.directory is not None else "a study in memory"
    sampler = study.settings["sampler"]
    sampler = sampler if isinstance(sampler, str) else sampler.get("name", "")
    order = "eager order" if study.lag is None else f"lagged order, lag {study.lag}"
    failed = f", {study.failed} failed" if study.failed else ""
    legend = []
    x = LEFT - 8
    for text, colour in (("sampling", SAMPLING), ("training", TRAINING), ("reduction", REDUCTION), ("failed", FAILED)):
        shape = f'<circle cx="{x:g}" cy="52" r="6" fill="{colour}"/>'
        if text in ("training", "failed"):
            shape = f'<rect x="{x - 6:g}" y="46" width="12" height="12" rx="2" fill="{colour}"/>'
        legend.append(f'{shape}<text x="{x + 11:g}" y="56" fill="#333">{text}</text>')
        x += 86
    legend.append(
        f'<circle cx="{x:g}" cy="52" r="6" fill="none" stroke="{BEST}" stroke-width="3"/>'
        f'<text x="{x + 11:g}" y="56" fill="#333">best</text>'
    )
    about = escape(f"{sampler}, {order}, {study.completed} trials completed{failed}")
    return [
        f'<text x="{LEFT - 18:g}" y="26" font-size="16" font-weight="bold" fill="#222">{escape(name)}</text>',
        f'<text x="{LEFT - 18 + 10 * len(name) + 16:g}" y="26" fill="#555">{about}</text>',
        *legend,
    ]


def _notes(study: Study, records: Sequence[Mapping[str, Any]], left_out: range) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"trials {left_out.start} to {left_out.stop - 1} are left out")
    if study.test:
        scores = ", ".join(f"{name} {value:.5g}" for name, value in study.test.get("metrics", {}).items())
        notes.append(escape(f"trial {study.test.get('number')} on the test set: {scores}"))
    logs = [record["logs"] for record in records if record["event"] == "compss" and record.get("logs")]
    for folder in logs[-1:]:
        dot = Path(folder) / "monitor" / "complete_graph.dot"
        if dot.exists():
            notes.append(
                f"<a href={quoteattr(dot.as_uri())}><tspan fill='{SAMPLING}' text-decoration='underline'>"
                f"the graph that COMPSs drew: {escape(str(dot))}</tspan></a>"
            )
    return notes
