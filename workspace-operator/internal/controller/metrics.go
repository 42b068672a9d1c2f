package controller

import (
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Metrics are fed by status changes.
type Metrics struct{}

func (m *Metrics) observe(_, _ *kaitov1alpha1.Workspace) {}
func (m *Metrics) forget(_ *kaitov1alpha1.Workspace)     {}
