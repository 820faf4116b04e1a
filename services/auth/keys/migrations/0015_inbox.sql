CREATE TABLE IF NOT EXISTS key_inbox (
    user_id uuid NOT NULL,
    device_id text NOT NULL,
    number bigint NOT NULL,
    sender_id uuid NOT NULL,
    type text NOT NULL,
    content text NOT NULL,
    queued_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_id, number),
    FOREIGN KEY (user_id, device_id) REFERENCES key_devices (user_id, device_id) ON DELETE CASCADE
)
