##@ Benchmarks and longer tests: not in CI

N ?= 100

.PHONY: bench
bench: controlplane ## The workspace-operator beside a client that makes only the necessary calls, N Workspaces at once; fails above a bar.
	@cd $(ROOT)/workspace-operator && go test ./internal/bench -count=1 -v -timeout 30m -args -n=$(N) -strict

DURATION ?= 10m

.PHONY: bench-gateway
bench-gateway: ## The gateway beside direct calls and a bare reverse proxy at 2,000 requests/s and 500 streams; memory for DURATION, 10,000 slow clients, a stop under load.
	@cd $(ROOT)/workspace-operator && go test ./internal/gateway/bench -count=1 -v -timeout 2h -args -rate=2000 -rounds=10 -slice=1s -streams=500 -slow=10000 -duration=$(DURATION) -strict

.PHONY: bench-fetch
bench-fetch: ## The runner's fetch beside curl, one connection and ranges, over a simulated line with latency and loss; fails below a bar.
	@cd $(ROOT)/tuning-operator && go test ./internal/runner/fetch/bench -count=1 -v -timeout 30m -args -size=100663296 -rounds=3 -strict

.PHONY: e2e
e2e: controlplane $(KUSTOMIZE) binaries ## The stories of users, on this machine alone; with KUBECONFIG set, on that cluster, which is left as it was.
ifeq ($(KUBECONFIG),)
	@cd $(ROOT)/e2e && go test -count=1 -timeout $(TEST_TIMEOUT) ./suite ./provisioner/...
else
	@echo "On the cluster of KUBECONFIG=$(KUBECONFIG), context $$(kubectl config current-context)"
	@cd $(ROOT)/e2e && go test -count=1 -timeout 40m -v ./suite -args -existing
endif

.PHONY: e2e-kind
e2e-kind: controlplane ## The operators in pods on a kind cluster, with Docker; real kubelets join as the fake cloud boots machines (KIND_IMAGE=).
	@$(MAKE) --no-print-directory images TAG=dev
	@cd $(ROOT)/e2e && go test -count=1 -timeout 40m -v ./kind -args -kind $(if $(KIND_IMAGE),-image $(KIND_IMAGE))

SEED ?= 1
STEPS ?= 10000

.PHONY: chaos
chaos: controlplane $(KUSTOMIZE) binaries ## The gpu-provisioner killed between any two calls, and STEPS random steps from SEED on; a failure says how to replay it.
	@SEED=$(SEED) STEPS=$(STEPS) $(ROOT)/e2e/provisioner/chaos/run

.PHONY: chaos-fleet
chaos-fleet: N = 200
chaos-fleet: controlplane $(KUSTOMIZE) binaries ## N Workspaces on all three operators, while operators, the API server and calls to Azure fail as SEED says; at most an hour.
	@cd $(ROOT)/e2e && N=$(N) SEED=$(SEED) go test -count=1 -timeout 60m -v ./chaos

.PHONY: chaos-budget
chaos-budget: N = 100
chaos-budget: BUDGET = 10
chaos-budget: controlplane $(KUSTOMIZE) binaries ## N Workspaces at once over a GPUBudget of BUDGET nodes, with the workspace-operator killed at random as SEED says; bounded to half an hour.
	@cd $(ROOT)/e2e && N=$(N) BUDGET=$(BUDGET) SEED=$(SEED) go test -count=1 -timeout 30m -v ./budget

.PHONY: scale
scale: N = 500
scale: SPEED = 10
scale: controlplane $(KUSTOMIZE) binaries ## N Machines of one kind, then of five, from a fake Azure at SPEED times real time; what they cost, beside the reference's arithmetic.
	@cd $(ROOT)/gpu-provisioner && COST_CLAIMS=$(N) go test -count=1 -v -run ManyClaimsCost ./internal/pool
	@cd $(ROOT)/e2e && go test -count=1 -timeout 2h -v ./scale -args -n=$(N) -speed=$(SPEED)

FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## Each fuzz function of each module for FUZZTIME, one after the other.
	@FUZZTIME=$(FUZZTIME) $(ROOT)/hack/fuzz $(MOD)

.PHONY: fuzz-objects
fuzz-objects: ## JSON that the API server accepts, against the operators' decoder: each kind for FUZZTIME.
	@cd $(ROOT)/shared && go test ./test/schema -count=1 -v -timeout 24h -run TestAcceptedObjectsDecode -args -for=$(FUZZTIME)

.PHONY: test-trainer
test-trainer: ## The real TRL and PEFT on the CPU with a tiny model (downloads several GB of Python packages the first time).
	@$(ROOT)/tuning-operator/trainer/test/run

.PHONY: test-engine
test-engine: ## The pods that the operator renders, with a real vLLM on the CPU and a tiny model: adapters, several nodes, the gateway (downloads several GB of Python packages the first time).
	@$(ROOT)/workspace-operator/internal/gateway/engine/run
