// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// backend is a port of a pod.
type backend struct {
	namespace, pod string
	port           int32
}

// readyPod returns a ready pod of the Workspace's Service, and the target of the Service's port 80.
func (c *cluster) readyPod(ctx context.Context, w *kaitov1alpha1.Workspace) (backend, error) {
	service := &corev1.Service{}
	err := c.client.Get(ctx, client.ObjectKeyFromObject(w), service)
	switch {
	case apierrors.IsNotFound(err):
		return backend{}, fmt.Errorf(
			"the Workspace %s/%s has no Service yet: %s", w.Namespace, w.Name, currentState(w),
		)
	case err != nil:
		return backend{}, fmt.Errorf("reading the Service of Workspace %s/%s: %w", w.Namespace, w.Name, err)
	case !ours(w, service):
		return backend{}, fmt.Errorf(
			"the Service %s/%s does not belong to this Workspace: its name is taken, see %s explain %s", w.Namespace, w.Name,
			kubectl, kaitov1alpha1.ReasonNameTaken,
		)
	}
	pods := &corev1.PodList{}
	if err := c.client.List(
		ctx, pods, client.InNamespace(w.Namespace), client.MatchingLabels(service.Spec.Selector),
	); err != nil {
		return backend{}, fmt.Errorf("listing the pods of Workspace %s/%s: %w", w.Namespace, w.Name, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.DeletionTimestamp == nil && podReady(pod) {
			port, err := targetPort(service, pod)
			return backend{pod.Namespace, pod.Name, port}, err
		}
	}
	return backend{}, fmt.Errorf(
		"none of %s of Workspace %s/%s is ready: %s", plural(len(pods.Items), "pod"), w.Namespace, w.Name, currentState(w),
	)
}

// currentState returns the state in one line, with the command that shows more.
func currentState(w *kaitov1alpha1.Workspace) string {
	_, text := verdict(w.Status.Conditions, w.DeletionTimestamp)
	return fmt.Sprintf("%s; watch it with %s status %s -n %s -w", text, kubectl, w.Name, w.Namespace)
}

func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func targetPort(service *corev1.Service, pod *corev1.Pod) (int32, error) {
	for _, p := range service.Spec.Ports {
		if p.Port != kaitov1alpha1.PortHTTP {
			continue
		}
		if p.TargetPort.Type == intstr.Int {
			return p.TargetPort.IntVal, nil
		}
		for _, container := range pod.Spec.Containers {
			for _, port := range container.Ports {
				if port.Name == p.TargetPort.StrVal {
					return port.ContainerPort, nil
				}
			}
		}
	}
	return 0, fmt.Errorf(
		"the Service %s/%s has no port %d with a target port of pod %s", service.Namespace, service.Name,
		kaitov1alpha1.PortHTTP, pod.Name,
	)
}

// forward listens on a free port of localhost and forwards connections to the pod until stop is called.
func (c *cluster) forward(ctx context.Context, to backend) (address string, stop func(), err error) {
	url := c.kube.CoreV1().
		RESTClient().
		Post().
		Resource("pods").
		Namespace(to.namespace).
		Name(to.pod).
		SubResource("portforward").
		URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return "", nil, fmt.Errorf("preparing the port-forward: %w", err)
	}
	plain := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, c.config)
	if err != nil {
		return "", nil, fmt.Errorf("preparing the port-forward: %w", err)
	}
	// As kubectl does: WebSocket, or SPDY if the API server or a proxy does not support WebSocket.
	dialer := portforward.NewFallbackDialerForStreaming(tunnel, plain, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	end, ready, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.NewOnAddressesForStreaming(
		dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", to.port)}, end, ready, io.Discard, io.Discard,
	)
	if err != nil {
		return "", nil, fmt.Errorf("preparing the port-forward: %w", err)
	}
	go func() { done <- forwarder.ForwardPorts() }()
	var once sync.Once
	stop = func() { once.Do(func() { close(end) }) }
	select {
	case <-ready:
	case err := <-done:
		stop()
		if err == nil {
			err = errors.New("it ended immediately")
		}
		return "", nil, fmt.Errorf(
			"port-forward to pod %s/%s: %w; it needs permission to create pods/portforward, see %s doctor", to.namespace, to.pod,
			err, kubectl,
		)
	case <-ctx.Done():
		stop()
		return "", nil, ctx.Err()
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) == 0 {
		stop()
		return "", nil, fmt.Errorf("port-forward to pod %s/%s: no local port: %w", to.namespace, to.pod, err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), stop, nil
}
