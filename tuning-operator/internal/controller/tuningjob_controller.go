// SPDX-License-Identifier: Apache-2.0

// Package controller reconciles TuningJobs.
package controller

import (
	"context"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoevents "k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/events"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/training"
)

// Progress knows what running pods say of themselves.
type Progress interface {
	Track(key types.NamespacedName, pod types.UID, ip string, port int)
	Forget(key types.NamespacedName)
	Latest(key types.NamespacedName, pod types.UID) *message.Line
}

// Options of the reconciler.
type Options struct {
	Job job.Options
	// CheckpointClass of the claims for checkpoints: empty takes the cluster's default class, and the pod's own disk where
	// the cluster has none; ClassNone always takes the pod's own disk.
	CheckpointClass string
}

// ClassNone means that no claims are made.
const ClassNone = "none"

// Reconciler turns TuningJobs into Jobs and what becomes of those into the TuningJobs' status.
type Reconciler struct {
	client client.Client
	// live reads past the cache what is looked at too rarely to be cached.
	live     client.Reader
	catalog  *catalog.Catalog
	recorder clientgoevents.EventRecorder
	clock    clock.PassiveClock
	progress Progress
	metrics  *Metrics
	options  Options
	departed departed
}

// New makes a reconciler.
func New(
	c client.Client, live client.Reader, cat *catalog.Catalog, recorder clientgoevents.EventRecorder, clk clock.PassiveClock,
	progress Progress, metrics *Metrics, options Options,
) *Reconciler {
	return &Reconciler{
		client:   c,
		live:     live,
		catalog:  cat,
		recorder: recorder,
		clock:    clk,
		progress: progress,
		metrics:  metrics,
		options:  options,
		departed: departed{pods: map[types.NamespacedName][]corev1.Pod{}},
	}
}

// scope is one pass.
type scope struct {
	tj   *tuningv1alpha1.TuningJob
	key  types.NamespacedName
	job  *batchv1.Job
	pods []corev1.Pod
	// looked counts the departed pods that this pass has looked at.
	looked int

	model  job.Model
	config training.Config
	claim  job.Claim
}

// Its own objects, and their status:
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs,verbs=list;watch
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs/status,verbs=patch
// The owner reference that a child carries blocks its owner's deletion, which is asked for by this:
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs/finalizers,verbs=update
// The Job that does the work: created once, suspended and resumed, deleted when its time is over:
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// What the Job's pods say of themselves, in their status:
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch
// The training configuration: contents are read by name, changes are seen by metadata:
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch
// Ranks of several nodes find each other by a headless Service:
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch
// Ranks' ports are nobody else's:
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;create;patch
// Checkpoints outlive the pod in a claim, which is given back after success:
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;create;patch;delete
// Whether the cluster has a class for that claim:
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=list
// What happened, for people:
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile brings one TuningJob a step further; a watch brings the next one.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	tj := &tuningv1alpha1.TuningJob{}
	if err := r.client.Get(ctx, req.NamespacedName, tj); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !tj.DeletionTimestamp.IsZero() { // its children are owned: the cluster collects them
		r.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	before := tj.DeepCopy()
	s := &scope{tj: tj, key: req.NamespacedName}
	defer func() {
		if err == nil {
			tj.Status.ObservedGeneration = tj.Generation
		}
		wrote, perr := patch.Status(ctx, r.client, before, tj)
		if perr != nil && err == nil {
			err = client.IgnoreNotFound(perr)
		}
		if wrote && perr == nil {
			r.announce(before, tj)
		}
		if err == nil { // what departed pods have told is in the status
			r.departed.drop(req.NamespacedName, s.looked)
		}
		result, err = flow.RequeueConflict(result, err)
	}()
	return flow.Run(ctx, s,
		flow.Step[*scope]{Name: "finding the Job", Run: r.find},
		flow.Step[*scope]{Name: "tidying up", Run: r.tidy},
		flow.Step[*scope]{Name: "resolving the model", Run: r.resolve},
		flow.Step[*scope]{Name: "reading the configuration", Run: r.configure},
		flow.Step[*scope]{Name: "creating the Job", Run: r.create},
		flow.Step[*scope]{Name: "steering the Job", Run: r.steer},
		flow.Step[*scope]{Name: "observing the Job", Run: r.observe},
	)
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.progress.Forget(key)
	r.departed.forget(key)
}

// find reads the Job and its pods from the cache. A Job of the name that is another's counts as none; creating one will
// tell whose it is.
func (r *Reconciler) find(ctx context.Context, s *scope) (flow.Result, error) {
	found := &batchv1.Job{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: s.tj.Namespace, Name: job.Name(s.tj)}, found)
	if client.IgnoreNotFound(err) != nil {
		return flow.Stop(), err
	}
	if err != nil || !metav1.IsControlledBy(found, s.tj) {
		return flow.Continue(), nil
	}
	s.job = found
	var pods corev1.PodList
	if err := r.client.List(
		ctx, &pods, client.InNamespace(s.tj.Namespace), client.MatchingLabels{job.LabelTuningJob: found.Name},
	); err != nil {
		return flow.Stop(), err
	}
	gone := r.departed.of(s.key)
	s.looked = len(gone)
	s.pods = append(s.pods, gone...)
	s.pods = append(s.pods, pods.Items...)
	s.pods = owned(s.pods, found)
	return flow.Continue(), nil
}

// owned keeps the Job's own pods, each once; the later of two is the fresher.
func owned(pods []corev1.Pod, by *batchv1.Job) []corev1.Pod {
	at := map[types.UID]int{}
	var out []corev1.Pod
	for i := range pods {
		if !metav1.IsControlledBy(&pods[i], by) {
			continue
		}
		if n, seen := at[pods[i].UID]; seen {
			out[n] = pods[i]
			continue
		}
		at[pods[i].UID] = len(out)
		out = append(out, pods[i])
	}
	return out
}

// finished tells whether the TuningJob has ended: its Job is not made again then.
func finished(tj *tuningv1alpha1.TuningJob) bool {
	return conditions.IsTrue(tj, tuningv1alpha1.ConditionSucceeded) ||
		conditions.IsTrue(tj, tuningv1alpha1.ConditionFailed)
}

// announce says a change of the verdict's reason as an event, and counts ends and attempts.
func (r *Reconciler) announce(before, after *tuningv1alpha1.TuningJob) {
	was, is := conditions.Get(before, conditions.Ready), conditions.Get(after, conditions.Ready)
	if is != nil && (was == nil || was.Reason != is.Reason) {
		kind := corev1.EventTypeNormal
		if conditions.IsTrue(after, conditions.Stalled) || is.Reason == tuningv1alpha1.ReasonRetrying {
			kind = corev1.EventTypeWarning
		}
		events.Publish(r.recorder, after, kind, is.Reason, is.Message)
	}
	r.metrics.observe(before, after)
}

// departed remembers pods that went away before a pass could look at how they ended. It is evidence and nothing is
// decided by it: after a restart of the operator it is empty.
type departed struct {
	mu   sync.Mutex
	pods map[types.NamespacedName][]corev1.Pod
}

// maxDeparted pods of one TuningJob between two passes.
const maxDeparted = 64

func (d *departed) add(key types.NamespacedName, pod *corev1.Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pods[key]) < maxDeparted {
		d.pods[key] = append(d.pods[key], *pod)
	}
}

func (d *departed) of(key types.NamespacedName) []corev1.Pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]corev1.Pod(nil), d.pods[key]...)
}

// drop forgets the n oldest.
func (d *departed) drop(key types.NamespacedName, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pods[key] = d.pods[key][min(n, len(d.pods[key])):]; len(d.pods[key]) == 0 {
		delete(d.pods, key)
	}
}

func (d *departed) forget(key types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pods, key)
}
