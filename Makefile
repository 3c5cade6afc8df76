# make test   build .venv on the first call (about 2 minutes, 5 GB), then run the tests
# make env    build .venv and no more
# make demo   the same, then run the quick start
# make lint   the same, then ruff
# make docs   the same, then build the site into site/; docs-serve shows it while you write
# make docs-test    run every command of the documentation, the slow ones too
# make wheel-check  build sdist and wheel, install the wheel into a new environment and predict with it
# make clean  remove .venv and what builds and tests left behind
#
# PYTHON=python3.12              the interpreter to build .venv from
# TORCH="torch==... ..."         another PyTorch than the pinned one; pip options may follow (INSTALL.md)

PYTHON ?= python3
TORCH ?=
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.complete

export NO_MKDOCS_2_WARNING := 1

.PHONY: env demo test lint docs docs-serve docs-test wheel-check clean

env: $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/python demo/quickstart.py

# One process for each core, each with one thread: small models gain nothing from more.  tests/conftest.py has the order.
# glibc keeps freed memory for the next tensors, because the kernel takes long to hand out memory of large ones each time.
# A process stays as large as its largest test makes it, 4 GB.
test: export OMP_NUM_THREADS := 1
test: export MALLOC_MMAP_THRESHOLD_ := 1000000000
test: export MALLOC_TRIM_THRESHOLD_ := 1000000000
test: $(STAMP)
	$(VENV)/bin/python -m pytest tests -n auto --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(VENV)/bin/python -m ruff check .

docs: $(STAMP)
	$(VENV)/bin/python -m mkdocs build --strict

docs-serve: $(STAMP)
	$(VENV)/bin/python -m mkdocs serve

# A page has several commands, each of which may take 15 minutes on a busy machine (tests/docs/running.py).
docs-test: $(STAMP)
	DOCS_SLOW=1 $(VENV)/bin/python -m pytest tests/docs --timeout 3600
	$(VENV)/bin/python -m pytest --nbmake docs/tutorial.ipynb

wheel-check: $(STAMP)
	$(VENV)/bin/python tools/check_wheel.py

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted build is taken up again by the next call.
$(STAMP): requirements.txt pyproject.toml setup.py tools/install_detectron2.py tools/detectron2_edits.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or later is needed, found: $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
ifneq ($(strip $(TORCH)),)
	$(PIP) install --quiet $(TORCH)
	grep -vE '^torch(vision)?==' requirements.txt > $(VENV)/requirements.txt
	$(PIP) install --quiet -r $(VENV)/requirements.txt
else
	$(PIP) install --quiet -r requirements.txt
endif
# Without its dependencies, which are there but for opencv-python, which would replace opencv-python-headless.
	$(PIP) install --quiet --no-deps trackers==2.6.1
	$(VENV)/bin/python tools/install_detectron2.py
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@
