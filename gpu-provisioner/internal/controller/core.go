// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
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

// Core's lifecycle adds and removes its finalizer on NodeClaims, labels them, and deletes those that do not launch or
// join.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch;patch;delete
// Core writes their progress.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims/status,verbs=patch
// The Node gets an owner reference to its claim with blockOwnerDeletion, which needs this where
// OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims/finalizers,verbs=update
// Core counts a claim's registration into its NodePool, where the claim carries that label.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodepools,verbs=list;watch
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodepools/status,verbs=patch
// Registration puts labels, taints, annotations and the finalizer on the claim's Node; termination taints, drains and
// deletes it.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch;patch;delete
// The drain finds the Node's pods and, past their grace, deletes them.
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch;delete
// The drain evicts.
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create
// The drain waits for volumes to detach, and finds which pods they belong to.
// +kubebuilder:rbac:groups=storage.k8s.io,resources=volumeattachments,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=list;watch
// What happens is told as events on the claim, the Machine and the Node.
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch

// CoreOptions are Karpenter's options, which its controllers take from the context. Leader election, ports and logs are
// the manager's; only what the composed controllers read is set.
func CoreOptions() *options.Options {
	o := &options.Options{
		CPURequests:       1000, // scales the composed controllers' concurrency
		IgnoreDRARequests: true,
		FeatureGates:      options.DefaultFeatureGates(),
		PreferencePolicy:  options.PreferencePolicyRespect,
		MinValuesPolicy:   options.MinValuesPolicyStrict,
	}
	o.FeatureGates.NodeRepair = true
	return o
}

// Index adds the field indexes that core's lookups use.
func Index(ctx context.Context, mgr ctrl.Manager) error {
	index := mgr.GetFieldIndexer()
	fields := []struct {
		object client.Object
		field  string
		value  func(client.Object) string
	}{
		{&corev1.Pod{}, "spec.nodeName", func(o client.Object) string { return o.(*corev1.Pod).Spec.NodeName }},
		{&corev1.Node{}, "spec.providerID", func(o client.Object) string { return o.(*corev1.Node).Spec.ProviderID }},
		{
			&storagev1.VolumeAttachment{},
			"spec.nodeName",
			func(o client.Object) string { return o.(*storagev1.VolumeAttachment).Spec.NodeName },
		},
		{
			&karpv1.NodeClaim{},
			"status.providerID",
			func(o client.Object) string { return o.(*karpv1.NodeClaim).Status.ProviderID },
		},
	}
	for _, f := range fields {
		if err := index.IndexField(
			ctx, f.object, f.field, func(o client.Object) []string { return []string{f.value(o)} },
		); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", f.object, f.field, err)
		}
	}
	return nil
}

// SetLaunchTimeout sets how long core lets a claim wait for its machine. Core has it as a package variable, from a
// claim's creation; its five minutes are less than an agent pool of GPU machines takes.
func SetLaunchTimeout(d time.Duration) { lifecycle.LaunchTimeout = d }

// withCoreOptions is the manager that core's controllers are added to: their context carries core's options.
type withCoreOptions struct {
	manager.Manager
	options *options.Options
}

func (m withCoreOptions) Add(r manager.Runnable) error {
	return m.Manager.Add(&optioned{Runnable: r, options: m.options})
}

// GetLogger keeps claims that are merely on their way out of the error log.
func (m withCoreOptions) GetLogger() logr.Logger {
	return cloudprovider.Quiet(m.Manager.GetLogger())
}

// GetClient shows core claims as it can handle them.
func (m withCoreOptions) GetClient() client.Client { return diskClient{m.Manager.GetClient()} }

type optioned struct {
	manager.Runnable
	options *options.Options
}

func (o *optioned) Start(ctx context.Context) error {
	return o.Runnable.Start(o.options.ToContext(ctx))
}

// NeedLeaderElection is what the runnable says; without a word it is true, as for the manager.
func (o *optioned) NeedLeaderElection() bool {
	if l, ok := o.Runnable.(manager.LeaderElectionRunnable); ok {
		return l.NeedLeaderElection()
	}
	return true
}

// registerer is what every controller of core is.
type registerer interface {
	Register(context.Context, manager.Manager) error
}

// AddCore composes the controllers of Karpenter's core that handle NodeClaims, one by one; none of those that create
// NodeClaims.
func AddCore(ctx context.Context, mgr ctrl.Manager, provider corecloud.CloudProvider, clk clock.Clock) error {
	o := CoreOptions()
	ctx = o.ToContext(ctx)
	mgr = withCoreOptions{Manager: mgr, options: o}
	c := mgr.GetClient()
	recorder := cloudprovider.Events(
		events.NewRecorder(mgr.GetEventRecorderFor("karpenter")),
	) //nolint:staticcheck // core takes the older recorder
	evictions := terminator.NewQueue(c, recorder)
	controllers := []registerer{
		evictions,
		lifecycle.NewController(clk, c, provider, recorder, nodepoolhealth.NewState(), nil),
		termination.NewController(clk, c, provider, terminator.NewTerminator(clk, c, evictions, recorder), recorder),
		garbagecollection.NewController(clk, c, provider),
		nodeclaimhydration.NewController(c, provider),
		nodehydration.NewController(c, provider),
		expiration.NewController(clk, c, provider),
		consistency.NewController(clk, c, provider, recorder),
		health.NewController(c, provider, clk, recorder),
	}
	for _, controller := range controllers {
		if err := controller.Register(ctx, mgr); err != nil {
			return fmt.Errorf("adding core's %T: %w", controller, err)
		}
	}
	return nil
}
