# Every target makes the environment first. Paths are relative, so that a folder with a space works.
PYTHON ?= python3
ENV := .venv/bin/python

.PHONY: bench benchmark test test-slow lint docs clean

bench: .venv/installed
	$(ENV) -m genrobust bench --model jointvae

# What genrobust takes beside the passes of the model, beside other libraries, and as a run grows.
benchmark: .venv/installed
	OMP_NUM_THREADS=1 $(ENV) benchmarks/overhead.py
	OMP_NUM_THREADS=1 $(ENV) benchmarks/speed.py
	OMP_NUM_THREADS=1 $(ENV) benchmarks/costs.py
	OMP_NUM_THREADS=1 $(ENV) benchmarks/executors.py

# A file's tests stay in one process; torch gets one thread in each.
SIDE_BY_SIDE := -n auto --dist loadfile

test: .venv/installed
	OMP_NUM_THREADS=1 $(ENV) -m pytest $(SIDE_BY_SIDE)

test-slow: .venv/installed
	OMP_NUM_THREADS=1 $(ENV) -m pytest $(SIDE_BY_SIDE) -m slow

lint: .venv/installed
	$(ENV) -m ruff check .
	$(ENV) -m ruff format --check .
	$(ENV) -m mypy

# The pages, in build/docs; nothing in them is loaded from elsewhere.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(ENV) -m mkdocs build --quiet

# torch first and alone: the constraint then keeps every later package from fetching another build.
.venv/installed: pyproject.toml constraints.txt
	test -x $(ENV) || $(PYTHON) -m venv .venv
	$(ENV) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(ENV) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv/installed

clean:
	rm -rf .venv build genrobust.egg-info
