package video

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// leaseTime is how long a host counts as alive after it last said so, by SQL's clock.
const leaseTime = 4 * time.Second

const (
	sqlRegister = `INSERT INTO call_hosts (host, epoch, address, leaving, expires_at)
VALUES ($1, 1, $2, false, now() + $3 * INTERVAL '1 second')
ON CONFLICT (host) DO UPDATE SET epoch = call_hosts.epoch + 1, address = excluded.address, leaving = false, expires_at = excluded.expires_at
RETURNING epoch`
	sqlRenew = `UPDATE call_hosts SET expires_at = now() + $3 * INTERVAL '1 second' WHERE host = $1 AND epoch = $2`
	sqlLeave = `UPDATE call_hosts SET leaving = true WHERE host = $1 AND epoch = $2`
	sqlGone  = `UPDATE call_hosts SET expires_at = now() WHERE host = $1 AND epoch = $2`
)

// register begins a new epoch of a host: whatever it owned before is free.
func (s *store) register(ctx context.Context, host, address string) (me owner, err error) {
	me.host = host
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		return q.QueryRow(ctx, sqlRegister, host, address, leaseTime.Seconds()).Scan(&me.epoch)
	})
	if err != nil {
		return owner{}, fmt.Errorf("register host: %w", err)
	}
	return me, nil
}

// renew reports false where another process has begun another epoch of this host.
func (s *store) renew(ctx context.Context, me owner) (held bool, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		tag, err := q.Exec(ctx, sqlRenew, me.host, me.epoch, leaseTime.Seconds())
		if err != nil {
			return fmt.Errorf("renew lease: %w", err)
		}
		held = tag.RowsAffected() == 1
		return nil
	})
	return held, err
}

// leave says that a host takes no calls any more; over, that what it owns is free.
func (s *store) leave(ctx context.Context, me owner) error { return s.say(ctx, sqlLeave, me) }

func (s *store) over(ctx context.Context, me owner) error { return s.say(ctx, sqlGone, me) }

func (s *store) say(ctx context.Context, statement string, me owner) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		if _, err := q.Exec(ctx, statement, me.host, me.epoch); err != nil {
			return fmt.Errorf("leave: %w", err)
		}
		return nil
	})
}

// place is where a call lives. Without an address nobody has it.
type place struct {
	owner   owner
	address string // of the owner, if it is alive
	fence   int64
	ended   bool
}

const sqlPlace = `SELECT c.owner_host, c.owner_epoch, c.fence, c.ended_at IS NOT NULL, h.address
FROM calls c LEFT JOIN call_hosts h ON h.host = c.owner_host AND h.epoch = c.owner_epoch AND h.expires_at > now()
WHERE c.id = $1`

// place fails with NotFound for a call that is not there.
func (s *store) place(ctx context.Context, id wire.CallID) (p place, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		p = place{}
		var host, address *string
		var epoch *int64
		if err := q.QueryRow(ctx, sqlPlace, id).Scan(&host, &epoch, &p.fence, &p.ended, &address); err != nil {
			return err
		}
		if host != nil && epoch != nil && address != nil {
			p.owner, p.address = owner{*host, *epoch}, *address
		}
		return nil
	})
	if sqlstore.NoRows(err) {
		return place{}, noCall("video.place")
	}
	if err != nil {
		return place{}, fmt.Errorf("find the owner of a call: %w", err)
	}
	return p, nil
}

// sqlTake is a compare-and-set: who takes a call has a lease, and who has had it has none or is leaving, or gives it.
const sqlTake = `UPDATE calls SET owner_host = $3, owner_epoch = $4, fence = fence + 1
WHERE id = $1 AND fence = $2 AND ended_at IS NULL
AND EXISTS (SELECT 1 FROM call_hosts h WHERE h.host = $3 AND h.epoch = $4 AND h.expires_at > now() AND NOT h.leaving)
AND (owner_host = $5 AND owner_epoch = $6 OR NOT EXISTS (
	SELECT 1 FROM call_hosts h WHERE h.host = calls.owner_host AND h.epoch = calls.owner_epoch AND h.expires_at > now()))
RETURNING fence`

// take makes to the owner of a call, from the fence that was seen; it gives the new fence, or false where others were faster or the owner
// is alive and is not from, which gives it away.
func (s *store) take(ctx context.Context, id wire.CallID, seen int64, to, from owner) (fence int64, taken bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		taken = false
		err := tx.QueryRow(ctx, sqlTake, id, seen, to.host, to.epoch, from.host, from.epoch).Scan(&fence)
		if sqlstore.NoRows(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take call: %w", err)
		}
		taken = true
		return nil
	})
	return fence, taken, err
}

const sqlSuccessors = `SELECT host, epoch FROM call_hosts WHERE expires_at > now() AND NOT leaving AND host <> $1 ORDER BY host`

// successors are the hosts that could take the calls of one that leaves.
func (s *store) successors(ctx context.Context, but string) (found []owner, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlSuccessors, but)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o owner, err error) {
			err = row.Scan(&o.host, &o.epoch)
			return o, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find another host: %w", err)
	}
	return found, nil
}

// watched is what the owner of a call has to know of it.
type watched struct {
	fence   int64
	ended   bool
	reason  string
	members map[wire.UserID]wire.CallMember
}

const sqlWatch = `SELECT c.id, c.fence, c.ended_at IS NOT NULL, c.reason, m.user_id, m.state, m.device_id
FROM calls c JOIN call_members m ON m.call_id = c.id WHERE c.id = ANY($1) ORDER BY c.id`

// watch reads how calls stand. One that is not among the answers is gone.
func (s *store) watch(ctx context.Context, ids []wire.CallID) (found map[wire.CallID]*watched, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		found = map[wire.CallID]*watched{}
		rows, err := q.Query(ctx, sqlWatch, ids)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id wire.CallID
			var member wire.CallMember
			w := watched{members: map[wire.UserID]wire.CallMember{}}
			if err := rows.Scan(&id, &w.fence, &w.ended, &w.reason, &member.UserID, &member.State, &member.DeviceID); err != nil {
				return err
			}
			if found[id] == nil {
				found[id] = &w
			}
			found[id].members[member.UserID] = member
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("watch calls: %w", err)
	}
	return found, nil
}
