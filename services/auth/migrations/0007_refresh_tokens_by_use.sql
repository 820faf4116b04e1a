CREATE INDEX IF NOT EXISTS refresh_tokens_by_use ON refresh_tokens (used_at)
