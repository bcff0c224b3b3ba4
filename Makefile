# The two commands: `make demo` and `make test`. Each makes the virtual environment it needs, if there is none.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
INSTALLED := $(VENV)/.installed

.PHONY: demo demo-long demo-language-models test test-fast lint format bench real backbones clean

demo: $(INSTALLED)
	$(BIN)/python -m epalm.toyworld.demo

demo-long: $(INSTALLED)
	$(BIN)/python -m epalm.toyworld.demo --long

# Pictures, clips and sounds with either of the toy world's language models; benchmarks/readme.py makes one table of both.
demo-language-models: $(INSTALLED)
	for name in lm lm_text; do $(BIN)/python -m epalm.toyworld.demo --only image --only video --only audio \
		--default-window --language-model toyworld/$$name --output runs/demo-$$name || exit; done

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/perception.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/summary.py

# Trains on really pretrained backbones, from files to scores; docs/real.md tells of the variables. Stopped, it goes on
# where it was.
DATA ?= ../shared/data
real: $(INSTALLED)
	$(if $(BACKBONES),,$(error BACKBONES: where the pretrained backbones lie is not said; make real BACKBONES=DIR, see docs/real.md))
	@$(BIN)/python -m benchmarks.real --backbones '$(BACKBONES)' --data '$(DATA)' --only '$(ONLY)' \
		$(if $(FEATURES),--features '$(FEATURES)') $(if $(FEATURE_TOOL),--feature-tool '$(FEATURE_TOOL)') $(if $(QUICK),--quick) $(if $(CHOICES),--choices)

# Pretrains the toy world's backbones anew, each on its own kind of data alone; stopped, it goes on where it was.
backbones: $(INSTALLED)
	$(BIN)/python -m epalm.toyworld.pretrain_vit
	$(BIN)/python -m epalm.toyworld.pretrain_lm
	$(BIN)/python -m epalm.toyworld.pretrain_lm_text
	$(BIN)/python -m epalm.toyworld.pretrain_timesformer
	$(BIN)/python -m epalm.toyworld.pretrain_ast

# Without a GPU the CPU build of torch is taken where pip can find it; the plain build is several times larger.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	command -v nvidia-smi >/dev/null || $(BIN)/python -m pip install --quiet "torch==$(TORCH)+cpu" \
		|| echo "no CPU build of torch $(TORCH) at hand; taking the plain one"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,report]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist runs *.egg-info .pytest_cache .mypy_cache .ruff_cache
