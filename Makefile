# SecureConnect. `make lab` builds a running system on this machine, `make test` is everything CI runs.
# Both install what they need (as root, or with sudo), show progress, and can be run again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

export CGO_ENABLED ?= 0
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.build/tools:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Olm in pure Go: without the tag its library wants one in C.
export GOFLAGS := $(strip $(GOFLAGS) -tags=goolm)

GOLANGCI_LINT_VERSION := v2.15.0
WEB := services/gateway/web
WEB_TOOLS := $(WEB)/node_modules/.package-lock.json
LDFLAGS := -s -w

.PHONY: help lab test test-long check unit system history calls figures load fanout relay sfu-figures sfu-soak fuzz down controller engine images FORCE

help: ## What each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

lab: controller engine bin/deploy ## Five servers on this machine, deployed and proven
	bin/deploy images build
	bin/deploy lab up
	bin/deploy apply -i lab
	@echo "Running. Look around: bin/deploy status; bin/deploy lab ssh app-01; make down removes it."

down: bin/deploy ## Remove the labs, five servers or one, and all they hold
	bin/deploy lab down
	bin/deploy lab down --name all-in-one
	docker ps -aq --filter label=secureconnect.testkit=$(CURDIR) | xargs -r docker rm -f -v

test: check unit system ## Everything CI runs: linters, unit and store tests, the lab

check: controller engine bin/deploy .build/tools/golangci-lint $(WEB_TOOLS) ## Linters and syntax
	deployment/lab/check.sh

unit: controller engine bin/deploy ## Unit tests and adapters on real stores, with the race detector
	bin/deploy images build
	.venv/bin/python -m unittest discover -s deployment/plugins/tests
	CGO_ENABLED=1 go test -race -timeout 25m ./...

system: controller engine bin/deploy $(WEB_TOOLS) ## The lab: deploy, prove, break, repair
	bin/deploy images build
	go test -count=1 -timeout 65m -v -tags lab,goolm ./services/e2e/...

test-long: controller engine bin/deploy ## An hour of faults in a lab of its own, while people write: nothing is lost
	bin/deploy images build
	HISTORY_OF=test-long HISTORY_SEEDS="$${HISTORY_SEEDS:-1 2 3 4 5}" HISTORY_MINUTES="$${HISTORY_MINUTES:-12}" \
		go test -count=1 -timeout 150m -v -tags lab,goolm -run 'TestHistory$$' ./services/e2e/

history: bin/deploy ## Five minutes of faults in the running lab, while people write
	HISTORY_OF=lab go test -count=1 -timeout 60m -v -tags lab,goolm -run 'TestHistory$$' ./services/e2e/

calls: bin/deploy ## Break the calls of the running lab in every way: they come back
	CALLS_OF=lab go test -count=1 -timeout 20m -v -tags lab,goolm -run TestCallsUnderFaults ./services/e2e/

figures: bin/deploy ## Measure the running lab against its bounds
	FIGURES_OF=lab go test -count=1 -v -tags lab,goolm -run TestFigures ./services/e2e/

load: controller engine bin/deploy ## What a chat host bears: idle sockets, 300 messages a second, 2,000 cut at once, a stalled reader
	bin/deploy images build
	SOCKETS=10000 FIGURES=1 go test -count=1 -v -run 'IdleSockets|SoonEverywhere|AfterACut|StalledReader' ./services/chat/

fuzz: ## Every fuzz target of the services and commands, each for FUZZ_TIME (1m)
	grep -rl --include='*_test.go' '^func Fuzz' cmd services | xargs dirname | sort -u | sed 's|^|./|' | xargs go test -list '^Fuzz' | \
		awk '/^Fuzz/ { targets[++n] = $$1 } /^ok/ { for (i = 1; i <= n; i++) print $$2, targets[i]; n = 0 }' | \
		while read -r package target; do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime "$${FUZZ_TIME:-1m}" -fuzzminimizetime 10x "$$package" </dev/null; \
		done

fanout: controller engine bin/deploy .build/tools/centrifugo ## What a message to 1,000 sockets costs, beside Centrifugo
	bin/deploy images build
	FANOUT=$(CURDIR)/.build/tools/centrifugo go test -count=1 -timeout 20m -v -run TestFanOut ./services/chat/

relay: controller engine bin/deploy ## What relaying costs coturn as it is deployed, beside its stock settings
	bin/deploy images build
	RELAY=1 go test -count=1 -timeout 20m -v -run TestRelaying ./deployment/images/coturn/

sfu-figures: .build/tools/livekit-server ## What a forwarded packet costs the SFU, beside LiveKit
	SFU_FIGURES=$(CURDIR)/.build/tools/livekit-server go test -count=1 -timeout 40m -v -run TestFigures ./services/video/sfu/

sfu-soak: ## A room of twenty for SFU_SOAK_MINUTES (40): the SFU's memory stays what it is
	SFU_SOAK_MINUTES="$${SFU_SOAK_MINUTES:-40}" go test -count=1 -timeout 0 -v -run TestSoak ./services/video/sfu/

images: controller engine bin/deploy ## Build the container images
	bin/deploy images build

controller: .venv/.installed ## Packages and a pinned Ansible on this machine
	@deployment/lab/controller.sh

engine: controller ## A Docker engine on this machine
	@deployment/lab/engine.sh

.venv/.installed: requirements.txt
	@deployment/lab/controller.sh
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed on this machine; this one is " + sys.version.split()[0])'
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# The go tool decides what is stale; it takes a second when nothing is.
bin/deploy: FORCE
	@go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/deploy

# Only the tests need Node on this machine: what is served is built in a stage of the service image.
$(WEB_TOOLS): $(WEB)/package-lock.json
	command -v npm >/dev/null || deployment/lab/controller.sh nodejs npm
	npm --prefix $(WEB) ci --no-audit --no-fund --no-update-notifier
	touch $@

.build/tools/golangci-lint:
	GOBIN=$(CURDIR)/.build/tools go install -trimpath github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

.build/tools/centrifugo: services/chat/yardstick/go.mod
	cd services/chat/yardstick && go build -trimpath -o $(CURDIR)/$@ github.com/centrifugal/centrifugo/v5

.build/tools/livekit-server: services/video/yardstick/go.mod
	cd services/video/yardstick && go build -trimpath -o $(CURDIR)/$@ github.com/livekit/livekit-server/cmd/server
