##@ Tables that the inference engine writes: not in CI, needs Python 3.11

.PHONY: catalogue
catalogue: ## Read the flags of each pinned vLLM release from its own parser (downloads several GB the first time).
	@$(ROOT)/hack/catalogue/run

.PHONY: verify-catalogue
verify-catalogue: ## Compare the tables with the engine; fails where they differ.
	@$(ROOT)/hack/catalogue/run --check
