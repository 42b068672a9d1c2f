// SPDX-License-Identifier: Apache-2.0

package simtrainer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Train runs to the end, or until ctx ends. It returns the exit code of the contract, or an error if it could not write
// its result.
func Train(ctx context.Context, getenv func(string) string, out io.Writer, stepTime time.Duration) (int, error) {
	s, err := Read(getenv)
	r := &run{Settings: s, out: out, stepTime: stepTime, started: time.Now()}
	if err == nil {
		err = r.train(ctx)
	}
	return s.conclude(r.snapshot(), err)
}

// run is one attempt.
type run struct {
	Settings
	out      io.Writer
	stepTime time.Duration
	started  time.Time

	mutex   sync.Mutex
	figures Figures
}

func (r *run) train(ctx context.Context) error {
	from, err := r.resume()
	if err != nil {
		return err
	}
	r.update(func(f *Figures) { *f = Figures{FromStep: from, Step: from, TotalSteps: r.Steps, CheckpointStep: from} })
	stop, err := r.answer(ctx)
	if err != nil {
		return err
	}
	defer stop()
	ticker := time.NewTicker(r.stepTime)
	defer ticker.Stop()
	for step := from + 1; step <= r.Steps; step++ {
		select {
		case <-ctx.Done():
			if err := r.checkpoint(step - 1); err != nil {
				return err
			}
			return errPreempted
		case <-ticker.C:
		}
		r.update(func(f *Figures) { f.Step, f.Loss, f.Epoch = step, loss(step, r.Steps), float64(step)/float64(r.Steps) })
		if r.Every > 0 && step%r.Every == 0 {
			if err := r.checkpoint(step); err != nil {
				return err
			}
		}
	}
	if r.Rank != 0 {
		return nil
	}
	return WriteAdapter(r.Adapter, r.BaseModel, r.LoRA, r.Turns)
}

// loss falls as such curves do, and depends on nothing but the step, so that a resumed run continues the curve.
func loss(step, steps int) float64 {
	return math.Round((0.8+1.6*math.Exp(-4*float64(step)/float64(steps)))*1000) / 1000
}

func (r *run) checkpoint(step int) error {
	if r.Rank == 0 {
		if err := r.save(step); err != nil {
			return err
		}
	}
	r.update(func(f *Figures) { f.CheckpointStep = step })
	return nil
}

func (r *run) snapshot() Figures {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.figures
}

// update changes the figures and prints them.
func (r *run) update(change func(*Figures)) {
	r.mutex.Lock()
	change(&r.figures)
	r.figures.Elapsed = time.Since(r.started).Seconds()
	r.mutex.Unlock()
	_, _ = fmt.Fprintf(r.out, "%s\n", r.line()) // a closed pipe is not an error
}

func (r *run) line() []byte {
	text, err := json.Marshal(
		map[string]any{
			"time":  time.Now().UTC().Format(time.RFC3339),
			"step":  "train",
			"event": "progress",
			"train": r.snapshot(),
		},
	)
	if err != nil {
		panic(err) // finite numbers always marshal
	}
	return text
}

// answer serves GET /progress until stop is called.
func (r *run) answer(ctx context.Context) (stop func(), err error) {
	if r.Port == 0 {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(context.WithoutCancel(ctx), "tcp", ":"+strconv.Itoa(r.Port))
	if err != nil {
		return nil, fmt.Errorf("listening for who asks for progress: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /progress", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(r.line()) // the client is gone otherwise
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	return func() {
		_ = server.Close() // nothing is left to serve
		<-done
	}, nil
}
