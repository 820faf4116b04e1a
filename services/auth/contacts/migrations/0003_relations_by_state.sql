CREATE INDEX IF NOT EXISTS relations_by_state ON relations (user_id, state, since)
