CREATE TABLE IF NOT EXISTS read_cursors (
    conversation_id uuid NOT NULL REFERENCES conversations (id),
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
)
