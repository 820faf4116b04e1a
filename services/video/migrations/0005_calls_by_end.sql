CREATE INDEX IF NOT EXISTS calls_by_end ON calls (ended_at) WHERE logged = true
