package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readings are what every service counts about its requests, by route and never by path.
type readings struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newReadings(registry *prometheus.Registry) *readings {
	r := &readings{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests answered.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_seconds", Help: "Time to answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route"}),
	}
	registry.MustRegister(r.requests, r.seconds)
	return r
}

func (r *readings) add(method, route string, status int, took time.Duration) {
	method = knownMethod(method)
	r.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	r.seconds.WithLabelValues(method, route).Observe(took.Seconds())
}

// knownMethod keeps strangers from making new series with invented methods.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

func newRegistry(service string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "secureconnect_service", Help: "1 for the service that runs here.",
		ConstLabels: prometheus.Labels{"service": service},
	})
	info.Set(1)
	registry.MustRegister(info)
	return registry
}

// loopbackMux serves what only this host may ask for.
func loopbackMux(registry *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}
