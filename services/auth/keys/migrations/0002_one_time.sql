CREATE TABLE IF NOT EXISTS key_one_time (
    user_id uuid NOT NULL,
    device_id text NOT NULL,
    key_id text NOT NULL,
    body text NOT NULL,
    uploaded_at timestamptz NOT NULL,
    claimed_at timestamptz,
    PRIMARY KEY (user_id, device_id, key_id),
    FOREIGN KEY (user_id, device_id) REFERENCES key_devices (user_id, device_id) ON DELETE CASCADE
)
