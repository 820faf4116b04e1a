CREATE TABLE IF NOT EXISTS key_devices (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device_id text NOT NULL,
    incarnation text NOT NULL,
    device_keys text,
    inbox_head bigint NOT NULL,
    inbox_gone bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_id)
)
