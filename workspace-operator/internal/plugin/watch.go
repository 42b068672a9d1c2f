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
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

const (
	// settle gathers the changes that come together into one look.
	settle = 200 * time.Millisecond
	// redraw lets ages move on a terminal.
	redraw = time.Second
)

// watch follows a Workspace until it is Ready or stalled.
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

// whileWatching tells what ended the following: a person, or what went wrong.
func whileWatching(parent context.Context, err error) error {
	if parent.Err() != nil {
		return parent.Err()
	}
	var gone *noWorkspaceError
	if errors.As(err, &gone) {
		return &noError{fmt.Sprintf("Workspace %s/%s has been deleted", gone.namespace, gone.name)}
	}
	return err
}

// next waits for a change and for what comes with it; meanwhile the view is kept moving.
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

// changes signals whenever something of the Workspace may have changed. A kind that is not there, or may not be
// watched, is left out: what can be read of it is read at the changes of the others.
func (c *cluster) changes(ctx context.Context, w *kaitov1alpha1.Workspace, watching *sync.WaitGroup) <-chan struct{} {
	signal := make(chan struct{}, 1)
	own := client.InNamespace(w.Namespace)
	for _, one := range []struct {
		list    client.ObjectList
		options []client.ListOption
	}{
		{&kaitov1alpha1.WorkspaceList{}, []client.ListOption{own, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", w.Name)}}},
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

// signalChanges opens the watch again whenever the API server ends it, which it does every few minutes.
func (c *cluster) signalChanges(
	ctx context.Context, list client.ObjectList, options []client.ListOption, signal chan<- struct{},
) {
	_ = wait.PollUntilContextCancel(
		ctx,
		time.Second,
		true,
		func(ctx context.Context) (bool, error) { // it ends with the context
			fresh, ok := list.DeepCopyObject().(client.ObjectList)
			if !ok {
				return true, nil
			}
			watcher, err := c.client.Watch(ctx, fresh, options...)
			switch {
			case absent(err), apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
				return true, nil
			case err != nil:
				return false, nil // tried again
			}
			defer watcher.Stop()
			for range watcher.ResultChan() {
				select {
				case signal <- struct{}{}:
				default: // one is waiting already
				}
			}
			return false, nil
		},
	)
}

// view shows what is followed.
type view interface {
	// show shows a new snapshot, tick lets time go by, finish leaves what stays.
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
	return &journal{out: e.Out, environment: e, renderer: r, started: e.clock.Now(), said: map[string]string{}}
}

// screen draws the tree over the last one.
type screen struct {
	*environment
	out      io.Writer
	renderer renderer
	last     *snapshot
	// height bounds what is drawn: what has scrolled away cannot be drawn over. 0: not known.
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
		_, _ = fmt.Fprintf(&out, "\x1b[%dA", s.drawn) // a builder does not fail
	}
	for _, line := range lines {
		out.WriteString("\x1b[2K" + line + "\n")
	}
	out.WriteString("\x1b[J")
	s.drawn = len(lines)
	_, _ = io.WriteString(s.out, out.String()) // a terminal that is gone ends the process by itself
}

// finish draws once more without cutting, so that the whole of a message can be read.
func (s *screen) finish(snap *snapshot) {
	s.renderer.now, s.renderer.width = s.clock.Now(), 0
	s.draw(s.renderer.lines(snap))
}

// journal writes a line for each change, and the tree at the end.
type journal struct {
	*environment
	out      io.Writer
	renderer renderer
	started  time.Time
	said     map[string]string
}

func (j *journal) show(snap *snapshot) {
	seen := map[string]bool{}
	j.tell(grow(snap), seen)
	for name := range j.said {
		if !seen[name] {
			delete(j.said, name)
			j.say(name, "gone")
		}
	}
}

func (j *journal) tell(b *branch, seen map[string]bool) {
	seen[b.name] = true
	text := strings.Join(strings.Fields(b.text), " ")
	if j.said[b.name] != text {
		j.said[b.name] = text
		j.say(b.name, text)
	}
	for _, child := range b.children {
		j.tell(child, seen)
	}
}

func (j *journal) say(name, text string) {
	_, _ = fmt.Fprintf(
		j.out, "%7.1fs  %-44s  %s\n", j.clock.Since(j.started).Seconds(), name, text,
	) // nobody is left to tell when the output is closed
}

func (j *journal) tick() {}

func (j *journal) finish(snap *snapshot) {
	j.renderer.now = j.clock.Now()
	_, _ = fmt.Fprintln(j.out, "\n"+strings.Join(j.renderer.lines(snap), "\n")) // as above
}
