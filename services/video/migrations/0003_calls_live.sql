CREATE UNIQUE INDEX IF NOT EXISTS calls_live ON calls (conversation_id) WHERE ended_at IS NULL
