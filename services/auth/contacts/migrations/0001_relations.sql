CREATE TABLE IF NOT EXISTS relations (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    other_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    state text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (user_id, other_id)
)
