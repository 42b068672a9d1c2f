##@ Tests and checks

# Set on the command line to look at one thing: make test PKG=./internal/plan/... MOD=workspace-operator
MOD ?= $(MODULES)
PKG ?=
TEST_TIMEOUT ?= 30m
.PHONY: test
test: ## Run every test: unit, integration on a real API server, and the short demo.
	@DEMO=1 $(MAKE) --no-print-directory test-go

.PHONY: test-go
test-go: controlplane-karpenter $(KUSTOMIZE) binaries ## Run the Go tests of every module; at the end of all of e2e, report which rights of the operators no call needed.
	@calls=$$(mktemp -d); trap 'rm -rf "$$calls"' EXIT; export KAITO_RBAC_CALLS="$$calls"; failed=; \
	  PKG="$(PKG)" TEST_TIMEOUT="$(TEST_TIMEOUT)" $(ROOT)/hack/test $(MOD) || failed=1; \
	  $(if $(PKG),,$(if $(filter e2e,$(MOD)),(cd $(ROOT)/e2e && go run ./cmd/rbacreport --root $(ROOT) --rare 1) || failed=1;)) \
	  [ -z "$$failed" ]

.PHONY: rbac-report
rbac-report: controlplane-karpenter $(KUSTOMIZE) binaries ## Run the suites that have all operators, and report which rights of the operators no call needed.
	@calls=$$(mktemp -d); trap 'rm -rf "$$calls"' EXIT; export KAITO_RBAC_CALLS="$$calls"; cd $(ROOT)/e2e; \
	  go test -count=1 -p 4 -timeout $(TEST_TIMEOUT) ./suite ./independence ./observe ./chaos ./budget; \
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
