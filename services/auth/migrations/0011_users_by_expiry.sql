CREATE INDEX IF NOT EXISTS users_by_expiry ON users (expires_at)
