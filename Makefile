# What a developer runs. `make help` lists it; PYTHON names the environment's interpreter.
PYTHON ?= .venv/bin/python
TYPES := build/types

.PHONY: help setup test slow exhaustive lint format types docs pages gate

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup:  ## an environment with everything, and the hooks
	python3 -m venv .venv && .venv/bin/pip install --quiet -e ".[test,lint]"
	.venv/bin/pre-commit install

test:  ## the tests that people run
	$(PYTHON) -m pytest

slow:  ## the tests that take long
	$(PYTHON) -m pytest -m slow

exhaustive:  ## more of what those hold, before a release
	$(PYTHON) -m pytest -m exhaustive

lint:  ## what the linters say
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:  ## formats, and mends what can be mended
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# An installed package has grammar/, passes/ and recipes/ inside; mypy is shown one made of links.
types:  ## types, in place
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/sapool
	@for file in sapool/* grammar passes recipes; do ln -s "$(CURDIR)/$$file" $(TYPES)/sapool/; done
	@ln -s "$(CURDIR)/sapoolc.py" $(TYPES)/
	cd $(TYPES) && $(abspath $(PYTHON)) -m mypy --config-file "$(CURDIR)/pyproject.toml" -p sapool
	cd $(TYPES) && $(abspath $(PYTHON)) -m mypy --config-file "$(CURDIR)/pyproject.toml" sapoolc.py

docs:  ## the site, in build/site (needs the extra `docs`)
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs build/site

pages:  ## docs/poolings.md and its picture, made of the catalogue
	$(PYTHON) docs/poolings.py

gate:  ## everything that has to hold before a change lands
	.ci/run
