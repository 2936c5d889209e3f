# make demo       set up .venv, then time a grouped Wide ResNet against PyTorch, ONNX Runtime and IREE's defaults
# make test       ruff, mypy, lit and pytest; installs qemu by apt if it can, for the AArch64 tests
# make test-zoo   the tests that compile whole networks
# make bench      the networks of the zoo against every peer, as build/bench.json
# make fuzz       the property tests with many more examples
# make setup      .venv with dlas and its tools, skipped when it is newer than pyproject.toml
# make clean      remove builds and caches (the environment stays)

VENV := .venv
STAMP := $(VENV)/.dlas-installed
PEERS := torch,onnxruntime,openvino,iree
MODELS := zoo:wrn-40-2,groups=4 zoo:resnet34,groups=8 zoo:mobilenet-v2,groups=4 zoo:resnet18

.PHONY: demo test test-zoo bench fuzz setup clean

demo: setup
	$(VENV)/bin/dlas bench zoo:wrn-40-2,groups=4 --peers torch,onnxruntime,iree --plot demo.png --json demo.json

test: setup
	scripts/check.sh

test-zoo: setup
	$(VENV)/bin/pytest -m zoo

bench: setup
	mkdir -p build
	$(VENV)/bin/dlas bench $(MODELS) --peers $(PEERS) --json build/bench.json

fuzz: setup
	$(VENV)/bin/pytest tests/fuzz --hypothesis-profile=fuzz

setup: $(STAMP)

# Python files are not among these: the install is editable.
$(STAMP): pyproject.toml CMakeLists.txt runtime/native/probe.c scripts/setup.sh
	scripts/setup.sh $(VENV)
	touch $@

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo.json demo.png
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
