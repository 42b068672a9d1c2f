##@ The main job

CLUSTER ?= embedded
KEEP ?=

.PHONY: demo
demo: ## The seed's Workspace from nothing to an answer and back, live, on a control plane of its own (KEEP=1 leaves it running).
	@$(MAKE) --no-print-directory controlplane $(KUSTOMIZE) binaries
	@exec $(LOCALBIN)/devcluster demo --root $(ROOT) --cluster $(CLUSTER) $(if $(KEEP),--keep)
