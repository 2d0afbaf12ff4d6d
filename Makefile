# ipsec_dp. `make` alone says what each target does. No target changes the host's sysctls, services or firewall: what needs a network
# makes its own namespaces.
#
# Variables: PYTHON=python3 (3.11 or newer, for .venv), APT=0 (print which Debian packages are missing, install nothing),
# APT_WAIT=600 (seconds that another apt or dpkg is waited for), JOBS (compilers at once), TESTERS=2 (processes that run tests at
# once), FUZZ_SECONDS=60 (for each fuzzer), QUICK=1 (a short `make bench-tunnel`), COMPARE=COMMIT (`make bench-tunnel` of
# this tree beside that of a commit), STRONGSWAN6_SUITE=forky and WIREGUARD13_SUITE=trixie (the suites of Debian's that have
# strongSwan 6.1 and the wireguard-go of Debian 13), DEBIAN_MIRROR (where those are, if not at the mirror of this host).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
export APT ?= 1
export APT_WAIT ?= 600
# Tests start the program some thousand times. What Python has compiled of it is kept, whatever the environment says: a third of a start.
unexport PYTHONDONTWRITEBYTECODE
JOBS ?= $(shell nproc)
TESTERS ?= 2
FUZZ_SECONDS ?= 60

BIN := $(CURDIR)/.venv/bin
SUDO := $(shell test "$$(id -u)" = 0 || command -v sudo)
AS_ROOT := $(if $(SUDO),sudo )# with the space that separates it from the command
EXTENSION := ipsec_dp/_native.abi3.so
READY := .venv/.ready $(EXTENSION)
PEERS := .venv/peers
STRONGSWAN6 := build/strongswan6
WIREGUARD13 := build/wireguard13
JUNIT := build/junit
PARTS := build/junit/parts
CLANG_FORMAT := $(BIN)/clang-format --dry-run -Werror --ferror-limit=20
NATIVE := $(MAKE) -j$(JOBS) -C native PYTHON=$(BIN)/python
PYTEST := $(BIN)/python -m pytest
SOURCE_TREES = $(wildcard ipsec_dp native tests benchmarks examples)
C_FILES = $(wildcard native/*.[ch] tests/native/*.[ch] tests/fuzz/*.[ch] benchmarks/*.[ch])

X86_64 := $(filter x86_64,$(shell uname -m))
DEBIAN_PYTHON := $(filter /usr,$(shell $(PYTHON) -c 'import sys; print(sys.base_prefix)' 2>/dev/null || echo /usr))
PACKAGES_BUILD := gcc libc6-dev libssl-dev $(if $(X86_64),libipsec-mb-dev) $(if $(DEBIAN_PYTHON),python3 python3-venv python3-dev)
PACKAGES_SETUP := $(PACKAGES_BUILD) nftables
PACKAGES_DEMO := iproute2 iputils-ping iperf3
PACKAGES_DEV := $(PACKAGES_DEMO) tcpdump ethtool openssl libcmocka-dev git groff-base dpkg-dev
PACKAGES_FUZZ := clang-14 libclang-rt-14-dev patch
# What tests and benchmarks meet: an IKE peer (pki makes certificates), a routing daemon that learns through the tunnel, other tunnels.
# Each would be a service of the host, enabled for its next boot, so they are unpacked into $(PEERS) (ipsec_dp/rig/peers).
PACKAGES_PEERS := strongswan-charon strongswan-swanctl strongswan-pki libcharon-extra-plugins libstrongswan-standard-plugins \
  libstrongswan-extra-plugins bird2 wireguard-go wireguard-tools openvpn firewalld prometheus tshark
# A newer strongSwan than that of Debian 12, from the suite that has it, with what it runs with: tests/interop/strongswan_versions.py.
STRONGSWAN6_SUITE ?= forky
PACKAGES_STRONGSWAN6 := 'strongswan-charon>=6.1' strongswan-swanctl libcharon-extra-plugins libstrongswan-standard-plugins \
  libstrongswan-extra-plugins
# What only bench-tunnel meets: the wireguard-go of Debian 13, with offloads that the one of Debian 12 has not.
WIREGUARD13_SUITE ?= trixie
PACKAGES_WIREGUARD13 := 'wireguard-go>=0.0.20231211' wireguard-tools

# Tests marked `alone` come after those that share the machine, which are handed out by files in the order of their names (the long
# ones first); each process has a host of its own (tests/own_host.py). Every test that MARKERS select is in one of both.
SHARED = $(PYTEST) -n $(TESTERS) --dist loadfile --no-loadscope-reorder -m "($(1)) and not alone"
ALONE = $(PYTEST) -m "($(1)) and alone"

# $(call python-tests,TARGET,MARKERS): these tests, reported in $(PARTS)/TARGET-shared.xml and -alone.xml; sets $$status when one fails.
# That no test is to be alone (exit status 5) is no failure.
define python-tests
$(call SHARED,$(2)) --junit-xml=$(CURDIR)/$(PARTS)/$(1)-shared.xml || status=1; \
$(call ALONE,$(2)) --junit-xml=$(CURDIR)/$(PARTS)/$(1)-alone.xml || test $$? = 5 || status=1
endef

# $(call tests,TARGET,MARKERS,native): these tests, and with the third argument the C units, in one report build/junit/TARGET.xml;
# none of them keeps the others from running.
define tests
mkdir -p $(PARTS) && rm -f $(JUNIT)/$(1).xml $(PARTS)/$(1)-{native,shared,alone}.xml
status=0; \
$(if $(3),$(NATIVE) units JUNIT=$(CURDIR)/$(PARTS)/$(1)-native.xml || status=1;) \
$(call python-tests,$(1),$(2)); \
$(BIN)/python tests/junit_gate.py merge $(JUNIT)/$(1).xml $(foreach part,$(3) shared alone,$(PARTS)/$(1)-$(part).xml) || status=1; \
exit $$status
endef

.PHONY: help packages packages-demo packages-dev setup setup-dev demo test test-unit test-interop test-netns test-slow mutants asan tsan \
  fuzz lint bench bench-strangers bench-tunnel docs man dist clean

help: ## this list
	@echo "ipsec_dp: userspace IPsec. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

packages:
	@tools/packages.sh install $(PACKAGES_SETUP)

packages-demo:
	@tools/packages.sh install $(PACKAGES_SETUP) $(PACKAGES_DEMO)

packages-dev:
	@tools/packages.sh install $(PACKAGES_SETUP) $(PACKAGES_DEV)

.venv/.ready: pyproject.toml setup.py | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ipsec_dp needs Python 3.11 or newer; set PYTHON=")'
	@echo "Making the virtual environment .venv with $$($(PYTHON) --version) and installing ipsec_dp into it"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e . 'setuptools>=77'
	@touch $@

# Without ipsec_dp itself, which pip would compile once more.
DEV_REQUIREMENTS := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")
.venv/.ready-dev: pyproject.toml setup.py | .venv/.ready
	@echo "Installing what tests, lint and benchmarks import into .venv"
	@$(BIN)/python -c '$(DEV_REQUIREMENTS)' | $(BIN)/python -m pip install -q --disable-pip-version-check -r /dev/stdin
	@touch $@

$(EXTENSION): $(wildcard native/*.[ch]) native/cflags native/build_ffi.py | .venv/.ready
	@echo "Compiling the C core into $@"
	@$(BIN)/python native/build_ffi.py
	@touch $@

setup: packages $(READY) ## install Debian packages (prints the line first; APT=0 only prints), make .venv, compile the C core
	@echo "Ready: .venv/bin/ipsec-dp (for example: .venv/bin/ipsec-dp --help)"

setup-dev: packages-dev $(READY) .venv/.ready-dev ## setup, and what tests, lint and benchmarks need; they call it. No service comes of it
	@tools/packages.sh unpack $(PEERS) $(PACKAGES_PEERS)
	@tools/packages.sh unpack-suite $(STRONGSWAN6_SUITE) $(STRONGSWAN6) $(PACKAGES_STRONGSWAN6)

demo: packages-demo $(READY) ## two gateways and two hosts in network namespaces, real traffic through ESP, a report (root)
	@$(AS_ROOT)$(BIN)/ipsec-dp demo

test: setup-dev ## every test but those marked slow: Python, C units, interoperation, namespaces (full only as root)
	@$(call tests,test,not slow,native)

test-unit: setup-dev ## Python and C unit tests; needs no root
	@$(call tests,test-unit,not slow and not netns and not interop,native)

test-interop: setup-dev ## against independent implementations of ESP and IKE
	@$(call tests,test-interop,interop and not slow)

test-netns: setup-dev ## gateways in network namespaces (root)
	@$(call tests,test-netns,netns and not interop and not slow)

test-slow: setup-dev ## the tests that are too slow for `make test`
	@$(call tests,test-slow,slow)

mutants: setup-dev ## apply each tests/mutants/*.patch to a copy and show that a test turns red
	@$(BIN)/python tests/mutants/run.py

# Python itself is not instrumented: the sanitizers' runtime is preloaded, the leaks of the interpreter are not looked at, and objects
# come from malloc so that an overrun of one is seen. libstdc++ must be there before numpy throws. The suite runs on a copy of the tree
# so that the instrumented extension never stands in ipsec_dp/. AddressSanitizer writes to files, so that no process which a test
# started dies of a finding unseen; UBSan beside it can only write to stderr, from which --capture=sys keeps pytest away.
ASAN_TREE := build/asan
ASAN_FOUND := build/asan-found
ASAN_RUNTIME = $(foreach library,asan ubsan stdc++,$(shell gcc -print-file-name=lib$(library).so))
asan: setup-dev ## C units and the Python suite under AddressSanitizer and UndefinedBehaviorSanitizer
	@rm -rf $(JUNIT)/asan.xml $(PARTS)/asan-*.xml $(ASAN_TREE) $(ASAN_FOUND) && mkdir -p $(PARTS) $(ASAN_TREE) $(ASAN_FOUND)
	@SANITIZE=address,undefined $(BIN)/python native/build_ffi.py
	@tar -c --exclude-vcs --exclude=./build --exclude=./.venv --exclude='*.so' --exclude=__pycache__ . | tar -x -C $(ASAN_TREE)
	@cp build/sanitize/address,undefined/$(EXTENSION) $(ASAN_TREE)/ipsec_dp/
	@status=0; \
	$(NATIVE) units SAN=address,undefined JUNIT=$(CURDIR)/$(PARTS)/asan-native.xml || status=1; \
	(cd $(ASAN_TREE) && export LD_PRELOAD="$(ASAN_RUNTIME)" PYTHONMALLOC=malloc PYTHONPATH=$(CURDIR)/$(ASAN_TREE) \
	  ASAN_OPTIONS=detect_leaks=0:suppressions=$(CURDIR)/tests/asan.supp:log_path=$(CURDIR)/$(ASAN_FOUND)/asan \
	  UBSAN_OPTIONS=print_stacktrace=1 PYTEST_ADDOPTS=--capture=sys; \
	  $(call python-tests,asan,not slow and not measure); exit $$status) || status=1; \
	$(BIN)/python tests/junit_gate.py merge $(JUNIT)/asan.xml $(PARTS)/asan-native.xml $(PARTS)/asan-shared.xml \
	  $(PARTS)/asan-alone.xml || status=1; \
	for found in $$(grep -sElr 'ERROR: |runtime error' $(ASAN_FOUND)); do cat $$found; status=1; done; \
	exit $$status

tsan: setup-dev ## C units under ThreadSanitizer
	@$(NATIVE) units SAN=thread JUNIT=$(CURDIR)/$(JUNIT)/tsan.xml

fuzz: setup-dev ## libFuzzer targets, FUZZ_SECONDS each; findings go to build/fuzz/
	@tools/packages.sh install $(PACKAGES_FUZZ)
	@$(NATIVE) fuzz FUZZ_SECONDS=$(FUZZ_SECONDS)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python tests/fuzz/selfcheck.py
	@set -e; for target in $(basename $(notdir $(wildcard tests/fuzz/fuzz_*.py))); do \
	  echo "== $$target for $(FUZZ_SECONDS) s"; FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m tests.fuzz.$$target; \
	done

lint: setup-dev ## ruff, mypy --strict, import-linter, clang-format
	@status=0; \
	for tool in '$(BIN)/ruff check .' '$(BIN)/ruff format --check .' $(BIN)/mypy $(BIN)/lint-imports '$(CLANG_FORMAT) $(C_FILES)'; do \
	  name=$${tool#$(BIN)/}; echo "== $${name:0:60}"; $$tool || status=1; \
	done; exit $$status

bench: setup-dev ## seal, open, policy lookup and replay, with pytest-benchmark; results in benchmarks/results/
	@mkdir -p benchmarks/results
	@$(PYTEST) benchmarks --benchmark-only --benchmark-json=benchmarks/results/bench.json

bench-strangers: setup-dev ## what a message of somebody who has proven nothing costs: time and memory, the worst first
	@$(BIN)/python -m benchmarks.strangers

bench-tunnel: setup-dev ## whole tunnels beside the plain path, strongSwan, wireguard-go and OpenVPN (root; QUICK=1: 2 minutes)
	@tools/packages.sh unpack-suite $(WIREGUARD13_SUITE) $(WIREGUARD13) $(PACKAGES_WIREGUARD13)
	@$(AS_ROOT)$(BIN)/python -m benchmarks.tunnel $(if $(QUICK),--quick) $(if $(COMPARE),--compare $(COMPARE))

man: setup-dev ## a manual page for each verb, into build/man/, and completion for shells into build/completion/
	@rm -rf build/man build/completion && mkdir -p build/completion
	@$(BIN)/python tools/man_pages.py build/man
	@$(BIN)/ipsec-dp completion bash > build/completion/ipsec-dp
	@$(BIN)/ipsec-dp completion zsh > build/completion/_ipsec-dp
	@$(BIN)/ipsec-dp completion fish > build/completion/ipsec-dp.fish
	@echo "build/man: $$(ls build/man | wc -l) pages; build/completion: $$(ls build/completion | xargs)"

dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)
dist: man ## into dist/: sdist, wheel with its libraries, .deb for this Debian. SOURCE_DATE_EPOCH: the same octets again
	@$(BIN)/python -m tools.dist

docs: setup-dev ## the documentation site, into build/docs/site/; a link that leads nowhere fails it
	@$(BIN)/python tools/docs_site.py build/docs/pages
	@$(BIN)/zensical build --strict --config-file zensical.toml
	@echo "build/docs/site/index.html: open it in a browser, or serve the directory with any web server"

clean: ## remove what was built and measured; .venv stays
	rm -rf build dist *.egg-info benchmarks/results .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks ipsec_dp/*.so
	find $(SOURCE_TREES) -name __pycache__ -prune -exec rm -rf {} +
