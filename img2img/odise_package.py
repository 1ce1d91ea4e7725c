"""s3 by an installed copy of the authors' ODISE package, with the settings of text2cinemagraph's demo.

Optional: requirements-odise.txt says what to install; our own implementation (img2img/odise.py) needs none of it. The
package cannot be installed where this project is tested (torch 1.13, CUDA), so only what is ours in here is tested:
masks_of and the refusal.
"""

import itertools
from typing import Any

import numpy as np
import torch
from text2cinemagraph.img2img.segment import Found
from text2cinemagraph.options.runtime import Runtime

INSTALL = "the odise-package backend needs ODISE and detectron2: see requirements-odise.txt, or use odise.backend=odise"
CONFIG = "Panoptic/odise_label_coco_50e.py"
ALPHA, BETA, OVERLAP, SEED = 0.35, 0.65, 0, 42  # of the authors' gen_mask


def load_odise_package(checkpoint: str, runtime: Runtime) -> tuple[Any, Any, Any]:
    """(the model with its frozen backbone, open_panoptic_inference, its augmentation); the checkpoint is the package's
    own affair.  ImportError with the install line.
    """
    try:
        from detectron2.config import instantiate
        from detectron2.data import transforms
        from odise import model_zoo
        from odise.checkpoint import ODISECheckpointer
        from odise.config import instantiate_odise
        from odise.modeling.wrapper import OpenPanopticInference
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from error
    config = model_zoo.get_config(CONFIG, trained=True)
    config.model.overlap_threshold = OVERLAP
    config.model.clip_head.alpha, config.model.clip_head.beta = ALPHA, BETA
    config.train.device = str(runtime.device)
    model = instantiate_odise(config.model).to(runtime.device)
    ODISECheckpointer(model).load(config.train.init_checkpoint)
    augment = instantiate(config.dataloader.test.mapper).augmentations
    return model.eval(), OpenPanopticInference, transforms.AugmentationList(list(augment))


def odise_package(image: torch.Tensor, classes: list[list[str]], loaded: tuple[Any, Any, Any]) -> Found:
    """Backend signature of img2img/segmenters.py.  loaded: of load_odise_package."""
    model, inference, augment = loaded
    from detectron2.data import MetadataCatalog, transforms

    torch.manual_seed(SEED)
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    given = transforms.AugInput(np.ascontiguousarray(pixels), sem_seg=None)
    augment(given)
    metadata = MetadataCatalog.get(f"t2c_{'_'.join(itertools.chain(*classes))}")
    metadata.thing_classes, metadata.stuff_classes = [words[0] for words in classes], [words[0] for words in classes]
    metadata.thing_dataset_id_to_contiguous_id = {i: i for i in range(len(classes))}
    metadata.stuff_dataset_id_to_contiguous_id = metadata.thing_dataset_id_to_contiguous_id
    run = inference(
        model=model, labels=classes, metadata=metadata, semantic_on=False, instance_on=False, panoptic_on=True
    )
    given = {
        "image": torch.as_tensor(given.image.astype("float32").transpose(2, 0, 1)),
        "height": image.shape[1],
        "width": image.shape[2],
    }
    segments, found = run([given])[0]["panoptic_seg"]
    return masks_of(segments.cpu(), found, classes)


def masks_of(segments: torch.Tensor, found: list[dict[str, int]], classes: list[list[str]]) -> Found:
    """A panoptic map [H,W] and its list of {id, category_id} -> ({class: bool [1,H,W]}, {class: 1.0 or 0.0}, [])."""
    masks = {words[0]: torch.zeros(1, *segments.shape, dtype=torch.bool) for words in classes}
    for segment in found:
        masks[classes[segment["category_id"]][0]] |= (segments == segment["id"])[None]
    return masks, {name: float(mask.any()) for name, mask in masks.items()}, []
