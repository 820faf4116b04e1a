CREATE TABLE IF NOT EXISTS key_changes (
    user_id uuid PRIMARY KEY,
    number bigint NOT NULL,
    gone bool NOT NULL,
    changed_at timestamptz NOT NULL
)
