# Everything runs in .venv, which is made from requirements.lock. PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test lint bars clean

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The whole line on a small vision transformer, without any download.
demo: install
	$(BIN)/octavo run examples/digits.yaml --out runs/digits

# A file of tests stays in one process: its tests share what they build.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The project's accuracy, speed and parity requirements, measured; needs the data folder.
bars: install
	$(BIN)/python -m benchmarks.bars

# ARM64 on this machine, under QEMU: numbers, audit, target kit and serving image. RUN is a run's folder, else the demo.
.PHONY: arm64

arm64: install
	$(BIN)/python -m benchmarks.bars.arm64 $(RUN)
	docker/arm64.sh

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
