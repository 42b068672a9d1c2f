package gateway

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The benchmarks compare the gateway with httputil.ReverseProxy that does nothing else, in one run on one machine: a
// ratio means something where a number of milliseconds on a shared machine does not.

const (
	// openLoopRate is what the design asks for: 2,000 requests a second on two cores, whether or not answers keep up.
	openLoopRate = 2000
	// openLoopSlice and openLoopSlices make 5 s for each of the ways, in turns, so that a noisy second hits all alike.
	openLoopSlice  = 500 * time.Millisecond
	openLoopSlices = 10
	// addedP99 is the design's bound on what the gateway may add to a direct call, at the 99th percentile.
	addedP99 = time.Millisecond
)

// way is one way to the engine.
type way struct{ name, url string }

// ways starts an engine and returns the ways to it: direct, through a bare proxy, through the gateway.
func ways(b *testing.B, engine http.HandlerFunc) (direct, bare, gateway way) {
	b.Helper()
	upstream := httptest.NewServer(engine)
	b.Cleanup(upstream.Close)
	target, err := url.Parse(upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Engine, cfg.Model = upstream.URL, servedModel
	g, err := New(cfg, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(g.Close)
	connections := newTransport(cfg)
	b.Cleanup(connections.CloseIdleConnections)
	through := httptest.NewServer(&httputil.ReverseProxy{
		Transport: connections,
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
	})
	b.Cleanup(through.Close)
	gate := httptest.NewServer(g)
	b.Cleanup(gate.Close)
	return way{"direct", upstream.URL}, way{"bare", through.URL}, way{"gateway", gate.URL}
}

func BenchmarkOpenLoop(b *testing.B) {
	// The size of a short chat and its answer.
	question := `{"model":"` + servedModel + `","messages":[{"role":"user","content":"` + strings.Repeat("why ", 100) + `"}]}`
	direct, bare, gate := ways(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, oneChoice)
	})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}}
	defer client.CloseIdleConnections()
	for b.Loop() {
		took := map[string][]time.Duration{}
		for _, w := range []way{direct, bare, gate} { // connections and buffers are there before anything counts
			openLoop(b, client, w.url, question)
		}
		for range openLoopSlices {
			for _, w := range []way{direct, bare, gate} {
				took[w.name] = append(took[w.name], openLoop(b, client, w.url, question)...)
			}
		}
		for _, percent := range []int{50, 99} {
			at := map[string]time.Duration{}
			for name, all := range took {
				slices.Sort(all)
				at[name] = all[len(all)*percent/100]
			}
			ratio := float64(at["gateway"]) / float64(at["bare"])
			b.Logf("p%d at %d requests/s: direct %s, bare proxy %s, gateway %s: %.2f times the bare proxy, %s more than direct",
				percent, openLoopRate, at["direct"], at["bare"], at["gateway"], ratio, at["gateway"]-at["direct"])
			name := map[int]string{50: "p50", 99: "p99"}[percent]
			b.ReportMetric(ratio, name+"-ratio")
			b.ReportMetric(float64((at["gateway"] - at["direct"]).Microseconds()), name+"-added-µs")
			// Where a bare proxy misses the bound too, the machine is busy with something else and nothing can be said.
			if percent == 99 && at["gateway"]-at["direct"] > addedP99 && at["bare"]-at["direct"] <= addedP99 {
				b.Errorf("the gateway adds %s at the 99th percentile, the bound is %s, which the bare proxy keeps", at["gateway"]-at["direct"], addedP99)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // a run's length is fixed and says nothing
}

// openLoop sends requests at the fixed rate for one slice and returns how long each took from when it was due: an answer
// that is late does not hold the next request back, and the wait counts.
func openLoop(b *testing.B, client *http.Client, root, body string) []time.Duration {
	b.Helper()
	const each = time.Second / openLoopRate
	took := make([]time.Duration, int(openLoopSlice/each))
	var all sync.WaitGroup
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for i := range took {
		due := begin.Add(time.Duration(i) * each)
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		all.Go(func() {
			res, err := client.Post(root+"/v1/chat/completions", "application/json", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("status %d, %v", res.StatusCode, err)
			}
			took[i] = time.Since(due)
		})
	}
	all.Wait()
	return took
}

// BenchmarkStream counts what one more chunk of a streamed answer costs, in allocations of everything on the way, and in
// time from the engine's write to the client's read. Client and engine go in step, so that no chunk joins another.
func BenchmarkStream(b *testing.B) {
	const short, long = 100, 4100
	next := make(chan struct{})
	chunk := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" token"}}]}` + "\n\n")
	direct, bare, gate := ways(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		_ = control.Flush() // the headers
		for range next {
			_, _ = w.Write(chunk)
			_ = control.Flush()
		}
	})
	for b.Loop() {
		allocs, took := map[string]float64{}, map[string]time.Duration{}
		for _, w := range []way{direct, bare, gate} {
			res, err := http.Post(w.url+"/v1/chat/completions", "application/json", strings.NewReader(`{}`))
			if err != nil {
				b.Fatal(err)
			}
			lines := bufio.NewReader(res.Body)
			step := func(chunks int) {
				for range chunks {
					next <- struct{}{}
					for range 2 {
						if _, err := lines.ReadSlice('\n'); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			step(short) // the headers, buffers and goroutines are there
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			begin := time.Now()
			step(long - short)
			took[w.name] = time.Since(begin) / (long - short)
			runtime.ReadMemStats(&after)
			allocs[w.name] = float64(after.Mallocs-before.Mallocs) / (long - short)
			close(next)
			_ = res.Body.Close()
			next = make(chan struct{})
		}
		b.Logf("a chunk: direct %s and %.3f allocations, bare proxy %s and %.3f, gateway %s and %.3f: %.2f times the bare proxy",
			took["direct"], allocs["direct"], took["bare"], allocs["bare"], took["gateway"], allocs["gateway"], float64(took["gateway"])/float64(took["bare"]))
		b.ReportMetric(float64(took["gateway"])/float64(took["bare"]), "chunk-ratio")
		b.ReportMetric(allocs["gateway"]-allocs["bare"], "more-allocs/chunk")
		b.ReportMetric(allocs["gateway"], "allocs/chunk")
		// Half an allocation leaves room for the runtime's own; one of ours would show as a whole one.
		if allocs["gateway"]-allocs["direct"] > 0.5 {
			b.Errorf("the gateway allocates %.2f times a chunk, a direct call %.2f", allocs["gateway"], allocs["direct"])
		}
	}
	b.ReportMetric(0, "ns/op") // a run's length is fixed and says nothing
}
