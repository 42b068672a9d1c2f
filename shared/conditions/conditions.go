// SPDX-License-Identifier: Apache-2.0

// Package conditions sets conditions so that kstatus, Helm --wait, Argo and Flux understand every kind alike:
// Ready is the verdict, Reconciling says that work goes on, Stalled says that a person must act.
package conditions

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/redact"
)

// The condition types that every kind has.
const (
	Ready       = "Ready"
	Reconciling = "Reconciling"
	Stalled     = "Stalled"
)

// maxMessage is how much of a message is kept, in bytes; the API server refuses more than 32768.
const maxMessage = 4096

// Object is anything with conditions.
type Object interface {
	metav1.Object
	GetConditions() []metav1.Condition
	SetConditions([]metav1.Condition)
}

// Set sets one condition. The transition time moves only when the status changes. Addresses in the message lose their
// secrets, and a message of more than 4096 bytes its end.
func Set(obj Object, conditionType string, status metav1.ConditionStatus, reason, message string) {
	all := obj.GetConditions()
	meta.SetStatusCondition(&all, metav1.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            excerpt.Head(redact.Text(message), maxMessage),
		ObservedGeneration: obj.GetGeneration(),
	})
	obj.SetConditions(all)
}

// True sets a condition to True.
func True(obj Object, conditionType, reason, message string) {
	Set(obj, conditionType, metav1.ConditionTrue, reason, message)
}

// False sets a condition to False.
func False(obj Object, conditionType, reason, message string) {
	Set(obj, conditionType, metav1.ConditionFalse, reason, message)
}

// Get returns a condition, or nil.
func Get(obj Object, conditionType string) *metav1.Condition {
	return meta.FindStatusCondition(obj.GetConditions(), conditionType)
}

// IsTrue says whether a condition is True.
func IsTrue(obj Object, conditionType string) bool {
	return meta.IsStatusConditionTrue(obj.GetConditions(), conditionType)
}

// MarkReady gives the verdict: all is well, nothing to do.
func MarkReady(obj Object, reason, message string) {
	verdict(obj, metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionFalse, reason, message)
}

// MarkReconciling gives the verdict: not yet, and work goes on by itself.
func MarkReconciling(obj Object, reason, message string) {
	verdict(obj, metav1.ConditionFalse, metav1.ConditionTrue, metav1.ConditionFalse, reason, message)
}

// MarkStalled gives the verdict: not until a person acts. The message says what to do.
func MarkStalled(obj Object, reason, message string) {
	verdict(obj, metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, reason, message)
}

func verdict(obj Object, ready, reconciling, stalled metav1.ConditionStatus, reason, message string) {
	Set(obj, Ready, ready, reason, message)
	Set(obj, Reconciling, reconciling, reason, message)
	Set(obj, Stalled, stalled, reason, message)
}
