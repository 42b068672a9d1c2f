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
	// namespaceFile is the file with the namespace of a pod.
	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	// minLease is the shortest allowed duration of the lease.
	minLease = 3 * time.Second
)

var errNoNamespace = errors.New(
	"--leader-election-namespace is empty and this is not a pod: set it to the namespace of the lease, or set --leader-elect=false",
)

// renewal returns the deadline for renewing the lease, the time between attempts, and the timeout of a request. The
// timeout is half of the deadline, so that a second request is possible. The proportions are the defaults of client-go.
func renewal(lease time.Duration) (deadline, retry, request time.Duration) {
	return lease * 2 / 3, lease * 2 / 15, lease / 3
}

// lease returns the lock of the leader election. It has no event recorder: the lease names the leader, and an event at
// each restart would be an unnecessary write.
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
