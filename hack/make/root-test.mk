##@ Tests and checks

# The race detector needs a C compiler; a machine without one still runs every test.
RACE := $(shell command -v gcc clang cc >/dev/null 2>&1 && echo -race)
# Set on the command line to look at one thing: make test PKG=./internal/plan/... MOD=workspace-operator
MOD ?= $(MODULES)
PKG ?= ./...
TEST_TIMEOUT ?= 20m

.PHONY: test
test: test-go test-demo ## Run every test: unit, integration on a real API server, and the short demo.

.PHONY: test-go
test-go: controlplane-karpenter $(KUSTOMIZE) binaries ## Run the Go tests of every module.
	@[ -n "$(RACE)" ] || echo "no C compiler: running without the race detector"
	@for m in $(MOD); do echo "== $$m"; (cd $(ROOT)/$$m && go test $(RACE) -timeout $(TEST_TIMEOUT) $(PKG)) || failed="$$failed $$m"; done; \
	  if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

.PHONY: test-independence
test-independence: ## Each operator alone, swapped, removed, and the three installed in every order (make test takes two orders).
	@KAITO_INSTALL_ORDERS=all $(MAKE) --no-print-directory test-go MOD=e2e PKG=./independence/...

.PHONY: test-demo
test-demo: ## Run the main job once, from nothing to nothing.
	@$(MAKE) --no-print-directory demo

.PHONY: verify
verify: tools ## Check generated code, manifests, format, lint, modules, PROJECT, links, licences; fails on any diff.
	@$(ROOT)/hack/verify/all

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Lint every module.
	@$(ROOT)/hack/verify/lint
