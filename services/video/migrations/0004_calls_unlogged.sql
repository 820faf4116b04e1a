CREATE INDEX IF NOT EXISTS calls_unlogged ON calls (ended_at) WHERE logged = false
