# make cinemagraph   a looping video from a sentence, with the mini weights in this repository
# make test          the test suite
# make checkpoints   fetches what the full tier needs (6 GB); interrupted, it goes on where it stopped
# All make .venv on the first run and reuse it afterwards.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
CONFIG ?= configs/inference_mini.yaml

.PHONY: cinemagraph test checkpoints lint clean

cinemagraph: $(VENV)/.installed
	$(RUN) inference_t2c.py --config $(CONFIG)

test: $(VENV)/.installed
	$(RUN) -m pytest tests

checkpoints: $(VENV)/.installed
	$(RUN) -m data.fetch all

lint: $(VENV)/.installed
	$(RUN) -m ruff check .

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: Python 3.10 or newer is needed, $$($(PYTHON) --version) found; set PYTHON=python3.11 or similar"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) outputs results
