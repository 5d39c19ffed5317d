# Everything a person types: make run | demo | test | coverage | lint | bench | requirements
# Each sets up what it needs on a fresh machine: Python 3.11 or newer and make are enough.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) UV_NO_PROGRESS=1 $(VENV)/bin/uv
COMPILE := $(UV) pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 pyproject.toml

.PHONY: help run test coverage demo bench lint format requirements venv install-base install-test install-bench

help:
	@echo "make run           start wsmon on http://127.0.0.1:8000/ (WSMON_BIND changes it)"
	@echo "make demo          the same, against stand-in vendors that fail on a script"
	@echo "make test          run every test"
	@echo "make coverage      the same, and fail where less than 90% is covered, by branch"
	@echo "make lint          check style, types, templates, migrations and settings"
	@echo "make bench         run the benchmarks"
	@echo "make requirements  resolve the dependencies of pyproject.toml again"

run: install-base
	@exec $(PY) manage.py run

demo: install-base
	@exec $(PY) -m demo

# In three processes, each with a PostgreSQL of its own, since half of their time is waiting; ARGS="-n 0 tests/wsmon" runs some in one.
test: install-test
	@exec $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# A run of its own, since watching each branch takes half as long again.
coverage:
	@exec $(MAKE) --no-print-directory test ARGS="--cov --cov-report=term --cov-fail-under=90 $(ARGS)"

bench: install-bench
	@exec $(PY) -m benchmarks $(ARGS)

lint: install-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .
	$(PY) -m djlint --lint --quiet templates
	WSMON_DATA_DIR=$(VENV)/lint $(PY) manage.py makemigrations --check --dry-run
	WSMON_PRODUCTION=1 DATABASE_URL=postgres://wsmon@localhost/wsmon WSMON_ALLOWED_HOSTS=wsmon.example \
	  WSMON_SECRET_KEY="$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	  WSMON_ENCRYPTION_KEYS=lint WSMON_HSTS_SUBDOMAINS=1 $(PY) manage.py check --deploy --fail-level WARNING

format: install-test
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

requirements: venv
	$(COMPILE) -o requirements/base.txt $(ARGS)
	$(COMPILE) --group test -c requirements/base.txt -o requirements/test.txt $(ARGS)
	$(COMPILE) --group test --group bench -c requirements/test.txt -o requirements/bench.txt $(ARGS)

# base.txt is part of test.txt, and test.txt of bench.txt, with the same versions: installing one set
# never takes anything from another.
install-base: venv
	@$(call install,base)

install-test: venv
	@$(call install,test)

install-bench: venv
	@$(call install,bench)

# Only when the file's content has changed since it was installed here.
define install
sum=$$(cksum < requirements/$(1).txt); stamp=$(VENV)/.installed-$(1); \
if [ "$$sum" != "$$(cat $$stamp 2>/dev/null)" ]; then \
  echo "installing requirements/$(1).txt into $(VENV) ..." && \
  $(UV) pip install -q --compile-bytecode --require-hashes -r requirements/$(1).txt && \
  echo "$$sum" > $$stamp; \
fi
endef

venv:
	@$(PY) -c "" 2>/dev/null || $(MAKE) new-venv
	@[ -x $(VENV)/bin/uv ] || $(PY) -m pip install -q --disable-pip-version-check "uv>=0.8,<1"

.PHONY: new-venv
new-venv:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "wsmon needs Python 3.11 or newer (python3), found none" >&2; exit 1; fi; \
	echo "making $(VENV) with $$("$$found" --version) ..."; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
