// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/pack"
)

func TestPushedImageIsReadableByOtherClients(t *testing.T) {
	s := newServer(t)
	img := build(t, map[string]string{"adapter_config.json": `{"peft_type":"LORA"}`, "sub/x": "y"})
	digest, err := s.client(t, s.config()).Push(context.Background(), s.host+"/team/adapter:0.0.1", img)
	require.NoError(t, err)

	ref, err := name.ParseReference(s.host + "/team/adapter:0.0.1")
	require.NoError(t, err)
	got, err := remote.Image(ref, s.crane(t)...)
	require.NoError(t, err)
	d, err := got.Digest()
	require.NoError(t, err)
	assert.Equal(t, d.String(), digest)
	manifest, err := got.Manifest()
	require.NoError(t, err)
	assert.Equal(t, "org/model", manifest.Annotations[pack.AnnotationBaseModel])
	fs := mutate.Extract(got)
	defer func() { _ = fs.Close() }()
	files := map[string]string{}
	tr := tar.NewReader(fs)
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		if h.Typeflag == tar.TypeReg {
			body, err := io.ReadAll(tr)
			require.NoError(t, err)
			files[h.Name] = string(body)
		}
	}
	assert.Equal(t, map[string]string{"data/adapter_config.json": `{"peft_type":"LORA"}`, "data/sub/x": "y"}, files)
}

func TestSecondPushSendsNoLayer(t *testing.T) {
	s := newServer(t)
	img := build(t, map[string]string{"a": "b"})
	first, err := s.client(t, s.config()).Push(context.Background(), s.host+"/x:1", img)
	require.NoError(t, err)
	s.uploads.Store(0)
	second, err := s.client(t, s.config()).Push(context.Background(), s.host+"/x:2", img)
	require.NoError(t, err)
	assert.Equal(t, first, second)
	assert.LessOrEqual(t, s.uploads.Load(), int32(1), "the small config at most")
}

func TestPushRetriesAFailedUpload(t *testing.T) {
	s := newServer(t)
	cuts := 0
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") && cuts < 2 {
			cuts++
			if cuts == 1 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	_, err := s.client(t, s.config()).
		Push(context.Background(), s.host+"/x:1", build(t, map[string]string{"a": strings.Repeat("b", 1<<20)}))
	require.NoError(t, err)
	assert.Equal(t, 2, cuts)
}

func TestPushRefusals(t *testing.T) {
	wrong := func(s *server) string {
		return fmt.Sprintf(`{"auths":{%q:{"username":"robot","password":"old"}}}`, s.host)
	}
	for name, c := range map[string]struct {
		config    func(*server) string
		ref       string
		status    int
		reason    string
		permanent bool
	}{
		"no credentials":                  {config: func(*server) string { return "" }, reason: tuningv1alpha1.ReasonOutputDenied, permanent: true},
		"credentials of another registry": {config: func(*server) string { return `{"auths":{"other.azurecr.io":{"auth":"cm9ib3Q6czNjcmV0"}}}` }, reason: tuningv1alpha1.ReasonOutputDenied, permanent: true},
		"a wrong password":                {config: wrong, reason: tuningv1alpha1.ReasonOutputDenied, permanent: true},
		"an unavailable registry":         {status: 503, reason: tuningv1alpha1.ReasonPushFailed},
		"a digest as destination":         {ref: "/x@sha256:" + strings.Repeat("a", 64), reason: tuningv1alpha1.ReasonOutputInvalid, permanent: true},
		"no tag":                          {ref: "/x", reason: tuningv1alpha1.ReasonOutputInvalid, permanent: true},
		"an invalid reference":            {ref: "/UPPER case:1", reason: tuningv1alpha1.ReasonOutputInvalid, permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			config, ref := s.config(), "/x:1"
			if c.config != nil {
				config = c.config(s)
			}
			if c.ref != "" {
				ref = c.ref
			}
			if c.status != 0 {
				s.fault = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(c.status); return true }
			}
			client := s.client(t, config)
			_, err := client.Push(context.Background(), s.host+ref, build(t, map[string]string{"a": "b"}))
			check := client.CheckPush(context.Background(), s.host+ref)
			for what, err := range map[string]error{"the push": err, "the check before it": check} {
				require.Error(t, err, what)
				f := fault.Of(err, "Unsorted")
				assert.Equal(t, c.reason, f.Reason, what)
				assert.Equal(t, c.permanent, f.Permanent, what)
				assert.NotContains(t, err.Error(), password)
			}
		})
	}
}

func TestCheckPushCancelsItsUpload(t *testing.T) {
	s := newServer(t)
	var asked []string
	s.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.Method)
		return false
	}
	require.NoError(t, s.client(t, s.config()).CheckPush(context.Background(), s.host+"/team/x:1"))
	assert.Equal(t, []string{"POST", "POST", "DELETE"}, asked, "unauthorized, authorized, given back")
	assert.Zero(t, s.uploads.Load())
}
