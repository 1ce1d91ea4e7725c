"""The measures of the small family: each on cases whose answer is known, and the command on a few scenes."""

import json
import sys

import numpy as np
import pytest
import torch
from text2cinemagraph.data.files import sha256
from text2cinemagraph.mini import measure as mini
from text2cinemagraph.mini.drawings import energy_above, prompt_of
from text2cinemagraph.mini.held_out import LOOKS, NATURAL, examples
from text2cinemagraph.mini.look import LookClassifier
from text2cinemagraph.mini.scene import KINDS
from text2cinemagraph.models.push_pull import fill_holes, push_pull_frames
from text2cinemagraph.options.cli import load_options
from text2cinemagraph.options.inference import InferenceOptions


def test_examples_are_held_out_and_repeat():
    first, again = examples(5, 3, video=False)[0], examples(1, 3)[0]
    assert torch.equal(first.image, again.image) and first.kind == KINDS[0]
    assert not torch.equal(first.image, examples(1, 4)[0].image)
    assert torch.equal(first.flow.any(0) & ~first.mask[0], torch.zeros_like(first.mask[0]))
    with pytest.raises(ValueError, match="trained on"):
        examples(1, 0)


def test_the_classifier_tells_looks_apart():
    made = examples(15, 5, split="train", styles=2)
    pictures, looks = zip(*((p, look) for e in made for look, p in ((NATURAL, e.image), *e.painted.items())))
    others, wanted = zip(
        *((p, look) for e in examples(6, 6, styles=2) for look, p in ((NATURAL, e.image), *e.painted.items()))
    )
    right = np.mean([a == b for a, b in zip(LookClassifier(pictures, looks)(others), wanted)])
    assert set(looks) == set(LOOKS) and right > 0.6  # chance: 0.33


def test_energy_of_detail():
    x = torch.arange(64.0)
    fine, coarse = (torch.sin(2 * torch.pi * x / period).expand(3, 64, 64) for period in (3.2, 16))
    assert energy_above(fine, 1 / 4) == pytest.approx(energy_above(fine, 1 / 8), rel=1e-4)
    assert energy_above(coarse, 1 / 8) < 1e-6 * energy_above(fine, 1 / 8)


def test_prompts_are_plain():
    assert prompt_of("sea", "starry") == "a sea in the style of starry nights painting"
    assert prompt_of("clouds", NATURAL).startswith("clouds, nature")


def test_push_pull_keeps_what_is_covered_and_fills_the_rest():
    mean = torch.full((3, 16, 16), 0.25)
    weight = torch.ones(1, 16, 16)
    mean[:, 4:12, 4:12], weight[:, 4:12, 4:12] = 0, 0
    filled = fill_holes(mean, weight)
    assert torch.allclose(filled, torch.full_like(filled, 0.25), atol=1e-3)


def test_push_pull_clips_move_loop_and_stay_still_outside():
    example = examples(1, 3)[0]
    frames = list(push_pull_frames(example.image, example.flow, example.mask, 8, share_of_back=lambda u: u))
    assert torch.allclose(frames[0][:, ~example.mask[0]], example.image[:, ~example.mask[0]])
    still = torch.stack(frames)[:, :, ~example.mask[0]]
    assert torch.equal(still, still[:1].expand_as(still))
    assert (frames[3] - frames[0]).abs().max() > 0.05
    inner = torch.nn.functional.max_pool2d(-example.mask[None].float(), 5, 1, 2)[0] == -1
    assert (frames[0] - example.image)[:, inner[0]].abs().mean() < 1e-3  # at rest, splatting gives the picture back


def test_the_command_prints_json_last(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["mini", "--n", "5", "--seed", "9", "--parts", "directions", "--output", str(tmp_path / "m.json")]
    )
    mini.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == json.loads((tmp_path / "m.json").read_text()) and told["seed"] == 9 and told["n"] == 5
    assert (
        len(told["directions"]) == 14 and told["directions"]["worst_phrase"] < 15 < told["directions"]["without_hint"]
    )


def test_figures_go_into_the_cards_of_the_networks_they_judge(tmp_path):
    options = load_options(
        InferenceOptions, "configs/inference_mini.yaml", [f"optical_flow.checkpoints_dir={tmp_path}"]
    )
    told, hinted = (tmp_path / name / "latest_net_G.json" for name in ("mini/motion", "mini/motion-direction"))
    for path in (told, hinted):
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps({"options": {"nf": 8}, "evaluation": {"command": "before", "directions": {"worst_phrase": 9}}})
        )
    mini.write_cards({"seed": 1, "n": 5, "flow": {"river": {"text": 0.3}}}, options)
    assert json.loads(told.read_text()) == {
        "options": {"nf": 8},
        "evaluation": {
            "command": "python -m mini.measure --seed 1 --n 5",
            "directions": {"worst_phrase": 9},
            "flow": {"river": {"text": 0.3}},
        },
    }
    assert json.loads(hinted.read_text())["evaluation"]["flow"] == {"river": {"text": 0.3}}


def test_every_card_tells_all():
    """What the mini family's cards must say of themselves (issue 9), of the weights that lie beside them."""
    for part, cards in mini.cards_of(load_options(InferenceOptions, "configs/inference_mini.yaml", [])).items():
        for path in cards:
            card = json.loads(path.read_text())
            trained = (
                [card["autoencoder"], card["decoder"], card["unet"]] if part in ("autoencoder", "samples") else [card]
            )
            assert (
                card["options"] and card["sha256"] and card["dataset"]["first_seeds"] and part in card["evaluation"]
            ), path
            digests = card["sha256"]
            if isinstance(digests, str):
                digests = {f"{path.stem}.safetensors": digests}
            for name, digest in digests.items():
                assert sha256(path.parent / name) == digest, f"{path} was written for another {name}"
            for note in trained:
                assert note["command"].startswith("python ") and note["hardware"], path
                assert {"steps", "minutes"} <= set(note.get("trained", note)), path
