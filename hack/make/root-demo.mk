##@ The main job

# embedded: a control plane of its own; kind: a kind cluster of its own (KIND_IMAGE= chooses the node image); existing: the
# current context of KUBECONFIG (NODE_IP= is this machine's address as that cluster's API server reaches it).
CLUSTER ?= embedded
KEEP ?=
KIND_IMAGE ?=
NODE_IP ?=

.PHONY: demo
demo: ## The quick start's Workspace from nothing to an answer and back, live (CLUSTER=embedded, kind or existing; KEEP=1 leaves it running).
	@$(MAKE) --no-print-directory controlplane $(KUSTOMIZE) binaries
	@exec $(LOCALBIN)/devcluster demo --root $(ROOT) --cluster $(CLUSTER) $(if $(KEEP),--keep) $(if $(KIND_IMAGE),--kind-image $(KIND_IMAGE)) $(if $(NODE_IP),--node-ip $(NODE_IP))
