##@ Generated code and manifests

KARPENTER_CRDS := $(ROOT)/gpu-provisioner/config/karpenter-crds

# What kubectl kaito explain prints: the pages of docs/runbooks in one file, since a binary can embed nothing from outside its module.
RUNBOOKS := $(ROOT)/workspace-operator/internal/runbook/runbooks.txt

.PHONY: generate
generate: crds ## Generate deepcopy code, CRDs, the API reference, and the runbooks that kubectl kaito explain prints.
	@cd $(ROOT)/shared/api && GOWORK=off $(CONTROLLER_GEN) object:headerFile=$(ROOT)/hack/boilerplate.go.txt paths=./...
	@cd $(ROOT)/hack/apireference && GOWORK=off go run . --root $(ROOT)
	@for page in $(filter-out %/README.md,$(sort $(wildcard $(ROOT)/docs/runbooks/*.md))); do \
	  echo "-- $$(basename $$page .md) --"; cat $$page; done > $(RUNBOOKS)

# What the API reference and the operators' folders are made from.
.PHONY: crds
crds: $(CONTROLLER_GEN)
	@cd $(ROOT)/shared/api && GOWORK=off $(CONTROLLER_GEN) crd:maxDescLen=400 paths=./... output:crd:dir=crds
	@$(ROOT)/hack/tighten-crds $(ROOT)/shared/api/crds/*.yaml

.PHONY: manifests
manifests: crds ## Generate RBAC, and copy it and the CRDs to where kustomize reads them.
	@for o in $(OPERATORS); do $(MAKE) --no-print-directory -C $(ROOT)/$$o manifests; done
	@# Karpenter's own CRDs, unedited: a component of their own, since a cluster may have them already.
	@dir=$$(cd $(ROOT)/gpu-provisioner && go list -m -f '{{.Dir}}' sigs.k8s.io/karpenter); \
	  for crd in nodeclaims nodepools; do install -m 644 $$dir/pkg/apis/crds/karpenter.sh_$$crd.yaml $(KARPENTER_CRDS)/; done

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code.
	@for m in $(MODULES); do (cd $(ROOT)/$$m && GOWORK=off $(GOLANGCI_LINT) fmt --config $(ROOT)/.golangci.yml ./...); done

.PHONY: tidy
tidy: ## Tidy every module.
	@cd $(ROOT) && go work sync
	@for m in $(MODULES); do (cd $(ROOT)/$$m && GOWORK=off go mod tidy); done
	@$(ROOT)/hack/align
