# make demo    set up, then judge a pair: make demo PREMISE="…" HYPOTHESIS="…"
# make app     set up, then serve a page to try the model on
# make web     set up, then write and serve the page that computes in the browser (needs Node.js)
# make test    set up, then run all tests
# make test-common     the common tests of transformers for its models, on ours
# make test-lowest     model, loading and interfaces with the lowest versions that pyproject.toml allows
# make test-integrations   the tests of modernbert_nli/integrations/, with Haystack and LangChain
# make test-ray        the tests of a Ray cluster of two nodes on this machine
# make check   lint, format and types
# make test-quantized  the tests of a quantized base, with torchao in a folder of its own
# make test-browser    the tests of that page, in a Chromium (Debian: apt-get install chromium)

PYTHON ?= python3
PREMISE ?= A man is playing guitar on stage.
HYPOTHESIS ?= A person is making music.

BIN := .venv/bin
DEPENDENCIES := pyproject.toml constraints.txt

# Through the environment and unexpanded, so that quotes and dollar signs in the texts stay what they are.
export DEMO_PREMISE := $(value PREMISE)
export DEMO_HYPOTHESIS := $(value HYPOTHESIS)

.PHONY: demo app web test test-quantized test-browser test-common test-lowest test-integrations test-ray \
	check clean

demo: .venv/installed
	@$(BIN)/python predict.py "$$DEMO_PREMISE" "$$DEMO_HYPOTHESIS"
	@echo
	@echo 'Your own pair:  make demo PREMISE="The shop is closed on Sundays." HYPOTHESIS="The shop is open every day."'

app: .venv/installed-app
	$(BIN)/python app.py

web: build/web
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $<

build/web: build/exported $(wildcard web/* modernbert_nli/*.py modernbert_nli/page/*) modernbert_nli/publishing/static.py
	rm -rf $@
	$(BIN)/python push_to_hub.py --static-space --model $< --dry-run $@

build/exported: .venv/installed-dev checkpoints/quickstart/model.safetensors checkpoints/quickstart/config.json
	rm -rf $@
	$(BIN)/python export.py --model checkpoints/quickstart --output $@ --int8

# A worker for each core, of one thread; a file's tests share what they have made, in one worker.
test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-quantized: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --target build/torchao torchao
	PYTHONPATH=build/torchao $(BIN)/python -m pytest tests/test_loading.py -k quantized

test-integrations: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[haystack,langchain]"
	HAYSTACK_TELEMETRY_ENABLED=False $(BIN)/python -m pytest tests/test_integrations.py

test-ray: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[ray]"
	RAY_USAGE_STATS_ENABLED=0 $(BIN)/python -m pytest tests/test_ray.py

test-browser: .venv/installed-browser
	$(BIN)/python -m pytest -m browser -rs tests/browser

# Of the installed release, whose source distribution alone has them. Skipped where the registry has none.
test-common: .venv/installed-dev
	version=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("transformers"))') && \
	if ! [ -d "build/transformers-$$version/tests" ]; then \
		mkdir -p build && $(BIN)/python -m pip download --quiet --no-deps --no-binary transformers \
			--dest build "transformers==$$version" && \
		tar xzf "build/transformers-$$version.tar.gz" -C build "transformers-$$version/tests" || true; \
	fi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/test_common.py || [ $$? = 5 ]

# pip cannot choose the lowest versions; uv is installed for that, beside them.
test-lowest:
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet uv
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct \
		--editable ".[dev]"
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		tests/test_model.py tests/test_adapters.py tests/test_loading.py tests/test_doors.py

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

clean:
	rm -rf .venv build *.egg-info

.venv/installed: $(DEPENDENCIES)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

.venv/installed-app: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[app]"
	@touch $@

.venv/installed-browser: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"
	@touch $@
