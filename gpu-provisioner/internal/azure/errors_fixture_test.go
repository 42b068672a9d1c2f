// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/stretchr/testify/require"
)

// azureError returns the error that the SDK builds from such a response.
func azureError(t *testing.T, status int, code, message string, header http.Header) error {
	t.Helper()
	body := `{"error":{"code":"` + code + `","message":"` + strings.ReplaceAll(message, "\n", `\n`) + `"}}`
	if status == 0 {
		status, body = 200, `{"status":"Failed",`+body[1:]
	}
	if header == nil {
		header = http.Header{}
	}
	request, err := http.NewRequest(http.MethodGet, "https://management.example/x", nil)
	require.NoError(t, err)
	return runtime.NewResponseError(&http.Response{
		StatusCode: status, Header: header, Request: request, Body: io.NopCloser(strings.NewReader(body)),
	})
}

func matchingRow(code string, status int, message string) string {
	for i := range table {
		if _, ok := table[i].match(facts{code: code, status: status, message: message}); ok {
			return table[i].name
		}
	}
	return ""
}
