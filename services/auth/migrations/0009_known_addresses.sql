CREATE TABLE IF NOT EXISTS known_addresses (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    address text NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, address)
)
