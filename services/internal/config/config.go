// Package config reads a service's settings from the environment and reports every problem at once.
// A secret NAME is read from the file NAME_FILE points to, or else from NAME itself.
package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
)

// Reader collects values and what is wrong with them. Read everything, then ask Err once.
type Reader struct {
	lookup   func(string) (string, bool)
	problems *multierror.Error
}

// FromEnvironment reads the process's environment.
func FromEnvironment() *Reader { return From(os.LookupEnv) }

// From reads through lookup, so that a test brings its own environment.
func From(lookup func(string) (string, bool)) *Reader { return &Reader{lookup: lookup} }

// Err is every problem met so far, or nil.
func (r *Reader) Err() error { return r.problems.ErrorOrNil() }

// Problem adds a finding of the caller's own, such as two settings that contradict each other.
func (r *Reader) Problem(name, format string, args ...any) {
	r.problems = multierror.Append(r.problems, fmt.Errorf("%s %s", name, fmt.Sprintf(format, args...)))
}

// Text is the value of name, or fallback where it is unset or empty.
func (r *Reader) Text(name, fallback string) string {
	if value, set := r.lookup(name); set && value != "" {
		return value
	}
	return fallback
}

// Required is the value of name, which must be set.
func (r *Reader) Required(name string) string {
	value := r.Text(name, "")
	if value == "" {
		r.Problem(name, "must be set")
	}
	return value
}

// OneOf is the value of name, which must be among the allowed ones.
func (r *Reader) OneOf(name, fallback string, allowed ...string) string {
	value := r.Text(name, fallback)
	if !slices.Contains(allowed, value) {
		r.Problem(name, "is %q; it must be one of %s", value, strings.Join(allowed, ", "))
	}
	return value
}

// Int is the value of name between lowest and highest.
func (r *Reader) Int(name string, fallback, lowest, highest int) int {
	text, set := r.lookup(name)
	if !set || text == "" {
		return fallback
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < lowest || value > highest {
		r.Problem(name, "is %q; it must be a whole number from %d to %d", text, lowest, highest)
		return fallback
	}
	return value
}

// Port is the TCP or UDP port in name.
func (r *Reader) Port(name string, fallback int) int { return r.Int(name, fallback, 1, 65535) }

// Duration is the value of name, such as 30s or 1h.
func (r *Reader) Duration(name string, fallback time.Duration) time.Duration {
	text, set := r.lookup(name)
	if !set || text == "" {
		return fallback
	}
	value, err := time.ParseDuration(text)
	if err != nil || value <= 0 {
		r.Problem(name, "is %q; it must be a time such as 30s or 1h", text)
		return fallback
	}
	return value
}

// URL is where a service listens, as the required name says: http(s)://host:port.
func (r *Reader) URL(name string) *url.URL {
	raw := r.Required(name)
	service, err := url.Parse(raw)
	if raw != "" && (err != nil || service.Scheme != "http" && service.Scheme != "https" || service.Host == "" || service.Path != "") {
		r.Problem(name, "is %q; it must be http(s)://host:port", raw)
	}
	return service
}

// Address is the IP address in the required name.
func (r *Reader) Address(name string) netip.Addr {
	raw := r.Required(name)
	address, err := netip.ParseAddr(raw)
	if raw != "" && err != nil {
		r.Problem(name, "is %q; it must be an IP address", raw)
	}
	return address
}

// Prefixes is a comma list of addresses and networks.
func (r *Reader) Prefixes(name, fallback string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, item := range strings.Split(r.Text(name, fallback), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		prefix, err := parsePrefix(item)
		if err != nil {
			r.Problem(name, "holds %q, which is neither an address nor a network", item)
			continue
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes
}

func parsePrefix(item string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(item); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(item)
}

// Secret is the required secret name. One line end after it is not part of it.
func (r *Reader) Secret(name string) Secret {
	path := r.Text(name+"_FILE", "")
	if path == "" {
		value := r.Text(name, "")
		if value == "" {
			r.Problem(name+"_FILE", "must name a file (or %s be set)", name)
		}
		return NewSecret(value)
	}
	value, err := readSecret(path)
	if err != nil {
		r.Problem(name+"_FILE", "cannot be read: %v", err)
	} else if value == "" {
		r.Problem(name+"_FILE", "names an empty file: %s", path)
	}
	return NewSecret(value)
}

// ChangingSecret is one whose file is replaced while the service runs: whoever reveals it gets what the file has then.
func (r *Reader) ChangingSecret(name string) Secret {
	s := r.Secret(name)
	s.path = r.Text(name+"_FILE", "")
	return s
}
