package contacts

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// This file is all that reads auth's table users, and nothing of this package writes it.

func noUser(cause error) error {
	return apperr.E("contacts.user", apperr.NotFound, "There is no such user.", cause, apperr.Code("no_such_user"))
}

const sqlSearch = `SELECT u.id, u.username, u.display_name, COALESCE(r.state, 'none')
FROM users u LEFT JOIN relations r ON r.user_id = $1 AND r.other_id = u.id AND r.state <> 'rejected'
WHERE u.username >= $2 AND u.username < $3 AND u.id <> $1
AND u.disabled_at IS NULL AND (u.expires_at IS NULL OR u.expires_at > $4)
AND NOT EXISTS (SELECT 1 FROM relations b WHERE b.user_id = u.id AND b.other_id = $1 AND b.state = 'blocked')
ORDER BY u.username LIMIT $5`

// behindLetters sorts behind all that a username is made of, byte by byte, as CockroachDB and our PostgreSQL (C.UTF-8)
// sort. So a prefix is a range of the index, which it would not be as LIKE there, and no letter is a wildcard.
const behindLetters = "{"

func (s *store) search(ctx context.Context, viewer wire.UserID, start string, now time.Time) (found []wire.Profile, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlSearch, viewer, start, start+behindLetters, now, maxFound)
		if err != nil {
			return fmt.Errorf("search users: %w", err)
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (wire.Profile, error) { return scanProfile(row) })
		return err
	})
	return found, err
}

const sqlProfile = `SELECT u.id, u.username, u.display_name, COALESCE(r.state, 'none')
FROM users u LEFT JOIN relations r ON r.user_id = $1 AND r.other_id = u.id AND r.state <> 'rejected'
WHERE u.id = $2 AND u.disabled_at IS NULL AND (u.expires_at IS NULL OR u.expires_at > $3)
AND NOT EXISTS (SELECT 1 FROM relations b WHERE b.user_id = u.id AND b.other_id = $1 AND b.state = 'blocked')`

func (s *store) profile(ctx context.Context, viewer, id wire.UserID, now time.Time) (found wire.Profile, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		found, err = scanProfile(q.QueryRow(ctx, sqlProfile, viewer, id, now))
		return err
	})
	if sqlstore.NoRows(err) {
		return wire.Profile{}, noUser(err)
	}
	if err != nil {
		return wire.Profile{}, fmt.Errorf("find user: %w", err)
	}
	if id == viewer {
		found.Relation = wire.RelationSelf
	}
	return found, nil
}

func scanProfile(row pgx.Row) (p wire.Profile, err error) {
	err = row.Scan(&p.ID, &p.Username, &p.DisplayName, &p.Relation)
	return p, err
}

// Whoever is in the list stays there while their account is disabled: an entry that went with the profile would tell
// the one from the other.
const sqlList = `SELECT u.id, u.username, u.display_name, r.state, r.since
FROM relations r JOIN users u ON u.id = r.other_id
WHERE r.user_id = $1 AND r.other_id > $2 AND r.state <> 'rejected'
ORDER BY r.other_id LIMIT $3`

const (
	pageSize = 1000
	// first is an id before all others.
	first = wire.UserID("00000000-0000-0000-0000-000000000000")
)

func (s *store) list(ctx context.Context, user, after wire.UserID) (page wire.Contacts, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlList, user, after, pageSize+1)
		if err != nil {
			return fmt.Errorf("list relations: %w", err)
		}
		page.Contacts, err = pgx.CollectRows(rows, scanContact)
		return err
	})
	if len(page.Contacts) > pageSize {
		page.Contacts = page.Contacts[:pageSize]
		page.Next = page.Contacts[pageSize-1].ID
	}
	return page, err
}

func scanContact(row pgx.CollectableRow) (c wire.Contact, err error) {
	err = row.Scan(&c.ID, &c.Username, &c.DisplayName, &c.State, &c.Since)
	c.Since = c.Since.UTC()
	return c, err
}

const sqlPair = `SELECT u.id, u.username, u.display_name,
	COALESCE(m.state, 'none'), m.since, COALESCE(t.state, 'none'), t.since
FROM users u
LEFT JOIN relations m ON m.user_id = $1 AND m.other_id = u.id
LEFT JOIN relations t ON t.user_id = u.id AND t.other_id = $1
WHERE u.id = $2`

// lookUp fails with NotFound for an account that is not there. One that is disabled is: else a request would tell it
// from one that has blocked me.
func lookUp(ctx context.Context, tx pgx.Tx, me, other wire.UserID, now time.Time) (change, error) {
	c := change{me: me, other: other}
	var mine, theirs *time.Time
	err := tx.QueryRow(ctx, sqlPair, me, other).Scan(&c.contact.ID, &c.contact.Username, &c.contact.DisplayName,
		&c.was.mine.state, &mine, &c.was.theirs.state, &theirs)
	if sqlstore.NoRows(err) {
		return change{}, noUser(err)
	}
	if err != nil {
		return change{}, fmt.Errorf("find relation: %w", err)
	}
	c.was.mine.since, c.was.theirs.since = timeOf(mine), timeOf(theirs)
	return c, nil
}

// timeOf is the zero time for none, and in UTC, so that equal times are equal.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

const sqlRelations = `SELECT
	EXISTS (SELECT 1 FROM relations WHERE user_id = $1 AND other_id = $2 AND state = 'contact'),
	EXISTS (SELECT 1 FROM relations WHERE user_id = $2 AND other_id = $1 AND state = 'blocked'),
	EXISTS (SELECT 1 FROM relations WHERE user_id = $1 AND other_id = $2 AND state = 'blocked'),
	EXISTS (SELECT 1 FROM users WHERE id = $1 AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > $3))
	AND EXISTS (SELECT 1 FROM users WHERE id = $2 AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > $3))`

func (s *store) relations(ctx context.Context, user, other wire.UserID, now time.Time) (r wire.Relations, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		return q.QueryRow(ctx, sqlRelations, user, other, now).Scan(&r.Contact, &r.Blocked, &r.Blocking, &r.Active)
	})
	if err != nil {
		return wire.Relations{}, fmt.Errorf("find relations: %w", err)
	}
	return r, nil
}
