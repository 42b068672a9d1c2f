##@ Tables that the inference engine writes: not in CI, needs Python 3.11

.PHONY: catalogue
catalogue: ## Write TABLES (flags verdicts shapes plans; all) of the pinned vLLM releases, as they say themselves (downloads several GB the first time).
	@$(ROOT)/hack/catalogue/run $(TABLES)

.PHONY: verify-catalogue
verify-catalogue: ## Compare the tables with the engine; fails where they differ.
	@$(ROOT)/hack/catalogue/run --check $(TABLES)
