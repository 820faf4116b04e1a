CREATE TABLE IF NOT EXISTS key_sent (
    user_id uuid NOT NULL,
    device_id text NOT NULL,
    txn text NOT NULL,
    sent_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_id, txn),
    FOREIGN KEY (user_id, device_id) REFERENCES key_devices (user_id, device_id) ON DELETE CASCADE
)
