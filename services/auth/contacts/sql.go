package contacts

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrations are the tables of contacts. They name auth's, which must be there before.
func Migrations() sqlstore.Migrations {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the name is a constant of this file
	}
	return sqlstore.Migrations{Owner: "contacts", Files: files}
}

// store keeps a row for each side that holds something. One method is one transaction.
type store struct {
	db *sqlstore.Store
}

// change is what became of a pair.
type change struct {
	me, other wire.UserID
	was, is   pair
	contact   wire.Contact // the other, as I see them now
}

// change applies a rule to the pair of me and other. Of all that is done to a pair at the same time one comes first,
// and the others see what it left.
func (s *store) change(ctx context.Context, me, other wire.UserID, now time.Time, apply rule) (c change, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		c, err = lookUp(ctx, tx, me, other, now)
		if err != nil {
			return err
		}
		c.is, err = apply(c.was, now)
		if err != nil || c.is == c.was {
			return err
		}
		if err := c.fit(ctx, tx); err != nil {
			return err
		}
		return c.save(ctx, tx, now)
	})
	c.contact.State, c.contact.Since = c.is.mine.shown(), c.is.mine.since
	return c, err
}

// How much one person may hold. What others send has a bound of its own, so that no crowd can use up a person's room.
const (
	maxHeld     = 5000
	maxBlocked  = 5000
	maxIncoming = 1000
)

// fit refuses what I have no room for. Where the other has none for another request they are not shown it, and I am
// not told: asking again later reaches them.
func (c *change) fit(ctx context.Context, tx pgx.Tx) error {
	const op = "contacts.fit"
	mine := c.is.mine.state
	if held(mine) && !held(c.was.mine.state) {
		full, err := atLimit(ctx, tx, c.me, maxHeld, wire.RelationContact, wire.RelationOutgoing)
		if err != nil {
			return err
		}
		if full {
			return apperr.E(op, apperr.Conflict, "You have as many contacts and requests as fit. Remove some first.", nil, apperr.Code("too_many_contacts"))
		}
	}
	if mine == wire.RelationBlocked {
		full, err := atLimit(ctx, tx, c.me, maxBlocked, wire.RelationBlocked)
		if err != nil {
			return err
		}
		if full {
			return apperr.E(op, apperr.Conflict, "You have blocked as many people as fit. Unblock some first.", nil, apperr.Code("too_many_blocked"))
		}
	}
	if mine == wire.RelationOutgoing {
		// Also for a request that does not reach them: the time it takes tells nothing.
		full, err := atLimit(ctx, tx, c.other, maxIncoming, wire.RelationIncoming)
		if err != nil {
			return err
		}
		if full {
			c.is.theirs = c.was.theirs
		}
	}
	return nil
}

const sqlCount = `SELECT count(*) FROM (
	SELECT other_id FROM relations WHERE user_id = $1 AND state = ANY ($2) LIMIT $3
) AS counted`

func atLimit(ctx context.Context, tx pgx.Tx, user wire.UserID, most int, states ...wire.Relation) (bool, error) {
	var n int
	if err := tx.QueryRow(ctx, sqlCount, user, states, most).Scan(&n); err != nil {
		return false, fmt.Errorf("count relations: %w", err)
	}
	return n >= most, nil
}

// save writes both sides, whichever has changed, so that the time it takes does not tell a block from a request; and
// both of two people in the same order, so that none waits for the other.
func (c *change) save(ctx context.Context, tx pgx.Tx, now time.Time) error {
	mine := func() error { return put(ctx, tx, c.me, c.other, c.is.mine) }
	theirs := func() error { return put(ctx, tx, c.other, c.me, c.is.theirs) }
	if bytes.Compare([]byte(c.me), []byte(c.other)) > 0 {
		mine, theirs = theirs, mine
	}
	if err := mine(); err != nil {
		return err
	}
	if err := theirs(); err != nil {
		return err
	}
	if c.is.mine.state == rejected {
		return forget(ctx, tx, c.me, now.Add(-rejectedFor))
	}
	return nil
}

const (
	sqlPut = `INSERT INTO relations (user_id, other_id, state, since) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, other_id) DO UPDATE SET state = excluded.state, since = excluded.since`
	sqlDelete = `DELETE FROM relations WHERE user_id = $1 AND other_id = $2`
	sqlForget = `DELETE FROM relations WHERE user_id = $1 AND state = 'rejected' AND since <= $2`
)

func put(ctx context.Context, tx pgx.Tx, user, other wire.UserID, s side) error {
	var err error
	if s == nothing {
		_, err = tx.Exec(ctx, sqlDelete, user, other)
	} else {
		_, err = tx.Exec(ctx, sqlPut, user, other, s.state, s.since)
	}
	if sqlstore.ForeignKeyViolation(err) {
		return noUser(err) // one of the two has gone meanwhile
	}
	if err != nil {
		return fmt.Errorf("write relation: %w", err)
	}
	return nil
}

// forget drops rejections that have had their day.
func forget(ctx context.Context, tx pgx.Tx, user wire.UserID, before time.Time) error {
	if _, err := tx.Exec(ctx, sqlForget, user, before); err != nil {
		return fmt.Errorf("forget rejections: %w", err)
	}
	return nil
}

const sqlTablesThere = `SELECT count(*) FROM (SELECT user_id FROM relations LIMIT 1) AS one`

// ready fails while the migrations have not run.
func (s *store) ready(ctx context.Context) error { return s.db.Holds(ctx, sqlTablesThere) }
