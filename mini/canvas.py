"""The canvas a procedural scene is painted on: coordinates, layers with labels, one moving fluid and its video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from text2cinemagraph.painters.noise import UNIT, mix, smoothstep

LABELS = (
    *("sky", "mountain", "grass", "tree", "rock", "sand", "river", "waterfall", "lake", "sea"),
    *("house", "boat", "bridge"),  # in the second edition alone
)
N_FRAMES = 60  # of a video, as in the Eulerian dataset


@dataclass
class Fluid:
    """What moves: colour [H,W,3] and velocity [H,W,2] (units/frame), defined beyond the shore of alpha [H,W] too."""

    color: np.ndarray
    alpha: np.ndarray
    velocity: np.ndarray


class Canvas:
    """A square picture painted from back to front. Lengths are in units (1/256 of the side), speeds in units/frame.

    seed: int >= 0, the start of `rng`, from which everything is drawn.  size: side in px, >= 32.
    x, y [H,W], column [W]: coordinates of the pixels' centres in units; labels uint8 [H,W]: index into LABELS.
    """

    def __init__(self, seed: int, size: int) -> None:
        if size < 32:
            raise ValueError(f"scene size {size}: expected 32 px or more")
        self.seed, self.size, self.scale = int(seed), int(size), size / UNIT
        self.rng = np.random.default_rng(self.seed)
        self.column = ((np.arange(size) + 0.5) / self.scale).astype(np.float32)
        self.x, self.y = np.meshgrid(self.column, self.column)
        self.soft = 0.8 * max(1, UNIT / size)  # half width of a clean edge
        self.labels, self.label_names = np.zeros((size, size), np.uint8), LABELS
        self._drawing = np.zeros((size, size, 3), np.float32)
        self._fluids = []

    # ------------------------------------------------------------ layers
    def _over(self, color, alpha, label=None, window=np.s_[:, :]):
        """Paint a colour over everything there is, the fluid too; where alpha > 1/2 the label changes."""
        alpha = np.float32(alpha)
        self._drawing[window] = mix(self._drawing[window], np.float32(color), alpha)
        for fluid in self._fluids:
            fluid.alpha[window] *= 1 - alpha
        if label is not None:
            self.labels[window][np.broadcast_to(alpha, self.labels[window].shape) > 0.5] = LABELS.index(label)

    def _pour(self, color, alpha, velocity, label):
        """Paint a fluid over everything there is: see Fluid."""
        alpha = np.array(np.broadcast_to(alpha, self.labels.shape), np.float32)
        for fluid in self._fluids:
            fluid.alpha *= 1 - alpha
        self._fluids.append(Fluid(np.float32(color), alpha, np.float32(velocity)))
        self._drawing = mix(self._drawing, self._fluids[-1].color, alpha)
        self.labels[alpha > 0.5] = LABELS.index(label)

    def _velocity(self):
        """[H,W,2] units/frame: of the fluid that is seen most, defined outside the mask too."""
        most = np.argmax([fluid.alpha for fluid in self._fluids], 0)
        return np.choose(most[..., None], [fluid.velocity for fluid in self._fluids])

    def _window(self, left, top, right, bottom):
        """Slices of a box in units, cut at the picture; None if nothing is left."""
        left, top = (int(max(np.floor(v * self.scale), 0)) for v in (left, top))
        right, bottom = (int(min(np.ceil(v * self.scale), self.size)) for v in (right, bottom))
        return np.s_[top:bottom, left:right] if right - left > 1 and bottom - top > 1 else None

    # ------------------------------------------------------------ maps and curves
    def sample(self, field: np.ndarray, x: np.ndarray, y: np.ndarray, border: int = cv2.BORDER_REFLECT) -> np.ndarray:
        """Look a map [H,W] or [H,W,C] up at positions x, y in units, bilinear."""
        x, y = np.float32(x * self.scale - 0.5), np.float32(y * self.scale - 0.5)
        return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=border)

    def _blur(self, field, sigma):
        return cv2.GaussianBlur(np.float32(field), (0, 0), max(sigma * self.scale, 0.3))

    def _slope(self, field):
        """Brightness of a relief lit from the sun's side."""
        return cv2.Sobel(self._blur(field, 0.8), cv2.CV_32F, 1, 0) * (0.25 * self.scale * self.sun_side)

    def _line(self, beta=2.0):
        """A random curve over the picture's columns, 0..1, rough for small beta."""
        return self._line_of(self.rng, beta)

    def _line_of(self, rng, beta):
        """The same, drawn from another generator."""
        k = np.arange(1, UNIT)
        real, imaginary = rng.standard_normal((2, UNIT - 1)) * k ** (-beta / 2)
        curve = np.fft.irfft(np.r_[0, real + 1j * imaginary], 2 * UNIT)[:UNIT]
        curve = (curve - curve.min()) / (np.ptp(curve) + 1e-6)
        return np.interp(self.column, np.arange(UNIT) + 0.5, curve).astype(np.float32)

    def _at(self, curve, x):
        """Value at x (units) of a curve over the columns (or, if given y, over the rows)."""
        return float(np.interp(x, self.column, np.asarray(curve).ravel()))

    def _streaks(self, texture, velocity, steps):
        """Smear a texture along the flow (line integral convolution), mean 0, deviation 1."""
        speed = np.sqrt((velocity**2).sum(-1, keepdims=True)) + 1e-4
        step = np.float32(velocity / speed * np.minimum(speed * 6, 1))
        texture = np.float32(texture)
        total = texture.copy()
        for sign in (1, -1):
            x, y = self.x, self.y
            for _ in range(steps):
                move = self.sample(step, x, y, cv2.BORDER_REPLICATE)
                x, y = x + sign * move[..., 0], y + sign * move[..., 1]
                total += self.sample(texture, x, y)
        return (total - total.mean()) / (total.std() + 1e-6)

    @staticmethod
    def _grade(picture):
        """A gentle contrast curve; every pixel by itself, so it changes nothing about the motion."""
        picture = np.clip(picture, 0, 1.4)
        return np.clip(picture - 0.24 * (picture - 0.5) * (np.abs(picture - 0.5) - 0.5), 0, 1).astype(np.float32)

    # ------------------------------------------------------------ motion
    def video(self, n_frames: int = N_FRAMES) -> Iterator[np.ndarray]:
        """Frames 0..n-1 of a seamless loop, uint8 [H,W,3]; frame n would be frame 0.

        The whole colour of the fluid moves with the flow: n frames forward from the picture, fading into the picture
        that arrives backward from frame n (weights 1 - n/N and n/N; what comes from outside the picture counts little,
        as nobody can know it). Detail keeps its contrast while the two overlap.
        """
        yield np.uint8(self._grade(self._drawing) * 255)
        changes = [self._changes(fluid, n_frames) for fluid in self._fluids]
        for now in zip(*changes):
            yield np.uint8(self._grade(sum(now, start=self._drawing)) * 255)

    def _changes(self, fluid, n_frames):
        """What a fluid's motion adds to the drawing, for frames 1..n-1."""
        behind, ahead = (self._paths(fluid.velocity, n_frames, sign) for sign in (-1, 1))
        smooth = self._blur(fluid.color, 6)
        detail = fluid.color - smooth
        for n in range(1, n_frames):
            past, future = behind[n], ahead[n_frames - n]
            old, new = (1 - n / n_frames) * self._known(*past), n / n_frames * self._known(*future)
            old, new = old / (old + new), new / (old + new)
            base = mix(self.sample(smooth, *past), self.sample(smooth, *future), new)
            moved = mix(self.sample(detail, *past), self.sample(detail, *future), new)
            yield fluid.alpha[..., None] * (base + moved / np.hypot(old, new)[..., None] - fluid.color)

    def _known(self, x, y):
        """1 inside the picture, falling to nearly 0 at 16 units outside."""
        return smoothstep(-16, 0, np.minimum.reduce([x, y, UNIT - x, UNIT - y])) + 1e-3

    def _paths(self, velocity, n_frames, sign):
        """Where every pixel came from (sign -1) or goes to (+1) after 0..n frames: list of (x, y) in units."""
        x, y, paths = self.x, self.y, [(self.x, self.y)]
        for _ in range(n_frames - 1):
            move = self.sample(velocity, x, y, cv2.BORDER_REPLICATE)
            x, y = x + sign * move[..., 0], y + sign * move[..., 1]
            paths.append((x, y))
        return paths
