package sfu

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the SFU counts. Counters of packets are plain numbers that are read when somebody asks.
type metrics struct {
	rooms, participants                                                    prometheus.Gauge
	received, sent                                                         traffic
	dropped, foreign, overrun, broken, asked, repeated, pictureLoss, turns prometheus.Counter
}

// traffic is what went one way.
type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) add(n int) {
	t.packets.Add(1)
	t.bytes.Add(uint64(n)) //nolint:gosec // the size of a packet
}

func newMetrics(registry prometheus.Registerer) *metrics {
	if registry == nil {
		registry = prometheus.NewRegistry() // nobody's
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sfu", Name: name, Help: help})
		registry.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sfu", Name: name, Help: help})
		registry.MustRegister(c)
		return c
	}
	m := &metrics{
		rooms: gauge("rooms", "Rooms."), participants: gauge("participants", "Participants in all rooms."),
		dropped:     counter("dropped_packets_total", "Packets that were not sent: the queue was full, or the kernel refused them."),
		foreign:     counter("foreign_packets_total", "Packets from addresses, or of kinds, that are not let in."),
		overrun:     counter("overrun_packets_total", "Packets that came faster than they could be taken."),
		broken:      counter("broken_packets_total", "Packets that were decrypted and could not be read."),
		asked:       counter("nacks_total", "Packets that senders were asked to send again."),
		repeated:    counter("retransmissions_total", "Packets sent again to receivers."),
		pictureLoss: counter("plis_total", "Key frames that senders were asked for."),
		turns:       counter("turns_total", "Times that a slot went over to another layer."),
	}
	for name, t := range map[string]*traffic{"received": &m.received, "sent": &m.sent} {
		for unit, n := range map[string]*atomic.Uint64{"packets": &t.packets, "bytes": &t.bytes} {
			registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
				Namespace: "sfu", Name: name + "_" + unit + "_total", Help: "RTP " + unit + " " + name + ", without encryption.",
			}, func() float64 { return float64(n.Load()) }))
		}
	}
	return m
}
