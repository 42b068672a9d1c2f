##@ Build

# What the demo and the end-to-end tests run as processes of their own.
.PHONY: binaries
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
