# Everything a user or a developer does starts here; `make help` lists it. The rules are in hack/make, a topic a file.
SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
LOCALBIN := $(ROOT)/bin

OPERATORS := workspace-operator gpu-provisioner tuning-operator
# In the order of their imports.
MODULES := shared/api shared $(OPERATORS) e2e hack/devcluster hack/images hack/apireference hack/check hack/sign
# Outside go.work: cosign needs hundreds of modules, and a workspace would raise the operators' versions to its own.
ALONE := hack/sign
# $(call gowork,MODULE): the environment for go in a module.
gowork = $(if $(filter $(1),$(ALONE)),GOWORK=off)

# The tools' names come first: make expands prerequisites as it reads them.
include $(ROOT)/hack/make/root-tools.mk
include $(filter-out %/root-tools.mk,$(sort $(wildcard $(ROOT)/hack/make/root-*.mk)))
include $(ROOT)/hack/make/controlplane.mk

.PHONY: help
help: ## List what can be made.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
