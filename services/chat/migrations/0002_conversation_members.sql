CREATE TABLE IF NOT EXISTS conversation_members (
    conversation_id uuid NOT NULL REFERENCES conversations (id),
    user_id uuid NOT NULL,
    joined_seq bigint NOT NULL,
    left_seq bigint,
    role text NOT NULL,
    PRIMARY KEY (conversation_id, user_id, joined_seq)
)
