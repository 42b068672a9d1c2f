// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
)

// item of the API, as its documentation shows one.
func item(region, product, sku, kind string, price float64) string {
	return fmt.Sprintf(
		`{"currencyCode":"USD","retailPrice":%v,"armRegionName":%q,"productName":%q,"skuName":%q,"unitOfMeasure":"1 Hour","type":%q,"armSkuName":"Standard_NC24ads_A100_v4"}`,
		price, region, product, sku, kind,
	)
}

// api answers in two pages, with the prices that must not be taken among them.
func api(t *testing.T, status int) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		items, next := "", "null"
		switch {
		case !strings.Contains(r.URL.Query().Get("$filter"), "'Standard_NC24ads_A100_v4'"):
		case r.URL.Query().Get("page") == "":
			const linux, windows = "Virtual Machines NCads A100 v4 Series", "Virtual Machines NCads A100 v4 Series Windows"
			items = strings.Join([]string{
				item("eastus", linux, "NC24ads A100 v4", "Consumption", 3.5),
				item("eastus", linux, "NC24ads A100 v4 Spot", "Consumption", 0.9),
				item("eastus", linux, "NC24ads A100 v4 Low Priority", "Consumption", 0.7),
				item("eastus", windows, "NC24ads A100 v4", "Consumption", 4.6),
				item("westus", linux, "NC24ads A100 v4", "Reservation", 20000),
			}, ",")
			next = `"` + server.URL + "?page=2&" + strings.ReplaceAll(r.URL.RawQuery, `"`, "") + `"`
		default:
			items = item("westeurope", "Virtual Machines NCads A100 v4 Series", "NC24ads A100 v4", "Consumption", 4.25)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"Items":[%s],"NextPageLink":%s,"Count":1}`, items, next)
	})
	t.Cleanup(server.Close)
	return server
}

func TestOnDemandPricesOfLinuxAreWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "prices.yaml")
	require.NoError(t, run(t.Context(), []string{"-out", file, "-api", api(t, http.StatusOK).URL}, &strings.Builder{}))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(text), "    Standard_NC24ads_A100_v4:\n      {eastus: 3.5, westeurope: 4.25}\n")
	assert.Equal(t, 1, strings.Count(string(text), "Standard_"))
	c, err := catalog.Load(text)
	require.NoError(t, err, "the catalogue reads what is written")
	price, known := c.Price("Standard_NC24ads_A100_v4", "westeurope", catalog.CapacityOnDemand)
	require.True(t, known)
	assert.InDelta(t, 4.25, price.USDPerHour, 1e-9)
}

func TestAFailingAPILeavesThePrices(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "prices.yaml")
	require.NoError(t, os.WriteFile(file, []byte("before"), 0o600))
	err := run(t.Context(), []string{"-out", file, "-api", api(t, http.StatusTooManyRequests).URL}, &strings.Builder{})
	require.ErrorContains(t, err, "status 429")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "before", string(text))
}
