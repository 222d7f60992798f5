#!/usr/bin/env python3
"""Draws a trace of tpool_trace_write as an SVG: a line for each thread, tasks as bars with their names, waits hatched and
joined with the end of what was waited for, submits as ticks, the life of each worker as a thin line.
trace_svg.py TRACE.json PICTURE.svg"""
import json, sys
from xml.sax.saxutils import escape

WIDTH, LEFT, TOP, LINE, BAR = 1000, 140, 24, 46, 18  # pixels
COLORS = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#e15759"]


def slices_of(events, tid, end):
    """Nested pairs of B and E, each with its depth; what has no end lasts to the end of the trace."""
    slices, opened = [], []
    for event in events:
        if event.get("tid") != tid or event["ph"] not in "BE":
            continue
        if event["ph"] == "B":
            opened.append({**event, "until": end, "depth": len(opened)})
            slices.append(opened[-1])
        else:
            opened.pop()["until"] = event["ts"]
    return slices


def text(x, y, string, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(string)}</text>'


def draw(events):
    timed = [event for event in events if "ts" in event]
    begin = min((event["ts"] for event in timed), default=0)
    end = max((event["ts"] for event in timed), default=0)
    end = max(end, begin + 1)  # a trace of one moment
    scale = (WIDTH - LEFT - 10) / (end - begin)
    threads = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    names = sorted({e["name"] for e in timed if e.get("cat") == "task"})
    name_of = {e["args"]["task"]: e["name"] for e in timed if e.get("cat") == "task"}
    color = {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}
    x = lambda ts: LEFT + (ts - begin) * scale
    rows = {tid: TOP + i * LINE for i, tid in enumerate(sorted(threads))}
    grid, bars, marks, ends, waits = [], [], [], {}, []
    for tid, y in rows.items():
        marks.append(text(8, y + 25, threads[tid], 'font-weight="bold"'))
        for piece in slices_of(events, tid, end):
            left, width = x(piece["ts"]), max((piece["until"] - piece["ts"]) * scale, 1)
            # a worker's life is the outermost; a task of the first level, what runs or waits within it, and so on
            top = y + 4 + 6 * max(piece["depth"] - 1, 0)
            height = BAR + 12 - 6 * max(piece["depth"] - 1, 0)
            if piece["cat"] == "worker":
                bars.append(f'<rect x="{left:.1f}" y="{y + 38}" width="{width:.1f}" height="2" fill="#999"/>')
            elif piece["cat"] == "wait":
                bars.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="url(#wait)"/>')
                if piece["args"].get("for") in name_of:
                    what = "waits for " + name_of[piece["args"]["for"]]
                    if width > 7 * len(what):
                        bars.append(text(left + 4, top + 16, what, 'fill="#000"'))
                waits.append((piece["args"].get("for"), x(piece["until"]), top + height / 2))
            else:
                bars.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="2" '
                            f'fill="{color[piece["name"]]}" stroke="#fff"/>')
                if width > 7 * len(piece["name"]):
                    bars.append(text(left + 4, top + (12 if piece["depth"] < 2 else 16), piece["name"], 'fill="#fff"'))
                ends[piece["args"]["task"]] = x(piece["until"]), top + height / 2
        for event in timed:
            if event["tid"] == tid and (event["ph"] == "i" or event.get("cat") == "submit"):
                at = x(event["ts"])
                bars.append(f'<path d="M{at:.1f} {y} v6" stroke="#333"/>')
    for awaited, at, y in waits:
        if awaited in ends:
            from_x, from_y = ends[awaited]
            marks.append(f'<path d="M{from_x:.1f} {from_y:.1f} C{from_x + 14:.1f} {from_y:.1f} {at + 14:.1f} {y:.1f} '
                         f'{at:.1f} {y:.1f}" fill="none" stroke="#c00" marker-end="url(#arrow)"/>')
    bottom = TOP + len(rows) * LINE
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, *(10**i for i in range(3, 16)))
    step = next(s for s in steps if (end - begin) / 1e3 / s < 15)
    for i in range(int((end - begin) / 1e3 / step) + 1):
        at = x(begin + i * step * 1e3)
        grid.append(f'<path d="M{at:.1f} {TOP} V{bottom}" stroke="#ddd" stroke-width="0.5"/>')
        marks.append(text(at, bottom + 14, f"{i * step:g} ms", 'fill="#666" text-anchor="middle"'))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 24}" font-family="sans-serif" \
font-size="11">
<defs><pattern id="wait" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<rect width="6" height="6" fill="#eee"/><path d="M0 0 V6" stroke="#999" stroke-width="2"/></pattern>\
<marker id="arrow" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">\
<path d="M0 0 L6 3 L0 6 z" fill="#c00"/></marker></defs>
<rect width="100%" height="100%" fill="#fff"/>
""" + "\n".join(grid + bars + marks) + "\n</svg>\n"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        picture = draw(json.load(file)["traceEvents"])
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(picture)
