// What the manifests of an operator's monitoring are validated against: the definitions of Prometheus' operator. Nothing is built of it.
module kaito.sh/hack/tools/monitoring

go 1.26.6

require github.com/prometheus-operator/prometheus-operator v0.85.0
