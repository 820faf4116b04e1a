package verify

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

//go:embed scanner.py
var scannerSource string

// consoles are ports that software opens when nobody told it not to: administration, metrics, debuggers,
// the Docker engine, and the stores under other names.
var consoles = []int{
	2375, 2376, 3000, 3306, 5432, 5433, 5766, 6060, 7000, 7001, 7199, 8000, 8080, 8081, 8443, 8888,
	9000, 9001, 9090, 9091, 9100, 9121, 9160, 11211, 26257, 26258, 27017,
}

// patience is how long a door may take to answer. What should answer and does not is asked again, longer.
const (
	patience    = time.Second
	morePatient = 3 * time.Second
)

// tries bounds the connections this machine opens at once.
const tries = 128

func climbPorts(ctx context.Context, s *site, p *proofs) {
	t, err := newTable(s.Description)
	if err != nil {
		p.prove(ctx, "port table", "", func(context.Context) (string, error) { return "", err })
		return
	}
	scan := &scan{site: s, table: t}
	// Without a firewall every port would only say so again.
	if !p.prove(ctx, "firewalls", "roles/firewall", scan.firewallsLoaded) || !p.prove(ctx, "listeners", "deploy status", scan.findListeners) {
		return
	}
	steps := []step{{"tcp from this machine", "admin_networks", scan.fromHere}}
	for _, o := range scan.insiders() {
		steps = append(steps, step{"tcp from " + o.name, "python3 on " + o.name, func(ctx context.Context) (string, error) {
			return scan.fromInside(ctx, o)
		}})
	}
	p.together(ctx, steps...)
	scan.climbUDP(ctx, p)
}

// scan holds what every host listens on beside the table.
type scan struct {
	*site
	table     table
	listeners map[string]map[int]string // host → port → what listens, and where
}

// fromThisMachine is the operator's machine: it administers, and it is in no group.
var fromThisMachine = observer{name: "this machine", admin: true}

// insiders is one host of each group, each once, if there is another host it could reach.
func (s *scan) insiders() []observer {
	if len(s.Hosts) < 2 {
		return nil
	}
	var found []observer
	for _, group := range []string{"lb", "app", "db", "storage"} {
		host := s.first(group)
		if !slices.ContainsFunc(found, func(o observer) bool { return o.name == host }) {
			found = append(found, s.table.inside(host, s.Hosts[host].Address))
		}
	}
	return found
}

// findListeners asks every host what it listens on.
func (s *scan) findListeners(ctx context.Context) (string, error) {
	s.listeners = map[string]map[int]string{}
	var mu sync.Mutex
	var g errgroup.Group
	for _, host := range s.HostNames() {
		g.Go(func() error {
			out, err := s.shell.Run(ctx, host, nil, "ss", "-ltnpH")
			if err != nil {
				return fmt.Errorf("list the listeners of %s: %w", host, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.listeners[host] = parseListeners(string(out))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	total := 0
	for _, ports := range s.listeners {
		total += len(ports)
	}
	return fmt.Sprintf("%d hosts listen on %d TCP ports, loopback included", len(s.Hosts), total), nil
}

// parseListeners reads lines of `ss -ltnpH`: port → program and address.
func parseListeners(text string) map[int]string {
	found := map[int]string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		local := fields[3]
		port, err := strconv.Atoi(local[strings.LastIndex(local, ":")+1:])
		if err != nil {
			continue
		}
		what := local
		if _, users, ok := strings.Cut(line, `users:(("`); ok {
			program, _, _ := strings.Cut(users, `"`)
			what = program + " on " + local
		}
		if known := found[port]; known != "" && known != what {
			what = known + ", " + what
		}
		found[port] = what
	}
	return found
}

func (s *scan) listener(d door) string {
	if what := s.listeners[d.host][d.port]; what != "" {
		return what
	}
	return "something ss does not show"
}

// doors are the TCP ports worth trying on a host: the table's, its own, and the known consoles.
func (s *scan) doors(host, address string, outside bool) []door {
	ports := slices.Clone(consoles)
	for _, p := range s.table.ports {
		if low, high, err := portRange(p.Port); err == nil && p.Proto == "tcp" {
			ports = append(ports, low, high)
		}
	}
	for port := range s.listeners[host] {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	var all []door
	for _, port := range slices.Compact(ports) {
		all = append(all, door{host, address, "tcp", port, outside})
	}
	return all
}

func (s *scan) fromHere(ctx context.Context) (string, error) {
	var doors []door
	for _, host := range s.HostNames() {
		h := s.Hosts[host]
		doors = append(doors, s.doors(host, h.Address, false)...)
		if h.PublicAddress != h.Address {
			doors = append(doors, s.doors(host, h.PublicAddress, true)...)
		}
	}
	return s.judgeAll(ctx, fromThisMachine, doors, tryHere)
}

func (s *scan) fromInside(ctx context.Context, o observer) (string, error) {
	var doors []door
	for _, host := range s.HostNames() {
		if host != o.name {
			doors = append(doors, s.doors(host, s.Hosts[host].Address, false)...)
		}
	}
	return s.judgeAll(ctx, o, doors, s.tryFrom(o.name))
}

// trier tries doors and returns what each did, in the same order.
type trier func(ctx context.Context, doors []door, wait time.Duration) ([]outcome, error)

// judgeAll tries all doors, asks the silent ones that should answer once more, and judges.
func (s *scan) judgeAll(ctx context.Context, o observer, doors []door, try trier) (string, error) {
	did, err := try(ctx, doors, patience)
	if err != nil {
		return "", err
	}
	if err := s.askAgain(ctx, o, doors, did, try); err != nil {
		return "", err
	}
	var wrong several
	reached := 0
	for i, d := range doors {
		if did[i] == open {
			reached++
		}
		if problem := s.table.judge(o, d, did[i], s.listener(d)); problem != nil {
			wrong = append(wrong, problem)
		}
	}
	if len(wrong) > 0 {
		return "", wrong
	}
	return fmt.Sprintf("%d ports tried: the %d the table opens to it answer, %d are closed", len(doors), reached, len(doors)-reached), nil
}

func (s *scan) askAgain(ctx context.Context, o observer, doors []door, did []outcome, try trier) error {
	var again []door
	var at []int
	for i, d := range doors {
		if _, admitted := s.table.admitting(o, d); admitted && did[i] == silent && !d.outside {
			again, at = append(again, d), append(at, i)
		}
	}
	if len(again) == 0 {
		return nil
	}
	second, err := try(ctx, again, morePatient)
	if err != nil {
		return err
	}
	for i, index := range at {
		did[index] = second[i]
	}
	return nil
}

// tryHere tries doors from this machine.
func tryHere(ctx context.Context, doors []door, wait time.Duration) ([]outcome, error) {
	did := make([]outcome, len(doors))
	var g errgroup.Group
	g.SetLimit(tries)
	dialer := net.Dialer{Timeout: wait}
	for i, d := range doors {
		g.Go(func() error {
			conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(d.address, strconv.Itoa(d.port)))
			did[i] = outcomeOf(err)
			if err == nil {
				return conn.Close()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return did, ctx.Err()
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return open
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	default:
		return silent
	}
}

// plan is what scanner.py does.
type plan struct {
	TCP       [][2]any `json:"tcp,omitempty"`
	UDP       [][2]any `json:"udp,omitempty"`
	Seconds   float64  `json:"seconds,omitempty"`
	Datagrams int      `json:"datagrams,omitempty"`
}

func targets(doors []door) [][2]any {
	list := make([][2]any, len(doors))
	for i, d := range doors {
		list[i] = [2]any{d.address, d.port}
	}
	return list
}

// tryFrom tries doors from a host, with a small program that is sent to its python3 and leaves nothing there.
func (s *scan) tryFrom(host string) trier {
	return func(ctx context.Context, doors []door, wait time.Duration) ([]outcome, error) {
		out, err := s.runScanner(ctx, host, plan{TCP: targets(doors), Seconds: wait.Seconds()})
		if err != nil {
			return nil, err
		}
		return parseOutcomes(out, doors)
	}
}

func (s *scan) runScanner(ctx context.Context, host string, what plan) ([]byte, error) {
	encoded, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	out, err := s.shell.Run(ctx, host, strings.NewReader(scannerSource), "python3", "-", string(encoded))
	if err != nil {
		return nil, fmt.Errorf("scan from %s: %w", host, err)
	}
	return out, nil
}

func parseOutcomes(out []byte, doors []door) ([]outcome, error) {
	var rows []scanned
	if err := json.Unmarshal(out, &rows); err != nil {
		return nil, fmt.Errorf("read the scanner's answer: %w", err)
	}
	by := map[netip.AddrPort]outcome{}
	for _, row := range rows {
		by[row.at] = row.did
	}
	did := make([]outcome, len(doors))
	for i, d := range doors {
		at, err := netip.ParseAddr(d.address)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", d.host, err)
		}
		tried, ok := by[netip.AddrPortFrom(at, uint16(d.port))] // #nosec G115 -- a port of the table or of ss
		if !ok {
			return nil, fmt.Errorf("the scanner says nothing of %s", d)
		}
		did[i] = tried
	}
	return did, nil
}

// scanned is one row of the scanner's answer: [address, port, outcome].
type scanned struct {
	at  netip.AddrPort
	did outcome
}

func (s *scanned) UnmarshalJSON(text []byte) error {
	var address string
	var port uint16
	if err := json.Unmarshal(text, &[]any{&address, &port, &s.did}); err != nil {
		return err
	}
	at, err := netip.ParseAddr(address)
	s.at = netip.AddrPortFrom(at, port)
	return err
}
