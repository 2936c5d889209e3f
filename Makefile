# make demo       set up .venv, then time a grouped Wide ResNet against PyTorch, ONNX Runtime and IREE's defaults
# make test       ruff, mypy, lit and pytest; installs qemu and lavapipe by apt if it can, for the AArch64 and the
#                 Vulkan tests
# make test-zoo   the tests that compile whole networks
# make bench      all networks against every peer, hours: tables and plots in build/bench; goes on where it was stopped
#                 (MODELS="zoo:resnet18 ..." and PEERS=onnxruntime,... choose, FRESH=1 measures again)
# make fuzz       the property tests with many more examples
# make setup      .venv with dlas and its tools, skipped when it is newer than pyproject.toml
# make clean      remove builds and caches (the environment and build/bench stay)

VENV := .venv
STAMP := $(VENV)/.dlas-installed

.PHONY: demo test test-zoo bench fuzz setup clean

demo: setup
	$(VENV)/bin/dlas bench zoo:wrn-40-2,groups=4 --peers torch,onnxruntime,iree --plot demo.png --json demo.json

test: setup
	scripts/check.sh

test-zoo: setup
	$(VENV)/bin/pytest -m zoo

bench: setup
	$(VENV)/bin/python -P -m dlas.benchmarks.networks --out build/bench \
	  $(if $(MODELS),--models $(MODELS)) $(if $(PEERS),--peers $(PEERS)) $(if $(FRESH),--fresh)

fuzz: setup
	$(VENV)/bin/pytest tests/fuzz --hypothesis-profile=fuzz

setup: $(STAMP)

# Python files are not among these: the install is editable.
$(STAMP): pyproject.toml CMakeLists.txt runtime/native/probe.c scripts/setup.sh
	scripts/setup.sh $(VENV)
	touch $@

clean:
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name bench -exec rm -rf {} +
	rm -rf dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo.json demo.png
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
