"""The caption encoder learns to tell directions, and its tokens say so on average."""

import json
import math

import pytest
import torch
from text2cinemagraph.mini.caption_encoder import read_examples, teach


class Words:
    """A tokenizer of whole words, with the attributes that are used of transformers'."""

    model_max_length, eos_token_id = 8, 1

    def __call__(self, captions, **_):
        words = {word: 2 + i for i, word in enumerate(("lake", "river", "left", "to", "right", "in"))}
        rows = [([0] + [words[word] for word in caption.split()] + [1] * 8)[:8] for caption in captions]
        return type("Tokens", (), {"input_ids": torch.tensor(rows)})


def test_examples_are_read_with_unit_directions(tmp_path):
    path = tmp_path / "metadata.jsonl"
    entry = {"id": "0", "kind": "lake", "mean_flow": [3.0, -4.0], "captions": {"natural": "a", "oil": "b"}}
    path.write_text(json.dumps(entry) + "\n")
    (first, direction, kind), (second, _, _) = read_examples(path)
    assert (first, second, kind) == ("a", "b", "lake") and direction.tolist() == pytest.approx([0.6, -0.8])


def test_word_order_becomes_direction():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=8,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    right, left = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    examples = [
        (f"{kind} in {words}", direction, kind)
        for kind in ("lake", "river")
        for words, direction in (("left to right", right), ("right to left", left))
    ]
    curve = teach(encoder, Words(), examples, steps=150, batch_size=8, lr=3e-3)
    assert sum(curve[-10:]) / 10 < 0.2 * curve[0] and math.isfinite(curve[-1])
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
