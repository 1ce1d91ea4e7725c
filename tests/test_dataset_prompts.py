"""The artistic prompts and their twins: same scenes, one line each, within the small tier's world."""

import re
from pathlib import Path

DATASET = Path(__file__).parents[1] / "dataset"
STYLES = ("starry nights painting", "oil painting", "watercolor", "japanese woodblock print", "low poly")


def lines(name):
    return (DATASET / name).read_text().splitlines()


def test_each_prompt_has_its_twin():
    prompts, twins = lines("prompts.txt"), lines("prompts_twin.txt")
    assert len(prompts) == len(twins) >= 12 and len(set(prompts)) == len(prompts)
    scenes = {re.search(r"river|waterfall|lake|sea|clouds", prompt).group() for prompt in prompts}
    assert scenes == {"river", "waterfall", "lake", "sea", "clouds"}
    for prompt, twin in zip(prompts, twins):
        assert any(prompt.endswith(f"in the style of {style}") for style in STYLES)
        assert re.search(r"river|waterfall|lake|sea|clouds", prompt).group() in twin
        assert not any(style in twin for style in STYLES)
