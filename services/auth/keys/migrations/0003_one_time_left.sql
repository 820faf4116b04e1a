CREATE INDEX IF NOT EXISTS key_one_time_left ON key_one_time (user_id, device_id, uploaded_at, key_id) WHERE claimed_at IS NULL
