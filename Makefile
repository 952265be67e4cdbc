# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the real parts need. Each is optional: what is missing is skipped, out loud.
SYSTEM_PACKAGES := tshark mosquitto chromium qemu-system-arm qemu-utils device-tree-compiler mtd-utils kmod \
  gcc-arm-linux-gnueabihf libc6-dev-armhf-cross make xz-utils

.PHONY: help demo test soak bench lint system venv wheel clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(BIN)/twin: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("openami-twin needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	@echo "setting up $(VENV): about a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip
	@$(BIN)/python -m pip install -qq --editable '.[lint]' 'tox>=4.20'
	@touch $@

venv: $(BIN)/twin  ## make .venv with everything installed

demo: venv  ## run the village on embedded defaults and print the verdicts
	@$(BIN)/twin run village --seed 7 --out runs/demo

test: venv  ## everything this machine can run: style, types, layers, tests
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory system; \
	 else echo "not root: system packages are not installed; run 'sudo make system' to have every test"; fi
	@$(BIN)/tox run -q

soak: venv  ## repetitions and full tables
	$(BIN)/tox run -e soak

bench: venv  ## measure speed; nothing passes or fails
	$(BIN)/python -m benchmarks

lint: venv  ## style, types and layers only
	$(BIN)/tox run -e lint

system:  ## install system packages (apt; root)
	@# The concentrator's image is made of Debian's armhf packages.
	@dpkg --print-foreign-architectures | grep -qx armhf || { dpkg --add-architecture armhf && apt-get update -qq; } \
	  || echo "no armhf packages: the concentrator's image cannot be built here"
	@missing=""; for p in $(SYSTEM_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

wheel: venv  ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what was built
	rm -rf $(VENV) .tox dist build runs .mypy_cache .ruff_cache .pytest_cache
