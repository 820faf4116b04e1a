CREATE TABLE IF NOT EXISTS key_fallback (
    user_id uuid NOT NULL,
    device_id text NOT NULL,
    key_id text NOT NULL,
    body text NOT NULL,
    used bool NOT NULL,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES key_devices (user_id, device_id) ON DELETE CASCADE
)
