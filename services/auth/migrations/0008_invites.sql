CREATE TABLE IF NOT EXISTS invites (
    hash bytea PRIMARY KEY,
    uses_left int NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
)
