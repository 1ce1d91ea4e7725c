"""Networks of diffusers under the names of LDM and OpenCLIP, as single files of Stable Diffusion have them."""

import re

import torch

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
RESNET |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
ENDS |= {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
ENDS |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}


def ldm_unet(unet, prefix="model.diffusion_model."):
    """{LDM's name: tensor} of a UNet2DConditionModel with two ResNets a level."""
    found = {}
    for name, tensor in unet.state_dict().items():
        part, rest = name.split(".", 1)
        if part == "down_blocks":
            i, kind, j, rest = rest.split(".", 3)
            place = f"input_blocks.{3 * int(i) + int(j) + 1}.{kind == 'attentions':d}"
            place = f"input_blocks.{3 * int(i) + 3}.0.op" if kind == "downsamplers" else place
        elif part == "up_blocks":
            i, kind, j, rest = rest.split(".", 3)
            place = f"output_blocks.{3 * int(i) + int(j)}.{kind == 'attentions':d}"
            if kind == "upsamplers":
                attends = hasattr(unet.up_blocks[int(i)], "attentions")
                place = f"output_blocks.{3 * int(i) + 2}.{1 + attends}.conv"
        elif part == "mid_block":
            kind, j, rest = rest.split(".", 2)
            place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(j)}"
        else:
            stem, kind = name.rsplit(".", 1)
            found[f"{prefix}{ENDS[stem]}.{kind}"] = tensor
            continue
        rest = rest.removeprefix("conv.") if ".op" in place or place.endswith(".conv") else rest
        words = rest.split(".")
        rest = ".".join([RESNET.get(words[0], words[0]), *words[1:]]) if "attentions" not in name else rest
        found[f"{prefix}{place}.{rest}"] = tensor
    return found


def ldm_vae(vae, prefix="first_stage_model."):
    """{LDM's name: tensor} of an AutoencoderKL."""
    found, levels = {}, len(vae.config.block_out_channels)
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for name, tensor in vae.state_dict().items():
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        new = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.conv", r"down.\1.downsample.conv", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", new)
        new = re.sub(
            r"up_blocks\.(\d)\.upsamplers\.0\.conv", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.conv", new
        )
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in new:
            for ours, theirs in attention.items():
                new = new.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor  # 1x1 convolutions
        found[prefix + new] = tensor
    return found


def open_clip(encoder, prefix, further_layers=0):
    """{OpenCLIP's name: tensor} of a text encoder.  further_layers: of random weights, after its last one."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    width, layers = encoder.config.hidden_size, encoder.config.num_hidden_layers
    found["text_projection"] = (
        state["text_projection.weight"].T if "text_projection.weight" in state else torch.eye(width)
    )
    renamed = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    renamed |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for i in range(layers):
        own = {name.removeprefix(f"encoder.layers.{i}."): t for name, t in state.items() if f"layers.{i}." in name}
        for kind in ("weight", "bias"):
            joined = torch.cat([own[f"self_attn.{part}_proj.{kind}"] for part in "qkv"])
            found[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = joined
            for ours, theirs in renamed.items():
                found[f"transformer.resblocks.{i}.{theirs}.{kind}"] = own[f"{ours}.{kind}"]
    for i in range(layers, layers + further_layers):
        last = {name: t for name, t in found.items() if name.startswith(f"transformer.resblocks.{layers - 1}.")}
        found |= {name.replace(f".{layers - 1}.", f".{i}.", 1): torch.randn_like(t) for name, t in last.items()}
    return {prefix + name: tensor for name, tensor in found.items()}


def single_file(pipeline, family):
    """{published name: tensor} of a pipeline of "sd2" or "sdxl"."""
    state = {**ldm_unet(pipeline.unet), **ldm_vae(pipeline.vae)}
    if family == "sd2":
        state |= open_clip(pipeline.text_encoder, "cond_stage_model.model.", further_layers=1)
    else:
        first = {
            f"text_model.{n.removeprefix('text_model.')}": t for n, t in pipeline.text_encoder.state_dict().items()
        }
        state |= {f"conditioner.embedders.0.transformer.{name}": tensor for name, tensor in first.items()}
        state |= open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}
