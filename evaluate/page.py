"""The page of a report: one HTML file with its plots and pictures in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from text2cinemagraph.data.flow import flow_to_color, read_motion, resize_flow
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.measures import MEASURES, predicted_flow, true_frames, true_mask, true_velocity
from text2cinemagraph.pages.page import write_page

if TYPE_CHECKING:
    from text2cinemagraph.evaluate.measures import Item

EXTREMES = 3  # clips shown at either end
SIDE = 192  # px, height of a picture on the page
STEP = 3  # every which frame is in a preview
BETTER = {"low": "lower", "high": "higher", "one": "1 is ideal"}
INK = "#010203"  # of letters and axes in a plot, a colour that no curve has: on the page it is that of the page's text


def write_report(path: str | Path, report: dict[str, Any], items: Mapping[str, Item]) -> Path:
    """report: the dict of evaluate.report.   items: {id: Item} of its rows.  Returns the path."""
    names = list(report["summary"])
    return write_page(
        path,
        "report.html",
        title=report["folder"],
        gt_path=report["gt_path"],
        count=report["n"],
        notes=report["notes"],
        fvd=[_fvd_row(result) for result in report["fvd"]],
        warnings=[warning for result in report["fvd"] for warning in result["warnings"]],
        summary=[_summary_row(found) for found in report["summary"].values()],
        ordered_by=MEASURES[report["ordered_by"]].label if report["ordered_by"] else "name",
        extremes=_extremes(report, items),
        plots=plots(report),
        measures=[(name, MEASURES[name].label) for name in names],
        rows=[(item, [number(row.get(name)) for name in names]) for item, row in report["items"].items()],
    )


# ---------------------------------------------------------------- tables
def number(value: float | None) -> str:
    """Three digits that matter; a dash for what is not known."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _fvd_row(result):
    """The cells of a line of the table of Fréchet distances."""
    floor, (low, high) = result["floor"] or {}, result["interval_95"]
    return [
        f"{result['type']}, {result['mode']}, {result['features']}",
        number(result["value"]),
        f"{number(low)} – {number(high)}",
        result["n"],
        result["feature_dim"],
        number(floor.get("mean")),
        number(floor.get("value_at_n")),
    ]


def _summary_row(found):
    """The cells of a line of the table of measures."""
    return [
        found["label"],
        number(found["mean"]),
        f"{number(found['low'])} – {number(found['high'])}",
        number(found["median"]),
        f"{number(found['worst'])} ({found['worst_id']})",
        found["unit"],
        BETTER[found["better"]],
        found["n"],
    ]


# ---------------------------------------------------------------- plots
def plots(report: dict[str, Any]) -> str:
    """Histograms of every measure, and speed against true speed, as an SVG on no ground of its own."""
    import matplotlib  # slow to import, needed for the page alone

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    look = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    picture = io.StringIO()
    with plt.rc_context({**look, "svg.fonttype": "none"}):  # letters stay letters: a tenth of the size
        figure = _figure(plt, report)
        figure.savefig(picture, format="svg", metadata={"Date": None}, transparent=True)
        plt.close(figure)
    svg = picture.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _figure(plt, report):
    """The figure of plots()."""
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
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(MEASURES[name].unit, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure


def _speeds(axis, pairs):
    """A frozen clip lies on the floor, a faithful one on the diagonal."""
    axis.plot([0, pairs[:, 0].max()], [0, pairs[:, 0].max()], color="#999", linewidth=1)
    axis.scatter(pairs[:, 0], pairs[:, 1], s=9, color="#4477aa")
    axis.set_title("speed seen / true speed", fontsize=9)
    axis.set_xlabel("px/frame", fontsize=8)
    axis.tick_params(labelsize=7)


# ---------------------------------------------------------------- worst and best
def _extremes(report, items):
    """[(title, cards)]: the clips at either end of the order."""
    order = report["worst_to_best"]
    count = min(EXTREMES, len(order) // 2) or 1
    ends = (("Worst", order[:count]), ("Best", order[::-1][:count] if len(order) > 1 else []))
    return [
        (title, [_card(name, items[name], report["items"][name]) for name in names]) for title, names in ends if names
    ]


def _card(name, item, row):
    """One result: its pictures, and its numbers below them."""
    figures = (clip_figures(item) if item.clip else []) + (flow_figures(item) if item.flow and item.true_motion else [])
    numbers = ", ".join(f"{key} {number(row[key])}" for key in MEASURES if row.get(key) is not None)
    return {"name": name, "figures": figures, "numbers": numbers}


def clip_figures(item: Item) -> list[tuple[str, str]]:
    """[(caption, data URI)]: looping previews of the clip and the true one, and their slices through time along one
    row.
    """
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


def flow_figures(item: Item) -> list[tuple[str, str]]:
    """The flow file and the true flow in one scale of colours."""
    flow = predicted_flow(item)
    both = flow_to_color(torch.cat([flow, resize_flow(read_motion(item.true_motion), flow.shape[-2:])], 2))
    width = flow.shape[2]
    return [("flow file", _picture(both[:, :width])), ("true flow, same scale", _picture(both[:, width:]))]


class _Glance:
    """Small frames and one row of every frame: what a reader sees of a clip."""

    def __init__(self, line: int) -> None:
        self.count, self._line, self._frames, self._rows = 0, line, [], []

    def add(self, frame: np.ndarray) -> None:
        if self.count % STEP == 0:
            self._frames.append(_small(frame))
        self._rows.append(frame[self._line])
        self.count += 1

    def preview(self) -> str:
        """Animated WebP, endless."""
        file = io.BytesIO()
        self._frames[0].save(
            file, "WEBP", save_all=True, append_images=self._frames[1:], duration=STEP * 1000 // 30, loop=0, quality=60
        )
        return _uri("webp", file)

    def slice(self) -> str:
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
