// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// syncLimit bounds the wait for a new kind's first list, so that a missing right becomes an error that names it and not
// a hang.
const syncLimit = 20 * time.Second

// Kind is a kind whose CustomResourceDefinition another operator installs.
type Kind struct {
	// Object of the kind; its group, version and kind come from the scheme.
	Object client.Object
	// Resource is the plural name.
	Resource string
	// Handler says which Workspaces an event concerns, Predicates which events do.
	Handler    handler.EventHandler
	Predicates []predicate.Predicate
	// Indexes of the cache, by field.
	Indexes map[string]client.IndexerFunc
	// Gone is called when the kind is no longer served. Optional.
	Gone func(client.Object)
}

// Controller is the part of a controller that starts a watch.
type Controller interface {
	Watch(source.Source) error
}

// Kinds are the foreign kinds of one controller.
type Kinds struct {
	cache      cache.Cache
	scheme     *runtime.Scheme
	kinds      map[schema.GroupVersionKind]Kind
	controller Controller
	// states has one entry a kind, each with its own lock: the first list of one kind does not delay another kind.
	states map[schema.GroupVersionKind]*state
}

type state struct {
	mu      sync.Mutex
	watched bool
}

// New makes the set. Start must be called before Served.
func New(c cache.Cache, scheme *runtime.Scheme, kinds ...Kind) (*Kinds, error) {
	k := &Kinds{
		cache:  c,
		scheme: scheme,
		kinds:  map[schema.GroupVersionKind]Kind{},
		states: map[schema.GroupVersionKind]*state{},
	}
	for _, kind := range kinds {
		gvk, err := apiutil.GVKForObject(kind.Object, scheme)
		if err != nil {
			return nil, fmt.Errorf("adding a foreign kind: %w", err)
		}
		k.kinds[gvk], k.states[gvk] = kind, &state{}
	}
	return k, nil
}

// Start names the controller that watches are added to, before it runs.
func (k *Kinds) Start(c Controller) { k.controller = c }

// SetupWithManager adds a controller that watches each kind as soon as its definition is served: without an object that
// asks for the kind, its existing objects must be seen too.
func (k *Kinds) SetupWithManager(mgr ctrl.Manager) error {
	all := func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} }
	err := ctrl.NewControllerManagedBy(mgr).Named("foreign-kinds").
		Watches(
			&apiextensionsv1.CustomResourceDefinition{}, handler.EnqueueRequestsFromMapFunc(all),
			builder.WithPredicates(k.Predicate()),
		).
		Complete(k)
	if err != nil {
		return fmt.Errorf("building the controller of foreign kinds: %w", err)
	}
	return nil
}

// Reconcile watches every kind that is served, and ends the watch of every kind that is not. The request has no
// meaning.
func (k *Kinds) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var failed error
	for _, kind := range k.kinds {
		_, err := k.Served(ctx, kind.Object)
		failed = errors.Join(failed, err)
	}
	return reconcile.Result{}, failed
}

// Predicate passes the definitions of the kinds.
func (k *Kinds) Predicate() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return k.Concerns(o.GetName()) })
}

// Concerns says whether a CustomResourceDefinition brings one of the kinds.
func (k *Kinds) Concerns(crd string) bool {
	for gvk, kind := range k.kinds {
		if crd == definition(gvk, kind) {
			return true
		}
	}
	return false
}

// Served says whether obj's kind can be read and written now, and sees to it that it is watched from the first time
// that it can, and no longer once it cannot.
func (k *Kinds) Served(ctx context.Context, obj client.Object) (bool, error) {
	gvk, err := apiutil.GVKForObject(obj, k.scheme)
	if err != nil {
		return false, fmt.Errorf("looking up a foreign kind: %w", err)
	}
	kind, ok := k.kinds[gvk]
	if !ok {
		return false, fmt.Errorf("looking up a foreign kind: %s is none", gvk)
	}
	served, err := k.established(ctx, gvk, kind)
	if err != nil {
		return false, err
	}
	state := k.states[gvk]
	state.mu.Lock()
	defer state.mu.Unlock()
	switch {
	case served && !state.watched:
		err = k.watch(ctx, gvk, kind)
		state.watched = err == nil
	case !served && state.watched:
		log.FromContext(ctx).Info("Ending the watch of a kind that is no longer served", "kind", gvk.String())
		err = k.cache.RemoveInformer(ctx, kind.Object)
		state.watched = false
		if kind.Gone != nil {
			kind.Gone(kind.Object)
		}
	}
	return served, err
}

func (k *Kinds) watch(ctx context.Context, gvk schema.GroupVersionKind, kind Kind) error {
	log.FromContext(ctx).Info("Watching a kind that is served now", "kind", gvk.String())
	bounded, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	// First the informer: if it fails, the error is returned and the next pass tries again.
	if err := k.inform(bounded, kind); err != nil {
		// Without this the next reader would wait for the same informer without a bound.
		if removeErr := k.cache.RemoveInformer(ctx, kind.Object); removeErr != nil {
			return fmt.Errorf("giving up the watch of %s: %w", gvk, removeErr)
		}
		return fmt.Errorf("watching %s (may it be listed and watched?): %w", gvk, err)
	}
	if err := k.controller.Watch(source.Kind(k.cache, kind.Object, kind.Handler, kind.Predicates...)); err != nil {
		return fmt.Errorf("watching %s: %w", gvk, err)
	}
	return nil
}

// inform has a kind's objects cached and indexed.
func (k *Kinds) inform(ctx context.Context, kind Kind) error {
	for field, values := range kind.Indexes {
		if err := k.cache.IndexField(ctx, kind.Object, field, values); err != nil {
			return err
		}
	}
	_, err := k.cache.GetInformer(ctx, kind.Object)
	return err
}

func (k *Kinds) established(ctx context.Context, gvk schema.GroupVersionKind, kind Kind) (bool, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	// It is only read, and each pass of each Workspace asks: a copy would be the larger part of the work.
	err := k.cache.Get(ctx, client.ObjectKey{Name: definition(gvk, kind)}, crd, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the definition of %s: %w", gvk, err)
	}
	return crd.DeletionTimestamp.IsZero() && isEstablished(crd) && serves(crd, gvk.Version), nil
}

func definition(gvk schema.GroupVersionKind, kind Kind) string {
	return strings.Join([]string{kind.Resource, gvk.Group}, ".")
}

func isEstablished(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

func serves(crd *apiextensionsv1.CustomResourceDefinition, version string) bool {
	for _, v := range crd.Spec.Versions {
		if v.Name == version {
			return v.Served
		}
	}
	return false
}

// Trim keeps of a CustomResourceDefinition what Served reads: schemas make up nearly all of its bytes.
func Trim(obj any) (any, error) {
	crd, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return obj, nil // a tombstone
	}
	crd.ManagedFields, crd.Annotations, crd.Labels = nil, nil, nil
	crd.Spec.Conversion = nil
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		*v = apiextensionsv1.CustomResourceDefinitionVersion{Name: v.Name, Served: v.Served, Storage: v.Storage}
	}
	return crd, nil
}
