# Everything that can be done with a checkout. Needs make, a shell and Python 3.11 or newer; the rest goes into .venv.

VENV        := .venv
BENCH_VENV  := .venv-bench
ENDURANCE_VENV := .venv-endurance
PYTHON      ?= python3 python3.13 python3.12 python3.11
CONSTRAINTS := $(wildcard constraints/airflow-3.3.txt)

# Never read or change the user's own Airflow.
unexport AIRFLOW_HOME AIRFLOW_CONFIG

.PHONY: help demo test test-live test-nightly endurance lint types docs bench bench-triggerer bench-outage bench-rows bench-sizing bench-import bench-import-peers clean

help:
	@echo "make demo    turn 120,000 rows into a file of results, with a local gateway, a real Airflow, and a task that is killed twice"
	@echo "             KEEP=1 leaves the Airflow UI running until Ctrl-C"
	@echo "             GATEWAY=https://... TOKEN=... BATCH_ID=... [PROVIDER=...] waits for a batch on your own gateway;"
	@echo "             environment variables of these names work, too, and keep the token out of the process list"
	@echo "make test    run all tests on every core; ARGS='tests/unit -x' goes to pytest, which then uses one"
	@echo "make test-live GATEWAY=https://... TOKEN=... PROVIDER=openai   check your own gateway, read-only;"
	@echo "             ARGS=--spend also submits two batches of three rows, which costs money. PREFIX=, MODEL= and the others"
	@echo "             can also be environment variables"
	@echo "make test-nightly   damage the recorded answers in 100,000 ways for each property, and run each state machine through a million"
	@echo "             orders of events (30 minutes)"
	@echo "make endurance   run a load on a real Airflow with PostgreSQL under kills and outages, and report what was lost; SEED=, MINUTES=20,"
	@echo "             EXECUTOR=local|celery, see tests/endurance/README.md"
	@echo "make lint    check style and formatting"
	@echo "make types   check types"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make bench   compare a wait with other packages' (45 minutes; ARGS=--quick: 3) and write docs/benchmarks.md"
	@echo "make bench-triggerer, make bench-outage   the same in a real triggerer, and through an outage"
	@echo "make bench-rows   measure split, submission, download and join of rows"
	@echo "make bench-sizing   simulate waits on several triggerers, and write the table of docs/sizing.md"
	@echo "make bench-import   measure what a DAG file costs to parse; bench-import-peers compares it with other packages"
	@echo "make clean   remove everything that the other targets made"

# The demo, the benchmarks and the tests share tests/support.
# make passes the variables of its command line on in the environment: the token is in no arguments but make's own.
demo: $(VENV)/installed
	@PYTHONPATH=tests $(VENV)/bin/python demo/run.py

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest $(or $(ARGS),--numprocesses auto --dist loadscope --no-loadscope-reorder)

test-live: $(VENV)/installed-test
	@$(VENV)/bin/python -m pytest tests/conformance/live $(ARGS)

STATE_MACHINES = tests/unit/runs/test_orders.py tests/unit/submission/test_ledger_orders.py tests/unit/waiting/test_schedule.py \
	tests/integration/test_exactly_once.py

test-nightly: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest --hypothesis-profile=nightly tests/conformance/test_mutations.py $(STATE_MACHINES) $(ARGS)

# A separate environment, because database drivers and executors bring many dependencies.
endurance:
	@$(MAKE) --no-print-directory VENV=$(ENDURANCE_VENV) $(addprefix $(ENDURANCE_VENV)/installed-,endurance $(if $(filter celery,$(EXECUTOR)),s3 celery))
	PYTHONPATH=tests $(ENDURANCE_VENV)/bin/python -m endurance $(SEED:%=--seed %) $(MINUTES:%=--minutes %) $(EXECUTOR:%=--executor %) $(ARGS)

lint: $(VENV)/installed-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/installed-lint $(VENV)/installed-test
	$(VENV)/bin/mypy

docs: $(VENV)/installed-docs
	$(VENV)/bin/python -m sphinx -W -b html docs docs/_build/html

bench-import: $(VENV)/installed
	$(VENV)/bin/python benchmarks/import_time.py $(ARGS)

bench-sizing: $(VENV)/installed-test
	PYTHONPATH=tests $(VENV)/bin/python benchmarks/sizing.py

# The other Airflow provider packages are installed into a separate environment, so that the tests run without them.
bench bench-triggerer bench-outage bench-rows bench-import-peers:
	@$(MAKE) --no-print-directory VENV=$(BENCH_VENV) $(BENCH_VENV)/installed-bench
	PYTHONPATH=tests $(BENCH_VENV)/bin/python $(BENCH_$@) $(ARGS)

BENCH_bench              := benchmarks/run.py
BENCH_bench-triggerer    := benchmarks/triggerer.py
BENCH_bench-outage       := benchmarks/outage.py
BENCH_bench-rows         := benchmarks/rows.py
BENCH_bench-import-peers := benchmarks/import_time.py --peers

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(ENDURANCE_VENV) .demo docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The package alone, and the package with one of the dependency groups of pyproject.toml.
INSTALL = $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --editable . $(CONSTRAINTS:%=--constraints %)

$(VENV)/installed: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/uv
	@echo "Installing Airflow and this package into $(VENV)"
	@$(INSTALL)
	@touch $@

$(VENV)/installed-%: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/uv
	@echo "Installing Airflow, this package and its $* tools into $(VENV)"
	@$(INSTALL) --group $*
	@touch $@

# A pyenv shim may exist but not run, and Debian's Python may lack its venv module.
$(VENV)/bin/uv:
	@for python in $(PYTHON); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found=$$python; \
	    $$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    $$python -m venv --clear $(VENV) && $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv; \
	    exit; \
	done; \
	if [ -n "$$found" ]; then \
	    $$found -c 'import sys; print("Python %d.%d lacks its venv module. Install python%d.%d-venv (with apt, or your system'"'"'s package), then run make again" % (sys.version_info[:2] * 2), file=sys.stderr)'; \
	else \
	    echo "No Python 3.11 or newer found; tried: $(PYTHON). Install one, or run: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1
