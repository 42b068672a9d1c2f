// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// answerTime bounds the wait for a registry's answer about one image.
const answerTime = 30 * time.Second

// resolver asks registries which digest a tag has now. It uses the logins of `docker login`.
type resolver struct{ plainHTTP bool }

// digest returns the digest of the tag: that of the index where the image has several platforms.
func (r resolver) digest(ctx context.Context, tagged string) (string, error) {
	var options []name.Option
	if r.plainHTTP {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(tagged, options...)
	if err != nil {
		return "", fmt.Errorf("%q is not an image with a tag: %w", tagged, err)
	}
	if !strings.HasSuffix(tagged, ":"+tag.TagStr()) {
		return "", fmt.Errorf("%q has no tag: write the one that is meant, for instance %s:1.0", tagged, tagged)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	head, err := remote.Head(tag, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("asking for %s: %w", tagged, err)
	}
	return head.Digest.String(), nil
}
