# make cinemagraph   a looping video from a sentence, with the mini weights in this repository
# make test          the test suite, in JOBS processes (3: some of the tests wait);   make test-slow: with the tests that take minutes each (T2C_SLOW=1)
# make test-cpus     the tests whose numbers another CPU may round otherwise, as on other CPUs and with other thread counts
# make checkpoints   fetches what the full tier needs (6 GB); interrupted, it goes on where it stopped
# make train-mini-check   every training command of the README, small, against its baselines; 15 minutes
# make gpu-check   what only a graphics card can show: kernels, speed, training; at most 8 minutes on one
# make studio       draw what moves, see it move: a page in the browser, on this machine alone
# make lint, make types   ruff over everything; mypy over the rooms named in pyproject.toml
# make readme-assets   every picture and number of the README, with the weights in this repository
# make mini          renders the landscapes and trains the small family anew, in checkpoints/own, in seven hours on two cores; interrupted, it goes on
# All make .venv on the first run and reuse it afterwards.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
CONFIG ?= configs/inference_mini.yaml

.PHONY: cinemagraph studio gpu-check train-mini-check readme-assets mini test test-slow test-cpus checkpoints lint types clean

cinemagraph: $(VENV)/.installed
	$(RUN) inference_t2c.py --config $(CONFIG)

studio: $(VENV)/.installed
	$(RUN) -m demo.studio

# Each process computes in one thread; whole files go to one process, which makes their fixtures once.
JOBS   ?= 3
PYTEST := $(RUN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed
	$(PYTEST) tests

test-slow: $(VENV)/.installed
	T2C_SLOW=1 $(PYTEST) tests -rs --durations 0 --durations-min 20

# What makes torch, oneDNN, MKL and numba compute as on older CPUs, and with one thread or two: sums come in another order.
CPUS    ?= ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
           NUMBA_CPU_NAME=generic OMP_NUM_THREADS=1 OMP_NUM_THREADS=2
NUMBERS := $(wildcard tests/test_models_*.py) tests/test_img2img_golden.py \
           $(wildcard tests/test_img2img_rooms.py tests/test_odise_*.py tests/test_splat*.py tests/test_data_flow.py tests/test_data_hint.py \
           tests/test_data_published.py tests/test_evaluate_fvd.py tests/test_evaluate_errors.py)

test-cpus: $(VENV)/.installed
	@set -e; for setting in $(CPUS); do echo "== $$setting"; env $$setting $(PYTEST) $(NUMBERS); done

checkpoints: $(VENV)/.installed
	$(RUN) -m data.fetch all

gpu-check: $(VENV)/.installed
	$(RUN) -m pip install --quiet -r requirements-gpu.txt
	$(RUN) -m benchmarks.gpu_check

train-mini-check: $(VENV)/.installed
	$(RUN) -m benchmarks.train_check

readme-assets: $(VENV)/.installed
	$(RUN) -m demo.readme_assets
	$(RUN) -m demo.tutorial_assets
	$(RUN) -m demo.options_page

# Where `make mini` works. What is finished is passed over, so the same command goes on after an interruption.
SCENES := dataset/procedural_data
OWN    := own
IMAGES := --data $(SCENES)/train --output checkpoints/$(OWN) --threads 2 --resume
go_on   = $$(test -f checkpoints/$(OWN)/$(1)/train_state.pt && echo --continue_train)
THREADS := --threads 2

mini: $(VENV)/.installed
	$(RUN) -m mini.procedural --output $(SCENES)/train --count 3000 --seed 0 --workers 2
	$(RUN) -m mini.procedural --output $(SCENES)/train_video --count 160 --seed 1 --workers 2 --video
	$(RUN) -m mini.procedural --output $(SCENES)/validation --count 100 --seed 0 --split validation --workers 2
	$(RUN) -m mini.train autoencoder $(IMAGES) --minutes 40
	$(RUN) -m mini.train unet $(IMAGES) --minutes 180
	$(RUN) -m mini.train decoder $(IMAGES) --minutes 20
	$(RUN) -m mini.train segmenter $(IMAGES) --minutes 70
	test -d checkpoints/$(OWN)/motion/text_encoder || $(RUN) -m mini.caption_encoder --source checkpoints/$(OWN)/diffusion \
	  --metadata $(SCENES)/train_metadata.jsonl --output checkpoints/$(OWN)/motion
	$(RUN) train_motion.py --config configs/train_motion_mini.yaml --name $(OWN)/motion --text_encoder_path checkpoints/$(OWN)/motion \
	  $(THREADS) --minutes 35 $(call go_on,motion)
	$(RUN) train_motion.py --config configs/train_motion_direction_mini.yaml --name $(OWN)/motion-direction $(THREADS) --minutes 40 \
	  $(call go_on,motion-direction)
	$(RUN) train_video.py --config configs/train_video_mini.yaml --name $(OWN)/video $(THREADS) --minutes 45 $(call go_on,video)

lint: $(VENV)/.installed
	$(RUN) -m ruff check .

# mypy looks for the package by its name, beside which it must lie.
types: $(VENV)/.installed
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/text2cinemagraph
	MYPYPATH=$(VENV)/types $(RUN) -m mypy

$(VENV)/.installed: requirements.txt requirements-core.txt requirements-studio.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: Python 3.10 or newer is needed, $$($(PYTHON) --version) found; set PYTHON=python3.11 or similar"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) outputs results
