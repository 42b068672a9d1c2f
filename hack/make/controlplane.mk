# A real control plane for tests, as binaries: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kwok.

LOCALBIN ?= $(ROOT)/bin

# Where the caller has prebuilt ones; ensure links them into bin/k8s and makes what they lack.
CONTROLPLANE_GIVEN := $(KUBEBUILDER_ASSETS)

# What tests look at. Exported under the name that envtest and kubebuilder's own scaffolding read.
export KUBEBUILDER_ASSETS := $(LOCALBIN)/k8s

.PHONY: controlplane
controlplane: ## Put a control plane's binaries into bin/k8s (built once, 6 min on two cores; then at once).
	@LOCALBIN="$(LOCALBIN)" KUBEBUILDER_ASSETS="$(CONTROLPLANE_GIVEN)" "$(ROOT)/hack/controlplane/ensure"

.PHONY: controlplane-karpenter
controlplane-karpenter: ## The same, and Karpenter's own provider of simulated nodes (karpenter-kwok).
	@LOCALBIN="$(LOCALBIN)" KUBEBUILDER_ASSETS="$(CONTROLPLANE_GIVEN)" "$(ROOT)/hack/controlplane/ensure" karpenter-kwok
