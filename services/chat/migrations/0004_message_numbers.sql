CREATE TABLE IF NOT EXISTS message_numbers (
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    state text NOT NULL,
    sender_user uuid NOT NULL,
    sender_device text NOT NULL,
    client_id uuid,
    body_hash bytea,
    life_seconds int NOT NULL,
    event text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, seq),
    UNIQUE (conversation_id, sender_user, client_id)
)
