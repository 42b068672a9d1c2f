// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
)

// followed are the kinds whose changes are printed, in the order in which a Workspace creates them.
var followed = []schema.GroupVersionKind{
	{Group: "kaito.sh", Version: "v1alpha1", Kind: "Workspace"},
	{Group: "karpenter.sh", Version: "v1alpha5", Kind: "Machine"},
	{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaim"},
	{Version: "v1", Kind: "Node"},
	{Group: "tuning.kaito.sh", Version: "v1alpha1", Kind: "TuningJob"},
	{Group: "batch", Version: "v1", Kind: "Job"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Version: "v1", Kind: "Service"},
}

// follower tells what becomes of objects, a line for each change of what a person would ask about.
type follower struct {
	say   func(string)
	mutex sync.Mutex
	last  map[string]string
	start time.Time
}

// follow tells changes until ctx ends.
func follow(ctx context.Context, c client.WithWatch, say func(string)) error {
	f := &follower{say: say, last: map[string]string{}, start: time.Now()}
	for _, kind := range followed {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		// Kinds without a namespace do not heed it.
		watcher, err := c.Watch(ctx, list, client.InNamespace(metav1.NamespaceDefault))
		if err != nil {
			return fmt.Errorf("watching %s: %w", kind.Kind, err)
		}
		go func() {
			defer watcher.Stop()
			for event := range watcher.ResultChan() {
				if u, ok := event.Object.(*unstructured.Unstructured); ok {
					f.tell(event.Type, u)
				}
			}
		}()
	}
	return nil
}

func (f *follower) tell(event watch.EventType, u *unstructured.Unstructured) {
	if (u.GetKind() == "Service" && u.GetName() == "kubernetes") ||
		(u.GetKind() == "Node" && u.GetAnnotations()[cluster.SimulatedNodeAnnotation] == "") {
		return // the cluster's own
	}
	name := u.GetKind() + " " + u.GetName()
	state := "gone"
	if event != watch.Deleted {
		state = describe(u)
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.last[name] == state {
		return
	}
	f.last[name] = state
	f.say(fmt.Sprintf("%5.1fs  %-11s %-38s %s", time.Since(f.start).Seconds(), u.GetKind(), u.GetName(), state))
}

// describe is one line for a person: deletion, then the verdict with its reason.
func describe(u *unstructured.Unstructured) string {
	if u.GetDeletionTimestamp() != nil {
		return "being deleted"
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	switch u.GetKind() {
	case "Machine", "NodeClaim":
		return progress(conditions, []string{"Launched", "Registered", "Initialized", "Ready"})
	case "Node":
		gpus, _, _ := unstructured.NestedString(u.Object, "status", "allocatable", "nvidia.com/gpu")
		return verdict(conditions) + ", nvidia.com/gpu " + orNone(gpus)
	case "Job":
		for _, kind := range []string{"Complete", "Failed"} {
			if status, _ := find(conditions, kind); status == "True" {
				return kind
			}
		}
		return "running"
	case "Deployment":
		if status, _ := find(conditions, "Available"); status == "True" {
			return "available"
		}
		return "starting"
	case "Service":
		ip, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP")
		return "cluster IP " + orNone(ip)
	}
	return verdict(conditions)
}

func verdict(conditions []any) string {
	status, reason := find(conditions, "Ready")
	switch status {
	case "":
		return "created"
	case "True":
		return "Ready"
	}
	if stalled, why := find(conditions, "Stalled"); stalled == "True" {
		return "STALLED: " + why
	}
	return "not Ready: " + reason
}

// progress names the last of the conditions that holds.
func progress(conditions []any, order []string) string {
	reached := "created"
	for _, kind := range order {
		status, _ := find(conditions, kind)
		if status == "" {
			status, _ = find(conditions, "Machine"+kind)
		}
		if status == "True" {
			reached = kind
		}
	}
	return reached
}

func find(conditions []any, kind string) (status, text string) {
	for _, item := range conditions {
		condition, ok := item.(map[string]any)
		if !ok || condition["type"] != kind {
			continue
		}
		message, _ := condition["message"].(string)
		return fmt.Sprint(condition["status"]), strings.TrimSuffix(fmt.Sprint(condition["reason"])+" ("+message+")", " ()")
	}
	return "", ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
