##@ Build

# What the demo and the end-to-end tests run as processes of their own.
.PHONY: binaries
# As in the images: without C, Go links the programs itself.
binaries: export CGO_ENABLED = 0
binaries: export GOGC = 400
binaries: ## Build the operators, the gateway, the runner, the simulators and the demo into bin/.
	@mkdir -p $(LOCALBIN)
	@for o in $(OPERATORS); do \
	  go build -trimpath -o $(LOCALBIN)/$$o $(ROOT)/$$o/cmd; \
	  for dir in $(ROOT)/$$o/cmd/*/; do [ ! -d $$dir ] || go build -trimpath -o $(LOCALBIN)/$$(basename $$dir) $$dir; done; \
	done
	@for dir in $(ROOT)/e2e/cmd/*/; do go build -trimpath -o $(LOCALBIN)/$$(basename $$dir) $$dir; done
	@go build -trimpath -o $(LOCALBIN)/devcluster $(ROOT)/hack/devcluster

.PHONY: build
build: binaries ## The same as binaries.

# Several platforms: PLATFORMS=linux/amd64,linux/arm64. To a registry: PUSH=registry.example.com/kaito.
TAG ?= latest
PLATFORMS ?= linux/$(shell go env GOARCH)
PUSH ?=
IMAGES ?=
# Where the trainer's image is: Python and CUDA, which a container engine builds from tuning-operator/trainer.
TRAINER ?= $(PUSH)/trainer:$(TAG)

.PHONY: images
images: ## Build the container images into dist/images without a container engine (IMAGES= some, PLATFORMS=, TAG=, PUSH=).
	@cd $(ROOT)/hack/images && go run . --root $(ROOT) --out $(ROOT)/dist/images --tag $(TAG) --platforms $(PLATFORMS) $(if $(PUSH),--push $(PUSH)) $(IMAGES)

.PHONY: digests
digests: ## Pin the Dockerfiles' bases and the catalogue's images to the digests that their tags have now (asks the registries).
	@cd $(ROOT)/hack/images && go run ./digests --root $(ROOT) update
	@cd $(ROOT)/hack/images && go run ./pythonbill --folder $(ROOT)/tuning-operator/trainer write

.PHONY: digests-check
digests-check: ## Compare the pinned digests with the registries; fails where a tag has moved or an image has no digest.
	@cd $(ROOT)/hack/images && go run ./digests --root $(ROOT) check

.PHONY: digests-list
digests-list: ## List the Dockerfiles' bases and the catalogue's images, and which have no digest; asks no registry.
	@cd $(ROOT)/hack/images && go run ./digests --root $(ROOT) list

.PHONY: trainer-bill
trainer-bill: ## Write the trainer's SBOM and licence report from its lock file and what PyPI says (needs pip; downloads some GB).
	@$(ROOT)/tuning-operator/trainer/bill

.PHONY: kubectl-kaito
kubectl-kaito: ## Build kubectl's plugin and its completion into bin/; put that on the PATH and call kubectl kaito.
	@mkdir -p $(LOCALBIN)
	@go build -trimpath -ldflags='-s -w' -o $(LOCALBIN)/kubectl-kaito $(ROOT)/workspace-operator/cmd/kubectl-kaito
	@install -m 755 $(ROOT)/workspace-operator/cmd/kubectl-kaito/kubectl_complete-kaito $(LOCALBIN)/

# Who signs a release: the file of a private key that `cosign generate-key-pair` made, or keyless.
SIGN ?=
# Further flags of hack/sign, for instance --no-log with a key or --builder=URI.
SIGN_FLAGS ?=
SIGNER = cd $(ROOT)/hack/sign && GOWORK=off go run . $(if $(filter keyless,$(SIGN)),--keyless,--key $(abspath $(SIGN))) $(SIGN_FLAGS)

.PHONY: release
release: $(KUSTOMIZE) ## Push the images to PUSH= and write dist/install.yaml, and one for each operator, that name them by digest; SIGN= signs them.
	@[ -n "$(PUSH)" ] || { echo "release: PUSH is empty: name the registry, for instance make release PUSH=registry.example.com/kaito TAG=v0.1.0"; exit 2; }
	@[ -z "$(SIGN)" ] || [ -n "$(findstring --allow-dirty,$(SIGN_FLAGS))" ] || [ -z "$$(git -C $(ROOT) status --porcelain)" ] || { echo "release: the work tree has changes that no commit holds, so that the provenance would name the wrong sources: commit them first"; exit 2; }
	@$(MAKE) --no-print-directory images PUSH=$(PUSH) TAG=$(TAG) IMAGES="$(OPERATORS) gateway runner"
	@$(if $(SIGN),$(MAKE) --no-print-directory sign)
	@$(ROOT)/hack/release $(PUSH) $(TRAINER)

.PHONY: sign
sign: ## Sign the images that release has pushed to PUSH=, and attach SBOM and provenance (SIGN= the file of cosign's private key, or keyless).
	@[ -n "$(SIGN)" ] && [ -n "$(PUSH)" ] || { echo "sign: SIGN and PUSH are needed, for instance make sign SIGN=cosign.key PUSH=registry.example.com/kaito TAG=v0.1.0"; exit 2; }
	@$(SIGNER) --root $(ROOT) --images $(ROOT)/dist/images --registry $(PUSH) --tag $(TAG) --platforms $(PLATFORMS) $(OPERATORS) gateway runner

.PHONY: sign-trainer
sign-trainer: ## Sign the trainer's image, which a container engine has built and pushed as TRAINER=, and attach its SBOM (SIGN=).
	@[ -n "$(SIGN)" ] || { echo "sign-trainer: SIGN is empty: the file of cosign's private key, or keyless"; exit 2; }
	@$(SIGNER) --external $(TRAINER) --bill $(ROOT)/tuning-operator/trainer/sbom.spdx.json
