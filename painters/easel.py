"""What every look starts from: the picture at its working size, lengths in units, and where its lines run."""

import functools

import cv2
import numpy as np
from text2cinemagraph.painters.noise import UNIT, noise
from text2cinemagraph.painters.strokes import DICE, Coat, Strokes

GRAY = np.float32([0.3, 0.55, 0.15])  # brightness of red, green and blue
STUDY = 2  # px per unit of the small copy in which lines and details are found: 512 px for a whole picture


CROWD, OUTSTANDING = 6.0, 0.9  # units around a line, and by how many of its neighbours' strengths it is lowered
FLOWING = 0.5  # of a stroke's half length: how far a flow has drawn out the colours that strokes along it are dipped in


class Easel:
    """A picture to be painted. A unit is `brush` / 256 of the geometric mean of its sides, at every size and aspect.

    picture: float32 [H,W,3] in [0,1].   seed: of every random choice, which depends on the aspect too, not on the size.
    mask: bool [H,W], True = may move; no stroke crosses its border.
    flow: float32 [2,H,W], px/frame; strokes follow it.
    labels: dict of bool [H,W], parts of the picture by name ("sky").   brush: size of all strokes, 1 = full.

    scale: px per unit.   x, y: float32 [H,W], coordinates of the pixels in units.   width, height: in units.
    study: float32 [h,w,3], the small copy.
    """

    def __init__(
        self,
        picture: np.ndarray,
        seed: int = 0,
        mask: np.ndarray | None = None,
        flow: np.ndarray | None = None,
        *,
        labels: dict[str, np.ndarray] | None = None,
        brush: float = 1.0,
    ) -> None:
        rows, columns = picture.shape[:2]
        self.picture, self._lines = picture, {}
        self.scale = float(np.sqrt(rows * columns)) / UNIT * brush
        self.rng = np.random.default_rng(seed)
        self.height, self.width = rows / self.scale, columns / self.scale
        small = min(STUDY / self.scale, 1)
        self.study_size = max(round(columns * small), 1), max(round(rows * small), 1)  # (w, h), as OpenCV wants it
        self.study = self.shrunk(picture)
        self.study_scale = self.study_size[0] / self.width  # px of the study per unit
        self.labels = labels or {}
        self.mask = np.zeros((rows, columns), np.uint8) if mask is None else np.uint8(mask)
        self.flow = None if flow is None else np.float32(flow).transpose(1, 2, 0) / self.scale  # units/frame

    @functools.cached_property
    def x(self) -> np.ndarray:
        columns = (np.arange(self.picture.shape[1], dtype=np.float32) + 0.5) / np.float32(self.scale)
        return np.broadcast_to(columns, self.picture.shape[:2])

    @functools.cached_property
    def y(self) -> np.ndarray:
        rows = (np.arange(self.picture.shape[0], dtype=np.float32) + 0.5) / np.float32(self.scale)
        return np.broadcast_to(rows[:, None], self.picture.shape[:2])

    # ------------------------------------------------------------ sizes
    def shrunk(self, field: np.ndarray) -> np.ndarray:
        """A map at the study's size."""
        return cv2.resize(np.float32(field), self.study_size, interpolation=cv2.INTER_AREA)

    def full(self, field: np.ndarray) -> np.ndarray:
        """A map of the study at the picture's size."""
        rows, columns = self.picture.shape[:2]
        return cv2.resize(field, (columns, rows), interpolation=cv2.INTER_CUBIC)

    def blur(self, field: np.ndarray, units: float) -> np.ndarray:
        """Gaussian blur of a full map; wide ones are made on a small copy, so that time stays linear in the pixels."""
        sigma = units * self.scale
        if sigma < 6:
            return cv2.GaussianBlur(np.float32(field), (0, 0), max(sigma, 0.3))
        step = int(sigma // 3)
        rows, columns = field.shape[:2]
        small = cv2.resize(
            np.float32(field), (max(columns // step, 1), max(rows // step, 1)), interpolation=cv2.INTER_AREA
        )
        small = cv2.GaussianBlur(small, (0, 0), sigma * small.shape[1] / columns)
        return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)

    def study_blur(self, field: np.ndarray, units: float) -> np.ndarray:
        """Gaussian blur of a map of the study."""
        return cv2.GaussianBlur(np.float32(field), (0, 0), max(units * self.study_scale, 0.3))

    def noise(self, beta: float, grain: float = 1.0, stretch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
        """A random 1/f^beta field [H,W], mean 0 and deviation 1, whose finest grains measure `grain` units."""
        return noise(self.rng, beta, self.x / (grain * stretch[0]), self.y / (grain * stretch[1]))

    def at(self, field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Look a map of the study up at positions in units (any shape), bilinear."""
        if not np.size(x):  # a coat that wants no strokes
            return np.zeros((0, *field.shape[2:]), np.float32)
        scale = np.float32(self.study_scale)
        x, y = (np.float32(v).reshape(1, -1) * scale - np.float32(0.5) for v in (x, y))
        # cv2.remap takes at most 32767 columns
        parts = [
            cv2.remap(
                field, x[:, i : i + 32000], y[:, i : i + 32000], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for i in range(0, x.shape[1], 32000)
        ]
        return np.concatenate(parts, 1)[0]

    # ------------------------------------------------------------ lines
    @functools.cached_property
    def _tensor(self):
        """The structure tensor of the study as (cos, sin) of twice the angle across the edge, and the strength."""
        blurred = self.study_blur(self.study, 0.6)
        mask = self.study_blur(self.shrunk(self.mask), 0.6)[..., None]
        channels = np.concatenate([blurred, 0.5 * mask], -1)  # the border of what moves is a line too
        gx, gy = (cv2.Sobel(channels, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        xx, yy, xy = (gx * gx).sum(-1), (gy * gy).sum(-1), (gx * gy).sum(-1)
        return xx - yy, 2 * xy, xx + yy

    def lines(self, smooth: float = 2.0, swirl: float = 0.0, flat_angle: float = 0.0) -> np.ndarray:
        """Where strokes should run: float32 [h,w,2] of the study, (cos, sin) of twice the angle along the lines.

        smooth: units over which neighbouring lines agree.   swirl: strength of large eddies where nothing has lines.
        flat_angle: radians, the direction of strokes where there is nothing at all to follow.
        """
        key = smooth, swirl, flat_angle
        if key not in self._lines:
            self._lines[key] = self._find_lines(*key)
        return self._lines[key]

    def _find_lines(self, smooth, swirl, flat_angle):
        c2, s2, strength = self._tensor
        field = np.dstack([-c2, -s2, strength])  # along the edge: turned by 90 degrees, 180 in doubled angles
        near, far = self.study_blur(field, smooth), self.wide(field, smooth * 6)
        typical = float(np.median(near[..., 2])) + 1e-6
        total = near[..., :2] / (near[..., 2:] + typical) + 0.35 * far[..., :2] / (far[..., 2:] + typical)
        flat = np.float32([np.cos(2 * flat_angle), np.sin(2 * flat_angle)])
        if swirl:
            flat = self._eddies()
            solid = self.textured
            weight = (swirl * (1 - solid))[..., None]
            total = total * (1 - weight) + (0.12 + weight) * flat
        else:
            total = total + 0.12 * flat
        if self.flow is not None:
            known, along = self._current
            total = total + known * (along - total)
        total = self.study_blur(total, 0.5 * smooth)
        return np.float32(total / (np.sqrt((total**2).sum(-1, keepdims=True)) + 1e-6))

    @functools.cached_property
    def _current(self):
        """How far the flow decides on the lines, [h,w,1] of the study, 0 (at rest) to 1, and its doubled angles."""
        flow = self.shrunk(self.flow)
        speed = np.sqrt((flow**2).sum(-1))
        known = np.clip(speed / (0.6 * np.percentile(speed[speed > 0], 98)), 0, 1) if speed.any() else speed
        angle = 2 * np.arctan2(flow[..., 1], flow[..., 0])
        return known[..., None], np.stack([np.cos(angle), np.sin(angle)], -1)

    def wide(self, field: np.ndarray, units: float) -> np.ndarray:
        """A wide blur of a map of the study, made on a quarter of its size."""
        h, w = field.shape[:2]
        small = cv2.resize(field, (max(w // 4, 1), max(h // 4, 1)), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), max(units * self.study_scale / 4, 0.3))
        return cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)

    def _eddies(self):
        """Doubled angles of a field that turns in large eddies."""
        h, w = self.study.shape[:2]
        x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) / np.float32(self.study_scale) for n in (w, h)))
        potential = self.study_blur(noise(self.rng, 3.8, 0.8 * x, 0.8 * y), 7)
        gx, gy = (cv2.Sobel(potential, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        angle = 2 * np.arctan2(-gx, gy)
        return np.stack([np.cos(angle), np.sin(angle)], -1)

    def along(self, field: np.ndarray, lines: np.ndarray, reach: float) -> np.ndarray:
        """A map of the study averaged along its lines, `reach` units to both sides: shapes keep their edges."""
        doubled = np.arctan2(lines[..., 1], lines[..., 0]) / 2
        step = np.stack([np.cos(doubled), np.sin(doubled)], -1).astype(np.float32)
        h, w = field.shape[:2]
        start = np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), -1)
        count = max(int(round(reach * self.study_scale / 1.5)), 1)
        total, weight = np.float32(field).copy(), 1.0
        for sign in (-1, 1):
            here, before = start + sign * 1.5 * step, step * sign
            for i in range(1, count + 1):
                share = 1 - 0.7 * i / count
                total += share * cv2.remap(
                    field, here[..., 0], here[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
                weight += share
                ahead = cv2.remap(step, here[..., 0], here[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
                ahead *= np.sign((ahead * before).sum(-1, keepdims=True) + 1e-9)  # a line has no sign: go on ahead
                here, before = here + 1.5 * ahead, ahead
        return total / np.float32(weight)

    def flattened(self, rounds: int = 2, reach: float = 3.0, tolerance: float = 0.1) -> np.ndarray:
        """The study without its texture: float32 [h,w,3], areas flat, edges kept and smoothed along themselves."""
        flat, lines = self.study, self.lines(1.6)
        sigma = 3.0 * self.study_scale
        for _ in range(rounds):
            flat = cv2.bilateralFilter(flat, int(2 * self.study_scale) * 2 + 1, tolerance, sigma)
            flat = self.along(flat, lines, reach)
        return flat

    def contours(self, width: float = 0.7, reach: float = 4.0) -> np.ndarray:
        """[h,w] of the study: how much darker than both sides a line is, along every edge; about 0 in flat areas.

        Among many lines (leaves, ripples, gravel) only those that stand out count: what a draughtsman would leave out,
        is left out.   width: units of the line.   reach: units along which a line holds together.
        """
        gray = cv2.GaussianBlur(self.study @ GRAY, (0, 0), max(width * self.study_scale * 0.6, 0.5))
        near, far = self.study_blur(gray, width), self.study_blur(gray, 1.6 * width)
        edge = self.study_blur(self.along(far - near, self.lines(1.2), reach), 0.4)
        crowd = np.sqrt(self.wide(np.square(np.clip(edge, 0, None)), CROWD))
        return edge - OUTSTANDING * crowd

    def lengths(self, marked: np.ndarray) -> np.ndarray:
        """[h,w]: length in units of the connected piece of `marked`, bool [h,w] of the study, lying here, else 0."""
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(np.uint8(marked), connectivity=8)
        sides = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(1) / self.study_scale
        sides[0] = 0
        return np.float32(sides)[pieces]

    @functools.cached_property
    def textured(self) -> np.ndarray:
        """[h,w] of the study, 0..1: 1 where the neighbourhood has contrast of its own (rock, leaves, houses)."""
        energy = self.wide(self._tensor[2], 5)
        return np.float32(np.clip(np.sqrt(energy) / 0.10 - 0.35, 0, 1))

    @functools.cached_property
    def detail(self) -> np.ndarray:
        """[h,w] of the study, 0..1: how much there is to see that wide strokes would lose."""
        fine = np.abs(self.study - self.study_blur(self.study, 2)).max(-1)
        fine = self.study_blur(fine, 1)
        return np.clip(fine / 0.10, 0, 1)

    # ------------------------------------------------------------ strokes
    def strokes(
        self,
        colors: np.ndarray,
        coat: Coat,
        *,
        lines: np.ndarray,
        wanted: np.ndarray | None = None,
        hatch: float | None = None,
    ) -> Strokes:
        """Strokes of a coat over the whole picture, in random order, that end where the colour changes.

        colors: float32 [h,w,3] of the study, what they are dipped in.   lines: see `lines`.
        wanted: float32 [h,w] of the study in [0,1], chance of a stroke; None: everywhere.
        hatch: radians; strokes lie in even rows of this direction, `coat.spacing` apart.
        """
        colors = self.study_blur(colors, coat.blur) if coat.blur else colors
        if self.flow is not None:
            known = self._current[0]
            colors = colors + known * (self.along(colors, lines, FLOWING * coat.length) - colors)
        length, width, spacing = coat.length, coat.width, coat.spacing
        center = self._places(spacing, hatch, 1.4 * length)
        # All places draw, taken or not, so that one stroke more at another size of picture does not change the others.
        chance = self.rng.random(len(center)) / coat.keep
        order = self.rng.permutation(len(center))
        dice = self.rng.normal(0, 1, (len(center), DICE))
        inside = (center > -spacing).all(1) & (center[:, 0] < self.width + spacing)
        inside &= center[:, 1] < self.height + spacing
        limit = np.ones(len(center)) if wanted is None else self.at(np.float32(wanted), center[:, 0], center[:, 1])
        order = order[(inside & (chance < limit))[order]]
        center, dice = center[order], dice[order]
        length, width = length * np.exp(0.25 * dice[:, 5]), width * np.exp(0.18 * dice[:, 6])
        angle = self._angles(lines, center)
        ahead = self._angles(lines, center + np.stack([np.cos(angle), np.sin(angle)], -1) * (0.5 * length)[:, None])
        turn = (ahead - angle + np.pi / 2) % np.pi - np.pi / 2
        bend = np.clip(turn / (0.5 * length), -0.8 / length, 0.8 / length)
        color = self.at(colors, center[:, 0], center[:, 1])
        made = Strokes(center, angle, bend, length, width, color, np.ones(len(center)), dice)
        made = self._ended(made, colors, coat.tolerance)
        scale = self.scale
        return Strokes(
            made.center * scale,
            made.angle,
            made.bend / scale,
            made.length * scale,
            made.width * scale,
            made.color,
            made.opacity,
            made.dice,
        )

    def _places(self, spacing, hatch, along):
        """Centres [n,2] in units on a shaken grid that covers the picture; of a hatching, in rows."""
        steps = np.array([spacing if hatch is None else along, spacing])
        if hatch is None:
            counts = [int(np.ceil(side / spacing)) + 1 for side in (self.width, self.height)]
            start, turn = np.zeros(2), np.eye(2)
        else:
            reach = np.hypot(self.width, self.height)
            counts = [int(np.ceil(reach / step)) + 1 for step in steps]
            turn = np.array([[np.cos(hatch), np.sin(hatch)], [-np.sin(hatch), np.cos(hatch)]])
            start = np.array([self.width, self.height]) / 2 - (np.array(counts) - 1) / 2 * steps @ turn
        x, y = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in counts))
        shake = self.rng.uniform(-0.5, 0.5, (len(x.ravel()), 2)) * ((1, 1) if hatch is None else (1, 0.35))
        return start + (np.stack([x, y], -1).reshape(-1, 2) + shake) * steps @ turn

    def _angles(self, lines, center):
        doubled = self.at(lines, center[:, 0], center[:, 1])
        return 0.5 * np.arctan2(doubled[:, 1], doubled[:, 0])

    def _ended(self, strokes, colors, tolerance):
        """Strokes cut where the colour leaves that of their centre by more than `tolerance`."""
        if tolerance is None:
            return strokes
        reach = {}
        for sign in (-1, 1):
            good, reach[sign] = np.ones(len(strokes), bool), np.full(len(strokes), 0.2)
            for share in (0.4, 0.7, 1.0):
                there = strokes.points(sign * share)
                change = np.abs(self.at(colors, there[:, 0], there[:, 1]) - strokes.color).max(-1)
                good &= change < tolerance
                reach[sign] = np.where(good, share, reach[sign])
        middle, half = (reach[1] - reach[-1]) / 2, (reach[1] + reach[-1]) / 2
        center = strokes.points(middle)
        angle = strokes.angle + strokes.bend * strokes.length * middle
        normal = np.stack([-np.sin(angle), np.cos(angle)], -1) * strokes.width[:, None]
        narrow = np.ones(len(strokes))
        for sign in (-1, 1):
            there = center + sign * normal
            change = np.abs(self.at(colors, there[:, 0], there[:, 1]) - strokes.color).max(-1)
            narrow = np.where(change < 1.5 * tolerance, narrow, narrow * 0.65)
        length = np.maximum(strokes.length * half, strokes.width * narrow)
        return Strokes(
            center, angle, strokes.bend, length, strokes.width * narrow, strokes.color, strokes.opacity, strokes.dice
        )


def saturate(picture: np.ndarray, gain: float) -> np.ndarray:
    """Colours pulled away from gray by a factor; may leave [0,1]."""
    gray = picture.mean(-1, keepdims=True)
    return np.float32(gray + (picture - gray) * gain)


def lit(relief: np.ndarray, scale: float, strength: float, *, shine: float = 0.0) -> np.ndarray:
    """Brightness factor [H,W] of paint of height `relief`, lit from the upper left.

    scale: px per unit; relief of the same shape looks the same at every size.   shine: strength of the gloss.
    """
    gx, gy = (cv2.Scharr(relief, cv2.CV_32F, *order) / 32 * np.float32(scale) for order in ((1, 0), (0, 1)))
    slope = np.clip((gx + gy) * 1.2, -1, 1)
    return 1 + strength * slope, shine * np.clip(slope - 0.35, 0, 1)
