"""Options: defaults < YAML < command line, and mistakes named."""

from pathlib import Path

import pytest
import yaml
from text2cinemagraph.options.cli import load_options
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import make_runtime

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(ROOT.joinpath("configs").glob("inference*.yaml"))

# The keys of the original's two configuration files (facts: names and values), so that a user's old file loads
# unchanged.
ORIGINAL = """
twin_extraction: {experiment_name: "example", init_img: "", prompt: "a large waterfall", scale: 5.0, ddim_steps: 50,
  seed: 23, ddim_eta: 0.0, save_all_features: True, H: 512, W: 512, C: 4, f: 8, model_config: x.yaml, ckpt: sd.ckpt,
  precision: autocast, exp_path_root: outputs, save_feature_timesteps: 50}
twin_generation: {prompt: "waterfall, nature", scale: 7.5, num_ddim_sampling_steps: 50, feature_injection_threshold: 40,
  negative_prompt: , negative_prompt_alpha: 0.75, negative_prompt_schedule: "linear"}
odise: {config_file: a.py, init_from: b, input: , output: , vocab: "water, sea", labels: []}
attn_mask: {input_blocks: [4,5], output_blocks: [6,7,8], res: 32, n_clusters: 10, threshold: 0.7, erosion_ksize: 5,
  erosion_iter: 2, cluster_type: kmeans}
optical_flow: {tokenizer_path: t, use_prompts: False, no_instance: True, label_nc: 0, input_nc: 6, output_nc: 2,
  fineSize: 512, batchSize: 1, netG: spadeunet, model_name: "motion-direction-pretrained",
  norm: "sync:spectral_instance"}
video: {no_instance: True, label_nc: 0, input_nc: 8, output_nc: 3, fineSize: 512, batchSize: 1,
  netG: spadeunet4softmaxsplating, model_name: "video-pretrained", n_frames: 120, speed: 0.3}
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_config_loads(path):
    """What the file says is what the pipeline gets, and the small family's networks are where it says."""
    options, written = load_options(InferenceOptions, path), yaml.safe_load(path.read_text())
    assert options.twin_extraction.prompt
    for section, values in written.items():
        kept = {name: getattr(getattr(options, section), name) for name in values}
        assert kept == values, section
    if "mini" in path.stem:
        networks = [options.twin_extraction.ckpt, options.odise.checkpoint]
        networks += [f"{part.checkpoints_dir}/{part.model_name}" for part in (options.optical_flow, options.video)]
        assert all(any((ROOT / folder).rglob("*.safetensors")) for folder in networks), networks


def test_the_originals_file_loads(tmp_path):
    (tmp_path / "old.yaml").write_text(ORIGINAL)
    options = load_options(InferenceOptions, tmp_path / "old.yaml")
    assert options.attn_mask.input_blocks == [4, 5] and options.attn_mask.erosion_iter == 2
    assert options.twin_generation.negative_prompt is None
    assert options.optical_flow.netG == "spadeunet" and options.video.n_frames == 120


def test_order_of_precedence(tmp_path):
    (tmp_path / "a.yaml").write_text("video: {speed: 2.0, n_frames: 90}")
    options = load_options(InferenceOptions, tmp_path / "a.yaml", ["video.speed=0.25"])
    assert (options.video.speed, options.video.n_frames, options.video.fps) == (0.25, 90, 30)


def test_free_text_survives_the_command_line():
    for prompt in ("a river, left to right: calm", "yes", "null river", "123 waterfalls", "[", "a=b", ""):
        options = load_options(InferenceOptions, None, [f"twin_extraction.prompt={prompt}"])
        assert options.twin_extraction.prompt == prompt


@pytest.mark.parametrize(
    "override, words",
    [
        ("attn_mask.treshold=0.5", ("attn_mask.treshold", "attn_mask.threshold")),
        ("attn_maks.threshold=0.5", ("attn_maks", "attn_mask")),
        ("attn_mask.threshold=high", ("attn_mask.threshold", "high")),
        ("attn_mask.threshold=7", ("attn_mask.threshold", "at most 1")),
        ("attn_mask=7", ("attn_mask", "section")),
        ("attn_mask.cluster_type=dbscan", ("dbscan", "spectral", "kmeans")),
        ("video.n_frames=1.5", ("video.n_frames",)),
        ("video.n_frames=1", ("video.n_frames", "2 to 100000")),
        ("video.speed=0", ("video.speed",)),
        ("video.formats=mp4", ("expected a list, such as [mp4]",)),
        ("video.formats=mp4,gif", ("expected a list, such as [mp4, gif]",)),
        ("video.formats=avi", ("expected a list, such as [mp4, webm]",)),
        ("attn_mask.input_blocks=4", ("expected a list, such as [4]",)),
        ("attn_mask.layers=a.b", ("expected a list, such as [a.b]",)),
        ("video.alpha=true", ("mp4 and gif carry no alpha", "[mp4]", "webm")),
        ("nonsense", ("nonsense", "section.key=value")),
    ],
)
def test_mistakes_are_named(override, words):
    with pytest.raises(ValueError) as error:
        load_options(InferenceOptions, None, [override])
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        load_options(InferenceOptions, tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    with pytest.raises(ValueError, match="bad.yaml"):
        load_options(InferenceOptions, tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="list.yaml"):
        load_options(InferenceOptions, tmp_path / "list.yaml")
    (tmp_path / "typo.yaml").write_text("video: {sped: 1}")
    with pytest.raises(ValueError, match="video.sped.*video.speed"):
        load_options(InferenceOptions, tmp_path / "typo.yaml")


def test_runtime():
    assert make_runtime("cpu").dtype.is_floating_point
    with pytest.raises(ValueError, match="runtime.dtype"):
        make_runtime("cpu", "fp8")
    with pytest.raises(ValueError, match="runtime.device"):
        make_runtime("toaster")
