// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"encoding/json"
	"time"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Annotations of a NodeClaim. They are written before Karpenter writes the status, so that they survive a crash in
// between.
const (
	// AnnotationProviderID is the claim's machine.
	AnnotationProviderID = "kaito.sh/provider-id"
	// AnnotationBoundAt is the time at which the machine was bound (RFC 3339).
	AnnotationBoundAt = "kaito.sh/provider-id-bound-at"
	// AnnotationFailure is why the claim cannot be launched: a Failure as JSON.
	AnnotationFailure = "kaito.sh/launch-failure"
)

// Failure is why a claim cannot be launched.
type Failure struct {
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	Class   azure.Class `json:"class"`
}

// FailureOf returns the failure of a claim, if it has one.
func FailureOf(claim *karpv1.NodeClaim) (Failure, bool) {
	raw, ok := claim.Annotations[AnnotationFailure]
	if !ok {
		return Failure{}, false
	}
	var f Failure
	if err := json.Unmarshal([]byte(raw), &f); err != nil || f.Reason == "" {
		// Another client wrote the annotation. The claim failed, but without a class for which Karpenter deletes it.
		return Failure{Reason: karpenterv1alpha5.ReasonAzureError, Message: raw, Class: azure.ClassTransient}, true
	}
	return f, true
}

func (f Failure) encode() string {
	raw, err := json.Marshal(f)
	if err != nil {
		panic(err) // cannot happen: the fields are strings
	}
	return string(raw)
}

// ProviderIDOf returns the provider ID of the claim's machine, or "".
func ProviderIDOf(claim *karpv1.NodeClaim) string {
	if claim.Status.ProviderID != "" {
		return claim.Status.ProviderID
	}
	return claim.Annotations[AnnotationProviderID]
}

func boundAt(claim *karpv1.NodeClaim) time.Time {
	t, err := time.Parse(time.RFC3339, claim.Annotations[AnnotationBoundAt])
	if err != nil {
		return time.Time{}
	}
	return t
}
