// SPDX-License-Identifier: Apache-2.0

package karpenter

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/controllers/node/health"
	nodehydration "sigs.k8s.io/karpenter/pkg/controllers/node/hydration"
	"sigs.k8s.io/karpenter/pkg/controllers/node/termination"
	"sigs.k8s.io/karpenter/pkg/controllers/node/termination/terminator"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/consistency"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/expiration"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/garbagecollection"
	nodeclaimhydration "sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/hydration"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/lifecycle"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/operator/options"
	"sigs.k8s.io/karpenter/pkg/state/nodepoolhealth"

	"kaito.sh/gpu-provisioner/internal/cloudprovider"
)

// Karpenter's lifecycle controller adds and removes its finalizer on NodeClaims, labels them, and deletes those that do
// not launch or register.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch;patch;delete
// The lifecycle controller writes the conditions of NodeClaims.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims/status,verbs=patch
// The Node's owner reference to its NodeClaim has blockOwnerDeletion, which needs this right where the admission plugin
// OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims/finalizers,verbs=update
// The lifecycle controller counts registrations in the NodePool of a NodeClaim that carries a NodePool's label.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodepools,verbs=list;watch
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodepools/status,verbs=patch
// Registration writes labels, taints, annotations and the finalizer to the Node; termination taints, drains and deletes
// the Node.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch;patch;delete
// The drain lists the Node's pods, and deletes those that outlive their grace period.
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch;delete
// The drain evicts pods.
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create
// The drain waits until the volumes of the Node's pods are detached.
// +kubebuilder:rbac:groups=storage.k8s.io,resources=volumeattachments,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=list;watch
// Karpenter writes events by the older API.
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch

// Config is what the controllers need.
type Config struct {
	// Client reads from a cache.
	Client   client.Client
	Provider corecloud.CloudProvider
	// Recorder is of the older events API, the only one that Karpenter supports.
	Recorder record.EventRecorder
	Clock    clock.Clock
	// LaunchTimeout is the time from a claim's creation after which Karpenter deletes a claim without a machine.
	LaunchTimeout time.Duration
}

// Controllers are the controllers of Karpenter's core that this operator runs.
type Controllers struct {
	Lifecycle   *lifecycle.Controller
	Termination *termination.Controller
	Garbage     *garbagecollection.Controller
	ClaimLabels *nodeclaimhydration.Controller
	NodeLabels  *nodehydration.Controller
	Health      *health.Controller
	expiration  *expiration.Controller
	consistency *consistency.Controller
	evictions   *terminator.Queue
	options     *options.Options
}

// New returns the controllers. It sets Karpenter's launch timeout, which is a package variable there; its default of
// five minutes is less than an agent pool of GPU machines takes.
func New(c Config) *Controllers {
	lifecycle.LaunchTimeout = c.LaunchTimeout
	reader := diskClient{c.Client}
	recorder := cloudprovider.Events(events.NewRecorder(c.Recorder))
	evictions := terminator.NewQueue(reader, recorder)
	drain := terminator.NewTerminator(c.Clock, reader, evictions, recorder)
	return &Controllers{
		Lifecycle:   lifecycle.NewController(c.Clock, reader, c.Provider, recorder, nodepoolhealth.NewState(), nil),
		Termination: termination.NewController(c.Clock, reader, c.Provider, drain, recorder),
		Garbage:     garbagecollection.NewController(c.Clock, reader, c.Provider),
		ClaimLabels: nodeclaimhydration.NewController(reader, c.Provider),
		NodeLabels:  nodehydration.NewController(reader, c.Provider),
		Health:      health.NewController(reader, c.Provider, c.Clock, recorder),
		expiration:  expiration.NewController(c.Clock, reader, c.Provider),
		consistency: consistency.NewController(c.Clock, reader, c.Provider, recorder),
		evictions:   evictions,
		options:     coreOptions(),
	}
}

// SetupWithManager adds the field indexes and the controllers to the manager.
func (c *Controllers) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	ctx = c.Context(ctx)
	mgr = optionsManager{Manager: mgr, options: c.options}
	for _, controller := range []interface {
		Register(context.Context, manager.Manager) error
	}{
		c.evictions, c.Lifecycle, c.Termination, c.Garbage, c.ClaimLabels, c.NodeLabels, c.expiration, c.consistency,
		c.Health,
	} {
		if err := controller.Register(ctx, mgr); err != nil {
			return fmt.Errorf("adding Karpenter's %T: %w", controller, err)
		}
	}
	return nil
}

// Context returns a context that carries Karpenter's options. Reconcile of each controller needs it.
func (c *Controllers) Context(ctx context.Context) context.Context { return c.options.ToContext(ctx) }

// coreOptions returns Karpenter's options. Only those that the composed controllers read are set: the manager has its
// own flags for leader election, ports and logs.
func coreOptions() *options.Options {
	o := &options.Options{
		CPURequests:       1000, // scales the concurrency of the composed controllers
		IgnoreDRARequests: true,
		FeatureGates:      options.DefaultFeatureGates(),
		PreferencePolicy:  options.PreferencePolicyRespect,
		MinValuesPolicy:   options.MinValuesPolicyStrict,
	}
	o.FeatureGates.NodeRepair = true
	return o
}

// index adds the field indexes that Karpenter's lookups use.
func index(ctx context.Context, indexer client.FieldIndexer) error {
	for _, f := range []struct {
		object client.Object
		field  string
		value  func(client.Object) string
	}{
		{&corev1.Pod{}, "spec.nodeName", func(o client.Object) string { return o.(*corev1.Pod).Spec.NodeName }},
		{&corev1.Node{}, "spec.providerID", func(o client.Object) string { return o.(*corev1.Node).Spec.ProviderID }},
		{&storagev1.VolumeAttachment{}, "spec.nodeName", func(o client.Object) string {
			return o.(*storagev1.VolumeAttachment).Spec.NodeName
		}},
		{&karpv1.NodeClaim{}, "status.providerID", func(o client.Object) string {
			return o.(*karpv1.NodeClaim).Status.ProviderID
		}},
	} {
		value := func(o client.Object) []string { return []string{f.value(o)} }
		if err := indexer.IndexField(ctx, f.object, f.field, value); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", f.object, f.field, err)
		}
	}
	return nil
}

// optionsManager is the manager to which Karpenter's controllers are added: their context carries Karpenter's options.
type optionsManager struct {
	manager.Manager
	options *options.Options
}

func (m optionsManager) Add(r manager.Runnable) error {
	return m.Manager.Add(&optionsRunnable{Runnable: r, options: m.options})
}

// GetLogger returns a logger that logs claims which are still launching at the debug level, not as errors.
func (m optionsManager) GetLogger() logr.Logger { return cloudprovider.Quiet(m.Manager.GetLogger()) }

// GetClient returns a client that renames the request for storage in NodeClaims.
func (m optionsManager) GetClient() client.Client { return diskClient{m.Manager.GetClient()} }

type optionsRunnable struct {
	manager.Runnable
	options *options.Options
}

func (r *optionsRunnable) Start(ctx context.Context) error {
	return r.Runnable.Start(r.options.ToContext(ctx))
}

// NeedLeaderElection returns what the wrapped runnable returns. The manager's default is true.
func (r *optionsRunnable) NeedLeaderElection() bool {
	if l, ok := r.Runnable.(manager.LeaderElectionRunnable); ok {
		return l.NeedLeaderElection()
	}
	return true
}
