##@ Tests and checks

# The race detector needs a C compiler; a machine without one still runs every test.
RACE := $(shell command -v gcc clang cc >/dev/null 2>&1 && echo -race)
# Set on the command line to look at one thing: make test PKG=./internal/plan/... MOD=workspace-operator
MOD ?= $(MODULES)
PKG ?=
TEST_TIMEOUT ?= 30m
# The packages of e2e wait for clusters more than they compute, so that four at once suit two cores; the longest ones begin first.
# Nothing is cached: go does not see that the binaries and manifests that they start have changed.
FLAGS_e2e := -p 4 -count=1
PKG_e2e := ./suite ./provisioner ./independence ./provisioner/... ./...

.PHONY: test
test: test-go test-demo ## Run every test: unit, integration on a real API server, and the short demo.

.PHONY: test-go
test-go: controlplane-karpenter $(KUSTOMIZE) binaries ## Run the Go tests of every module; at the end of all of e2e, report which rights of the operators no call needed.
	@[ -n "$(RACE)" ] || echo "no C compiler: running without the race detector"
	@calls=$$(mktemp -d); trap 'rm -rf "$$calls"' EXIT; export KAITO_RBAC_CALLS="$$calls"; \
	  $(foreach m,$(MOD),echo "== $m"; (cd $(ROOT)/$m && $(call gowork,$m) go test $(RACE) $(FLAGS_$m) -timeout $(TEST_TIMEOUT) $(or $(PKG),$(PKG_$m),./...)) || failed="$$failed $m";) \
	  $(if $(PKG),,$(if $(filter e2e,$(MOD)),(cd $(ROOT)/e2e && go run ./cmd/rbacreport --root $(ROOT) --rare 1) || failed="$$failed rbac-report";)) \
	  if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

.PHONY: rbac-report
rbac-report: controlplane-karpenter $(KUSTOMIZE) binaries ## Run the suites that have all operators, and report which rights of the operators no call needed.
	@calls=$$(mktemp -d); trap 'rm -rf "$$calls"' EXIT; export KAITO_RBAC_CALLS="$$calls"; cd $(ROOT)/e2e; \
	  go test $(FLAGS_e2e) -timeout $(TEST_TIMEOUT) ./suite ./independence ./observe ./chaos ./budget; \
	  go run ./cmd/rbacreport --root $(ROOT) --rare 2

.PHONY: test-independence
test-independence: ## Each operator alone, swapped, removed, and the three installed in every order (make test takes two orders).
	@KAITO_INSTALL_ORDERS=all $(MAKE) --no-print-directory test-go MOD=e2e PKG=./independence/...

.PHONY: test-demo
test-demo: ## Run the main job once, from nothing to nothing.
	@$(MAKE) --no-print-directory demo

.PHONY: verify
verify: tools ## Check generated code, manifests, format, lint, language, modules, PROJECT, links, licences; fails on any diff.
	@$(ROOT)/hack/verify/all

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Lint every module.
	@$(ROOT)/hack/verify/lint
