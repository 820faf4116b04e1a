CREATE TABLE IF NOT EXISTS key_signatures (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    target text NOT NULL,
    signer_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    signer_key text NOT NULL,
    signature text NOT NULL,
    PRIMARY KEY (user_id, target, signer_id, signer_key)
)
