// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/pool"
)

// Options are the operator's own settings.
type Options struct {
	// AzureConfig is the path of the file that names the AKS cluster.
	AzureConfig string
	// AzureCallRate is a factor on Azure's documented rate limits.
	AzureCallRate float64
	// Namespace is the namespace of the operator's ConfigMaps. Empty: the pod's.
	Namespace string
	// DefaultNodeClass is the KaitoNodeClass of Machines that name none.
	DefaultNodeClass string
	// MaxNodesPerPool is the limit of machines in an agent pool; a node class can override it.
	MaxNodesPerPool int
	// LaunchTimeout is the time that a claim may wait for its machine.
	LaunchTimeout time.Duration
	// GPUReadyTimeout is the time that a Ready Node may take to report its GPUs.
	GPUReadyTimeout time.Duration
	Settings        pool.Settings
	Intervals       pool.Intervals
}

// maxPools is AKS's limit of agent pools in a cluster (https://learn.microsoft.com/azure/aks/quotas-skus-regions).
const maxPools = 100

// DefaultOptions returns the defaults of the flags.
func DefaultOptions() Options {
	return Options{
		AzureConfig: azure.DefaultConfigPath, AzureCallRate: 1, DefaultNodeClass: "default", MaxNodesPerPool: 100,
		LaunchTimeout: 40 * time.Minute, GPUReadyTimeout: 15 * time.Minute,
		Settings: pool.Settings{
			Gather: time.Second, Patience: 2 * time.Minute, Grace: time.Minute, OperationTimeout: 30 * time.Minute,
			JoinTimeout: 12 * time.Minute, MaxPools: maxPools,
		},
		Intervals: pool.Intervals{Active: 10 * time.Second, Idle: time.Minute},
	}
}

// AddFlags adds the flags. The current values are the defaults.
func (o *Options) AddFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.AzureConfig, "azure-config", o.AzureConfig,
		"path of the file with the cloud, subscription, resource group and name of the AKS cluster")
	fs.Float64Var(&o.AzureCallRate, "azure-call-rate", o.AzureCallRate,
		"factor on Azure's documented rate limits, which the whole subscription shares; a value below 1 leaves calls to other programs")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace,
		"namespace of the operator's ConfigMaps; empty: the environment variable POD_NAMESPACE, or the pod's namespace")
	fs.StringVar(&o.DefaultNodeClass, "default-node-class", o.DefaultNodeClass,
		"KaitoNodeClass of Machines that name none; created if it does not exist")
	fs.IntVar(&o.MaxNodesPerPool, "max-nodes-per-pool", o.MaxNodesPerPool,
		"maximum number of machines in one agent pool, 1 to 1000; with 1, each node has its own pool")
	fs.DurationVar(&o.LaunchTimeout, "launch-timeout", o.LaunchTimeout, "time a claim may wait for its machine")
	fs.DurationVar(&o.GPUReadyTimeout, "gpu-ready-timeout", o.GPUReadyTimeout,
		"time a Ready node may take to report its GPUs")
	fs.DurationVar(&o.Settings.Gather, "gather", o.Settings.Gather,
		"time to wait for more claims before a request to Azure; a claim waits at most five times as long")
	fs.DurationVar(&o.Settings.Patience, "patience", o.Settings.Patience,
		"time claims wait for a busy agent pool before another pool is created")
	fs.DurationVar(&o.Settings.Grace, "surplus-grace", o.Settings.Grace,
		"time before a machine without a claim is deleted")
	fs.DurationVar(&o.Settings.OperationTimeout, "operation-timeout", o.Settings.OperationTimeout,
		"time Azure may take to create machines before the operation is aborted")
	fs.DurationVar(&o.Settings.JoinTimeout, "node-join-timeout", o.Settings.JoinTimeout,
		"time a machine may take to register as a node; less than Karpenter's own 15m")
	fs.DurationVar(&o.Intervals.Active, "refresh-active", o.Intervals.Active,
		"interval at which agent pools are read while claims or operations are in progress")
	fs.DurationVar(&o.Intervals.Idle, "refresh-idle", o.Intervals.Idle,
		"interval at which agent pools are read otherwise")
}

// Validate returns an error that names the first invalid flag and its allowed values.
func (o *Options) Validate() error {
	if o.MaxNodesPerPool < 1 || o.MaxNodesPerPool > 1000 {
		return fmt.Errorf("--max-nodes-per-pool is %d; allowed: 1 to 1000", o.MaxNodesPerPool)
	}
	if o.AzureCallRate <= 0 || o.AzureCallRate > 100 {
		return fmt.Errorf("--azure-call-rate is %g; allowed: more than 0, to 100", o.AzureCallRate)
	}
	for _, positive := range []struct {
		name string
		d    time.Duration
	}{
		{"launch-timeout", o.LaunchTimeout}, {"gpu-ready-timeout", o.GPUReadyTimeout},
		{"operation-timeout", o.Settings.OperationTimeout}, {"node-join-timeout", o.Settings.JoinTimeout},
		{"refresh-active", o.Intervals.Active}, {"refresh-idle", o.Intervals.Idle},
	} {
		if positive.d <= 0 {
			return fmt.Errorf("--%s is %s; allowed: more than 0", positive.name, positive.d)
		}
	}
	if o.Settings.JoinTimeout >= pool.CoreRegistrationTimeout {
		return fmt.Errorf(
			"--node-join-timeout is %s; allowed: less than %s, after which Karpenter deletes the claim without a reason",
			o.Settings.JoinTimeout, pool.CoreRegistrationTimeout)
	}
	return nil
}

// namespace returns the namespace of the operator's ConfigMaps.
func (o *Options) namespace() (string, error) {
	if o.Namespace != "" {
		return o.Namespace, nil
	}
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns, nil
	}
	raw, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return "", errors.New(
			"--namespace and POD_NAMESPACE are empty, and the process does not run in a pod; set --namespace to the namespace of the operator's ConfigMaps")
	}
	return strings.TrimSpace(string(raw)), nil
}
