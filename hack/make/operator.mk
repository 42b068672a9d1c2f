# What every operator can do alone; included by the operators' Makefiles, which set OPERATOR.
SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

ROOT := $(abspath $(CURDIR)/..)
LOCALBIN := $(ROOT)/bin
export GOWORK := off

include $(ROOT)/hack/make/root-tools.mk
include $(ROOT)/hack/make/controlplane.mk

##@ This operator

CRDS := $(shell sed -n 's|^- bases/||p' config/crd/kustomization.yaml)

.PHONY: help
help: ## List what can be made.
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate RBAC from the markers and copy this operator's CRDs.
	@$(CONTROLLER_GEN) rbac:roleName=manager-role paths=./internal/... output:rbac:dir=config/rbac
	@# The overlay for own nodes takes the rule on claims out of the role, by its number.
	@[ ! -d config/overlays/byo ] || sed -i "s|path: /rules/[0-9]*|path: /rules/$$(awk '/^- apiGroups:/ {n++} /^  - machines$$/ {print n-1; exit}' config/rbac/role.yaml)|" config/overlays/byo/kustomization.yaml
	@mkdir -p config/crd/bases
	@for crd in $(CRDS); do install -m 644 $(ROOT)/shared/api/crds/$$crd config/crd/bases/; done

.PHONY: build
build: ## Build every binary of this operator into bin/.
	@mkdir -p $(LOCALBIN)
	go build -trimpath -o $(LOCALBIN)/$(OPERATOR) ./cmd
	@for dir in $(wildcard cmd/*/); do go build -trimpath -o $(LOCALBIN)/$$(basename $$dir) ./$$dir; done

.PHONY: test
test: controlplane ## Run this operator's tests.
	go test -race ./...

.PHONY: install
install: $(KUSTOMIZE) ## Install the CRDs into KUBECONFIG's cluster.
	$(KUSTOMIZE) build config/crd | kubectl apply --server-side -f -

.PHONY: deploy
deploy: $(KUSTOMIZE) ## Install the whole operator into KUBECONFIG's cluster.
	$(KUSTOMIZE) build config/default | kubectl apply --server-side -f -

.PHONY: undeploy
undeploy: $(KUSTOMIZE) ## Remove the operator. Its CRDs and everybody's objects stay: docs/uninstall.md.
	$(KUSTOMIZE) build config/default | kubectl delete --ignore-not-found -l 'kaito.sh/uninstall!=keep' -f -
