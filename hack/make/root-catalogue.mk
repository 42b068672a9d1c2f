##@ Tables that the inference engine writes: not in CI, needs Python 3.11

.PHONY: catalogue
catalogue: ## Write TABLES (flags verdicts shapes plans; all) of the pinned vLLM releases, as they say themselves (downloads several GB the first time).
	@$(ROOT)/hack/catalogue/run $(TABLES)

.PHONY: verify-catalogue
verify-catalogue: ## Compare the tables with the engine; fails where they differ.
	@$(ROOT)/hack/catalogue/run --check $(TABLES)

.PHONY: prices
prices: ## Refresh the list prices in shared/catalog/data/prices.yaml from Azure's Retail Prices API.
	@cd $(ROOT)/shared && go run ./catalog/prices
