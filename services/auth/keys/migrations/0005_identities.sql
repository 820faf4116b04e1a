CREATE TABLE IF NOT EXISTS key_identities (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    usage text NOT NULL,
    public_key text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (user_id, usage)
)
