"""What people write for one picture: many wordings of what it shows, for training the text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.hint import find_direction

if TYPE_CHECKING:
    import numpy as np

    pass

NOUNS = {
    "river": ("river", "stream"),
    "waterfall": ("waterfall",),
    "lake": ("lake",),
    "sea": ("sea", "ocean"),
    "clouds": ("clouds",),
}
ADJECTIVES = {
    "river": ("large", "winding", "small", "long"),
    "waterfall": ("large", "tall", "small"),
    "lake": ("large", "calm", "quiet"),
    "sea": ("large", "calm", "wavy", "blue"),
    "clouds": ("white", "moving", "large", "drifting"),
}
# True of every scene of the kind: what stands behind it is in the captions that mini/procedural.py wrote.
PLACES = {
    "river": ("flowing", "in a landscape", "with its banks"),
    "waterfall": ("falling from hills", "falling from a cliff", "falling"),
    "lake": ("in a landscape", "with its shore"),
    "sea": ("with waves", "under the sky"),
    "clouds": ("in the sky", "over a landscape"),
}
LIGHTS = {
    "day": ("", "", "in daylight", "during the day"),
    "sunset": ("at sunset", "during sunset"),
    "night": ("at night", "during the night"),
    "winter": ("in winter", "with snow"),
    "autumn": ("in autumn", "during autumn"),
}
STYLES = {
    "starry": ("starry nights painting", "starry night", "van gogh", "a starry night painting by van gogh"),
    "oil": ("an oil painting", "oil painting", "Leonid Afremov", "impressionism", "a painting"),
    "watercolor": ("watercolor", "a watercolor painting"),
    "lowpoly": ("low poly", "low poly art"),
    "ukiyo": ("a japanese woodblock print", "japanese woodblock print", "ukiyo-e", "hokusai"),
}
PHOTO = ("nature", "bright", "realistic", "photography", "4k", "8k")


def without_directions(caption: str) -> str:
    """The caption without its clauses of direction, which a still picture does not show."""
    phrase = True
    while phrase:
        phrase, caption = find_direction(caption)
    return caption


def wordings(scene: dict[str, Any], style: str | None, rng: np.random.Generator, count: int) -> list[str]:
    """`count` captions of a picture: a third as mini/procedural.py wrote it, the others put together anew, shorter or
    longer.

    scene: a line of the metadata.   style: None = the natural picture.   rng: numpy Generator.
    """
    own = without_directions(scene["captions"][style or "natural"])
    things = scene.get("things", ())
    return [own if i % 3 == 0 else _wording(scene["kind"], scene["light"], style, rng, things) for i in range(count)]


def _wording(kind, light, style, rng, things=()):
    def pick(words, chance=1.0):
        return words[rng.integers(len(words))] if rng.random() < chance else ""

    noun = pick(NOUNS[kind])
    stands = f"with a {things[rng.integers(len(things))]}" if things and rng.random() < 0.6 else ""
    if style is None and rng.random() < 0.6:  # a list of words, like a natural twin's prompt
        return ", ".join(
            part for part in (f"{noun} {stands}".strip(), pick(LIGHTS[light]), *PHOTO[: rng.integers(3, 7)]) if part
        )
    article = "" if noun == "clouds" else "a"
    words = [article, pick(ADJECTIVES[kind], 0.7), noun, pick(PLACES[kind], 0.6), stands, pick(LIGHTS[light])]
    words.append(
        f"in the style of {pick(STYLES[style])}" if style else pick((", photograph", ", realistic photography", ""))
    )
    return " ".join(word for word in words if word)
