CREATE INDEX IF NOT EXISTS key_inbox_by_time ON key_inbox (queued_at)
