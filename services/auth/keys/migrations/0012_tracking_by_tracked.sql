CREATE INDEX IF NOT EXISTS key_tracking_by_tracked ON key_tracking (tracked_id)
