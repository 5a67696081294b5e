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

# ARM64 on this machine, under QEMU: numbers, audit, target kit and serving image. RUN is a run's folder, else the demo.
.PHONY: arm64

arm64: install
	$(BIN)/python -m benchmarks.bars.arm64 $(RUN)
	docker/arm64.sh

# The project's accuracy, speed and parity requirements, measured; needs the data folder.
bars: install
	$(BIN)/python -m benchmarks.bars

# Container images. docker/README.md has the settings, which docker/build.sh reads from the environment, where make
# puts what its command line has: make images BASE=... CA=...
.PHONY: images image image-check image-requirements

images:
	docker/build.sh cpu
	docker/build.sh builder
	test -z "$(TENSORRT_BASE)" || BASE="$(TENSORRT_BASE)" docker/build.sh tensorrt

# An image with a bundle inside: make image BUNDLE=runs/digits/bundles/int8-ort-x86.zip NAME=digits:1
image:
	docker/build.sh bundle

# Build the CPU image and hold it to its bars; without BASE, on a base that is made by debootstrap, as root.
image-check: install
	docker/check.sh

image-requirements: install
	$(BIN)/python docker/pins.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
