CREATE TABLE IF NOT EXISTS delivered_cursors (
    conversation_id uuid NOT NULL REFERENCES conversations (id),
    user_id uuid NOT NULL,
    device_id text NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (conversation_id, user_id, device_id)
)
