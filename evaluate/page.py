"""The page of a report: one HTML file with its plots and pictures in it."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow import flow_to_color, read_motion, resize_flow
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.measures import MEASURES, predicted_flow, true_frames, true_mask, true_velocity

EXTREMES = 3  # clips shown at either end
SIDE = 192  # px, height of a picture on the page
STEP = 3  # every which frame is in a preview
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em; color: #222; background: #fafafa }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em } h3 { font-size: 1em; margin: .3em 0 }
table { border-collapse: collapse; background: #fff } th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: right }
th { background: #eee; cursor: default } td:not(:first-child) { white-space: nowrap } th:first-child, td:first-child { text-align: left } .scroll { overflow-x: auto; font-size: 13px }
.card { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: .7em 1em; margin: .8em 0 }
figure { display: inline-block; margin: .3em .6em .3em 0; vertical-align: top } figcaption { font-size: 12px; color: #666 }
img { display: block; max-width: 100% } .notes { color: #8a4b00 } .small { color: #666; font-size: 13px } #all th { cursor: pointer }
"""
SORT = """
document.querySelectorAll('#all th').forEach((head, column) => head.onclick = () => {
  const body = document.querySelector('#all tbody'), value = row => row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => column ? parseFloat(value(b)) - parseFloat(value(a)) : value(a).localeCompare(value(b)));
  if (head.dataset.down === '1') rows.reverse();
  head.dataset.down = head.dataset.down === '1' ? '' : '1';
  body.append(...rows);
});
"""


def write_page(path, report, items):
    """report: the dict of evaluate.report.   items: {id: Item} of its rows."""
    parts = [
        f"<h1>{html.escape(report['folder'])}</h1>",
        f"<p>{report['n']} results, against {html.escape(report['gt_path'])}</p>",
        _notes(report["notes"]),
        _fvd(report["fvd"]),
        "<h2>Measures</h2>",
        _summary(report["summary"]),
        _extremes(report, items),
        "<h2>Distributions</h2>",
        plots(report),
        "<h2>All results</h2><p class=small>A click on a heading sorts.</p>",
        _all(report),
    ]
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Report: {html.escape(report['folder'])}</title><style>{STYLE}</style>{''.join(parts)}<script>{SORT}</script></html>\n"
    )
    with atomic(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- tables
def number(value):
    """Three digits that matter; a dash for what is not known."""
    return "&ndash;" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _notes(notes):
    return f"<ul class=notes>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def _fvd(results):
    if not results:
        return ""
    rows = ""
    for r in results:
        floor = r["floor"] or {}
        rows += (
            f"<tr><td>{r['type']}, {r['mode']}, {html.escape(r['features'])}</td><td>{number(r['value'])}</td>"
            f"<td>{number(r['interval_95'][0])} &ndash; {number(r['interval_95'][1])}</td><td>{r['n']}</td><td>{r['feature_dim']}</td>"
            f"<td>{number(floor.get('mean'))}</td><td>{number(floor.get('value_at_n'))}</td></tr>"
        )
    return (
        "<h2>Fréchet video distance</h2><table><tr><th>kind</th><th>value</th><th>95 %</th><th>clips</th><th>features</th>"
        f"<th>floor (half of the clips)</th><th>value at that size</th></tr>{rows}</table>"
        + _notes([warning for r in results for warning in r["warnings"]])
    )


def _summary(summary):
    better = {"low": "lower", "high": "higher", "one": "1 is ideal"}
    rows = "".join(
        f"<tr><td>{html.escape(s['label'])}</td><td>{number(s['mean'])}</td><td>{number(s['low'])} &ndash; {number(s['high'])}</td>"
        f"<td>{number(s['median'])}</td><td>{number(s['worst'])} ({html.escape(s['worst_id'])})</td><td>{s['unit']}</td>"
        f"<td>{better[s['better']]}</td><td>{s['n']}</td></tr>"
        for s in summary.values()
    )
    return (
        "<table><tr><th>measure</th><th>mean</th><th>95 % of the mean</th><th>median</th><th>worst</th><th>unit</th><th>better</th>"
        f"<th>n</th></tr>{rows}</table>"
    )


def _all(report):
    names = list(report["summary"])
    head = "".join(f"<th title='{html.escape(MEASURES[name].label)}'>{name}</th>" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(item)}</td>" + "".join(f"<td>{number(row.get(name))}</td>" for name in names) + "</tr>"
        for item, row in report["items"].items()
    )
    return (
        f"<div class=scroll><table id=all><thead><tr><th>id</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# ---------------------------------------------------------------- plots
def plots(report):
    """Histograms of every measure, and speed against true speed, as an SVG."""
    import matplotlib  # slow to import, needed for the page alone

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # letters stay letters: a tenth of the size
    rows, names = report["items"].values(), list(report["summary"])
    pairs = [
        (row["true_speed"], row["motion_speed"])
        for row in rows
        if row.get("true_speed") and row.get("motion_speed") is not None
    ]
    count = len(names) + bool(pairs)
    columns = min(4, count)
    lines = -(-count // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.1 * columns, 2.2 * lines), squeeze=False, layout="constrained"
    )
    axes = list(axes.flat)
    if pairs:
        _speeds(axes[0], np.array(pairs))
    for axis, name in zip(axes[bool(pairs) :], names):
        values = [row[name] for row in rows if row.get(name) is not None]
        axis.hist(values, bins=min(30, max(5, len(values) // 3)), color="#4477aa")
        axis.axvline(np.mean(values), color="#cc3311", linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(MEASURES[name].unit, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[count:]:
        axis.set_visible(False)
    picture = io.StringIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    plt.close(figure)
    svg = picture.getvalue()
    return f"<p class=small>The red line is the mean.</p>{svg[svg.index('<svg') :]}"


def _speeds(axis, pairs):
    """A frozen clip lies on the floor, a faithful one on the diagonal."""
    axis.plot([0, pairs[:, 0].max()], [0, pairs[:, 0].max()], color="#bbb", linewidth=1)
    axis.scatter(pairs[:, 0], pairs[:, 1], s=9, color="#4477aa")
    axis.set_title("speed seen / true speed", fontsize=9)
    axis.set_xlabel("px/frame", fontsize=8)
    axis.tick_params(labelsize=7)


# ---------------------------------------------------------------- worst and best
def _extremes(report, items):
    order = report["worst_to_best"]
    count = min(EXTREMES, len(order) // 2) or 1
    label = MEASURES[report["ordered_by"]].label if report["ordered_by"] else "name"
    parts = []
    for title, names in (("Worst", order[:count]), ("Best", order[::-1][:count] if len(order) > 1 else [])):
        if names:
            parts.append(f"<h2>{title}</h2><p class=small>By {html.escape(label)}.</p>")
            parts += [_card(name, items[name], report["items"][name]) for name in names]
    return "".join(parts)


def _card(name, item, row):
    """One result: its pictures, and its numbers below them."""
    figures = (clip_figures(item) if item.clip else []) + (flow_figures(item) if item.flow and item.true_motion else [])
    pictures = "".join(
        f"<figure><img src='{data}' height={SIDE} alt='{html.escape(caption)}'><figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, data in figures
    )
    numbers = ", ".join(f"{key} {number(row[key])}" for key in MEASURES if row.get(key) is not None)
    return f"<div class=card><h3>{html.escape(name)}</h3>{pictures}<p class=small>{numbers}</p></div>"


def clip_figures(item):
    """[(caption, data URI)]: looping previews of the clip and the true one, and their slices through time along one row."""
    frames = read_video(item.clip)
    first = next(frames)
    size = first.shape[:2]
    mask = true_mask(item, size, true_velocity(item, size))
    line = _busiest_row(mask) if mask is not None and mask.any() else size[0] // 2
    made = _Glance(line)
    made.add(first)
    for frame in frames:
        made.add(frame)
    figures = [("the clip", made.preview()), (f"row {line}, time downwards, one period and a half", made.slice())]
    true = _Glance(line)
    for frame in true_frames(item, size):
        true.add(frame)
    if true.count:
        figures += [("the true clip", true.preview()), (f"row {line} of the true clip", true.slice())]
    if mask is not None:
        figures.append(("the mask", _picture(np.repeat(np.uint8(mask)[..., None] * 255, 3, -1))))
    return figures


def _busiest_row(mask):
    """The middle of the rows in which nearly as much may move as anywhere."""
    counts = mask.sum(1)
    return int(np.median(np.flatnonzero(counts >= 0.9 * counts.max())))


def flow_figures(item):
    """The flow file and the true flow in one scale of colours."""
    flow = predicted_flow(item)
    both = flow_to_color(torch.cat([flow, resize_flow(read_motion(item.true_motion), flow.shape[-2:])], 2))
    width = flow.shape[2]
    return [("flow file", _picture(both[:, :width])), ("true flow, same scale", _picture(both[:, width:]))]


class _Glance:
    """Small frames and one row of every frame: what a reader sees of a clip."""

    def __init__(self, line):
        self.count, self._line, self._frames, self._rows = 0, line, [], []

    def add(self, frame):
        if self.count % STEP == 0:
            self._frames.append(_small(frame))
        self._rows.append(frame[self._line])
        self.count += 1

    def preview(self):
        """Animated WebP, endless."""
        file = io.BytesIO()
        self._frames[0].save(
            file, "WEBP", save_all=True, append_images=self._frames[1:], duration=STEP * 1000 // 30, loop=0, quality=60
        )
        return _uri("webp", file)

    def slice(self):
        """Row over time; the first half follows the end, so that a seam can be seen."""
        rows = np.stack(self._rows + self._rows[: self.count // 2])
        return _picture(np.repeat(rows, max(1, round(rows.shape[1] / len(rows) / 1.5)), 0))


def _small(pixels):
    height, width = pixels.shape[:2]
    return Image.fromarray(pixels).resize((max(1, round(width * SIDE / height)), SIDE), Image.Resampling.LANCZOS)


def _picture(pixels):
    file = io.BytesIO()
    _small(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=88)
    return _uri("jpeg", file)


def _uri(kind, file):
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
