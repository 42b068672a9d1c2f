// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// page is an answer of the API.
type page struct {
	Items []struct {
		ArmRegionName string  `json:"armRegionName"`
		ArmSkuName    string  `json:"armSkuName"`
		ProductName   string  `json:"productName"`
		SkuName       string  `json:"skuName"`
		Type          string  `json:"type"`
		UnitOfMeasure string  `json:"unitOfMeasure"`
		CurrencyCode  string  `json:"currencyCode"`
		RetailPrice   float64 `json:"retailPrice"`
	} `json:"Items"`
	NextPageLink string `json:"NextPageLink"`
}

// maxPages and maxPageBytes bound what one size may have; the API has 1,000 items a page.
const (
	maxPages     = 20
	maxPageBytes = 16 << 20
)

// ask returns the on-demand price of a size in each region, US dollars an hour for Linux.
func ask(ctx context.Context, client *http.Client, api, size string) (map[string]float64, error) {
	filter := fmt.Sprintf("serviceName eq 'Virtual Machines' and armSkuName eq '%s' and priceType eq 'Consumption'", size)
	next := api + "?" + url.Values{"api-version": {"2023-01-01-preview"}, "$filter": {filter}}.Encode()
	out := map[string]float64{}
	for range maxPages {
		var p page
		if err := get(ctx, client, next, &p); err != nil {
			return nil, err
		}
		for _, item := range p.Items {
			// Windows, spot and low-priority prices are under the same name.
			other := strings.Contains(item.ProductName, "Windows") || strings.Contains(item.SkuName, "Spot") ||
				strings.Contains(item.SkuName, "Low Priority") || strings.Contains(item.ProductName, "CloudServices")
			if other || item.Type != "Consumption" || item.UnitOfMeasure != "1 Hour" || item.CurrencyCode != "USD" ||
				item.ArmSkuName != size || item.ArmRegionName == "" || item.RetailPrice <= 0 {
				continue
			}
			if before, twice := out[item.ArmRegionName]; twice && before != item.RetailPrice {
				return nil, fmt.Errorf("%s has two prices, %v and %v", item.ArmRegionName, before, item.RetailPrice)
			}
			out[item.ArmRegionName] = item.RetailPrice
		}
		if next = p.NextPageLink; next == "" {
			return out, nil
		}
	}
	return nil, fmt.Errorf("there are more than %d pages", maxPages)
}

func get(ctx context.Context, client *http.Client, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // read only
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPageBytes))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API answers with status %d: try again in a minute", response.StatusCode)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the API's answer is not as documented: %w", err)
	}
	return nil
}
