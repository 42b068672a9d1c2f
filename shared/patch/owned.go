// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// TakenError says that an object of the needed name exists and is not controlled by the object that needs it. Callers
// report it with the reason NameTaken and this message.
type TakenError struct {
	Kind string
	Key  client.ObjectKey
	// Cause is optional: the API server's conflict, which names the fields and their managers.
	Cause error
}

func (e *TakenError) Error() string {
	message := fmt.Sprintf(
		"%s %s exists and has another owner: delete or rename it, or use another name for the object that needs it",
		e.Kind, e.Key,
	)
	if e.Cause != nil {
		message += fmt.Sprintf(" (%v)", e.Cause)
	}
	return message
}

func (e *TakenError) Unwrap() error { return e.Cause }

// CheckOwner returns a *TakenError unless owner is the controller of obj.
func CheckOwner(c client.Client, owner, obj client.Object) error {
	if metav1.IsControlledBy(obj, owner) {
		return nil
	}
	gvk, err := apiutil.GVKForObject(obj, c.Scheme())
	if err != nil {
		return fmt.Errorf("finding the kind of %T: %w", obj, err)
	}
	return &TakenError{Kind: gvk.Kind, Key: client.ObjectKeyFromObject(obj)}
}

// ApplyOwned makes owner the controller of obj and applies obj as Apply does. It reads the current object with reader.
// An existing object of another controller stays unchanged, and the error is a *TakenError. It returns whether it
// wrote.
func ApplyOwned(
	ctx context.Context, c client.Client, reader client.Reader, manager string, owner, obj client.Object,
) (bool, error) {
	if err := controllerutil.SetControllerReference(owner, obj, c.Scheme()); err != nil {
		return false, fmt.Errorf("setting the controller of %T %s: %w", obj, client.ObjectKeyFromObject(obj), err)
	}
	gvk, err := apiutil.GVKForObject(obj, c.Scheme())
	if err != nil {
		return false, fmt.Errorf("finding the kind of %T: %w", obj, err)
	}
	empty, err := c.Scheme().New(gvk)
	if err != nil {
		return false, fmt.Errorf("creating an empty %s: %w", gvk.Kind, err)
	}
	current := empty.(client.Object)
	err = reader.Get(ctx, client.ObjectKeyFromObject(obj), current)
	switch {
	case apierrors.IsNotFound(err):
		return Apply(ctx, c, manager, obj, nil)
	case err != nil:
		return false, fmt.Errorf("reading %s %s: %w", gvk.Kind, client.ObjectKeyFromObject(obj), err)
	}
	if err := CheckOwner(c, owner, current); err != nil {
		return false, err
	}
	return Apply(ctx, c, manager, obj, current)
}
