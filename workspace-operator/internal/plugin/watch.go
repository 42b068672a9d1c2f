// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

const (
	// settle is the delay that joins changes into one snapshot.
	settle = 200 * time.Millisecond
	// redraw is the period of updating the ages on a terminal.
	redraw = time.Second
)

// watch shows a Workspace until it is Ready or stalled.
func (e *environment) watch(parent context.Context, c *cluster, name string, timeout time.Duration) error {
	w, err := c.workspace(parent, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	changed := c.changes(ctx, w, &watching)
	var expired <-chan time.Time
	if timeout > 0 {
		timer := e.clock.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C()
	}
	v := e.newView()
	for {
		w, err = c.workspace(ctx, name)
		if err != nil {
			return whileWatching(parent, err)
		}
		s, err := c.look(ctx, w)
		if err != nil {
			return whileWatching(parent, err)
		}
		v.show(s)
		if ended, err := ending(w); ended {
			v.finish(s)
			return err
		}
		if err := e.next(ctx, changed, expired, v); err != nil {
			v.finish(s)
			return err
		}
	}
}

// whileWatching returns the error of an interrupted watch, of a deleted Workspace, or err.
func whileWatching(parent context.Context, err error) error {
	if parent.Err() != nil {
		return parent.Err()
	}
	var missing *noWorkspaceError
	if errors.As(err, &missing) {
		return &noError{fmt.Sprintf("Workspace %s/%s was deleted", missing.namespace, missing.name)}
	}
	return err
}

// next waits for a change, and then for settle. Until then it updates the ages of the view.
func (e *environment) next(ctx context.Context, changed <-chan struct{}, expired <-chan time.Time, v view) error {
	ticker := e.clock.NewTicker(redraw)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-expired:
			return &noError{"neither Ready nor stalled within --timeout"}
		case <-ticker.C():
			v.tick()
		case <-changed:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-e.clock.After(settle):
			}
			return nil
		}
	}
}

// changes returns a channel that signals changes of the Workspace's objects. It skips kinds that are not served or that
// the user may not watch; changes of other kinds update them.
func (c *cluster) changes(ctx context.Context, w *kaitov1alpha1.Workspace, watching *sync.WaitGroup) <-chan struct{} {
	signal := make(chan struct{}, 1)
	own := client.InNamespace(w.Namespace)
	for _, one := range []struct {
		list    client.ObjectList
		options []client.ListOption
	}{
		{&kaitov1alpha1.WorkspaceList{}, []client.ListOption{own, client.MatchingFields{"metadata.name": w.Name}}},
		{nodeAPIs()[0].List(), []client.ListOption{ownedBy(w)}},
		{nodeAPIs()[1].List(), []client.ListOption{ownedBy(w)}},
		{&corev1.NodeList{}, []client.ListOption{ownedBy(w)}},
		{&tuningv1alpha1.TuningJobList{}, []client.ListOption{own}},
		{&batchv1.JobList{}, []client.ListOption{own}},
		{&corev1.PodList{}, []client.ListOption{own}},
	} {
		watching.Go(func() { c.signalChanges(ctx, one.list, one.options, signal) })
	}
	return signal
}

// signalChanges signals each event of a watch. It restarts the watch when the API server ends it, every few minutes.
func (c *cluster) signalChanges(
	ctx context.Context, list client.ObjectList, options []client.ListOption, signal chan<- struct{},
) {
	_ = wait.PollUntilContextCancel(
		ctx,
		time.Second,
		true,
		func(ctx context.Context) (bool, error) { // it returns when ctx ends
			fresh, ok := list.DeepCopyObject().(client.ObjectList)
			if !ok {
				return true, nil
			}
			watcher, err := c.client.Watch(ctx, fresh, options...)
			switch {
			case absent(err), apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
				return true, nil
			case err != nil:
				return false, nil // retry
			}
			defer watcher.Stop()
			for range watcher.ResultChan() {
				select {
				case signal <- struct{}{}:
				default: // a signal is pending
				}
			}
			return false, nil
		},
	)
}

// view shows the snapshots of a watch.
type view interface {
	// show shows a new snapshot, tick updates the ages, finish shows the final state.
	show(*snapshot)
	tick()
	finish(*snapshot)
}

func (e *environment) newView() view {
	r := renderer{palette: paletteFor(e.Out)}
	if width, height, yes := terminal(e.Out); yes {
		r.width = width
		return &screen{out: e.Out, environment: e, renderer: r, height: height}
	}
	return &journal{out: e.Out, environment: e, renderer: r, started: e.clock.Now(), printed: map[string]string{}}
}

// screen redraws the tree on a terminal.
type screen struct {
	*environment
	out      io.Writer
	renderer renderer
	last     *snapshot
	// height is the height of the terminal, which limits the lines that can be redrawn; 0 is unknown.
	height, drawn int
}

func (s *screen) show(snap *snapshot) {
	s.last = snap
	s.tick()
}

func (s *screen) tick() {
	s.renderer.now = s.clock.Now()
	lines := s.renderer.lines(s.last)
	if most := s.height - 2; s.height > 2 && len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… %d more lines are shown at the end", len(lines)-most))
	}
	s.draw(lines)
}

func (s *screen) draw(lines []string) {
	var out strings.Builder
	if s.drawn > 0 {
		_, _ = fmt.Fprintf(&out, "\x1b[%dA", s.drawn) // a strings.Builder does not fail
	}
	for _, line := range lines {
		out.WriteString("\x1b[2K" + line + "\n")
	}
	out.WriteString("\x1b[J")
	s.drawn = len(lines)
	_, _ = io.WriteString(s.out, out.String()) // a closed terminal ends the process
}

// finish draws the tree without truncating lines.
func (s *screen) finish(snap *snapshot) {
	s.renderer.now, s.renderer.width = s.clock.Now(), 0
	s.draw(s.renderer.lines(snap))
}

// journal prints a line for each change, and the tree at the end.
type journal struct {
	*environment
	out      io.Writer
	renderer renderer
	started  time.Time
	printed  map[string]string
}

func (j *journal) show(snap *snapshot) {
	seen := map[string]bool{}
	j.printChanges(newTree(snap), seen)
	for name := range j.printed {
		if !seen[name] {
			delete(j.printed, name)
			j.print(name, "deleted")
		}
	}
}

func (j *journal) printChanges(b *branch, seen map[string]bool) {
	seen[b.name] = true
	text := strings.Join(strings.Fields(b.text), " ")
	if j.printed[b.name] != text {
		j.printed[b.name] = text
		j.print(b.name, text)
	}
	for _, child := range b.children {
		j.printChanges(child, seen)
	}
}

func (j *journal) print(name, text string) {
	_, _ = fmt.Fprintf(
		j.out, "%7.1fs  %-44s  %s\n", j.clock.Since(j.started).Seconds(), name, text,
	) // a closed output cannot be reported
}

func (j *journal) tick() {}

func (j *journal) finish(snap *snapshot) {
	j.renderer.now = j.clock.Now()
	_, _ = fmt.Fprintln(j.out, "\n"+strings.Join(j.renderer.lines(snap), "\n")) // as above
}
