"""What the original's configuration files and commands may say and what decides nothing here, with the reason: one
table.
Such a name is accepted, and the script tells that nothing follows from it. A name whose other values would have to
decide something is accepted with one value alone (`only`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Published flags that say what an option of another name says.
ALIASES = {"tokenizer_path": "text_encoder_path"}


@dataclass(frozen=True)
class Idle:
    """reason: why nothing follows from it.   only: the one value that is right; None: any."""

    reason: str
    only: Any = None


_OWN_SIZE = Idle("the video has the picture's own size")
_ONE_PICTURE = Idle("a run makes one picture")
_NO_INSTANCES = Idle("instance maps never come in here")
_NO_LABELS = Idle("label maps are not supported", only=0)
_CARD = Idle("the checkpoint's card says it")
_FILES = Idle("the checkpoint's folder brings its own configuration")
_NETWORKS = {"batchSize": _ONE_PICTURE, "no_instance": _NO_INSTANCES, "label_nc": Idle("no label maps come in here")}

# {section of the YAML: {key: Idle}}
SECTIONS = {
    "twin_extraction": {
        "precision": Idle("runtime.dtype says it"),
        "save_all_features": Idle("what s2 and s4 need is kept, nothing else"),
        "save_feature_timesteps": Idle("every step that s2 needs is kept"),
        "C": Idle("the autoencoder knows"),
        "f": Idle("the autoencoder knows"),
        "model_config": _FILES,
    },
    "odise": {
        "config_file": _FILES,
        "init_from": Idle("odise.checkpoint says it"),
        "input": Idle("s3 reads the twin"),
        "output": Idle("s3 writes into the experiment's folder"),
        "labels": Idle("odise.vocab says it"),
    },
    "attn_mask": {"res": Idle("the layers know their size")},
    "optical_flow": _NETWORKS,
    "video": _NETWORKS | {"fineSize": _OWN_SIZE, "norm_G": _CARD, "input_nc": _CARD, "output_nc": _CARD},
}

_NOTHING = Idle("nothing in this code depends on it")
_FORMER = dict.fromkeys(
    """model verbose phase stage loadSize resize_or_crop data_type use_dropout ngf n_downsample_global n_blocks_global
    n_local_enhancers n_blocks_local niter_fix_global instance_feat label_feat feat_num load_features n_downsample_E nef
    n_clusters degree_file load_qk prompt twin_prompt odise_vocab init_img sd_ckpt exp_name exp_path_root""".split(),
    _NOTHING,
) | {
    "bn_noise_misc": Idle("the norms' noise is always zero, as published"),
    "pconv": Idle("there is one kind of partial convolution"),
    "refine_model_type": Idle("decoder_channels and decoder_resample say it"),
    "pool_size": Idle("the discriminator sees the newest pictures"),
    "tf_log": Idle("TensorBoard is on, see --tensorboard"),
    "no_html": Idle("TensorBoard shows the pictures, there is no page of them"),
    "display_winsize": Idle("TensorBoard shows the pictures as large as they are"),
    "dataset_name": Idle("the script says what is read"),
    "no_instance": _NO_INSTANCES,
    "label_nc": _NO_LABELS,
}
_FRAMES_ONLY = Idle("the network of frames reads pictures and flow only")

# {script: {flag: Idle}}
SCRIPTS = {
    "train_motion": _FORMER
    | {
        "use_mask": Idle("the motion network always reads a mask", only=True),
        "norm_G": Idle("a training of flow has no such network"),
        "frames_basepath": Idle("a training of flow reads no frames"),
        "motion_basepath": Idle("a training of flow reads the true flow"),
        "tr_stage": Idle("a training of flow has one stage"),
        "speed": Idle("test_video.py moves clips"),
    },
    "train_video": _FORMER
    | dict.fromkeys(
        """norm use_prompts use_mask use_seg_mask mask_path captions_file use_hint hints_path text_encoder_path
        tokenizer_path""".split(),
        _FRAMES_ONLY,
    )
    | {
        "no_flip": Idle("frames are never mirrored"),
        "no_tanh": Idle("the frames' network always ends in tanh"),
    },
    "test_motion": {
        "dataset_name": Idle("the script says what is read"),
        "no_instance": _NO_INSTANCES,
        "label_nc": Idle("no label maps come in here"),
        "use_mask": Idle("there always is a mask"),
        "use_hint": Idle("the checkpoint knows"),
    },
    "test_video": {
        "dataset_name": Idle("the script says what is read"),
        "no_instance": _NO_INSTANCES,
        "label_nc": Idle("no label maps come in here"),
        "input_nc": _CARD,
        "output_nc": _CARD,
    },
}
