// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Annotations of a claim that no contract names: they are the workspace-operator's own.
const (
	// AnnotationOrdinal is which of the Workspace's nodes the claim is for.
	AnnotationOrdinal = "kaito.sh/node-ordinal"
	// AnnotationAttempt is the number of failed attempts before the claim.
	AnnotationAttempt = "kaito.sh/node-attempt"
)

// nameDigits is what the strictest provider known leaves: ^[a-z][a-z0-9]{0,11}$ less the prefix.
const nameDigits = 9

// Request is one node that is wanted.
type Request struct {
	// Name, Namespace and UID are the Workspace's.
	Name, Namespace string
	UID             types.UID
	// Ordinal is from 0, Attempt the number of failed attempts before.
	Ordinal, Attempt int

	InstanceType string
	CapacityType kaitov1alpha1.CapacityType
	// GPUs is how many the size has.
	GPUs int64
	// DiskGiB is the ephemeral storage that engine, weights and adapters need.
	DiskGiB int64
	// Labels are put on the node besides the Workspace's own.
	Labels map[string]string
}

// Name is deterministic, so that a pass from a stale cache meets AlreadyExists and not a second node.
func Name(uid types.UID, ordinal, attempt int) string {
	sum := sha256.Sum256([]byte(string(uid) + "/" + strconv.Itoa(ordinal) + "/" + strconv.Itoa(attempt)))
	return "ws" + hex.EncodeToString(sum[:])[:nameDigits]
}

// OwnerLabels are on everything that belongs to a Workspace and can't be owned by it.
func OwnerLabels(w *kaitov1alpha1.Workspace) map[string]string {
	return map[string]string{
		kaitov1alpha1.LabelWorkspaceName:      w.Name,
		kaitov1alpha1.LabelWorkspaceNamespace: w.Namespace,
		kaitov1alpha1.LabelWorkspaceUID:       string(w.UID),
	}
}

// Condition is one of a claim's, in the form that both kinds share. A missing one has an empty status.
type Condition struct {
	Status          corev1.ConditionStatus
	Reason, Message string
	Since           time.Time
}

// True says whether the condition holds.
func (c Condition) True() bool { return c.Status == corev1.ConditionTrue }

// Claim is a Machine or a NodeClaim, as far as its owner reads it.
type Claim struct {
	Object           client.Object
	Kind             string
	Name             string
	UID              types.UID
	Created          time.Time
	Deleting         bool
	Ordinal, Attempt int

	InstanceType string
	CapacityType kaitov1alpha1.CapacityType
	// GPUs is what was asked for, and so what the node must be able to allocate.
	GPUs       int64
	NodeName   string
	ProviderID string

	// Conditions in the order in which they become True: launched, registered, initialized; then the verdict.
	Launched, Registered, Initialized, Ready Condition
	// Acknowledged: the claim has a condition, so a provisioner watches it.
	Acknowledged bool
}

// API is one way to ask for nodes.
type API interface {
	// Kind is Machine or NodeClaim.
	Kind() string
	// Condition is the Workspace's condition type that speaks of these claims.
	Condition() string
	// Object is an empty object of the kind, List an empty list.
	Object() client.Object
	List() client.ObjectList
	// Build renders a request, by the contract.
	Build(Request) client.Object
	// Read reads one object of the kind.
	Read(client.Object) Claim
	// Items are a list's objects.
	Items(client.ObjectList) []client.Object
}

// read fills what both kinds have in their metadata.
func read(kind string, obj client.Object) Claim {
	annotations := obj.GetAnnotations()
	return Claim{
		Object: obj, Kind: kind, Name: obj.GetName(), UID: obj.GetUID(), Created: obj.GetCreationTimestamp().Time,
		Deleting: obj.GetDeletionTimestamp() != nil,
		Ordinal:  number(annotations[AnnotationOrdinal]), Attempt: number(annotations[AnnotationAttempt]),
	}
}

func gpus(requests corev1.ResourceList) int64 {
	q := requests[kaitov1alpha1.ResourceNvidiaGPU]
	return q.Value()
}

// number reads what Build wrote; any other text counts as 0.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (r Request) labels() map[string]string {
	out := map[string]string{}
	maps.Copy(out, r.Labels)
	// Last, so that a selector can't take over the identity.
	maps.Copy(out, OwnerLabels(r.workspace()))
	return out
}

func (r Request) workspace() *kaitov1alpha1.Workspace {
	w := &kaitov1alpha1.Workspace{}
	w.Name, w.Namespace, w.UID = r.Name, r.Namespace, r.UID
	return w
}

func (r Request) annotations() map[string]string {
	return map[string]string{AnnotationOrdinal: strconv.Itoa(r.Ordinal), AnnotationAttempt: strconv.Itoa(r.Attempt)}
}

func (r Request) requests() corev1.ResourceList {
	return corev1.ResourceList{
		// So that "initialized" waits until the GPU can be allocated.
		kaitov1alpha1.ResourceNvidiaGPU: *resource.NewQuantity(r.GPUs, resource.DecimalSI),
		// Never "storage": no node reports that.
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(r.DiskGiB<<30, resource.BinarySI),
	}
}

func taints() []corev1.Taint {
	return []corev1.Taint{
		{Key: kaitov1alpha1.TaintKeySKU, Value: kaitov1alpha1.TaintValueGPU, Effect: corev1.TaintEffectNoSchedule},
	}
}

type requirement struct {
	key, value string
}

func (r Request) requirements() []requirement {
	return []requirement{
		{corev1.LabelInstanceTypeStable, r.InstanceType},
		{labelCapacityType, string(r.CapacityType)},
		{corev1.LabelOSStable, "linux"},
		{corev1.LabelArchStable, "amd64"},
	}
}

// labelCapacityType is Karpenter's, the same in both of its API groups' versions.
const labelCapacityType = "karpenter.sh/capacity-type"
