package e2e

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// harm is something that can go wrong on a host for a while, as shell commands there that begin and end it; without a host, on the
// machine that plays all of them.
type harm struct {
	name, host  string
	begin, end  string
	least, most time.Duration
}

// fault is a harm at its time in a series.
type fault struct {
	harm

	at, lasts time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("at %5.1f s for %4.1f s: %s", f.at.Seconds(), f.lasts.Seconds(), f.name)
}

// script begins the harm, waits and ends it, whatever becomes of who started it.
func (f fault) script() string {
	return fmt.Sprintf("end() { %s; }\ntrap end EXIT\ntrap 'exit 1' HUP INT TERM PIPE\n%s\nsleep %.1f\n", valueOr(f.end, ":"), f.begin, f.lasts.Seconds())
}

func valueOr(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

const (
	firstFault = 10 * time.Second // a crowd has begun by then
	lastQuiet  = 10 * time.Second // of a series
	leastQuiet = 4 * time.Second  // between two faults
	mostQuiet  = 10 * time.Second
)

// series plans faults for so long: every harm once, in an order that seed decides, then all of them again in another. The same seed
// has the same series.
func series(seed uint64, length time.Duration, harms []harm) (plan []fault) {
	random := rand.New(rand.NewPCG(seed, 0))
	between := func(least, most time.Duration) time.Duration {
		return (least + time.Duration(random.Int64N(int64(most-least)+1))).Truncate(100 * time.Millisecond)
	}
	for at := firstFault; ; {
		for _, i := range random.Perm(len(harms)) {
			f := fault{harms[i], at, between(harms[i].least, harms[i].most)}
			if f.at+f.lasts > length-lastQuiet {
				return plan
			}
			plan = append(plan, f)
			at += f.lasts + between(leastQuiet, mostQuiet)
		}
	}
}

// harmsOf are those of a system of five servers: the ones that stop a service or a store for a while, and the ones between them. Node
// names what plays a host.
func harmsOf(prefix string, node func(host string) string) []harm {
	const short, long, longest = 3 * time.Second, 10 * time.Second, 15 * time.Second
	address := map[string]string{"app-01": prefix + ".11", "app-02": prefix + ".12", "db-01": prefix + ".13"}
	var harms []harm
	for _, service := range []string{"gateway", "auth", "chat"} {
		container := "app-" + service + "-1"
		harms = append(harms,
			harm{service + " is killed on app-01", "app-01", kill(container), start(container), short, short},
			harm{service + " is killed on app-02", "app-02", kill(container), start(container), short, short},
			harm{service + " is paused on app-01", "app-01", "docker pause " + container, "docker unpause " + container, 5 * time.Second, longest})
	}
	const app = "docker compose --project-directory /opt/secureconnect/app -f /opt/secureconnect/app/compose.yml "
	harms = append(harms,
		harm{"app-01 is stopped", "app-01", app + "stop", app + "start", short, long},
		harm{"app-01 loses power", "", "docker kill " + node("app-01"), start(node("app-01")), long, long},
		harm{"all of app-02 is killed at once", "app-02", "kill -9 $(docker inspect -f '{{.State.Pid}}' $(docker ps -q))", app + "start", long, long},
		harm{"Redis is flushed", "db-01", redisSays("FLUSHALL"), "", short, short},
		harm{"Redis is killed", "db-01", kill("db-redis-1"), start("db-redis-1"), short, short},
		harm{"Redis is paused", "db-01", "docker pause db-redis-1", "docker unpause db-redis-1", 5 * time.Second, longest},
		harm{"Cassandra is paused", "db-01", "docker pause db-cassandra-1", "docker unpause db-cassandra-1", 5 * time.Second, longest},
		harm{"Cassandra is killed", "db-01", kill("db-cassandra-1"), start("db-cassandra-1"), longest, longest},
		harm{"SQL is paused", "db-01", "docker pause db-sql-1", "docker unpause db-sql-1", 5 * time.Second, longest},
		harm{"SQL is killed", "db-01", kill("db-sql-1"), start("db-sql-1"), long, long},
		harm{"app-01 and app-02 do not reach each other", "app-01", drop("ip saddr "+address["app-02"], "ip daddr "+address["app-02"]), mend, 5 * time.Second, longest},
		harm{"app-01 does not reach Redis", "app-01", drop("tcp sport 6379", "tcp dport 6379"), mend, 5 * time.Second, longest},
		harm{"app-02 does not hear Redis", "app-02", drop("tcp sport 6379", ""), mend, 5 * time.Second, longest},
		harm{"app-02 does not reach the stores", "app-02", drop("ip saddr "+address["db-01"], "ip daddr "+address["db-01"]), mend, 5 * time.Second, longest},
		harm{"app-01 does not reach the load balancer", "app-01", drop("tcp dport 8080", "tcp sport 8080"), mend, 5 * time.Second, longest},
		harm{"the stores lose 5 % of their packets", "db-01", lose("tcp dport != 22", ""), mend, long, longest}, // what containers send comes in as well
		harm{"the edge loses 5 % of its packets", "lb-01", lose("tcp dport != 22", "tcp sport != 22"), mend, long, longest},
		harm{"Nginx is reloaded", "lb-01", "docker kill --signal HUP lb-nginx-1", "", short, short},
	)
	return harms
}

// kill ends a process as the kernel would, so that Docker starts the container again; docker kill would keep it down.
func kill(container string) string {
	return "kill -9 $(docker inspect -f '{{.State.Pid}}' " + container + ")"
}

func start(container string) string { return "docker start " + container }

func redisSays(command string) string {
	return `docker exec db-redis-1 sh -c 'password=$(sed -n "s/^requirepass  *\"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" /run/secrets/redis_auth.conf)
printf "AUTH %s\n` + command + `\n" "$password" | redis-cli -t 5'`
}

const mend = "nft delete table inet harm"

// drop makes the host's own table lose what comes in, and what goes out, of what matches: before Docker changes an address, and after.
func drop(in, out string) string {
	return "nft -f - <<'rules'\ntable inet harm {\n" + chain("in", "prerouting", -350, in) + chain("out", "postrouting", 350, out) + "}\nrules"
}

func lose(in, out string) string {
	const some = " numgen random mod 100 < 5"
	if out != "" {
		out += some
	}
	return drop(in+some, out)
}

func chain(name, hook string, priority int, match string) string {
	if match == "" {
		return ""
	}
	return fmt.Sprintf("chain %s { type filter hook %s priority %d; %s drop; }\n", name, hook, priority, match)
}

func TestSeriesIsReplayable(t *testing.T) {
	harms := harmsOf("10.0.0", strings.ToUpper)
	one, again, other := series(1, 12*time.Minute, harms), series(1, 12*time.Minute, harms), series(2, 12*time.Minute, harms)
	if !reflect.DeepEqual(one, again) {
		t.Error("the same seed has another series")
	}
	if reflect.DeepEqual(one, other) {
		t.Error("another seed has the same series")
	}
	met := map[string]int{}
	for i, f := range one {
		met[f.name]++
		if f.lasts < f.least || f.lasts > f.most || i > 0 && f.at < one[i-1].at+one[i-1].lasts+leastQuiet {
			t.Errorf("%v comes too early or lasts too long", f)
		}
	}
	if last := one[len(one)-1]; last.at+last.lasts > 12*time.Minute-lastQuiet {
		t.Errorf("%v is beyond the end", last)
	}
	for _, h := range harms {
		if met[h.name] == 0 {
			t.Errorf("%s does not happen within twelve minutes", h.name)
		}
	}
	if five := series(1, 5*time.Minute, harms); !slices.Equal(five, one[:len(five)]) || len(five) < 12 {
		t.Errorf("a shorter series is another one, of %d faults", len(five))
	}
}

func TestFaultsEndThemselves(t *testing.T) {
	for _, h := range harmsOf("10.0.0", strings.ToUpper) {
		text := fault{harm: h, lasts: 1500 * time.Millisecond}.script()
		if !strings.Contains(text, "trap end EXIT") || !strings.Contains(text, "sleep 1.5\n") || h.end != "" && !strings.Contains(text, h.end) {
			t.Errorf("%s: %s", h.name, text)
		}
	}
}
