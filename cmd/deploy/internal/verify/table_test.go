package verify

import (
	"strings"
	"testing"

	"secureconnect/cmd/deploy/internal/inventory"
)

// guide is the guide's port table on its five hosts.
func guide(t *testing.T) table {
	t.Helper()
	desc := describedLoopback()
	desc.AdminNetworks = []string{"10.89.0.1", "192.0.2.0/24"}
	desc.Ports = []inventory.Port{
		{Name: "ssh", Group: "all", Proto: "tcp", Port: "22", From: []string{"admin"}},
		{Name: "http", Group: "lb", Proto: "tcp", Port: "80", From: []string{"everyone"}},
		{Name: "https", Group: "lb", Proto: "tcp", Port: "443", From: []string{"everyone"}},
		{Name: "gateway", Group: "app", Proto: "tcp", Port: "8080", From: []string{"lb"}},
		{Name: "media", Group: "app", Proto: "udp", Port: "10000", From: []string{"storage"}},
		{Name: "sql", Group: "db", Proto: "tcp", Port: "26257", From: []string{"app"}},
		{Name: "s3", Group: "storage", Proto: "tcp", Port: "9000", From: []string{"app", "lb"}},
		{Name: "turn", Group: "storage", Proto: "udp", Port: "3478", From: []string{"everyone"}},
		{Name: "relay", Group: "storage", Proto: "udp", Port: "49152-57343", From: []string{"app"}},
	}
	made, err := newTable(desc)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func at(host string, port int) door {
	return door{host: host, address: "127.0.0.1", proto: "tcp", port: port}
}

func TestJudge(t *testing.T) {
	table := guide(t)
	app, lb, db := table.inside("app-01", "10.89.0.11"), table.inside("lb-01", "10.89.0.10"), table.inside("db-01", "10.89.0.13")
	administers := table.inside("app-02", "192.0.2.9")
	for name, c := range map[string]struct {
		from observer
		door door
		did  outcome
		look string // empty: as promised
	}{
		"everyone reaches https":                  {fromThisMachine, at("lb-01", 443), open, ""},
		"https that is closed":                    {fromThisMachine, at("lb-01", 443), silent, "entry https"},
		"https without a listener":                {fromThisMachine, at("lb-01", 443), refused, "docker compose ps on lb-01"},
		"the operator reaches ssh":                {fromThisMachine, at("db-01", 22), open, ""},
		"ssh that is closed to the operator":      {fromThisMachine, at("db-01", 22), silent, "admin_networks"},
		"ssh open between hosts":                  {app, at("db-01", 22), open, "admin_networks"},
		"ssh open to a host of an admin network":  {administers, at("db-01", 22), open, ""},
		"the operator is no app host":             {fromThisMachine, at("db-01", 26257), open, "entry sql"},
		"the database is closed to the operator":  {fromThisMachine, at("db-01", 26257), silent, ""},
		"app reaches the database":                {app, at("db-01", 26257), open, ""},
		"app does not reach the database":         {app, at("db-01", 26257), silent, "entry sql"},
		"lb reaches the database":                 {lb, at("db-01", 26257), open, "entry sql"},
		"one of several sources":                  {lb, at("storage-01", 9000), open, ""},
		"none of several sources":                 {db, at("storage-01", 9000), silent, ""},
		"a port of another group":                 {lb, at("app-01", 443), open, "no entry of port_table"},
		"the gateway from another app host":       {app, at("app-02", 8080), open, "entry gateway"},
		"a console":                               {fromThisMachine, at("storage-01", 9001), open, "no entry of port_table"},
		"a console behind an open firewall":       {fromThisMachine, at("storage-01", 9001), refused, "no entry of port_table"},
		"a udp entry opens no tcp port":           {fromThisMachine, at("storage-01", 3478), open, "no entry of port_table"},
		"closed by somebody else on the way":      {fromThisMachine, door{"db-01", "192.0.2.13", "tcp", 22, true}, silent, ""},
		"open on the way that nobody was to take": {fromThisMachine, door{"db-01", "192.0.2.13", "tcp", 26257, true}, open, "entry sql"},
	} {
		t.Run(name, func(t *testing.T) {
			got := table.judge(c.from, c.door, c.did, "docker-proxy on 0.0.0.0")
			if c.look == "" {
				if got != nil {
					t.Errorf("got %q", got.Cause)
				}
				return
			}
			if got == nil {
				t.Fatal("it passed")
			}
			if !strings.Contains(got.Look, c.look) {
				t.Errorf("looks at %q, want %q in it", got.Look, c.look)
			}
			if !strings.Contains(got.Cause, c.door.String()) || !strings.Contains(got.Cause, c.from.name) {
				t.Errorf("%q names neither the door nor who tried it", got.Cause)
			}
		})
	}
}

func TestJudge_an_open_door_names_what_listens(t *testing.T) {
	got := guide(t).judge(fromThisMachine, at("db-01", 26257), open, "docker-proxy on 0.0.0.0:26257")
	if want := "db-01:26257/tcp is open to this machine, whom no entry admits; there listens docker-proxy on 0.0.0.0:26257"; got == nil || got.Cause != want {
		t.Errorf("got %v, want %q", got, want)
	}
}

func TestJudge_https_needs_no_listener_without_tls(t *testing.T) {
	table := guide(t)
	table.plain = true
	if got := table.judge(fromThisMachine, at("lb-01", 443), refused, ""); got != nil {
		t.Errorf("got %q", got.Cause)
	}
	if got := table.judge(fromThisMachine, at("lb-01", 80), refused, ""); got == nil {
		t.Error("http without a listener passed")
	}
}

func TestJudge_all_in_one_counts_as_every_group(t *testing.T) {
	desc := describedLoopback()
	desc.Groups = map[string][]string{"lb": {"node-01"}, "app": {"node-01"}, "db": {"node-01"}, "storage": {"node-01"}}
	table, err := newTable(desc)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.inside("node-01", "10.90.0.10").groups; len(got) != 4 {
		t.Errorf("it counts as %v", got)
	}
}

func TestNewTable_names_what_it_cannot_read(t *testing.T) {
	for look, breaks := range map[string]func(*inventory.Description){
		"admin_networks": func(d *inventory.Description) { d.AdminNetworks = []string{"here"} },
		"port_table in group_vars/all/ports.yml": func(d *inventory.Description) {
			d.Ports = []inventory.Port{{Name: "sql", Group: "db", Proto: "tcp", Port: "26257-"}}
		},
	} {
		desc := describedLoopback()
		breaks(desc)
		_, err := newTable(desc)
		if c := verdict("", "", "", err, 0)[0]; c.Look != look {
			t.Errorf("looks at %q, want %q", c.Look, look)
		}
	}
}

func TestJudgeUDP(t *testing.T) {
	table := guide(t)
	doors := []door{
		{host: "storage-01", proto: "udp", port: 40999},
		{host: "storage-01", proto: "udp", port: 3478},
		{host: "storage-01", proto: "udp", port: 57343},
	}
	before := tally{"drop_udp_in": 100, "udp_turn": 5, "udp_relay": 7}
	app := table.inside("app-01", "10.89.0.11")
	for name, c := range map[string]struct {
		from  observer
		after tally
		looks []string
	}{
		"closed to the operator":      {fromThisMachine, tally{"drop_udp_in": 140, "udp_turn": 25, "udp_relay": 7}, nil},
		"open to an app host":         {app, tally{"drop_udp_in": 120, "udp_turn": 25, "udp_relay": 27}, nil},
		"noise is no fault":           {fromThisMachine, tally{"drop_udp_in": 171, "udp_turn": 31, "udp_relay": 99}, nil},
		"the relay range stands open": {fromThisMachine, tally{"drop_udp_in": 120, "udp_turn": 25, "udp_relay": 27}, []string{"no entry of port_table"}},
		"turn is closed":              {fromThisMachine, tally{"drop_udp_in": 160, "udp_turn": 5, "udp_relay": 7}, []string{"entry turn"}},
		"relay is closed to app":      {app, tally{"drop_udp_in": 140, "udp_turn": 25, "udp_relay": 7}, []string{"entry relay"}},
		"no counter at all":           {fromThisMachine, tally{}, []string{"no entry of port_table", "entry turn"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := table.judgeUDP(c.from, "storage-01", doors, before, c.after)
			if len(got) != len(c.looks) {
				t.Fatalf("got %v, want %d failures", got, len(c.looks))
			}
			for _, look := range c.looks {
				found := false
				for _, f := range got {
					found = found || strings.Contains(f.Look, look)
				}
				if !found {
					t.Errorf("no failure looks at %q: %v", look, got)
				}
			}
		})
	}
}
