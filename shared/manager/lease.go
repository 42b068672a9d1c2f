// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// namespaceFile is where a pod finds the namespace that it runs in.
	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	// minLease is the shortest lease that is taken.
	minLease = 3 * time.Second
)

// errNoNamespace is one line that says what to do.
var errNoNamespace = errors.New(
	"--leader-election-namespace is empty and this is not a pod: name the namespace of the lease, or turn it off by --leader-elect=false",
)

// renewal is how long the lease may go without being renewed, retry how often it is, and request how long one request
// may take: half of the renewal, for one that hangs must leave time for another. The proportions are client-go's
// defaults.
func renewal(lease time.Duration) (deadline, retry, request time.Duration) {
	return lease * 2 / 3, lease * 2 / 15, lease / 3
}

// lease is the lock that only one process holds. It has no event recorder: who leads stands in the lease itself, and an
// event at every restart would be a write that nobody asked for.
func lease(config *rest.Config, name, namespace string, timeout time.Duration) (resourcelock.Interface, error) {
	if namespace == "" {
		text, err := os.ReadFile(namespaceFile)
		if errors.Is(err, os.ErrNotExist) {
			return nil, errNoNamespace
		}
		if err != nil {
			return nil, fmt.Errorf("finding the namespace of the lease: %w", err)
		}
		namespace = strings.TrimSpace(string(text))
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("finding a name for the holder of the lease: %w", err)
	}
	config = rest.CopyConfig(config)
	config.Timeout = timeout
	clientset, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "leader-election"))
	if err != nil {
		return nil, fmt.Errorf("making a client for the lease: %w", err)
	}
	return &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Name: name, Namespace: namespace},
		Client:     clientset.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}, nil
}
