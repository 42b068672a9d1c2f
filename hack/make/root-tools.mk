##@ Tools: built from Go modules into bin/, nothing global

CONTROLLER_GEN := $(LOCALBIN)/controller-gen
KUSTOMIZE := $(LOCALBIN)/kustomize
GOLANGCI_LINT := $(LOCALBIN)/golangci-lint
GOVULNCHECK := $(LOCALBIN)/govulncheck

.PHONY: tools
tools: $(CONTROLLER_GEN) $(KUSTOMIZE) $(GOLANGCI_LINT) ## Build the tools that generate and check.

# $(call build-tool,module folder,package,binary): the pinned version is in the folder's go.mod.
define build-tool
	@mkdir -p $(LOCALBIN)
	@echo "building $(notdir $(3)) …"
	@cd $(ROOT)/$(1) && GOWORK=off CGO_ENABLED=0 go build -trimpath -o $(3) $(2)
endef

$(CONTROLLER_GEN): $(ROOT)/hack/tools/go.mod
	$(call build-tool,hack/tools,sigs.k8s.io/controller-tools/cmd/controller-gen,$@)

$(KUSTOMIZE): $(ROOT)/hack/tools/go.mod
	$(call build-tool,hack/tools,sigs.k8s.io/kustomize/kustomize/v5,$@)

$(GOLANGCI_LINT): $(ROOT)/hack/tools/lint/go.mod
	$(call build-tool,hack/tools/lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$@)

$(GOVULNCHECK): $(ROOT)/hack/tools/vuln/go.mod
	$(call build-tool,hack/tools/vuln,golang.org/x/vuln/cmd/govulncheck,$@)
