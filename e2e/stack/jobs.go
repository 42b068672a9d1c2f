// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// Play decides how a job's pod fares. It may take its time: the pod's first step waits for it.
type Play func(ctx context.Context, pod *corev1.Pod) (cluster.Outcome, error)

// playedAtOnce bounds the processes that jobs are played by.
const playedAtOnce = 4

// playJobs gives every new pod of a Job its outcome, until ctx ends.
func (s *Stack) playJobs(ctx context.Context) error {
	watchPods := func() (watch.Interface, error) {
		return s.Client.Watch(ctx, &corev1.PodList{}, client.HasLabels{labelJob})
	}
	watcher, err := watchPods()
	if err != nil {
		return fmt.Errorf("watching the pods of jobs: %w", err)
	}
	seats := make(chan struct{}, playedAtOnce)
	s.background.Go(func() {
		for {
			s.playWatched(ctx, watcher, seats)
			// The API server has ended the watch, or has ended itself; a new watch begins with what there is.
			err := wait.PollUntilContextCancel(ctx, eventually.StoryTick, true, func(context.Context) (bool, error) {
				watcher, err = watchPods()
				return err == nil, nil
			})
			if err != nil {
				return // the stack ends
			}
		}
	})
	return nil
}

// playWatched plays the pods that a watch shows, until it ends.
func (s *Stack) playWatched(ctx context.Context, watcher watch.Interface, seats chan struct{}) {
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok || event.Type == watch.Deleted || s.played[pod.UID] || !s.simulates(ctx, pod) {
			continue
		}
		s.played[pod.UID] = true
		seats <- struct{}{}
		s.background.Go(func() {
			defer func() { <-seats }()
			if err := s.play(ctx, pod); client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
				s.say("simulated job %s: %v", pod.Name, err)
			}
		})
	}
}

// play finds out how a pod fares, and has the simulated kubelet show it.
func (s *Stack) play(ctx context.Context, pod *corev1.Pod) error {
	outcome, err := s.options.Play(ctx, pod)
	if err != nil {
		return err
	}
	before := pod.DeepCopy()
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, cluster.OutcomeAnnotation, outcome.Annotation())
	// A pod without an outcome would run forever, so retry while the API server is unavailable.
	var failed error
	err = wait.PollUntilContextTimeout(
		ctx,
		eventually.StoryTick,
		eventually.Long,
		true,
		func(ctx context.Context) (bool, error) {
			failed = client.IgnoreNotFound(s.Client.Patch(ctx, pod.DeepCopy(), client.MergeFrom(before)))
			return failed == nil, nil
		},
	)
	return errors.Join(err, failed)
}

// simulates reports whether KWOK runs the pod: it is on a simulated node, and has no outcome yet.
func (s *Stack) simulates(ctx context.Context, pod *corev1.Pod) bool {
	if _, decided := pod.Annotations[cluster.OutcomeAnnotation]; decided || pod.Spec.NodeName == "" {
		return false
	}
	node := &corev1.Node{}
	err := s.Client.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node)
	return err == nil && simulated(node)
}

// stepTime is how long each step of a job is seen to run.
const stepTime = 1500 * time.Millisecond

// TrainAndPush plays a job as its pod would run it: the runner's own binary fetches and pushes, over TLS, from and to
// servers of the stack. Only the training is simulated.
func (s *Stack) TrainAndPush(ctx context.Context, pod *corev1.Pod) (cluster.Outcome, error) {
	folder, err := os.MkdirTemp(s.dir, "pod-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the pod: %w", err)
	}
	outcome, err := (&localPod{stack: s, pod: pod, folder: folder}).run(ctx)
	return outcome, errors.Join(err, os.RemoveAll(folder))
}
