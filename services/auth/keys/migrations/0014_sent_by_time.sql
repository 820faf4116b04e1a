CREATE INDEX IF NOT EXISTS key_sent_by_time ON key_sent (sent_at)
