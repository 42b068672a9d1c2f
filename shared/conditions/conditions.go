// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/redact"
)

// Condition types of all kinds.
const (
	Ready       = "Ready"
	Reconciling = "Reconciling"
	Stalled     = "Stalled"
)

// maxMessage is the length in bytes to which messages are shortened. The API server refuses more than 32768.
const maxMessage = 4096

// Object is an object with conditions.
type Object interface {
	metav1.Object
	GetConditions() []metav1.Condition
	SetConditions([]metav1.Condition)
}

// Set sets a condition. The transition time changes only with the status. URLs in the message lose their secrets, and
// the message is shortened to 4096 bytes.
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

// IsTrue returns whether a condition is True.
func IsTrue(obj Object, conditionType string) bool {
	return meta.IsStatusConditionTrue(obj.GetConditions(), conditionType)
}

// MarkReady sets Ready to True, and Reconciling and Stalled to False.
func MarkReady(obj Object, reason, message string) {
	verdict(obj, metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionFalse, reason, message)
}

// MarkReconciling sets Reconciling to True, and Ready and Stalled to False: the reconciler continues without a person.
func MarkReconciling(obj Object, reason, message string) {
	verdict(obj, metav1.ConditionFalse, metav1.ConditionTrue, metav1.ConditionFalse, reason, message)
}

// MarkStalled sets Stalled to True, and Ready and Reconciling to False. The message says what a person must do.
func MarkStalled(obj Object, reason, message string) {
	verdict(obj, metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, reason, message)
}

func verdict(obj Object, ready, reconciling, stalled metav1.ConditionStatus, reason, message string) {
	Set(obj, Ready, ready, reason, message)
	Set(obj, Reconciling, reconciling, reason, message)
	Set(obj, Stalled, stalled, reason, message)
}
